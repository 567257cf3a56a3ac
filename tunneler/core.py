"""What one end of a session holds and sends: the calling half of `protocol.TunnelProtocol`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

from tunneler.config import FIRST_WINDOW_BYTES, MAX_MESSAGE_BYTES, TunnelConfig
from tunneler.errors import CloseCode, StreamCode, StreamRefused, StreamReset, TunnelError
from tunneler.events import (
    Event,
    SessionEnded,
    StreamDrained,
    StreamEnded,
)
from tunneler.frames import (
    FLAG_ACK,
    HEADER,
    HEADER_BYTES,
    MAX_STREAM_ID,
    FrameType,
    GoAway,
    Hello,
    HelloOk,
    Open,
    encode,
    encode_code,
    encode_goaway,
    encode_hello,
    encode_open,
    encode_open_ok,
    encode_window,
)
from tunneler.limits import TokenBucket
from tunneler.liveness import Liveness
from tunneler.pacing import LinkPacer
from tunneler.scheduler import BULK_HEAT, SMALL_WRITE_BYTES, Scheduler
from tunneler.streams import Stream, StreamInput, StreamState, StreamStateError
from tunneler.windows import LinkBudget, ReceiveWindow, SendWindow

I = StreamInput  # noqa: E741
S = StreamState

DATA: Final = int(FrameType.DATA)
DIRECT_BYTES = 48 * 1024
"""Small writes go straight into the message of this turn up to here; the rest stands in line."""
CONTROL_BYTES = 15 * 1024
FILL_BYTES = MAX_MESSAGE_BYTES - 32
"""The rest of a message is for the question how much has arrived."""
LEAST_RTT_SECONDS = 0.001


class Role(Enum):
    """Who opens streams; not who dialled."""

    HUB = "hub"
    AGENT = "agent"


class SessionState(Enum):
    """Of a session. DRAINING: one end said GOAWAY(DRAIN or REPLACED); streams go on, no new ones."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class SessionCore:
    """State of one session, and all that leaves.

    Attributes:
        state: see `SessionState`.
        streams: {stream id: stream}; those that are not over.
        session_id, peer_hello: known after the handshake.
        liveness, pacer, budget: the measures of the link.
        link_writable: the shell says whether the link takes bytes at once.
    """

    def __init__(
        self,
        role: Role,
        config: TunnelConfig,
        *,
        now: float,
        chance: Callable[[], float],
        hello: Hello | None = None,
    ) -> None:
        """An agent hands in its ``hello``, which is the first thing sent."""
        self.role = role
        self.config = config
        self.state = SessionState.HANDSHAKE
        self.streams: dict[int, Stream] = {}
        self.peer_hello: Hello | None = None
        self.session_id = ""
        self.link_writable = True
        self.liveness = Liveness(
            now=now,
            ping_interval_seconds=config.ping_interval_seconds,
            dead_after_seconds=config.dead_after_seconds,
            chance=chance,
        )
        self.pacer = LinkPacer()
        self.budget = LinkBudget(config.budget_bytes)
        self._scheduler = Scheduler(self.pacer)
        self._now = now
        self._hello_deadline = now + config.hello_timeout_seconds
        self._events: list[Event] = []
        self._control: list[bytes] = []
        self._direct: list[bytes] = []
        self._direct_size = 0
        self._due: dict[int, Stream] = {}  # streams whose credit goes back with the next message
        self._watched: set[Stream] = set()
        self._ack_due = False
        self._received = 0  # DATA bytes of all streams
        self._last_id = 0
        self._flow_errors = 0
        self._peer_max_streams = config.max_streams
        self._opens = TokenBucket(config.open_rate_per_second, config.open_burst)
        self._refusals = TokenBucket(config.open_rate_per_second, 10 * config.open_burst)
        self._empties = TokenBucket(config.empty_rate_per_second)
        self._lates = TokenBucket(config.late_rate_per_second, 5 * config.late_rate_per_second)
        self._pings = TokenBucket(config.ping_rate_per_second)
        if hello is not None:
            self._control.append(encode_hello(hello))

    # ---- out

    def welcome(self, answer: HelloOk) -> None:
        """At the hub, after `HelloReceived`: accept the session."""
        if self.role is not Role.HUB or self.state is not SessionState.HANDSHAKE:
            raise TunnelError("welcome is the hub's answer to HELLO")
        self._say(encode_hello(answer))
        self._opened(answer)

    def _opened(self, answer: HelloOk) -> None:
        """The handshake is complete. Windows grow by the round trip, so it is measured before the first byte comes."""
        self.session_id = answer.session
        self.state = SessionState.OPEN
        self._ping(self.liveness.measure(self._now))

    def _ping(self, number: int) -> None:
        self.liveness.sent(self._now)
        self._control.append(encode(FrameType.PING, 0, number.to_bytes(8, "big")))

    def send_token(self, token: str) -> None:
        """At the agent: renew the credential of the live session."""
        self._say(encode(FrameType.AUTH, 0, token.encode("ascii")))

    def open_stream(self, service: str, metadata: Mapping[str, str]) -> Stream:
        """At the hub.

        Raises:
            StreamRefused: ``BUSY``: not open, draining, or too many streams; nothing is sent.
            ValueError: service or metadata are too long.
        """
        if self.role is not Role.HUB:
            raise StreamStateError("the agent opens no streams")
        if self.state is not SessionState.OPEN:
            raise StreamRefused(StreamCode.BUSY, f"the session is {self.state.value}", remote=False)
        if len(self.streams) >= self._peer_max_streams or self._last_id >= MAX_STREAM_ID:
            raise StreamRefused(StreamCode.BUSY, "no more streams on this link", remote=False)
        id_ = self._last_id + 2
        incoming = ReceiveWindow(self.budget.admit(self.config.window_bytes), self.budget)
        stream = Stream(id_, service, metadata, SendWindow(FIRST_WINDOW_BYTES), incoming)
        try:
            frame = encode_open(id_, Open(incoming.size, service, metadata))
        except ValueError:
            incoming.release()
            raise
        stream.move(I.SEND_OPEN)
        self._last_id = id_
        self.streams[id_] = stream
        self._say(frame)
        return stream

    def accept_stream(self, stream: Stream) -> None:
        """At the acceptor: yes. Credit counts from the first byte, so optimistic data is in it."""
        stream.move(I.SEND_ACCEPT)
        incoming = stream.incoming
        incoming.granted = max(incoming.granted, incoming.size)
        self._say(encode_open_ok(stream.id, incoming.granted))
        self._scheduler.ready(stream)

    def refuse_stream(self, stream: Stream, code: StreamCode, reason: str) -> None:
        """At the acceptor: no."""
        stream.move(I.SEND_REFUSE)
        self._say(encode_code(FrameType.OPEN_ERR, stream.id, code, reason))
        self._over(stream, StreamRefused(code, reason, stream_id=stream.id, remote=False))

    def send_data(self, stream: Stream, payload: bytes) -> None:
        """Queue bytes; they leave as class, credit and link allow. ``stream.queued`` tells what waits.

        Raises:
            StreamStateError: this direction was ended.
        """
        if not stream.sends or stream.ending:
            raise StreamStateError(f"stream {stream.id}: write while {stream.state.name}")
        size = len(payload)
        window = stream.outgoing
        if (
            0 < size <= SMALL_WRITE_BYTES
            and not stream.queued
            and not stream.bulk
            and size <= window.limit - window.sent
            and self._direct_size < DIRECT_BYTES
            and self.link_writable
        ):
            window.sent += size
            pacer = self.pacer
            pacer.sent += size
            flags = 0
            if pacer.sent >= pacer.mark_at:
                flags = FLAG_ACK
                pacer.mark()
            self._direct += HEADER.pack(DATA, flags, size, stream.id), payload
            self._direct_size += size + HEADER_BYTES
            stream.heat += size >> 3  # small and prompt: what a person or a watch does
            if stream.heat > BULK_HEAT:  # only then it matters how long ago that was
                self._scheduler.charge(stream, 0)
        elif size:
            stream.queue.append(payload)
            stream.queued += size
            if not stream.listed:
                self._scheduler.ready(stream)

    def send_eof(self, stream: Stream, *, closing: bool = False) -> None:
        """End this direction behind what waits; ``closing``: and read nothing more after that."""
        stream.closing = stream.closing or closing
        if stream.ending:
            return
        if not stream.sends:
            if closing and stream.state is not S.CLOSED:
                self._finish(stream)
            return
        stream.ending = True
        if not stream.queue:
            self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        """FIN, behind the data that left before it, and DONE if nobody here reads on."""
        if stream.sends:
            stream.ending = False
            stream.move(I.SEND_FIN)
            self._put(encode(FrameType.FIN, stream.id))
        if stream.state is S.CLOSED:
            self._over(stream, None)
        elif stream.closing:
            stream.move(I.SEND_RST)
            self._put(encode_code(FrameType.RST, stream.id, StreamCode.DONE))
            self._over(stream, None)

    def reset_stream(self, stream: Stream, code: StreamCode, reason: str = "") -> None:
        """End the stream now; harmless when it is over."""
        if stream.state is not S.CLOSED:
            self._reset(stream, code, reason)

    def _reset(self, stream: Stream, code: StreamCode, reason: str) -> None:
        stream.move(I.SEND_RST)
        self._say(encode_code(FrameType.RST, stream.id, code, reason))
        self._over(stream, StreamReset(stream.id, code, reason, remote=False))

    def _over(self, stream: Stream, error: StreamReset | None) -> None:
        stream.drop_queue()
        self._watched.discard(stream)
        self.streams.pop(stream.id, None)
        self._due.pop(stream.id, None)
        stream.incoming.due_at = 0
        if stream.incoming.consumed >= stream.incoming.received:
            stream.incoming.release()
        self._events.append(StreamEnded(stream, error))

    def consume(self, stream: Stream, size: int) -> None:
        """The application took bytes: give their credit back when it is worth a frame."""
        incoming = stream.incoming
        incoming.consumed = consumed = incoming.consumed + size
        if consumed < incoming.due_at:
            return
        if stream.state is S.CLOSED:
            if incoming.consumed >= incoming.received:
                incoming.release()
        elif stream.state is S.OPEN or stream.state is S.LOCAL_ENDED:
            self._due[stream.id] = stream

    def discard(self, stream: Stream) -> None:
        """The application will never take what arrived."""
        stream.incoming.consumed = stream.incoming.received
        if stream.state is S.CLOSED:
            stream.incoming.release()

    def go_away(self, goaway: GoAway) -> None:
        """Say GOAWAY. Draining codes let streams go on; all others end the session."""
        draining = goaway.code in (CloseCode.DRAIN, CloseCode.REPLACED)
        if draining and self.state in (SessionState.OPEN, SessionState.DRAINING):
            self.state = SessionState.DRAINING
            self._say(encode_goaway(GoAway(goaway.code, self._last_id, goaway.retry_after_seconds, goaway.reason)))
        else:
            self.fail(goaway.code, goaway.reason)

    def fail(self, code: CloseCode, reason: str) -> None:
        """End the session: GOAWAY is the last thing that is sent."""
        if self.state is not SessionState.CLOSED:
            self._control = [encode_goaway(GoAway(code, self._last_id, 0.0, reason))]
            self._direct, self._direct_size = [], 0
            self._end(code, reason)

    def _end(self, code: CloseCode, reason: str) -> None:
        if self.state is not SessionState.CLOSED:
            self.state = SessionState.CLOSED
            self._due.clear()
            self._ack_due = False
            self._events.append(SessionEnded(code, reason))

    def _say(self, frame: bytes) -> None:
        """Control: before all data of this turn."""
        if len(self._control) >= self.config.max_control_frames:
            self.fail(CloseCode.LIMIT, "the peer does not read")
        elif self.state is not SessionState.CLOSED:
            self._control.append(frame)

    def _put(self, frame: bytes) -> None:
        """In order with small data."""
        self._direct.append(frame)
        self._direct_size += len(frame)

    # ---- time and messages

    @property
    def received_bytes(self) -> int:
        """Payload of all DATA that arrived."""
        return self._received

    def take_events(self) -> list[Event]:
        """Events since the last time."""
        events = self._events
        if events:
            self._events = []
        return events

    def tick(self, now: float) -> list[Event]:
        """At `next_deadline`: PING, or give the peer up."""
        self._now = now
        if self.state is SessionState.CLOSED:
            return self.take_events()
        if self.state is SessionState.HANDSHAKE and now >= self._hello_deadline:
            self.fail(CloseCode.TIMEOUT, f"no HELLO within {self.config.hello_timeout_seconds:g} s")
        elif self.liveness.dead(now):
            self.fail(CloseCode.TIMEOUT, f"nothing heard for {self.config.dead_after_seconds:g} s")
        elif self.state is not SessionState.HANDSHAKE:
            number = self.liveness.ping(now)
            if number is not None:
                self._ping(number)
        return self.take_events()

    def next_deadline(self) -> float | None:
        """When `tick` is due; None once closed."""
        if self.state is SessionState.CLOSED:
            return None
        due = self.liveness.next_deadline()
        return min(due, self._hello_deadline) if self.state is SessionState.HANDSHAKE else due

    @property
    def wants_to_send(self) -> bool:
        """Whether `data_to_send` would give something."""
        return bool(self._control or self._direct or self._due or self._ack_due or self._scheduler)

    def data_to_send(self, now: float) -> bytes:
        """The next message, at most 64 KiB, or nothing. Call once per turn, while the link takes bytes."""
        self._now = self.pacer.now = now
        self._scheduler.turn(now)
        parts, self._control = self._control, []
        if self._due:
            rtt = max(self.pacer.rtt_seconds or 0.0, LEAST_RTT_SECONDS)
            for stream in self._due.values():
                limit = stream.incoming.grant(now=now, rtt_seconds=rtt, max_size=self.config.max_window_bytes)
                parts.append(encode_window(stream.id, limit))
            self._due.clear()
        if self._ack_due:
            self._ack_due = False
            parts.append(encode_window(0, self._received))
        size = sum(map(len, parts)) if parts else 0
        if size > CONTROL_BYTES:
            parts, self._control = _cut(parts, MAX_MESSAGE_BYTES)
        elif size + self._direct_size <= FILL_BYTES:
            parts += self._direct
            size += self._direct_size
            self._direct, self._direct_size = [], 0
            self._fill(parts, size)
        else:  # nobody's line goes on: its bytes may belong behind those that have to wait
            direct, self._direct = _cut(self._direct, MAX_MESSAGE_BYTES - size)
            self._direct_size = sum(map(len, self._direct))
            parts += direct
        message = b"".join(parts)
        if message:
            self.liveness.sent(now)
        return message

    def _fill(self, parts: list[bytes], size: int) -> None:
        scheduler = self._scheduler
        if self.state is SessionState.CLOSED:
            return
        if scheduler:
            ended: list[Stream] = []
            scheduler.fill(parts, FILL_BYTES - size, ended)
            self._watch(ended)
        if scheduler.bulk_waits() and self.pacer.blocked():
            parts.append(encode_window(0, self._received, FLAG_ACK))
            self.pacer.mark()

    def _watch(self, ended: list[Stream]) -> None:
        for stream in ended:
            if stream.ending and not stream.queue:
                self._finish(stream)
        low = self.config.write_low_bytes
        for stream in [s for s in self._watched if s.queued <= low]:
            self._watched.discard(stream)
            self._events.append(StreamDrained(stream))

    def watch(self, stream: Stream) -> None:
        """Tell by `StreamDrained` when what waits falls under the low mark."""
        self._watched.add(stream)


def _cut(pieces: list[bytes], room: int) -> tuple[list[bytes], list[bytes]]:
    """As many whole frames as fit, and the rest. A frame is one piece, or two: its header and its payload."""
    end = 0
    while end < len(pieces):
        length = HEADER.unpack_from(pieces[end])[2]
        room -= HEADER_BYTES + length
        if room < 0:
            break
        end += 1 if len(pieces[end]) == HEADER_BYTES + length else 2
    return pieces[:end], pieces[end:]
