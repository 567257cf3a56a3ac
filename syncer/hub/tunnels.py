"""The hub's end of the tunnel, in every replica: `GET /tunnel/v1`, agents' sessions by target, figures, the drain.

What travels on a link is told elsewhere: `tunnel_targets` opens streams, `proxy` and clients of targets use them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog
from aiohttp import BaseConnector, web

from syncer.api.synctarget import TunnelStatus
from syncer.hub.tunnel_targets import open_stream_of
from syncer.kube.stream_connector import connector_factory
from syncer.metrics import Metrics
from tunneler.config import TunnelConfig
from tunneler.errors import CloseCode, HandshakeRefused, TunnelError
from tunneler.frames import Hello, HelloOk
from tunneler.links.listen import Peer, TunnelListener
from tunneler.manager import ConnectionManager, StateChanged
from tunneler.ports import Opener
from tunneler.session import TunnelSession

COUNT_SECONDS: Final = 2.0  # between two looks at what the sessions carried
RETRY_SECONDS: Final = 1.0  # for agents that come while this replica ends
DUPLICATE_SECONDS: Final = 180.0  # how long a fight is told; who lost tries again about every minute
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")

log = structlog.get_logger()


class Gate(Protocol):
    """Who may be the agent of which target."""

    async def authenticate(self, request: web.Request) -> Peer:
        """The target whose agent dials, and what proves it, from its credential alone.

        Raises:
            HandshakeRefused: 401, 403 or 429; 503 where nobody can tell now.
        """

    def admit(self, proof: object, hello: Hello) -> None:
        """Look at what the agent says of itself. Raises TunnelError: it is not the one that is registered.

        Args:
            proof: what `authenticate` gave for this connection.
        """

    def refusal(self, proof: object) -> str:
        """Why no stream may be opened on a session of this proof now; "" if it may. Asked for each stream."""


@dataclass
class _Counted:
    """One session; what of it is in the metrics already."""

    session: TunnelSession
    since: datetime
    sent: int = 0
    received: int = 0


@dataclass
class _Target:
    sessions: list[_Counted] = field(default_factory=list)  # oldest first


class Tunnels:
    """Everything about links at this replica. A door of `HubApi`.

    Attributes:
        url: where agents dial, for people; set once the hub listens.
    """

    def __init__(
        self, gate: Gate, metrics: Metrics, *, replica: str, version: str, drain_seconds: float = 30.0
    ) -> None:
        """Args: replica: id of this process, for agents and status. version: of this software."""
        self.url = ""
        self._gate = gate
        self._metrics = metrics
        self._version = version
        self._replica = replica
        self._draining = False
        config = TunnelConfig(drain_seconds=drain_seconds)
        self._manager = ConnectionManager(
            config,
            replica=replica,
            on_change=self._changed,
            answer=self._answer,
            refusal=lambda session: gate.refusal(session.proof),
        )
        self._listener = TunnelListener(config, self._authenticate, self._admit)
        self._targets: dict[str, _Target] = {}  # those with a link, now or earlier
        self._expected: set[str] = set()
        self._duplicates: dict[str, float] = {}  # {target: loop time when two agents were last seen taking turns}
        self._follower: Callable[[str], None] | None = None

    def add_to(self, app: web.Application) -> None:
        """Route ``GET /tunnel/v1``."""
        self._listener.add_to(app)

    def follow(self, follower: Callable[[str], None] | None) -> None:
        """Tell each change of a target's links, by its name; None ends that."""
        self._follower = follower

    def expect(self, target: str, expected: bool) -> None:
        """A SyncTarget says that it is reached through a tunnel, or does not any more."""
        if expected:
            self._expected.add(target)
        else:
            self._expected.discard(target)

    def opener(self, target: str) -> Opener | None:
        """What opens streams to a target; None where no target of that name has a tunnel (`FindOpener`)."""
        if target not in self._targets and target not in self._expected:
            return None
        return self._manager.opener(target)

    def connector(self, target: str) -> Callable[[int, float], BaseConnector]:
        """How a `ClusterClient` reaches a target."""
        return connector_factory(open_stream_of(target, self.opener))

    def status(self, target: str) -> TunnelStatus:
        """The links of a target now, as its SyncTarget shows them; no links where there are none."""
        known = self._targets.get(target)
        # One that drains carries what it has and takes nothing new.
        usable = [counted for counted in known.sessions if counted.session.is_open] if known is not None else []
        if not usable:
            return TunnelStatus()
        rtts = (counted.session.statistics().rtt_seconds for counted in usable)
        trips = [seconds for seconds in rtts if seconds is not None]
        return TunnelStatus(
            links=len(usable),
            replica=self._replica,
            since=usable[0].since.strftime("%Y-%m-%dT%H:%M:%SZ"),
            # The loop's clock counts whole milliseconds: a short trip measures as 0, and is known nevertheless.
            rtt_milliseconds=max(1, round(1000 * min(trips))) if trips else 0,
        )

    def duplicate(self, target: str) -> bool:
        """Whether two agents took turns under its name within the last minutes."""
        at = self._duplicates.get(target)
        return at is not None and asyncio.get_running_loop().time() - at < DUPLICATE_SECONDS

    def cut(self, target: str, reason: str) -> None:
        """The target is deleted or disabled: its links end now."""
        self._expected.discard(target)
        self._manager.cut(target, CloseCode.AUTH, reason)
        self._targets.pop(target, None)
        self._duplicates.pop(target, None)

    async def run(self) -> None:
        """Keep the figures fresh until cancelled."""
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            self._count()

    async def drain(self) -> None:
        """Send all agents elsewhere and end, when their streams did or the time is over."""
        self._draining = True
        await self._manager.drain()

    # Sessions -------------------------------------------------------------------------------------------------------

    async def _authenticate(self, request: web.Request) -> Peer:
        if self._draining:
            raise HandshakeRefused(503, "this replica ends", retry_after_seconds=RETRY_SECONDS)
        try:
            return await self._gate.authenticate(request)
        except HandshakeRefused as error:
            log.info("agent refused", remote=request.remote, status=error.status, reason=str(error))
            raise

    def _answer(self, session: TunnelSession, hello: Hello) -> HelloOk:
        skew = version_skew(self._version, hello.software)
        if skew:
            raise TunnelError(skew)
        self._gate.admit(session.proof, hello)
        return HelloOk(software=self._version)

    def _admit(self, session: TunnelSession, hello: Hello) -> HelloOk:
        target = session.peer
        try:
            answer = self._manager.admit(session, hello)
        except TunnelError as error:
            log.warning("agent not admitted", target=target, instance=hello.instance, reason=str(error))
            raise
        if target in self._targets:
            self._metrics.tunnel_reconnects_total.inc()
        counted = _Counted(session, datetime.now(UTC))
        self._targets.setdefault(target, _Target()).sessions.append(counted)
        session.closed.add_done_callback(lambda done: self._closed(target, counted, done.result()))
        log.info(
            "agent connected", target=target, session=answer.session, instance=hello.instance, version=hello.software
        )
        self._gauge()
        return answer

    def _closed(self, target: str, counted: _Counted, reason: str) -> None:
        self._count_one(counted)
        known = self._targets.get(target)
        if known is not None and counted in known.sessions:
            known.sessions.remove(counted)
        log.info("agent's link ended", target=target, reason=reason)
        self._gauge()
        self._tell(target)

    def _changed(self, change: StateChanged) -> None:
        if change.duplicate:
            self._duplicates[change.target] = asyncio.get_running_loop().time()
            log.warning("DuplicateAgent: two agents take turns", target=change.target)
        log.debug("target's links", target=change.target, state=change.state.value, reason=change.reason)
        self._tell(change.target)

    def _tell(self, target: str) -> None:
        if self._follower is not None:
            self._follower(target)

    # Figures --------------------------------------------------------------------------------------------------------

    def _all(self) -> list[_Counted]:
        return [counted for known in self._targets.values() for counted in known.sessions]

    def _gauge(self) -> None:
        self._metrics.tunnel_links.set(len(self._all()))

    def _count(self) -> None:
        self._gauge()
        self._metrics.tunnel_streams_open.set(sum(self._count_one(counted) for counted in self._all()))

    def _count_one(self, counted: _Counted) -> int:
        """Add what it carried since the last look. Returns its open streams."""
        now = counted.session.statistics()
        self._metrics.tunnel_bytes_total.labels("out").inc(now.sent_bytes - counted.sent)
        self._metrics.tunnel_bytes_total.labels("in").inc(now.received_bytes - counted.received)
        counted.sent, counted.received = now.sent_bytes, now.received_bytes
        return now.streams_open


def version_skew(ours: str, theirs: str) -> str:
    """Why the two versions may not work together, "" if they may: neighbours of one minor version do. Pure.

    A version that is no version, as in a checkout, goes with every other.
    """
    mine, other = _VERSION.match(ours), _VERSION.match(theirs)
    if mine is None or other is None:
        return ""
    if mine[1] == other[1] and abs(int(mine[2]) - int(other[2])) <= 1:
        return ""
    return f"VersionSkew: the hub is {ours[:32]}, the agent {theirs[:32]}; they may differ by one minor version"
