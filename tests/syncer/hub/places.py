"""Replicas of a hub within this process, with TLS, and agents that dial them."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web

from syncer.hub.certificates import issue_server, load_pair, make_authority, server_context
from syncer.hub.members import Members, Record
from syncer.hub.replica_identity import ReplicaIdentity
from syncer.hub.tunnels import Tunnels
from syncer.metrics import Metrics
from tunneler.config import TunnelConfig
from tunneler.core import Role
from tunneler.errors import HandshakeRefused, TunnelError
from tunneler.frames import Hello, HelloOk
from tunneler.links.base import LinkUser
from tunneler.links.dial import DialTarget, dial
from tunneler.links.listen import Peer
from tunneler.ports import StreamRequest
from tunneler.session import TunnelSession

TARGET = {"X-Target": "east"}
SHORT = 0.3  # seconds that a stream waits for a link which does not come
AUTHORITY = make_authority(now=datetime.now(UTC))


@dataclass
class HeaderGate:
    """Believes a header; tests say what it refuses."""

    not_admitted: str = ""
    refused: dict[str, str] = field(default_factory=dict)  # {proof: why}

    async def authenticate(self, request: web.Request) -> Peer:
        name = request.headers.get("X-Target")
        if name is None:
            raise HandshakeRefused(401, "who are you?")
        return Peer(name, request.headers.get("X-Proof", ""))

    def admit(self, proof: object, hello: Hello) -> None:
        if self.not_admitted or self.refusal(proof):
            raise TunnelError(self.not_admitted or self.refusal(proof))

    def refusal(self, proof: object) -> str:
        return self.refused.get(str(proof), "")


class Echo(asyncio.Protocol):
    """The service of these agents."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]


class Place:
    """One replica.

    Attributes:
        known: targets with a tunnel.
        changes: targets whose links changed, as it was told.
        addresses: told to its agents after their HELLO_OK.
        service: what its agents answer with.
    """

    def __init__(self, gate: HeaderGate, url: str, tunnels: Tunnels, members: Members, metrics: Metrics) -> None:
        self.gate, self.url, self.tunnels, self.members, self.metrics = gate, url, tunnels, members, metrics
        self.known: set[str] = set()
        self.changes: list[str] = []
        self.addresses: list[str] = []
        self.service: Callable[[], asyncio.Protocol] = Echo
        self.agents: list[TunnelSession] = []
        tunnels.follow(self.changes.append)

    def sees(self, other: Place, *, epoch: int = 1) -> None:
        """As the registry would tell it."""
        record = Record(other.members.own, other.url, epoch, other.tunnels.links())
        self.tunnels.members_changed(self.members.observe(record, str(epoch), 0.0))

    async def agent(
        self,
        *,
        instance: str = "one",
        version: str = "0.1.0",
        headers: dict[str, str] = TARGET,
        links: tuple[str, ...] = (),
    ) -> tuple[TunnelSession, HelloOk]:
        """Dial; returns once the hub said yes."""
        session, begin = await self.handshake(instance=instance, version=version, headers=headers, links=links)
        begin()
        self.agents.append(session)
        return session, await asyncio.wait_for(asyncio.shield(session.opened), 10)

    async def handshake(
        self, *, instance: str, version: str = "0.1.0", headers: dict[str, str], links: tuple[str, ...] = ()
    ) -> tuple[TunnelSession, Callable[[], None]]:
        """Dial as far as the 101; what is returned beside the session says HELLO."""
        hello = Hello(agent="east", instance=instance, software=version, links=links)

        def make() -> LinkUser:
            services = {"kube-api": lambda _: self.service(), "replicas": self._replicas}
            return TunnelSession(Role.AGENT, TunnelConfig(), peer="hub", hello=hello, services=services)

        link, session = await dial(DialTarget(self.url, headers=headers, tls=client_context()), make)
        assert isinstance(session, TunnelSession)
        return session, functools.partial(session.attach, link)

    def _replicas(self, request: StreamRequest) -> asyncio.Protocol:
        self.addresses = request.metadata["replicas"].split()
        return asyncio.Protocol()

    def metric(self, name: str, **labels: str) -> float:
        value = self.metrics.registry.get_sample_value(name, labels)
        assert value is not None
        return value


def client_context() -> ssl.SSLContext:
    """TLS to these replicas, for somebody without a certificate."""
    context = ssl.create_default_context(cadata=AUTHORITY.certificate.decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


@asynccontextmanager
async def hub(name: str = "replica-1", *, dial_seconds: float = 20) -> AsyncIterator[Place]:
    gate, metrics, members, known = HeaderGate(), Metrics(), Members(name), set[str]()
    tunnels = Tunnels(
        gate,
        metrics,
        members,
        ReplicaIdentity(AUTHORITY, name),
        known=known.__contains__,
        version="0.1.0",
        drain_seconds=0.5,
        dial_seconds=dial_seconds,
    )
    tunnels._forwarder.patience_seconds = 20  # no test waits for it, and machines are slow at times
    app = web.Application()
    tunnels.add_to(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, handler_cancellation=True)
    await runner.setup()
    tls = server_context()
    tls.load_verify_locations(cadata=AUTHORITY.certificate.decode())
    load_pair(tls, issue_server(AUTHORITY, ["127.0.0.1"], now=datetime.now(UTC)))
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    work = asyncio.create_task(tunnels.run())
    place = Place(gate, f"https://127.0.0.1:{runner.addresses[0][1]}", tunnels, members, metrics)
    known |= {"east"}
    place.known = known
    try:
        yield place
    finally:
        await tunnels.drain()
        for session in place.agents:  # what they serve with ends a turn later
            await asyncio.wait_for(asyncio.shield(session.closed), 10)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await runner.cleanup()


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not check():  # noqa: ASYNC110 - what is waited for makes no event
            await asyncio.sleep(0.01)
