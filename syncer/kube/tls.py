"""TLS connections that lose nothing while their reader pauses.

uvloop drops what it has received and not yet handed on, up to 256 KiB, when the peer hangs up while a TLS transport is
paused (`SSLProtocol.eof_received` of uvloop/sslproto.pyx, 0.23). So the TCP transport below is paused instead: TLS then
holds nothing back, and the end of the connection waits in the socket behind what was sent before it.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Iterable
from typing import Any


class TlsTransport(asyncio.Transport):
    """A TLS transport whose pauses are those of the TCP transport that carries it."""

    def __init__(self, tls: asyncio.Transport, tcp: asyncio.Transport) -> None:
        super().__init__()
        self._tls = tls
        self._tcp = tcp

    def pause_reading(self) -> None:
        if not self._tcp.is_closing():
            self._tcp.pause_reading()

    def resume_reading(self) -> None:
        if not self._tcp.is_closing():
            self._tcp.resume_reading()

    def is_reading(self) -> bool:
        return self._tcp.is_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._tls.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._tls.writelines(list_of_data)

    def can_write_eof(self) -> bool:
        return False  # TLS ends both directions at once

    def close(self) -> None:
        self.resume_reading()  # the peer's goodbye
        self._tls.close()

    def abort(self) -> None:
        self._tls.abort()

    def is_closing(self) -> bool:
        return self._tls.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._tls.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._tls.get_protocol()

    def get_write_buffer_size(self) -> int:
        return self._tls.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._tls.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tls.get_extra_info(name, default)


async def connect(
    protocol: asyncio.Protocol, host: str, port: int, *, context: ssl.SSLContext, server_hostname: str | None
) -> asyncio.Transport:
    """A TLS connection whose protocol is `protocol`; its `connection_made` is not called.

    Raises:
        OSError: also where the peer's certificate is not accepted (ssl.SSLError), or it takes too long (TimeoutError).
    """
    loop = asyncio.get_running_loop()
    tcp, _ = await loop.create_connection(asyncio.Protocol, host, port)
    if tcp.is_closing():  # start_tls would tell that to the loop's exception handler
        raise ConnectionResetError(errno.ECONNRESET, "the peer hung up before TLS")
    try:
        tls = await loop.start_tls(tcp, protocol, context, server_hostname=server_hostname or host)
    except BaseException:
        tcp.abort()
        raise
    assert tls is not None  # None is what it gives for a transport that was closed meanwhile
    return TlsTransport(tls, tcp)
