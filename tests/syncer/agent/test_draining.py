"""A link that drains: requests end on it as they are, further ones take another link, and soon it is idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from syncer.agent import streams
from syncer.agent.kube_api import KubeApi
from syncer.hub.proxy_exchange import TargetConnection, TargetPool
from syncer.hub.tunnel_targets import SERVICE, TunnelDialer
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.kubeconfig import Access
from tests.support.http1 import OK, StandIn, read_head, running
from tests.syncer.agent.test_kube_api import GET, POLICY
from tests.syncer.hub.places import Place, hub, until
from tunneler.errors import CloseCode
from tunneler.ports import StreamTransport
from tunneler.session import TunnelSession

REQUEST = GET + b"\r\n"


class Slow:
    """An API server whose answers wait for a word."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            self.asked.set()
            await self.go_on.wait()
            writer.write(OK)


def agent(place: Place, api: StandIn) -> None:
    """Agents that dial here use this API server."""
    place.service = KubeApi(ClusterCredentials(Access(api.url)), POLICY).protocol


async def exchange(connection: TargetConnection) -> bytes:
    """One request and its answer."""
    connection.start("GET", REQUEST, lambda head: head.raw)
    answer = b""
    while piece := await connection.read():
        answer += piece
    return answer


async def drain(session: TunnelSession, place: Place) -> None:
    """The agent says so, and the replica has heard it."""
    session.close(CloseCode.DRAIN, "the agent ends")
    await until(lambda: not place.tunnels.links())


@asynccontextmanager
async def two_links(api: StandIn) -> AsyncIterator[tuple[Place, TunnelSession, Place, TunnelSession]]:
    """Two replicas that know each other, each with a link."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(api))
        first, second = [await stack.enter_async_context(hub(name)) for name in ("r1", "r2")]
        for place in (first, second):
            agent(place, api)
        (one, _), (other, _) = await first.agent(), await second.agent()
        await until(lambda: first.tunnels.links() and second.tunnels.links())
        first.sees(second)
        second.sees(first)
        yield first, one, second, other


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LOOK_SECONDS", 0.01)


@pytest.mark.usefixtures("_short")
async def test_requests_leave_a_link_that_drains_for_one_that_does_not() -> None:
    """On the agent's SIGTERM, and when a link moves: kept streams held the drain up, and were cut at its end."""
    async with two_links(StandIn()) as (first, draining, second, _):
        pool = TargetPool(TunnelDialer(first.tunnels.opener))
        connections = [await pool.open("east") for _ in range(3)]
        for connection in connections:
            assert (await exchange(connection)).endswith(b"{}")
            pool.give_back("east", connection)
        assert second.metric("syncline_tunnel_forwarded_total", direction="in") == 0
        await drain(draining, first)
        assert pool.kept("east") is None
        assert (await exchange(await pool.open("east"))).endswith(b"{}")
        assert second.metric("syncline_tunnel_forwarded_total", direction="in") == 1
        await until(lambda: not draining.protocol.streams)
        pool.close()


@pytest.mark.usefixtures("_short")
async def test_hops_that_another_replica_keeps_end_with_the_drain_too() -> None:
    """That replica hears nothing of it: the agent ends what nobody uses."""
    async with two_links(StandIn()) as (first, one, second, draining):
        one.close(CloseCode.GONE, "only the other one is left")
        await until(lambda: not first.tunnels.links())
        pool = TargetPool(TunnelDialer(first.tunnels.opener))
        connection = await pool.open("east")
        await exchange(connection)
        pool.give_back("east", connection)
        assert len(draining.protocol.streams) == 1
        await drain(draining, second)
        await until(lambda: not draining.protocol.streams)
        await until(lambda: not connection.alive)
        pool.close()


async def test_an_answer_within_a_drain_says_that_it_is_the_last() -> None:
    """So no further request is on its way when the stream ends."""
    slow = Slow()
    async with two_links(StandIn(serve=slow.serve)) as (first, draining, _, _):
        opener = first.tunnels.opener("east")
        assert opener is not None
        transport, connection = await opener.open_stream(TargetConnection, SERVICE)
        assert isinstance(transport, StreamTransport)
        asking = asyncio.create_task(exchange(connection))
        await slow.asked.wait()
        await drain(draining, first)
        slow.go_on.set()
        assert b"connection: close" in (await asyncio.wait_for(asking, 20)).lower()
        await until(lambda: not draining.protocol.streams)


async def test_what_is_asked_or_on_its_way_does_not_rest() -> None:
    """One look is not enough to end a stream, and none ends while its link stays."""

    class Stream:
        rests, left = False, False

        def leave(self) -> None:
            self.left = True
            found.discard(self)

    found: streams.Streams[Stream] = streams.Streams()
    stays, goes, asked = Stream(), Stream(), Stream()
    for stream in (stays, goes, asked):
        found.add(stream)
    goes.rests = asked.rests = True
    found._look()
    asked.rests = False
    assert not goes.left
    found._look()
    assert [stream.left for stream in (stays, goes, asked)] == [False, True, False]
    asked.rests = True
    found._look()
    assert list(found) == [stays, asked] or list(found) == [asked, stays]
    found._look()
    assert list(found) == [stays]
    assert found._looking is not None
    found.discard(stays)
    found._look()
    assert found._looking is None
