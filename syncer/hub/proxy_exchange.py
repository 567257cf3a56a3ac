"""Connections to targets that carry one HTTP exchange after another, and the few of them that are kept.

A connection is an asyncio transport to something that speaks HTTP/1.1 for the target: a stream of the tunnel whose far
end is the agent, or a socket. Answers are framed here (`ResponseReader`) and pass raw.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, cast

from syncer.kube.http1 import BadMessage, ResponseHead, ResponseReader

IDLE_SECONDS: Final = 20.0  # below the idle timeouts of everything behind it
IDLE_CONNECTIONS: Final = 64  # kept for one target
BUFFER: Final = 262_144  # bytes of an answer that wait for a slow caller before the target is paused
_RESUME: Final = BUFFER // 4


class TargetUnavailable(Exception):
    """No link to the target right now; the text is for people."""


class UnknownTarget(Exception):
    """There is no target of that name."""


class ExchangeFailed(Exception):
    """The connection broke, or what came was no HTTP.

    Attributes:
        silent: nothing of the answer had come, so on a kept connection the request may not even have been read.
        status: what to answer, if nothing was answered yet.
    """

    def __init__(self, message: str, *, silent: bool, status: int = 502) -> None:
        super().__init__(message)
        self.silent = silent
        self.status = status


class Dialer(Protocol):
    """Opens a new connection to a target's API."""

    async def open(self, target: str, factory: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        """A transport whose protocol `factory` made, after its `connection_made`.

        Raises:
            UnknownTarget, TargetUnavailable.
        """
        ...


class TargetConnection(asyncio.Protocol):
    """One connection. One exchange at a time, read by one task; or raw, after a 101."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.kept_until = 0.0
        self._reader: ResponseReader | None = None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._failure: ExchangeFailed | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Event | None = None  # set while the target takes bytes; None: it always did
        self._raw: RawPeer | None = None

    # For who holds the connection.

    @property
    def alive(self) -> bool:
        """Whether a request should be sent. On a link that drains it would be cut, or hold up the drain."""
        if self.transport is None or self.transport.is_closing() or self._failure is not None:
            return False
        return not self.transport.get_extra_info("draining")

    @property
    def reusable(self) -> bool:
        """The exchange is over and the connection can carry another one."""
        return self.alive and self._reader is not None and self._reader.reusable

    def start(self, method: str, head: bytes, on_head: Callable[[ResponseHead], bytes]) -> None:
        """Send a request's head; the body follows with `send`.

        Args:
            on_head: gives what is passed on in place of the answer's head.
        """
        assert self.transport is not None
        self._reader = ResponseReader(method, on_head)
        self.transport.write(head)

    async def send(self, data: bytes) -> None:
        """A piece of the request's body; waits while the target takes none. Silently nothing once the answer came."""
        if self.transport is None or self._failure is not None:
            return
        self.transport.write(data)
        if self._drained is not None:
            await self._drained.wait()

    async def read(self) -> bytes:
        """What of the answer may be passed on now; b"" at its end, or once the connection is raw.

        Raises:
            ExchangeFailed.
        """
        assert self._reader is not None
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self._reader.complete or self._reader.switched:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return data

    @property
    def switched(self) -> bool:
        """The target answered 101."""
        return self._reader is not None and self._reader.switched

    @property
    def framed(self) -> bool:
        """The answer tells by itself where it ends."""
        return self._reader is not None and self._reader.framed

    def go_raw(self, peer: RawPeer) -> None:
        """From here on bytes go to `peer` as they come."""
        self._raw = peer
        while self._pieces:
            peer.write(self._pieces.popleft())

    def abort(self) -> None:
        """End the connection at once."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.abort()

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def data_received(self, data: bytes) -> None:
        if self._raw is not None:
            self._raw.write(data)
            return
        if self._reader is None:
            self._fail("the target speaks without being asked")
            return
        try:
            passed = self._reader.feed(data)
        except BadMessage as error:
            self._fail(str(error))
            return
        if passed:
            self._pieces.append(passed)
            self._size += len(passed)
            if self._size > BUFFER and not self._paused and self.transport is not None:
                self._paused = True
                self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        if self._raw is not None:
            return self._raw.end()
        if self._reader is not None:
            self._reader.feed_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self._drained is not None:
            self._drained.set()
        if self._raw is not None:
            self._raw.lost(exc)
            return
        if self._reader is None or not self._reader.complete:
            self._fail("the connection to the target broke")
        self._wake()

    def pause_writing(self) -> None:
        if self._raw is not None:
            self._raw.full(True)
        if self._drained is None:
            self._drained = asyncio.Event()
        self._drained.clear()

    def resume_writing(self) -> None:
        if self._raw is not None:
            self._raw.full(False)
        if self._drained is not None:
            self._drained.set()

    def _fail(self, message: str) -> None:
        if self._failure is None:
            silent = self._reader is None or self._reader.head is None
            self._failure = ExchangeFailed(message, silent=silent)
        self.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class RawPeer(asyncio.Protocol):
    """The caller's side after a 101: it owns the caller's transport, and the target's bytes go out through it."""

    def __init__(
        self, caller: asyncio.Transport, target: TargetConnection, former: asyncio.BaseProtocol, early: bytes
    ) -> None:
        """Take over the caller's transport.

        Args:
            former: its protocol until now; hears of the end.
            early: what the caller sent before it was answered.
        """
        self._caller = caller
        self._target = target
        self._former = former
        self._ended = [False, False]  # the caller, the target will send no more
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        caller.set_protocol(self)
        target.go_raw(self)
        if early:
            self.data_received(early)
        caller.resume_reading()

    # From the target.

    def write(self, data: bytes) -> None:
        """To the caller."""
        if not self._caller.is_closing():
            self._caller.write(data)

    def end(self) -> bool:
        """The target sends no more; True if its transport shall stay open for the other direction."""
        self._ended[1] = True
        if self._caller.can_write_eof() and not self._ended[0] and not self._caller.is_closing():
            self._caller.write_eof()
            return True
        return False

    def lost(self, exc: Exception | None) -> None:
        """The target's connection is gone."""
        if exc is None:
            self._caller.close()
        else:
            self._caller.abort()

    def full(self, full: bool) -> None:
        """The target takes no more for now."""
        if self._caller.is_closing():
            return
        if full:
            self._caller.pause_reading()
        else:
            self._caller.resume_reading()

    # From the caller.

    def data_received(self, data: bytes) -> None:
        transport = self._target.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def eof_received(self) -> bool:
        self._ended[0] = True
        transport = self._target.transport
        if transport is None or transport.is_closing() or self._ended[1]:
            return False
        if self._caller.get_extra_info("sslcontext") is not None:
            return False  # TLS ends both directions at once
        if not transport.can_write_eof():
            return False
        transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        transport = self._target.transport
        if transport is not None and not transport.is_closing():
            if exc is None:
                transport.close()
            else:
                transport.abort()
        self._former.connection_lost(exc)
        if not self.done.done():
            self.done.set_result(None)

    def pause_writing(self) -> None:
        if self._target.transport is not None:
            self._target.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._target.transport is not None:
            self._target.transport.resume_reading()


class TargetPool:
    """Connections that wait for their next exchange, by target, the latest used first."""

    def __init__(self, dialer: Dialer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._dialer = dialer
        self._clock = clock
        self._idle: dict[str, deque[TargetConnection]] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def kept(self, target: str) -> TargetConnection | None:
        """A connection that waits, if there is a usable one."""
        waiting = self._idle.get(target)
        now = self._clock()
        while waiting:
            connection = waiting.pop()
            if connection.alive and connection.kept_until > now:
                return connection
            connection.abort()
        if waiting is not None:
            del self._idle[target]
        return None

    async def open(self, target: str) -> TargetConnection:
        """A new connection. Raises UnknownTarget, TargetUnavailable."""
        connection = TargetConnection()
        await self._dialer.open(target, lambda: connection)
        return connection

    def give_back(self, target: str, connection: TargetConnection) -> None:
        """Keep a connection whose exchange is over; ends it if it cannot be used again."""
        if not connection.reusable:
            connection.abort()
            return
        connection.kept_until = self._clock() + IDLE_SECONDS
        waiting = self._idle.setdefault(target, deque())
        waiting.append(connection)
        if len(waiting) > IDLE_CONNECTIONS:
            waiting.popleft().abort()
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """End those that waited long: each is a stream, and a connection of the agent to its API server."""
        self._sweeping = None
        now = self._clock()
        for target, waiting in list(self._idle.items()):
            while waiting and (waiting[0].kept_until <= now or not waiting[0].alive):
                waiting.popleft().abort()
            if not waiting:
                del self._idle[target]
        if self._idle:
            self._sweeping = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._sweep)

    def close(self) -> None:
        """End all that wait."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        idle, self._idle = self._idle, {}
        for waiting in idle.values():
            for connection in waiting:
                connection.abort()
