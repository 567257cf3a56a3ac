"""The manager with real sockets: who waits, who replaces whom, how a replica drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.tunneler.test_session import Echo, Recorder
from tunneler.config import TunnelConfig
from tunneler.connections import MAX_REPLACED, LinkState
from tunneler.core import Role
from tunneler.errors import CloseCode, HandshakeRefused, LinkLost, NoLink, TunnelError
from tunneler.frames import Hello
from tunneler.links.base import Link
from tunneler.links.dial import DialTarget, dial
from tunneler.links.listen import Peer, TunnelListener
from tunneler.manager import MAX_WAITING, ConnectionManager, LinkKeeper, StateChanged
from tunneler.ports import Opener
from tunneler.session import TunnelSession


class Hub:
    """A manager behind a listener, and a way to dial it."""

    def __init__(self) -> None:
        self.changes: list[StateChanged] = []
        self.changed = asyncio.Event()
        self.manager = ConnectionManager(TunnelConfig(drain_seconds=5), replica="r1", on_change=self._note)
        self.url = ""
        self.agents: list[TunnelSession] = []

    def _note(self, change: StateChanged) -> None:
        self.changes.append(change)
        self.changed.set()

    async def start(self) -> web.AppRunner:
        async def authenticate(request: web.Request) -> Peer:
            return Peer(request.headers["X-Target"])

        app = web.Application()
        TunnelListener(self.manager.config, authenticate, self.manager.admit).add_to(app)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def dial(self, target: str = "east", instance: str = "a") -> tuple[Link, TunnelSession]:
        """As far as the 101; `TunnelSession.attach` says HELLO."""

        def make() -> TunnelSession:
            services = {"echo": lambda request: Echo()}
            return TunnelSession(
                Role.AGENT, self.manager.config, peer="hub", hello=Hello(instance=instance), services=services
            )

        link, session = await dial(DialTarget(self.url, {"X-Target": target}), make)
        assert isinstance(session, TunnelSession)
        return link, session

    async def connect(self, target: str = "east", instance: str = "a") -> TunnelSession:
        link, session = await self.dial(target, instance)
        session.attach(link)
        self.agents.append(session)
        return session

    async def wait_state(self, state: LinkState) -> None:
        while not self.changes or self.changes[-1].state is not state:
            self.changed.clear()
            await self.changed.wait()


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    hub = Hub()
    runner = await hub.start()
    yield hub
    await hub.manager.close()
    for agent in hub.agents:
        await agent.closed
    await runner.cleanup()


async def test_a_dial_waits_for_a_link_and_goes_on_when_it_comes(hub: Hub) -> None:
    opener: Opener = hub.manager.opener("east")
    with pytest.raises(NoLink):
        opener.open_stream_nowait(Recorder, "echo")
    opening = asyncio.create_task(opener.open_stream(Recorder, "echo"))
    await asyncio.sleep(0)
    agent = await hub.connect()
    transport, protocol = await opening
    transport.write(b"hello")
    assert await protocol.read(5) == b"hello"
    assert (await agent.opened).session == "r1-1"
    (statistics,) = hub.manager.statistics("east")
    assert statistics.streams_open == 1
    assert [c.state for c in hub.changes] == [LinkState.CONNECTED]
    hub.manager.cut("east", CloseCode.AUTH, "the target was disabled")
    assert isinstance(await protocol.lost, LinkLost)
    assert "disabled" in await agent.closed


async def test_waits_are_bounded_in_time_and_number(hub: Hub) -> None:
    with pytest.raises(NoLink, match=r"within 0\.01 s"):
        await hub.manager.wait_session("west", 0.01)
    waits = [asyncio.create_task(hub.manager.wait_session("west")) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(NoLink, match="already wait"):
        await hub.manager.wait_session("west")
    hub.manager.cut("west", CloseCode.AUTH, "deleted")
    assert {type(e) for e in await asyncio.gather(*waits, return_exceptions=True)} == {NoLink}


async def test_a_new_session_of_the_same_instance_takes_over_and_streams_of_the_old_one_end_in_peace(hub: Hub) -> None:
    old = await hub.connect()
    transport, protocol = await hub.manager.opener("east").open_stream(Recorder, "echo")
    new = await hub.connect()
    await new.opened
    _, second = await hub.manager.opener("east").open_stream(Recorder, "echo")
    assert second.transport.get_extra_info("session") == "r1-2"
    transport.write(b"still")
    assert await protocol.read(5) == b"still"
    assert not old.is_open
    second.transport.abort()


async def test_streams_of_a_draining_session_live_on_when_its_agent_comes_back(hub: Hub) -> None:
    """An agent that left may find no better replica: the session that it drains is then replaced as well."""
    old = await hub.connect()
    transport, protocol = await hub.manager.opener("east").open_stream(Recorder, "echo")
    old.close(CloseCode.DRAIN, "moves to another replica")
    await hub.wait_state(LinkState.DRAINING)
    new = await hub.connect()
    await new.opened
    draining = asyncio.create_task(hub.manager.drain())
    transport.write(b"still")
    assert await protocol.read(5) == b"still"
    transport.close()
    await draining


async def test_an_agent_that_comes_again_and_again_and_never_leaves_holds_few_links(hub: Hub) -> None:
    """S63: each of its sessions hears GOAWAY, may finish its streams, and does nothing of the kind."""
    neighbour = await hub.connect("west")
    await neighbour.opened
    for _ in range(50):
        session = await hub.connect()
        await session.opened
    *gone, last = hub.agents[1:]
    ended = asyncio.gather(*(agent.closed for agent in gone[:-MAX_REPLACED]))
    reasons = await asyncio.wait_for(ended, hub.manager.config.drain_seconds / 2)
    assert all("GONE" in reason for reason in reasons)
    assert not any(agent.closed.done() for agent in gone[-MAX_REPLACED:])
    assert last.is_open
    for target in ("east", "west"):
        transport, protocol = await hub.manager.opener(target).open_stream(Recorder, "echo")
        transport.write(b"hello")
        assert await protocol.read(5) == b"hello"
        transport.abort()


async def test_links_of_a_target_are_counted_from_the_first_byte_on(hub: Hub) -> None:
    """S63: one that never says HELLO is a link as well. Whoever has too many is told to wait, and no other is."""
    silent = [await hub.dial() for _ in range(hub.manager.config.max_links)]
    with pytest.raises(HandshakeRefused, match="links") as refused:
        await hub.connect()
    assert (refused.value.status, refused.value.retry_after_seconds) == (429, 5)
    await (await hub.connect("west")).opened
    for link, session in silent:
        link.close(1000, "")
        await session.closed
    await (await hub.connect()).opened


async def test_a_target_that_is_cut_keeps_no_session_that_was_replaced(hub: Hub) -> None:
    old = await hub.connect()
    _, protocol = await hub.manager.opener("east").open_stream(Recorder, "echo")
    await (await hub.connect()).opened
    hub.manager.cut("east", CloseCode.AUTH, "the target was disabled")
    assert isinstance(await protocol.lost, LinkLost)
    assert "AUTH" in await old.closed


async def test_duplicates_are_reported(hub: Hub) -> None:
    for i in range(8):
        session = await hub.connect(instance="abc"[i % 3])
        await session.opened
    refused = await hub.connect(instance="z")
    with pytest.raises(TunnelError):
        await refused.opened
    assert any(change.duplicate for change in hub.changes)


async def test_a_keeper_comes_back_and_leaves_a_draining_hub(hub: Hub) -> None:
    states: list[LinkState] = []
    reloads: list[bool] = []
    tries = 0

    async def connect(reload: bool) -> TunnelSession:
        nonlocal tries
        tries += 1
        reloads.append(reload)
        if tries == 1:
            raise HandshakeRefused(0, "not yet")
        return await hub.connect()

    keeper = LinkKeeper(connect, on_state=lambda state, reason: states.append(state), chance=lambda: 0.0)
    running = asyncio.create_task(keeper.run())
    session = await hub.manager.wait_session("east")
    transport, protocol = await session.open_stream(Recorder, "echo")
    hub.agents[0]._link._transport.abort()  # type: ignore[union-attr]
    assert isinstance(await protocol.lost, LinkLost)
    await hub.wait_state(LinkState.RECONNECTING)
    session = await hub.manager.wait_session("east")
    transport, protocol = await session.open_stream(Recorder, "echo")
    await keeper.session.opened  # type: ignore[union-attr]
    draining = asyncio.create_task(keeper.drain())
    await hub.wait_state(LinkState.DRAINING)
    transport.write(b"last")
    assert await protocol.read(4) == b"last"
    transport.close()
    await draining
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert states[:3] == [LinkState.CONNECTING, LinkState.RECONNECTING, LinkState.CONNECTING]
    assert states[-1] is LinkState.CLOSED
    assert not any(reloads)


async def test_a_replica_drains_once_its_streams_ended(hub: Hub) -> None:
    agent = await hub.connect()
    transport, protocol = await hub.manager.opener("east").open_stream(Recorder, "echo")
    draining = asyncio.create_task(hub.manager.drain(spread_seconds=1.0))
    await hub.wait_state(LinkState.DRAINING)
    late = await hub.connect()
    with pytest.raises(TunnelError):
        await late.opened
    transport.write(b"last")
    assert await protocol.read(4) == b"last"
    assert not draining.done()
    transport.close()
    await draining
    assert "this replica ends" in await agent.closed


async def test_a_hub_keeps_the_links_that_it_dials_in_the_same_way() -> None:
    """The agent listens, and asks who dials; the hub is the one that opens streams all the same."""
    accepted: list[web.Request] = []

    async def authenticate(request: web.Request) -> Peer:
        accepted.append(request)
        if request.headers.get("Authorization") != "Bearer hub":
            raise HandshakeRefused(401, "not my hub")
        return Peer("hub")

    app = web.Application()
    services = {"echo": lambda request: Echo()}
    TunnelListener(TunnelConfig(), authenticate, services=services, hello=Hello(instance="a")).add_to(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    manager = ConnectionManager(TunnelConfig(), replica="r1")

    def make() -> TunnelSession:
        return TunnelSession(Role.HUB, manager.config, peer="west", admit=manager.admit)

    with pytest.raises(HandshakeRefused, match="not my hub"):
        await dial(DialTarget(url), make)

    async def connect(reload: bool) -> TunnelSession:
        link, session = await dial(DialTarget(url, {"Authorization": "Bearer hub"}), make)
        assert isinstance(session, TunnelSession)
        session.attach(link)
        return session

    keeper = LinkKeeper(connect, chance=lambda: 0.0)
    keeping = asyncio.create_task(keeper.run())
    opener = manager.opener("west")
    for _ in range(2):
        transport, protocol = await opener.open_stream(Recorder, "echo")
        transport.write(b"hello")
        assert await protocol.read(5) == b"hello"
        socket = accepted[-1].transport
        assert socket is not None
        socket.abort()  # the link is lost, and dialled again
        assert isinstance(await protocol.lost, LinkLost)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await manager.close()
    await runner.cleanup()
