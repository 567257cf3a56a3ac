"""`TunnelProtocol`: messages in, events out; calls in, messages out. No socket, no clock, no task.

One object is one session on one link. After each call the shell takes `take_events`, and once per event-loop turn
it sends what `data_to_send` gives: one message with all frames of that turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tunneler.config import FIRST_WINDOW_BYTES, MAX_MESSAGE_BYTES
from tunneler.core import Role, SessionCore, SessionState
from tunneler.errors import CloseCode, ProtocolError, StreamCode, StreamRefused, StreamReset
from tunneler.events import (
    EofReceived,
    Event,
    HelloReceived,
    StreamAccepted,
    StreamOffered,
    TokenReceived,
    Welcomed,
    WentAway,
)
from tunneler.frames import (
    FLAG_ACK,
    FLAG_OPTIONAL,
    HEADER,
    HEADER_BYTES,
    MAX_HELLO_BYTES,
    MAX_STREAM_ID,
    FrameType,
    decode_code,
    decode_goaway,
    decode_hello,
    decode_hello_ok,
    decode_number,
    decode_open,
    decode_open_ok,
    encode,
    encode_code,
)
from tunneler.streams import Stream, StreamInput, StreamState
from tunneler.windows import ReceiveWindow, SendWindow

I = StreamInput  # noqa: E741
S = StreamState

DATA: Final = int(FrameType.DATA)
_IN_HANDSHAKE = frozenset({FrameType.HELLO, FrameType.HELLO_OK, FrameType.GOAWAY, FrameType.PING, FrameType.PONG})


class TunnelProtocol(SessionCore):
    """Wire rules of one session: what may arrive, and what follows from it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._handlers: dict[int, Callable[[int, bytes], None]] = {
            FrameType.HELLO: self._on_hello,
            FrameType.HELLO_OK: self._on_hello_ok,
            FrameType.OPEN: self._on_open,
            FrameType.OPEN_OK: self._on_open_ok,
            FrameType.OPEN_ERR: self._on_open_err,
            FrameType.FIN: self._on_fin,
            FrameType.RST: self._on_rst,
            FrameType.WINDOW: self._on_window,
            FrameType.PING: self._on_ping,
            FrameType.PONG: self._on_pong,
            FrameType.GOAWAY: self._on_goaway,
            FrameType.AUTH: self._on_auth,
        }

    def receive_data(self, message: bytes, *, now: float) -> list[Event]:
        """Take one message; give all events since the last time."""
        self._now = now
        self.liveness.received(now)
        try:
            self._frames(message)
        except ProtocolError as error:
            self.fail(error.code, str(error))
        return self.take_events()

    def _frames(self, message: bytes) -> None:
        size = len(message)
        if size > MAX_MESSAGE_BYTES:
            raise ProtocolError(CloseCode.LIMIT, f"message of {size} bytes")
        unpack, streams, append = HEADER.unpack_from, self.streams, self._events.append
        offset = 0
        while offset < size and self.state is not SessionState.CLOSED:
            if size - offset < HEADER_BYTES:
                raise ProtocolError(CloseCode.PROTOCOL, "message ends inside a header")
            type_, flags, length, stream_id = unpack(message, offset)
            start = offset + HEADER_BYTES
            offset = start + length
            if offset > size:
                raise ProtocolError(CloseCode.PROTOCOL, "message ends inside a frame")
            if flags & FLAG_ACK:
                self._ack_due = True
            if type_ == DATA:
                stream = streams.get(stream_id)
                self._received += length
                if (
                    stream is not None
                    and stream.receives
                    and length
                    and (received := stream.incoming.received + length) <= stream.incoming.granted
                ):
                    stream.incoming.received = received
                    append((stream, message[start:offset]))
                else:
                    self._odd_data(stream, stream_id, length)
                continue
            handler = self._handlers.get(type_)
            if handler is None:
                if not flags & FLAG_OPTIONAL:
                    raise ProtocolError(CloseCode.PROTOCOL, f"frame of unknown type {type_}")
                self._nothing("unknown frames")
            elif self.state is SessionState.HANDSHAKE and type_ not in _IN_HANDSHAKE:
                raise ProtocolError(CloseCode.PROTOCOL, f"{FrameType(type_).name} before HELLO")
            else:
                handler(stream_id, message[start:offset])

    def _odd_data(self, stream: Stream | None, stream_id: int, length: int) -> None:
        if stream is None:
            self._late(stream_id)
        elif not length:
            self._nothing("empty DATA")
        elif not stream.receives:
            stream.move(I.RECV_DATA)  # raises
        else:
            self._flow_errors += 1
            if self._flow_errors > 1:
                raise ProtocolError(CloseCode.FLOW, "a window was overrun for the second time")
            self._reset(stream, StreamCode.FLOW, "window overrun")

    def _late(self, stream_id: int) -> None:
        """A frame for a stream that is over: it crossed our end of it. For one that never was: an error."""
        if not 0 < stream_id <= self._last_id or stream_id % 2:
            raise ProtocolError(CloseCode.PROTOCOL, f"frame for stream {stream_id}, which was never opened")
        if not self._lates.take(self._now):
            raise ProtocolError(CloseCode.LIMIT, "too many frames for streams that are over")

    def _nothing(self, what: str) -> None:
        if not self._empties.take(self._now):
            raise ProtocolError(CloseCode.LIMIT, f"too many {what}")

    def _stream(self, stream_id: int) -> Stream | None:
        stream = self.streams.get(stream_id)
        if stream is None:
            self._late(stream_id)
        return stream

    def _on_hello(self, stream_id: int, payload: bytes) -> None:
        if self.role is not Role.HUB or self.state is not SessionState.HANDSHAKE or self.peer_hello is not None:
            raise ProtocolError(CloseCode.PROTOCOL, "HELLO where none belongs")
        self.peer_hello = decode_hello(payload)
        self._peer_max_streams = max(0, min(self.config.max_streams, self.peer_hello.max_streams))
        self._events.append(HelloReceived(self.peer_hello))

    def _on_hello_ok(self, stream_id: int, payload: bytes) -> None:
        if self.role is not Role.AGENT or self.state is not SessionState.HANDSHAKE:
            raise ProtocolError(CloseCode.PROTOCOL, "HELLO_OK where none belongs")
        answer = decode_hello_ok(payload)
        self._opened(answer)
        self._events.append(Welcomed(answer))

    def _on_open(self, stream_id: int, payload: bytes) -> None:
        if self.role is not Role.AGENT:
            raise ProtocolError(CloseCode.PROTOCOL, "the agent opens no streams")
        if stream_id <= self._last_id or stream_id % 2 or stream_id > MAX_STREAM_ID:
            raise ProtocolError(CloseCode.PROTOCOL, f"OPEN of stream {stream_id} behind {self._last_id}")
        self._last_id = stream_id
        request = decode_open(payload)
        if self.state is not SessionState.OPEN or len(self.streams) >= self.config.max_streams:
            self._refuse_at_once(stream_id, "no more streams on this link")
        elif not self._opens.take(self._now):
            self._refuse_at_once(stream_id, "streams are opened too fast")
        else:
            # the opener may have sent its first window already, so that much is granted whatever the budget says
            incoming = ReceiveWindow(self.budget.admit(self.config.window_bytes), self.budget)
            stream = Stream(stream_id, request.service, request.metadata, SendWindow(request.window_bytes), incoming)
            incoming.granted = FIRST_WINDOW_BYTES
            stream.move(I.RECV_OPEN)
            self.streams[stream_id] = stream
            self._events.append(StreamOffered(stream))

    def _refuse_at_once(self, stream_id: int, reason: str) -> None:
        if not self._refusals.take(self._now):
            raise ProtocolError(CloseCode.LIMIT, "OPEN again and again beyond the limits")
        self._say(encode_code(FrameType.OPEN_ERR, stream_id, StreamCode.BUSY, reason))

    def _on_open_ok(self, stream_id: int, payload: bytes) -> None:
        stream = self._stream(stream_id)
        if stream is not None:
            stream.move(I.RECV_ACCEPT)
            stream.outgoing.raise_to(decode_open_ok(payload))
            self._scheduler.ready(stream)
            self._events.append(StreamAccepted(stream))

    def _on_open_err(self, stream_id: int, payload: bytes) -> None:
        stream = self._stream(stream_id)
        if stream is not None:
            code, reason = decode_code(payload)
            stream.move(I.RECV_REFUSE)
            self._over(stream, StreamRefused(code, reason, stream_id=stream_id))

    def _on_fin(self, stream_id: int, payload: bytes) -> None:
        stream = self._stream(stream_id)
        if stream is not None:
            stream.move(I.RECV_FIN)
            self._events.append(EofReceived(stream))
            if stream.state is S.CLOSED:
                self._over(stream, None)

    def _on_rst(self, stream_id: int, payload: bytes) -> None:
        stream = self._stream(stream_id)
        if stream is None:
            return
        code, reason = decode_code(payload)
        receiving = stream.receives
        stream.move(I.RECV_RST)
        if code is StreamCode.DONE:
            if receiving:
                self._events.append(EofReceived(stream))
            self._over(stream, None)
        else:
            self._over(stream, StreamReset(stream_id, code, reason))

    def _on_window(self, stream_id: int, payload: bytes) -> None:
        offset = decode_number(payload)
        if stream_id == 0:
            if not self.pacer.acknowledge(offset, self._now):
                raise ProtocolError(CloseCode.PROTOCOL, "acknowledgement of bytes that were never sent")
            return
        stream = self._stream(stream_id)
        if stream is not None:
            stream.move(I.RECV_WINDOW)
            if stream.outgoing.raise_to(offset):
                self._scheduler.ready(stream)
            else:
                self._nothing("WINDOWs that move nothing")

    def _on_ping(self, stream_id: int, payload: bytes) -> None:
        number = decode_number(payload)
        if not self._pings.take(self._now):
            raise ProtocolError(CloseCode.LIMIT, "too many PINGs")
        self._say(encode(FrameType.PONG, 0, number.to_bytes(8, "big")))

    def _on_pong(self, stream_id: int, payload: bytes) -> None:
        rtt = self.liveness.pong(decode_number(payload), self._now)
        if rtt is None:
            self._nothing("PONGs that answer nothing")
        else:
            self.pacer.sample_ping(rtt, self._now)

    def _on_goaway(self, stream_id: int, payload: bytes) -> None:
        goaway = decode_goaway(payload)
        self._events.append(WentAway(goaway))
        if goaway.code in (CloseCode.DRAIN, CloseCode.REPLACED) and self.state is not SessionState.HANDSHAKE:
            self.state = SessionState.DRAINING
        else:
            self._end(goaway.code, goaway.reason or "the peer said so")

    def _on_auth(self, stream_id: int, payload: bytes) -> None:
        if self.role is not Role.HUB or len(payload) > MAX_HELLO_BYTES:
            raise ProtocolError(CloseCode.PROTOCOL, "AUTH where none belongs")
        try:
            self._events.append(TokenReceived(payload.decode("ascii")))
        except UnicodeDecodeError as error:
            raise ProtocolError(CloseCode.PROTOCOL, "a token that is no ASCII") from error
