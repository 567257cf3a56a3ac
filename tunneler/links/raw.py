"""A link on an asyncio transport: `WebSocketCodec` below a session, without a task."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from tunneler.errors import ProtocolError
from tunneler.links.base import LinkUser
from tunneler.websocket import WebSocketCodec

CLOSE_CODE_BASE = 4000
JOIN_BYTES = 16 * 1024
HIGH_WATER_BYTES = 128 * 1024
UNSENT_LOW_WATER_BYTES = 128 * 1024
USER_TIMEOUT_MILLISECONDS = 20_000
LINGER_SECONDS = 1.0


class RawLink(asyncio.Protocol):
    """Owns the transport after the handshake.

    Args:
        client: masks what it sends.
        on_lost: called too when the connection is over; the HTTP server wants to know.

    Attributes:
        lost: done when the connection is over.
    """

    def __init__(
        self, user: LinkUser, *, client: bool, on_lost: Callable[[Exception | None], None] | None = None
    ) -> None:
        self._user = user
        self._codec = WebSocketCodec(client=client)
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self._reason = "connection closed"
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take_over(self, transport: asyncio.Transport) -> None:
        """Become the transport's protocol."""
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        transport.set_protocol(self)
        _tune(transport)

    def data_received(self, data: bytes) -> None:
        codec, user = self._codec, self._user
        try:
            messages = codec.receive(data)
        except ProtocolError as error:
            self.close(CLOSE_CODE_BASE + error.code, str(error))
            self._close_transport()
            return
        if self._closing:
            if codec.closed is not None:
                self._close_transport()
            return
        for message in messages:
            user.message_received(message)
        if not messages:
            user.bytes_received()
        if codec.replies:
            self._reply()
        if codec.closed is not None:
            code, reason = codec.closed
            self._end(f"peer closed: {code} {reason}".rstrip())
            self._close_transport()

    def _reply(self) -> None:
        """A peer that does not read gets no PONG: its PINGs would fill our memory. A close is answered always."""
        replies, self._codec.replies = self._codec.replies, []
        transport = self._transport
        if transport is None:
            return
        if self._codec.closed is not None or transport.get_write_buffer_size() <= HIGH_WATER_BYTES:
            transport.write(b"".join(replies))

    def send_message(self, message: bytes) -> None:
        if self._transport is None or self._closing:
            return
        head, body = self._codec.encode(message)
        if len(body) < JOIN_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def close(self, code: int, reason: str) -> None:
        if self._transport is not None and not self._closing:
            self._transport.write(self._codec.encode_close(code, reason))
            self._end(reason)

    def _end(self, reason: str) -> None:
        """Read on until the peer's close frame (RFC 6455, 7.1.1).

        To close a socket with unread bytes is a reset, which may overtake what was sent last: the GOAWAY that says why.
        """
        self._closing = True
        self._reason = reason
        if self._transport is not None:
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.abort)

    def _close_transport(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def get_extra_info(self, name: str) -> Any:
        return self._transport.get_extra_info(name) if self._transport is not None else None

    def pause_writing(self) -> None:
        self._user.pause_writing()

    def resume_writing(self) -> None:
        self._user.resume_writing()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._transport = None
        self._user.link_lost(f"{type(exc).__name__}: {exc}" if exc is not None else self._reason)
        if self._on_lost is not None:
            self._on_lost(exc)
        if not self.lost.done():
            self.lost.set_result(None)


def _tune(transport: asyncio.Transport) -> None:
    """No delay; little unsent in the kernel, where nothing can overtake it; an end to unanswered bytes."""
    raw = transport.get_extra_info("socket")
    if raw is None:
        return
    options = [(socket.IPPROTO_TCP, "TCP_NODELAY", 1)]
    options.append((socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", UNSENT_LOW_WATER_BYTES))
    options.append((socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", USER_TIMEOUT_MILLISECONDS))
    for level, name, value in options:
        try:
            raw.setsockopt(level, getattr(socket, name), value)
        except (AttributeError, OSError):
            continue  # not on this system, or no TCP below: a help, not a need
