"""One plain asyncio TCP proxy hop: what any relay in Python costs.

`python -m bench.tunnel.hop PORT` prints ``port N``.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class End(asyncio.Protocol):
    """One side; bytes go to the other one as they come."""

    def __init__(self, other: End | None = None, port: int = 0) -> None:
        self.other = other
        self.port = port
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.other is None:
            _TASKS.add(task := asyncio.get_running_loop().create_task(self._connect()))
            task.add_done_callback(_TASKS.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, end = await loop.create_connection(lambda: End(self), "127.0.0.1", self.port)
        except OSError:
            if self.transport is not None:
                self.transport.abort()
            return
        if end.transport is None:
            return
        if self.transport is None:
            end.transport.abort()
            return
        self.other = end
        if self.early:
            end.transport.writelines(self.early)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early.append(data)
        elif self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self.other is None or self.other.transport is None or self.other.ended:
            return False
        self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


_TASKS: set[asyncio.Task[None]] = set()


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: End(port=port), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"port {server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
