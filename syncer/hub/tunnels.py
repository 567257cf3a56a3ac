"""The hub's end of the tunnel, in every replica: `GET /tunnel/v1`, agents' sessions by target, figures, the drain.

What travels on a link is told elsewhere: `tunnel_targets` opens streams, `proxy` and clients of targets use them; which
other replicas there are and what they hold, `registry` and `members`; how a stream gets there, `sharing`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog
from aiohttp import BaseConnector, web

from syncer.api.synctarget import TunnelStatus
from syncer.hub.forwarding import Forwarder, ReplicaDoor
from syncer.hub.members import Changed, Link, Members
from syncer.hub.replica_identity import ReplicaIdentity
from syncer.hub.sharing import SharedOpener
from syncer.hub.tunnel_targets import open_stream_of
from syncer.kube.stream_connector import connector_factory
from syncer.metrics import Metrics
from tunneler.config import TunnelConfig
from tunneler.errors import CloseCode, HandshakeRefused, TunnelError
from tunneler.frames import Hello, HelloOk
from tunneler.links.listen import Peer, TunnelListener
from tunneler.manager import DIAL_SECONDS, ConnectionManager, StateChanged
from tunneler.session import TunnelSession

COUNT_SECONDS: Final = 2.0  # between two looks at what the sessions carried
RETRY_SECONDS: Final = 1.0  # for agents that come while this replica ends
DUPLICATE_SECONDS: Final = 180.0  # how long a fight is told; who lost tries again about every minute
REPLICAS_SERVICE: Final = "replicas"  # an agent's: its metadata tells addresses, when they changed
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
    number: int
    since: int  # UTC, seconds
    sent: int = 0
    received: int = 0


@dataclass
class _Target:
    sessions: list[_Counted] = field(default_factory=list)  # oldest first


class Tunnels:
    """Everything about links at this replica. A door of `HubApi`.

    Attributes:
        url: where agents dial, for people; set once the hub listens.
        on_links: called when this replica's `links` may have changed.
    """

    def __init__(
        self,
        gate: Gate,
        metrics: Metrics,
        members: Members,
        identity: ReplicaIdentity,
        *,
        known: Callable[[str], bool],
        version: str,
        drain_seconds: float = 30.0,
        dial_seconds: float = DIAL_SECONDS,
    ) -> None:
        """Args:
        members: the other replicas.
        identity: of this one.
        known: whether a target of that name is reached through a tunnel.
        version: of this software.
        dial_seconds: how long a stream waits for a link.
        """
        self.url = ""
        self.on_links: Callable[[], None] = _nothing
        self._gate = gate
        self._metrics = metrics
        self._version = version
        self._members = members
        self._replica = members.own
        self._known = known
        self._dial_seconds = dial_seconds
        self._draining = False
        config = TunnelConfig(drain_seconds=drain_seconds)
        self._manager = ConnectionManager(
            config,
            replica=members.own,
            on_change=self._changed,
            answer=self._answer,
            refusal=lambda session: gate.refusal(session.proof),
        )
        self._listener = TunnelListener(config, self._authenticate, self._admit)
        self._forwarder = Forwarder(identity, metrics)
        self._door = ReplicaDoor(identity, metrics, self._manager.session)
        self._targets: dict[str, _Target] = {}  # those with a link, now or earlier
        self._duplicates: dict[str, float] = {}  # {target: loop time when two agents were last seen taking turns}
        self._follower: Callable[[str], None] | None = None

    def add_to(self, app: web.Application) -> None:
        """Route ``GET /tunnel/v1``, and what other replicas ask."""
        self._listener.add_to(app)
        self._door.add_to(app)

    def follow(self, follower: Callable[[str], None] | None) -> None:
        """Tell each change of a target's links, by its name; None ends that."""
        self._follower = follower

    def opener(self, target: str) -> SharedOpener | None:
        """What opens streams to a target; None where no target of that name has a tunnel (`FindOpener`)."""
        if not self._known(target):
            return None
        return SharedOpener(target, self._manager, self._members, self._forwarder, dial_seconds=self._dial_seconds)

    def connector(self, target: str) -> Callable[[int, float], BaseConnector]:
        """How a `ClusterClient` reaches a target."""
        return connector_factory(open_stream_of(target, self.opener))

    def status(self, target: str) -> TunnelStatus:
        """The links of a target now, at all replicas, as its SyncTarget shows them; no links where there are none."""
        usable = self._usable(target)
        rtts = (counted.session.statistics().rtt_seconds for counted in usable)
        trips = [seconds for seconds in rtts if seconds is not None]
        links = {record.replica: record.links[target] for record in self._members.holders(target)}
        if usable:
            links = {self._replica: _link(usable), **links}
        if not links:
            return TunnelStatus()
        return TunnelStatus(
            links=sum(link.count for link in links.values()),
            replica=", ".join(links),
            since=_utc(min(link.since for link in links.values())),
            # The loop's clock counts whole milliseconds: a short trip measures as 0, and is known nevertheless.
            rtt_milliseconds=max(1, round(1000 * min(trips))) if trips else 0,
        )

    def duplicate(self, target: str) -> bool:
        """Whether two agents took turns under its name within the last minutes."""
        at = self._duplicates.get(target)
        return at is not None and asyncio.get_running_loop().time() - at < DUPLICATE_SECONDS

    def links(self) -> dict[str, Link]:
        """{target: its links to this replica that take streams}, for the other replicas."""
        return {target: _link(usable) for target in self._targets if (usable := self._usable(target))}

    def members_changed(self, change: Changed) -> None:
        """Other replicas came, went, or have other links."""
        if change.gone:
            self._forwarder.drop(change.gone)
        for target in change.targets:
            self._manager.wake(target)
            self._tell(target)
        if change.members:
            for target in self._targets:
                self._tell_addresses(target)

    def cut(self, target: str, reason: str) -> None:
        """The target is deleted or disabled: its links end now."""
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
        if self._replica in hello.links:
            raise TunnelError("this agent has a link to this replica")
        return HelloOk(software=self._version, replicas=tuple(self._members.addresses(session.peer)))

    def _admit(self, session: TunnelSession, hello: Hello) -> HelloOk:
        target = session.peer
        try:
            answer = self._manager.admit(session, hello)
        except TunnelError as error:
            log.warning("agent not admitted", target=target, instance=hello.instance, reason=str(error))
            raise
        if target in self._targets:
            self._metrics.tunnel_reconnects_total.inc()
        counted = _Counted(session, int(answer.session.rpartition("-")[2]), int(time.time()))
        self._targets.setdefault(target, _Target()).sessions.append(counted)
        session.closed.add_done_callback(lambda done: self._closed(target, counted, done.result()))
        log.info(
            "agent connected", target=target, session=answer.session, instance=hello.instance, version=hello.software
        )
        self._gauge()
        self.on_links()
        return answer

    def _closed(self, target: str, counted: _Counted, reason: str) -> None:
        self._count_one(counted)
        known = self._targets.get(target)
        if known is not None and counted in known.sessions:
            known.sessions.remove(counted)
        log.info("agent's link ended", target=target, reason=reason)
        self._gauge()
        self.on_links()
        self._tell(target)

    def _changed(self, change: StateChanged) -> None:
        if change.duplicate:
            self._duplicates[change.target] = asyncio.get_running_loop().time()
            log.warning("DuplicateAgent: two agents take turns", target=change.target)
        log.debug("target's links", target=change.target, state=change.state.value, reason=change.reason)
        self.on_links()
        self._tell(change.target)

    def _tell(self, target: str) -> None:
        if self._follower is not None:
            self._follower(target)

    def _usable(self, target: str) -> list[_Counted]:
        """Oldest first. One that drains carries what it has and takes nothing new."""
        known = self._targets.get(target)
        return [counted for counted in known.sessions if counted.session.is_open] if known is not None else []

    def _tell_addresses(self, target: str) -> None:
        """Where else this target's agents may dial now: HELLO_OK said it once, this says it anew."""
        addresses = {"replicas": " ".join(self._members.addresses(target))}
        for counted in self._usable(target):
            try:
                transport, _ = counted.session.open_stream_nowait(asyncio.Protocol, REPLICAS_SERVICE, addresses)
            except TunnelError as error:
                log.info("agent not told of other replicas", target=target, reason=str(error))
            else:
                transport.close()

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


def _link(usable: list[_Counted]) -> Link:
    return Link(len(usable), usable[-1].number, usable[0].since)


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _nothing() -> None:
    return


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
