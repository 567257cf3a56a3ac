"""A hub, agents that keep links to it, and a network between them that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psutil
from aiohttp import web

from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.tunneler.test_session import Echo, Recorder
from tunneler.config import TunnelConfig
from tunneler.connections import LinkState
from tunneler.core import Role
from tunneler.frames import Hello
from tunneler.links.aio import dial_aiohttp
from tunneler.links.base import Link, LinkUser
from tunneler.links.dial import DialTarget, dial
from tunneler.links.listen import Peer, TunnelListener
from tunneler.manager import ConnectionManager, LinkKeeper, StateChanged, TargetOpener
from tunneler.ports import Services
from tunneler.session import TunnelSession

QUICK = TunnelConfig(ping_interval_seconds=0.3, dead_after_seconds=1.0)
"""What is noticed after 15 s takes one."""
SHORT_WAITS = 0.001
"""The part of each wait between two tries that is waited."""


@dataclass
class Place:
    """One hub behind a proxy.

    Attributes:
        changes: what the manager told.
        agents: sessions of the keepers' side, oldest first.
    """

    config: TunnelConfig
    manager: ConnectionManager
    proxy: FaultProxy
    changes: list[StateChanged]
    own_transport: bool = True
    agents: list[TunnelSession] = field(default_factory=list)
    _keepers: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def opener(self) -> TargetOpener:
        return self.manager.opener("east")

    @property
    def states(self) -> list[LinkState]:
        return [change.state for change in self.changes]

    async def keep(self, services: Services | None = None, *, config: TunnelConfig | None = None) -> TunnelSession:
        """An agent `east` that keeps a link; returns its first session at the hub."""
        offered: Services = {"echo": lambda request: Echo(), **(services or {})}

        def make() -> LinkUser:
            hello = Hello(agent="east", instance="one")
            return TunnelSession(Role.AGENT, config or self.config, peer="hub", hello=hello, services=offered)

        async def connect(reload: bool) -> TunnelSession:
            link: Link
            target = DialTarget(f"http://127.0.0.1:{self.proxy.port}")
            link, session = await (dial(target, make) if self.own_transport else dial_aiohttp(target, make))
            assert isinstance(session, TunnelSession)
            session.attach(link)
            self.agents.append(session)
            return session

        keeper = LinkKeeper(connect, chance=lambda: SHORT_WAITS)
        self._keepers.append(asyncio.create_task(keeper.run()))
        return await self.manager.wait_session("east")

    async def echoes(self, data: bytes = b"hello") -> None:
        """A stream works, on whichever link; waits for one."""
        transport, protocol = await self.opener.open_stream(Recorder, "echo")
        transport.write(data)
        assert await asyncio.wait_for(protocol.read(len(data)), 20) == data
        transport.abort()
        await protocol.lost

    async def end(self) -> None:
        for task in self._keepers:
            task.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self.manager.close()


@asynccontextmanager
async def faulty(config: TunnelConfig = QUICK, *, own_transport: bool = True, seed: int = 1) -> AsyncIterator[Place]:
    """A hub that listens behind a proxy; no agent yet. ``own_transport`` False: links of aiohttp on both ends."""
    changes: list[StateChanged] = []
    manager = ConnectionManager(config, replica="hub", on_change=changes.append)

    async def authenticate(request: web.Request) -> Peer:
        return Peer("east")

    app = web.Application()
    TunnelListener(config, authenticate, manager.admit, own_transport=own_transport).add_to(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with fault_proxy(*runner.addresses[0][:2], seed=seed) as proxy:
            place = Place(config, manager, proxy, changes, own_transport)
            try:
                yield place
            finally:
                await place.end()
    finally:
        await runner.cleanup()


async def until(check: Callable[[], object], seconds: float = 20) -> None:
    """Wait for what makes no event."""
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110 - what is waited for makes no event
            await asyncio.sleep(0.01)


def held() -> tuple[int, int]:
    """(tasks, file descriptors) of this process."""
    return len(asyncio.all_tasks()), psutil.Process().num_fds()
