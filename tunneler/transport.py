"""`MuxTransport`: one stream as an asyncio transport. What it promises is said in `ports`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from tunneler.config import TunnelConfig
from tunneler.core import SessionState
from tunneler.errors import StreamCode, StreamReset
from tunneler.ports import StreamTransport
from tunneler.protocol import TunnelProtocol
from tunneler.streams import Stream, StreamState, StreamStateError


class Session(Protocol):
    """What a transport needs of the session it belongs to."""

    loop: asyncio.AbstractEventLoop
    config: TunnelConfig
    peer: str
    protocol: TunnelProtocol
    scheduled: bool

    def schedule(self) -> None:
        """Send at the end of this turn."""
        ...

    def settle(self) -> None:
        """The same, after a call that may have caused events."""
        ...


class MuxTransport(StreamTransport):
    """Between one `Stream` and one `asyncio.Protocol`.

    Bytes that arrive before there is a protocol, or while it paused, wait in ``_inbox``, within the window.
    """

    __slots__ = (
        "_blocked", "_closing", "_core", "_eof_due", "_eof_sent", "_error", "_high", "_inbox", "_lost", "_lost_due",
        "_low", "_paused", "_protocol", "_session", "_stream", "_write_paused", "opened",
    )  # fmt: skip

    def __init__(self, session: Session, stream: Stream) -> None:
        self._session = session
        self._core = session.protocol
        self._stream = stream
        self._protocol: asyncio.Protocol | None = None
        self._inbox: deque[bytes] = deque()
        self._blocked = True  # bytes go to the inbox
        self._paused = False
        self._eof_due = False
        self._eof_sent = False
        self._closing = False
        self._lost_due = False
        self._lost = False
        self._error: StreamReset | None = None
        self._write_paused = False
        self._high = session.config.write_high_bytes
        self._low = session.config.write_low_bytes
        self.opened: Callable[[StreamReset | None], None] | None = None
        stream.owner = self

    # ---- the session calls

    def start(self, protocol: asyncio.Protocol) -> None:
        """Give the stream its protocol, and the protocol what waited."""
        self._protocol = protocol
        protocol.connection_made(self)
        if self._inbox or self._eof_due or self._lost_due:
            self._session.loop.call_soon(self._deliver)
        elif not self._paused:
            self._blocked = False

    def feed(self, payload: bytes) -> None:
        """Bytes arrived. Credit goes back once the protocol has them."""
        if self._blocked and not self._closing:
            self._inbox.append(payload)
            return
        if not self._blocked:
            try:
                self._protocol.data_received(payload)  # type: ignore[union-attr]  # else it is blocked
            except Exception as error:
                self._fault("data_received", error)
        self._core.consume(self._stream, len(payload))

    def feed_eof(self) -> None:
        """The peer's direction ended."""
        self._eof_due = True
        if not self._blocked:
            self._deliver()

    def ended(self, error: StreamReset | None) -> None:
        """The stream is over. After a clean end, what waits is delivered first."""
        if self.opened is not None:
            self.opened(error)
            self.opened = None
        if error is not None:
            self._error = error
            self._inbox.clear()
            self._eof_due = False
            self._core.discard(self._stream)
        self._lost_due = True
        if self._protocol is None or error is not None or self._closing or not self._blocked:
            self._session.loop.call_soon(self._lose)

    def drained(self) -> None:
        """Few unsent bytes are left."""
        if self._write_paused:
            self._write_paused = False
            if self._protocol is not None and not self._lost:
                self._protocol.resume_writing()

    def _deliver(self) -> None:
        if self._lost or self._protocol is None:
            return
        if not self._paused and not self._closing:
            self._blocked = False
            while self._inbox and not self._blocked:  # each may pause, or close
                self.feed(self._inbox.popleft())
        if self._paused and not self._closing:
            return
        if self._eof_due and not self._closing:
            self._eof_due = False
            try:
                keep = self._protocol.eof_received()
            except Exception as error:
                self._fault("eof_received", error)
                keep = True
            if not keep:
                self.close()
        if self._lost_due:
            self._session.loop.call_soon(self._lose)
        if self._core.wants_to_send:
            self._session.schedule()

    def _lose(self) -> None:
        if self._lost:
            return
        if self._error is None and self._paused and not self._closing and (self._inbox or self._eof_due):
            return  # a clean end waits for the reader
        self._lost = self._closing = self._blocked = True
        self._inbox.clear()
        self._core.discard(self._stream)
        if self._protocol is not None:
            protocol, self._protocol = self._protocol, None
            self._stream.owner = None
            protocol.connection_lost(self._error)

    def _fault(self, where: str, error: Exception) -> None:
        self._session.loop.call_exception_handler(
            {"message": f"{where} of a stream's protocol failed", "exception": error, "transport": self}
        )
        self.abort(StreamCode.INTERNAL, "the application failed")

    # ---- the protocol calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        stream = self._stream
        try:
            self._core.send_data(stream, data if type(data) is bytes else bytes(data))
        except StreamStateError:
            if self._eof_sent:
                raise RuntimeError("write after write_eof") from None
            return
        if stream.queued > self._high and not self._write_paused and self._protocol is not None:
            self._write_paused = True
            self._core.watch(stream)
            self._protocol.pause_writing()
        if not self._session.scheduled:
            self._session.schedule()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if not self._eof_sent and not self._closing:
            self._eof_sent = True
            self._core.send_eof(self._stream)
            self._session.settle()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if self._closing:
            return
        self._closing = self._blocked = True
        if self._inbox:
            self._inbox.clear()
            self._core.discard(self._stream)
        if self._stream.state is StreamState.CLOSED:
            self._session.loop.call_soon(self._lose)
        else:
            self._core.send_eof(self._stream, closing=True)
            self._session.settle()

    def abort(self, code: StreamCode = StreamCode.CANCELLED, reason: str = "") -> None:
        self._closing = self._blocked = True
        if self._stream.state is StreamState.CLOSED:
            self._session.loop.call_soon(self._lose)
        else:
            self._core.reset_stream(self._stream, code, reason)
            self._session.settle()

    def is_closing(self) -> bool:
        return self._closing or self._lost

    def pause_reading(self) -> None:
        if not self._closing:
            self._paused = self._blocked = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            if not self._closing:
                self._session.loop.call_soon(self._deliver)

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high if high is not None else self._session.config.write_high_bytes
        self._low = low if low is not None else self._session.config.write_low_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return self._stream.queued

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "stream":
                return self._stream.id
            case "service":
                return self._stream.service
            case "metadata":
                return self._stream.metadata
            case "session":
                return self._core.session_id
            case "draining":
                return self._core.state is not SessionState.OPEN
            case "peer":
                return self._session.peer
        return default
