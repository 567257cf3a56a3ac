"""Join a TCP connection and a stream, byte for byte, with half-close and back-pressure both ways."""

from __future__ import annotations

import asyncio
from typing import cast

from tunneler.errors import StreamCode
from tunneler.ports import StreamTransport

READ_BYTES = 64 * 1024
"""Bytes read from a socket at once: more would make others of the same loop wait."""

_BUFFER = memoryview(bytearray(READ_BYTES))
# One buffer for all sockets: between `get_buffer` and `buffer_updated` nothing else runs, and the bytes are copied.


class SocketEnd(asyncio.BufferedProtocol):
    """The side of the TCP connection."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.stream: StreamTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # those of uvloop are not derived from it

    def get_buffer(self, sizehint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self.stream is not None:
            self.stream.write(_BUFFER[:nbytes].tobytes())

    def eof_received(self) -> bool:
        if self.stream is not None:
            self.stream.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.stream is not None:
            self.stream.pause_reading()

    def resume_writing(self) -> None:
        if self.stream is not None:
            self.stream.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        stream, self.stream = self.stream, None
        if stream is not None:
            if exc is not None:
                stream.abort(StreamCode.CANCELLED, "connection lost")
            else:
                stream.close()


class StreamEnd(asyncio.Protocol):
    """The side of the stream; ``end`` is connected already."""

    def __init__(self, end: SocketEnd) -> None:
        self._end = end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, StreamTransport)
        if self._end.transport is None:
            transport.abort(StreamCode.CANCELLED, "connection lost")
        else:
            self._end.stream = transport

    def data_received(self, data: bytes) -> None:
        if self._end.transport is not None:
            self._end.transport.write(data)

    def eof_received(self) -> bool:
        if self._end.transport is not None:
            self._end.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self._end.transport is not None:
            self._end.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._end.transport is not None:
            self._end.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.stream = None
        if self._end.transport is not None:
            if exc is not None:
                self._end.transport.abort()
            else:
                self._end.transport.close()


async def dial_tcp(host: str, port: int) -> StreamEnd:
    """For a service: connect, and give the protocol of the stream.

    Raises:
        OSError: not connected.
    """
    _, end = await asyncio.get_running_loop().create_connection(SocketEnd, host, port)
    return StreamEnd(end)
