"""Ask a server that dies all the time, beside one connection that must not notice: `python -m … PORT SECONDS`.

Prints how many requests failed and how often the other connection answered meanwhile.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import uvloop

from syncer.kube.connector import TcpConnector

ASKING = 12


async def main(port: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    refused = alive = 0

    async def ask() -> None:
        nonlocal refused
        while loop.time() < ends:
            async with aiohttp.ClientSession(connector=TcpConnector()) as session:
                try:
                    await session.get(f"https://127.0.0.1:{port}/")
                except aiohttp.ClientError:
                    refused += 1

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while word := await reader.read(100):
            writer.write(word)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    asking = [asyncio.create_task(ask()) for _ in range(ASKING)]
    while loop.time() < ends:
        writer.write(b"word")
        assert await asyncio.wait_for(reader.read(100), 5) == b"word"
        alive += 1
        await asyncio.sleep(0.02)
    await asyncio.gather(*asking)
    writer.close()
    server.close()
    sys.stdout.write(f"{refused} {alive}\n")


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2])))
