"""Raw HTTP/1.1 over TCP for tests: servers that answer what they are told to, and clients that say what they like."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Bytes up to and with an empty line. Raises IncompleteReadError at the end of the stream."""
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """(head, body as it came) of a message that has a length or chunks."""
    head = await read_head(reader)
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while not body.endswith(b"0\r\n\r\n"):
            body += await asyncio.wait_for(reader.readuntil(b"\r\n"), 20)
        return head, body
    if b"content-length: " in lower:
        size = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
        return head, await asyncio.wait_for(reader.readexactly(size), 20)
    return head, b""


@dataclass
class StandIn:
    """An API server that answers every request with `answer`, and remembers what it was asked.

    `serve` replaces the whole conversation of a connection.
    """

    answer: bytes = OK
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object] | None = None
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    all_lost: asyncio.Event = field(default_factory=asyncio.Event)  # no connection is left
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.all_lost.clear()
        try:
            if self.serve is not None:
                made = self.serve(reader, writer)
                if asyncio.iscoroutine(made):
                    await made
                return
            while True:
                head, body = await read_message(reader)
                self.heads.append(head)
                self.bodies.append(body)
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        finally:
            self.open -= 1
            if self.open == 0:
                self.all_lost.set()
            writer.close()


@asynccontextmanager
async def running(server: StandIn) -> AsyncIterator[StandIn]:
    """The stand-in, listening."""
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, limit=1 << 20)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        if server.open:
            await asyncio.wait_for(server.all_lost.wait(), 20)


@asynccontextmanager
async def listening(factory: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    """A TCP port that hands each connection to a protocol; stands for streams of the tunnel."""
    loop = asyncio.get_running_loop()
    endings: list[asyncio.Event] = []

    def make() -> asyncio.Protocol:
        protocol, ended = factory(), asyncio.Event()
        lost = protocol.connection_lost

        def connection_lost(exc: Exception | None) -> None:
            lost(exc)
            ended.set()

        protocol.connection_lost = connection_lost  # type: ignore[method-assign]
        endings.append(ended)
        return protocol

    listener = await loop.create_server(make, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for ended in endings:
            await asyncio.wait_for(ended.wait(), 20)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A plain connection to this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def gone(reader: asyncio.StreamReader) -> bytes:
    """Everything until the peer closes; a reset counts as closed."""
    try:
        return await asyncio.wait_for(reader.read(-1), 20)
    except ConnectionError:
        return b""


class Answering(asyncio.Transport):
    """A stream whose far end answers each request at once; its link may drain."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol, self.closed, self.drains = protocol, False, False
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.drains if name == "draining" else default

    def write(self, data: Any) -> None:
        asyncio.get_running_loop().call_soon(self.protocol.data_received, OK)

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)
