"""`TunnelSession`: a `TunnelProtocol` on a link, in an event loop.

The reader never waits for the writer: frames go to the streams as they arrive, answers wait in the protocol. What
one turn of the loop wrote leaves as one message, at the end of that turn.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tunneler.config import TunnelConfig
from tunneler.core import Role, SessionState
from tunneler.errors import CloseCode, LinkLost, NoLink, StreamCode, StreamRefused, StreamReset, TunnelError
from tunneler.events import (
    EofReceived,
    Event,
    HelloReceived,
    SessionEnded,
    StreamAccepted,
    StreamDrained,
    StreamEnded,
    StreamOffered,
    TokenReceived,
    Welcomed,
    WentAway,
)
from tunneler.frames import GoAway, Hello, HelloOk
from tunneler.links.base import Link
from tunneler.links.raw import CLOSE_CODE_BASE
from tunneler.ports import P, Services, StreamRequest, StreamTransport
from tunneler.protocol import TunnelProtocol
from tunneler.streams import Stream
from tunneler.transport import MuxTransport

IDLE_POLL_SECONDS = 0.05
Admit = Callable[["TunnelSession", Hello], HelloOk]
"""The hub's word on a HELLO; raising `TunnelError` closes the session with AUTH."""


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """A snapshot. Bytes are payload."""

    state: SessionState
    streams_open: int
    sent_bytes: int
    received_bytes: int
    in_flight_cap_bytes: int
    rtt_seconds: float | None
    silent_seconds: float


class TunnelSession:
    """One session; an `Opener` at the hub, an acceptor of ``services`` at the agent.

    Attributes:
        peer: the name the other end was authenticated as.
        proof: what proved that name, as `links.listen.Peer` brought it; it counts for this session alone.
        opened: done when the handshake is complete, with HELLO_OK at the agent; fails if it never is.
        closed: done when the session is over, with the reason.
        scheduled: something is sent at the end of this turn.
        on_goaway, on_token: called for GOAWAY and AUTH.
    """

    def __init__(
        self,
        role: Role,
        config: TunnelConfig,
        *,
        peer: str = "",
        proof: object = None,
        hello: Hello | None = None,
        admit: Admit | None = None,
        services: Services | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.config = config
        self.peer = peer
        self.proof = proof
        self.protocol = TunnelProtocol(role, config, now=self.loop.time(), chance=random.random, hello=hello)
        self.opened: asyncio.Future[HelloOk] = self.loop.create_future()
        self.closed: asyncio.Future[str] = self.loop.create_future()
        self.on_goaway: Callable[[GoAway], None] | None = None
        self.on_token: Callable[[str], None] | None = None
        self._admit = admit
        self._services = services or {}
        self._link: Link | None = None
        self.scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._dials: set[asyncio.Task[None]] = set()

    # ---- life

    def attach(self, link: Link) -> None:
        """The link is up: begin."""
        self._link = link
        self._arm()
        self.schedule()

    def close(self, code: CloseCode, reason: str = "", *, retry_after_seconds: float = 0.0) -> None:
        """Say GOAWAY. With DRAIN and REPLACED streams go on, until `close` with another code."""
        self.protocol.go_away(GoAway(code, 0, retry_after_seconds, reason))
        self.settle()

    async def wait_idle(self, seconds: float) -> None:
        """Until no stream is left, the session is over, or so long has passed."""
        for _ in range(int(seconds / IDLE_POLL_SECONDS)):
            if not self.protocol.streams or self.closed.done():
                return
            await asyncio.sleep(IDLE_POLL_SECONDS)

    @property
    def is_open(self) -> bool:
        """Streams can be opened, or are accepted."""
        return self.protocol.state is SessionState.OPEN

    def send_token(self, token: str) -> None:
        """At the agent: renew the credential of this session."""
        self.protocol.send_token(token)
        self.schedule()

    def statistics(self) -> SessionStatistics:
        core = self.protocol
        return SessionStatistics(
            core.state,
            len(core.streams),
            core.pacer.sent,
            core.received_bytes,
            core.pacer.cap,
            core.liveness.rtt_seconds if core.liveness.rtt_seconds is not None else core.pacer.rtt_seconds,
            self.loop.time() - core.liveness.last_received,
        )

    # ---- the link calls

    def message_received(self, message: bytes) -> None:
        core = self.protocol
        for event in core.receive_data(message, now=self.loop.time()):
            if type(event) is tuple:
                stream, payload = event
                if stream.owner is not None:
                    stream.owner.feed(payload)
                else:
                    core.discard(stream)
            else:
                self._handle(event)
        if not self.scheduled and core.wants_to_send:
            self.schedule()

    def bytes_received(self) -> None:
        self.protocol.liveness.received(self.loop.time())

    def pause_writing(self) -> None:
        self.protocol.link_writable = False

    def resume_writing(self) -> None:
        self.protocol.link_writable = True
        self.schedule()

    def link_lost(self, reason: str) -> None:
        self._link = None
        self.protocol.fail(CloseCode.GONE, reason)
        self._events(self.protocol.take_events())
        self._over(reason)

    # ---- turn and time

    def schedule(self) -> None:
        """Send at the end of this turn."""
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self._flush)

    def settle(self) -> None:
        """After a call to the protocol that may have caused events."""
        events = self.protocol.take_events()
        if events:
            self._events(events)
        self.schedule()

    def _flush(self) -> None:
        self.scheduled = False
        core, link = self.protocol, self._link
        if link is None or not core.link_writable:
            return
        message = core.data_to_send(self.loop.time())
        if message:
            link.send_message(message)
        events = core.take_events()
        if events:
            self._events(events)
        if message and core.wants_to_send:
            self.schedule()  # one message per turn

    def _arm(self) -> None:
        deadline = self.protocol.next_deadline()
        if deadline is not None:
            self._timer = self.loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._events(self.protocol.tick(self.loop.time()))
        if self.protocol.wants_to_send:
            self.schedule()
        self._arm()

    # ---- events

    def _events(self, events: list[Event]) -> None:
        for event in events:
            self._handle(event)

    def _handle(self, event: Event) -> None:
        match event:
            case (stream, payload):
                if stream.owner is not None:
                    stream.owner.feed(payload)
            case EofReceived(stream):
                if stream.owner is not None:
                    stream.owner.feed_eof()
            case StreamEnded(stream, error):
                if stream.owner is not None:
                    stream.owner.ended(error)
            case StreamDrained(stream):
                if stream.owner is not None:
                    stream.owner.drained()
            case StreamAccepted(stream):
                if stream.owner is not None and stream.owner.opened is not None:
                    stream.owner.opened(None)
                    stream.owner.opened = None
            case StreamOffered(stream):
                self._offered(stream)
            case HelloReceived(hello):
                self._admitted(hello)
            case Welcomed(answer):
                self.opened.set_result(answer)
            case WentAway(goaway):
                if self.on_goaway is not None:
                    self.on_goaway(goaway)
            case TokenReceived(token):
                if self.on_token is not None:
                    self.on_token(token)
            case SessionEnded(code, reason):
                self._ended(code, reason)

    def _admitted(self, hello: Hello) -> None:
        if self.protocol.state is not SessionState.HANDSHAKE:
            return  # more of the same message has ended the session
        try:
            answer = self._admit(self, hello) if self._admit is not None else HelloOk()
        except TunnelError as error:
            self.protocol.fail(CloseCode.AUTH, str(error))
            self._events(self.protocol.take_events())
            return
        self.protocol.welcome(answer)
        self.opened.set_result(answer)

    def _ended(self, code: CloseCode, reason: str) -> None:
        text = f"{code.name}: {reason}"
        if self._link is not None:
            message = self.protocol.data_to_send(self.loop.time())  # GOAWAY, if it is ours
            if message:
                self._link.send_message(message)
            self._link.close(CLOSE_CODE_BASE + code, text)
            self._link = None
        self._over(text)

    def _over(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._dials:
            task.cancel()
        streams, self.protocol.streams = self.protocol.streams, {}
        for stream in streams.values():
            if stream.owner is not None:
                stream.owner.ended(LinkLost(stream.id, reason))
        if not self.opened.done():
            self.opened.set_exception(TunnelError(reason))
            self.opened.exception()  # whoever does not ask need not hear
        if not self.closed.done():
            self.closed.set_result(reason)

    # ---- streams

    def open_stream_nowait(
        self, protocol_factory: Callable[[], P], service: str, metadata: Mapping[str, str] | None = None
    ) -> tuple[StreamTransport, P]:
        """See `ports.Opener`."""
        transport = self._open(service, metadata)
        protocol = protocol_factory()
        transport.start(protocol)
        return transport, protocol

    async def open_stream(
        self, protocol_factory: Callable[[], P], service: str, metadata: Mapping[str, str] | None = None
    ) -> tuple[StreamTransport, P]:
        """See `ports.Opener`."""
        transport = self._open(service, metadata)
        answer: asyncio.Future[P] = self.loop.create_future()

        def opened(error: StreamReset | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
                return
            try:
                protocol = protocol_factory()
                transport.start(protocol)
            except Exception as failure:
                answer.set_exception(failure)
                transport.abort(StreamCode.INTERNAL)
            else:
                answer.set_result(protocol)

        transport.opened = opened
        seconds = self.config.service_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return transport, await answer
        except TimeoutError:
            transport.abort(StreamCode.TIMEOUT)
            raise StreamRefused(StreamCode.TIMEOUT, f"no answer to OPEN within {seconds:g} s", remote=False) from None
        except asyncio.CancelledError:
            transport.abort()
            raise

    def _open(self, service: str, metadata: Mapping[str, str] | None) -> MuxTransport:
        if self.protocol.state is SessionState.CLOSED:
            raise NoLink(self.peer, "the session is over")
        stream = self.protocol.open_stream(service, metadata or {})
        self.schedule()
        return MuxTransport(self, stream)

    def _offered(self, stream: Stream) -> None:
        transport = MuxTransport(self, stream)
        service = self._services.get(stream.service)
        if service is None:
            self._refuse(stream, StreamRefused(StreamCode.UNKNOWN_SERVICE, "no such service here"))
            return
        request = StreamRequest(stream.service, stream.metadata, stream.id, self.protocol.session_id, self.peer)
        try:
            given = service(request)
        except Exception as error:
            self._refuse(stream, error)
            return
        if isinstance(given, asyncio.Protocol):
            self._accept(stream, transport, given)
        elif len(self._dials) >= self.config.max_pending_accepts:
            if inspect.iscoroutine(given):
                given.close()
            self._refuse(stream, StreamRefused(StreamCode.BUSY, "too many dials wait"))
        else:

            async def dial() -> None:
                try:
                    async with asyncio.timeout(self.config.service_timeout_seconds):
                        protocol = await given
                except TimeoutError:
                    self._refuse(stream, StreamRefused(StreamCode.TIMEOUT, "the service did not answer in time"))
                except Exception as error:
                    self._refuse(stream, error)
                else:
                    self._accept(stream, transport, protocol)

            task = self.loop.create_task(dial())
            self._dials.add(task)
            task.add_done_callback(self._dials.discard)
            if inspect.iscoroutine(given):
                task.add_done_callback(lambda _: given.close())  # it never ran, if the task was cancelled at once

            def over(error: StreamReset | None) -> None:
                task.cancel()

            transport.opened = over  # the opener gave up

    def _accept(self, stream: Stream, transport: MuxTransport, protocol: asyncio.Protocol) -> None:
        transport.opened = None
        if stream.id in self.protocol.streams:
            self.protocol.accept_stream(stream)
        # a stream that was reset meanwhile still tells its protocol, which may have something to close
        transport.start(protocol)
        self.schedule()

    def _refuse(self, stream: Stream, error: Exception) -> None:
        if stream.id not in self.protocol.streams:
            return
        if isinstance(error, StreamRefused):
            code, reason = error.code, error.reason
        else:
            code, reason = StreamCode.INTERNAL, "the service failed"
            self.loop.call_exception_handler({"message": f"service {stream.service} failed", "exception": error})
        self.protocol.refuse_stream(stream, code, reason)
        self.settle()
