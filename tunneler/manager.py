"""`ConnectionManager`: the hub's sessions by target, and who waits for them; `LinkKeeper`: keeps one link dialled."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tunneler.config import TunnelConfig
from tunneler.connections import ConnectionTable, Health, LinkState
from tunneler.core import SessionState
from tunneler.errors import CloseCode, HandshakeRefused, NoLink, TunnelError
from tunneler.frames import GoAway, Hello, HelloOk
from tunneler.ports import P, StreamTransport
from tunneler.reconnect import Reconnect
from tunneler.session import SessionStatistics, TunnelSession

DIAL_SECONDS = 10.0
MAX_WAITING = 128
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A target's links changed.

    Attributes:
        target: its name.
        state: all its links together.
        reason: why, for people.
        duplicate: two agents fight for the name.
    """

    target: str
    state: LinkState
    reason: str
    duplicate: bool = False


class ConnectionManager:
    """Sessions of all targets at one hub replica.

    Args:
        replica: id of this replica, told to agents.
        on_change: told each change of a target's state.
        answer: adds to HELLO_OK what the hub knows (replicas, features, token lifetime); may raise `TunnelError`.
        refusal: why no stream may be opened on a session now, "" if it may; asked for each stream.
    """

    def __init__(
        self,
        config: TunnelConfig,
        *,
        replica: str = "",
        on_change: Callable[[StateChanged], None] | None = None,
        answer: Callable[[TunnelSession, Hello], HelloOk] | None = None,
        refusal: Callable[[TunnelSession], str] = lambda _: "",
    ) -> None:
        self.config = config
        self._replica = replica
        self._on_change = on_change
        self._answer = answer
        self._refusal = refusal
        self._table = ConnectionTable()
        self._live: dict[str, TunnelSession] = {}  # {session id: session}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}  # {target: who waits for a link}
        self._told: dict[str, LinkState] = {}
        self._ids = itertools.count(1)
        self._watch: asyncio.Task[None] | None = None
        self._draining = False

    # ---- sessions

    def admit(self, session: TunnelSession, hello: Hello) -> HelloOk:
        """Take a session in; given to `links.listen.TunnelListener`, and called for links that the hub dialled.

        Raises:
            TunnelError: not admitted; the session closes.
        """
        if self._draining:
            raise TunnelError("this replica drains")
        target = session.peer
        answer = self._answer(session, hello) if self._answer is not None else HelloOk()
        id_ = f"{self._replica or 'hub'}-{next(self._ids)}"
        admission = self._table.add(target, id_, hello.instance, session.loop.time())
        if not admission.accepted:
            self._tell(target, "two agents take turns under one name", duplicate=True)
            raise TunnelError("another agent serves this target; two take turns under one name")
        self._live[id_] = session
        session.closed.add_done_callback(lambda done: self._closed(target, id_, done.result()))
        session.on_goaway = lambda goaway: self._tell(target, goaway.reason)
        for old in admission.replaced:
            if old in self._live:
                self._live[old].close(CloseCode.REPLACED, "a newer session took over")
                session.loop.call_later(self.config.drain_seconds, self._cut, old)
        for old in admission.ended:
            self._cut(old)
        # streams can be opened from the next turn on, when HELLO_OK is under way
        session.loop.call_soon(self._up, target, admission.duplicate)
        if self._watch is None:
            self._watch = session.loop.create_task(self._look())
        return HelloOk(
            id_, self._replica, answer.software, answer.features, answer.replicas, answer.token_lifetime_seconds
        )

    def _up(self, target: str, duplicate: bool) -> None:
        self.wake(target)
        self._tell(target, "a session began", duplicate=duplicate)

    def _closed(self, target: str, id_: str, reason: str) -> None:
        self._live.pop(id_, None)
        self._table.remove(target, id_)
        self._tell(target, reason)

    def _cut(self, id_: str) -> None:
        session = self._live.get(id_)
        if session is not None:
            session.close(CloseCode.GONE, "it was replaced")

    def _health(self, target: str) -> dict[str, Health]:
        found: dict[str, Health] = {}
        for entry in self._table.sessions(target):
            session = self._live.get(entry.session)
            if session is not None:
                now = session.statistics()
                open_ = session.is_open and not self._refusal(session)
                draining = now.state is SessionState.DRAINING
                found[entry.session] = Health(open_, draining, now.silent_seconds, now.rtt_seconds, now.streams_open)
        return found

    def _tell(self, target: str, reason: str, *, duplicate: bool = False) -> None:
        state = self.state(target)
        if self._on_change is not None and (duplicate or self._told.get(target) is not state):
            self._told[target] = state
            self._on_change(StateChanged(target, state, reason, duplicate))

    async def _look(self) -> None:
        """Silence makes no event: look for it."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            for target in list(self._told):
                self._tell(target, "nothing was heard for a while, or again")

    # ---- asked by users

    def state(self, target: str) -> LinkState:
        """All links of a target in one word."""
        return self._table.state(target, self._health(target))

    def statistics(self, target: str) -> tuple[SessionStatistics, ...]:
        """Of each session of a target, oldest first."""
        ids = [entry.session for entry in self._table.sessions(target)]
        return tuple(self._live[id_].statistics() for id_ in ids if id_ in self._live)

    def session(self, target: str) -> TunnelSession | None:
        """The healthiest one that takes streams."""
        chosen = self._table.choose(target, self._health(target))
        return self._live.get(chosen) if chosen is not None else None

    def opener(self, target: str) -> TargetOpener:
        """An `Opener` bound to a target, whichever link serves it."""
        return TargetOpener(self, target)

    async def wait_session(self, target: str, seconds: float = DIAL_SECONDS) -> TunnelSession:
        """The healthiest session, waiting for one.

        Raises:
            NoLink: none came in time, or 128 wait already.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while (session := self.session(target)) is None:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or not await self.wait_news(target, left):
                raise NoLink(target, f"none came up within {seconds:g} s")
        return session

    async def wait_news(self, target: str, seconds: float) -> bool:
        """Wait until a link came up or `wake` was called: True; False if neither happened in time.

        Raises:
            NoLink: 128 wait already, or the target was cut.
        """
        waiting = self._waiting.setdefault(target, set())
        if len(waiting) >= MAX_WAITING:
            raise NoLink(target, f"{MAX_WAITING} already wait for one")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.add(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return False
        finally:
            waiting.discard(future)
            if not waiting and self._waiting.get(target) is waiting:
                del self._waiting[target]
        return True

    def wake(self, target: str) -> None:
        """Whoever waits for a link shall look again: there may be another way."""
        for waiting in self._waiting.pop(target, ()):
            if not waiting.done():
                waiting.set_result(None)

    def cut(self, target: str, code: CloseCode, reason: str) -> None:
        """The target was disabled or deleted: its sessions end now, and nobody waits for it any more."""
        for id_ in self._table.forget(target):
            session = self._live.get(id_)
            if session is not None:
                session.close(code, reason)
        for waiting in self._waiting.pop(target, ()):
            if not waiting.done():
                waiting.set_exception(NoLink(target, reason))
        self._told.pop(target, None)

    async def drain(self, *, spread_seconds: float = 0.0) -> None:
        """Ask all agents to go elsewhere; return when their streams ended, at the latest after ``drain_seconds``."""
        self._draining = True
        for session in list(self._live.values()):
            session.close(CloseCode.DRAIN, "this replica ends", retry_after_seconds=spread_seconds)
            self._tell(session.peer, "this replica ends")
        live = list(self._live.values())
        await asyncio.gather(*(session.wait_idle(self.config.drain_seconds) for session in live))
        await self.close()

    async def close(self) -> None:
        """End all sessions now."""
        self._draining = True
        live = list(self._live.values())
        for session in live:
            session.close(CloseCode.GONE, "this replica ends")
        for session in live:
            await session.closed
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


class TargetOpener:
    """`ports.Opener` of one target."""

    def __init__(self, manager: ConnectionManager, target: str) -> None:
        self._manager = manager
        self._target = target

    def open_stream_nowait(
        self, protocol_factory: Callable[[], P], service: str, metadata: Mapping[str, str] | None = None
    ) -> tuple[StreamTransport, P]:
        session = self._manager.session(self._target)
        if session is None:
            raise NoLink(self._target, "none is up")
        return session.open_stream_nowait(protocol_factory, service, metadata)

    async def open_stream(
        self, protocol_factory: Callable[[], P], service: str, metadata: Mapping[str, str] | None = None
    ) -> tuple[StreamTransport, P]:
        session = await self._manager.wait_session(self._target)
        return await session.open_stream(protocol_factory, service, metadata)


Connect = Callable[[bool], Awaitable[TunnelSession]]
"""Dial and attach a session; True: read the credential again first. Raises `HandshakeRefused`."""


class LinkKeeper:
    """Keeps one link up for ever. A link that drains is replaced before it ends.

    Args:
        connect: makes a session; the role does not matter, so the hub keeps the links it dials the same way.
        on_state: told (state, reason).
    """

    def __init__(
        self,
        connect: Connect,
        *,
        on_state: Callable[[LinkState, str], None] | None = None,
        chance: Callable[[], float] = random.random,
        drain_seconds: float = 30.0,
    ) -> None:
        self._connect = connect
        self._on_state = on_state
        self._reconnect = Reconnect(chance)
        self._drain_seconds = drain_seconds
        self._old: set[asyncio.Task[None]] = set()
        self._chance = chance
        self._hurried = asyncio.Event()
        self._goaway: asyncio.Future[GoAway] | None = None  # of the session that is up
        self.session: TunnelSession | None = None

    async def run(self) -> None:
        """Until cancelled; then the session ends with GONE."""
        reload = False
        try:
            while True:
                self._say(LinkState.CONNECTING, "")
                loop = asyncio.get_running_loop()
                try:
                    session = await self._connect(reload)
                    goaway = self._listen(session)
                    self.session = session
                    await session.opened
                except HandshakeRefused as error:
                    retry = self._reconnect.refused(error, loop.time())
                    self._say(LinkState.RECONNECTING, str(error))
                except TunnelError as error:
                    retry = self._reconnect.lost(None, loop.time())
                    self._say(LinkState.RECONNECTING, str(error))
                else:
                    self._reconnect.connected(loop.time())
                    self._say(LinkState.CONNECTED, "")
                    told = await self._end_of(session, goaway)
                    code = told.code if told is not None else None
                    wait = told.retry_after_seconds if told is not None else 0.0
                    retry = self._reconnect.lost(code, loop.time(), retry_after_seconds=wait)
                    state = LinkState.DRAINING if code is CloseCode.DRAIN else LinkState.RECONNECTING
                    self._say(state, told.reason if told is not None else "the link is lost")
                reload = retry.reload
                await self.pause(retry.seconds)
        finally:
            if self.session is not None:
                self.session.close(CloseCode.GONE, "the agent ends")
            for task in self._old:
                task.cancel()
            self._say(LinkState.CLOSED, "")

    async def drain(self) -> None:
        """Before `run` is cancelled: take no more streams, and let those that run end."""
        if self.session is not None:
            self.session.close(CloseCode.DRAIN, "the agent ends")
            await self.session.wait_idle(self._drain_seconds)

    async def pause(self, seconds: float | None) -> None:
        """Wait so long, or without end, unless `hurry` ends it."""
        self._hurried.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()

    def hurry(self, seconds: float = 0.0) -> None:
        """There is something new to dial: a pause ends after a random part of so many seconds."""
        asyncio.get_running_loop().call_later(self._chance() * seconds, self._hurried.set)

    def leave(self, reason: str) -> None:
        """Dial anew at once, wherever `connect` leads now; streams of the link that was up may end meanwhile."""
        if self.session is not None and self._goaway is not None and not self._goaway.done():
            self.session.close(CloseCode.DRAIN, reason)
            self._goaway.set_result(GoAway(CloseCode.DRAIN, 0, 0.0, reason))

    def _listen(self, session: TunnelSession) -> asyncio.Future[GoAway]:
        self._goaway = future = asyncio.get_running_loop().create_future()

        def heard(goaway: GoAway) -> None:
            if not future.done():
                future.set_result(goaway)

        session.on_goaway = heard
        return future

    async def _end_of(self, session: TunnelSession, goaway: asyncio.Future[GoAway]) -> GoAway | None:
        either: list[asyncio.Future[Any]] = [goaway, session.closed]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not goaway.done():
            return None
        if not session.closed.done():
            task = asyncio.create_task(self._finish(session))
            self._old.add(task)
            task.add_done_callback(self._old.discard)
        return goaway.result()

    async def _finish(self, session: TunnelSession) -> None:
        """Let the streams of a draining session end."""
        try:
            await session.wait_idle(self._drain_seconds)
        finally:
            session.close(CloseCode.GONE, "drained")

    def _say(self, state: LinkState, reason: str) -> None:
        if self._on_state is not None:
            self._on_state(state, reason)
