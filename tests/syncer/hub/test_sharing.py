"""Replicas that carry streams for each other: which way is taken, who may ask, and how it ends."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import cast

import pytest
import uvloop

from syncer.hub import forwarding
from syncer.hub.certificates import KeyPair, issue_replica, issue_server, load_pair, make_authority, server_context
from syncer.hub.members import Link, Record
from syncer.hub.replica_identity import COMMON_NAME
from tests.support.process import free_port
from tests.syncer.hub.places import AUTHORITY, SHORT, Place, client_context, hub, until
from tunneler.errors import CloseCode, NoLink, StreamCode, StreamRefused, TunnelError
from tunneler.links import dial
from tunneler.session import TunnelSession

GET = "GET /replicas/v1/targets/east/kube-api HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: {}\r\n\r\n"


class Caller(asyncio.Protocol):
    """Collects what comes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def replicas(stack: AsyncExitStack, *names: str) -> list[Place]:
    return [await stack.enter_async_context(hub(name)) for name in names]


async def linked(stack: AsyncExitStack) -> tuple[Place, Place, TunnelSession]:
    """One without a link, one with it, and the agent's session."""
    first, second = await replicas(stack, "r1", "r2")
    session, _ = await second.agent()
    await until(lambda: second.tunnels.links())
    first.sees(second)
    second.sees(first)
    return first, second, session


async def call(place: Place) -> Caller:
    opener = place.tunnels.opener("east")
    assert opener is not None
    _, caller = await opener.open_stream(Caller, "kube-api")
    return caller


async def test_a_stream_takes_one_hop_to_the_replica_that_has_a_link() -> None:
    async with AsyncExitStack() as stack:
        first, second, _ = await linked(stack)
        caller = await call(first)
        sent = bytes(range(256)) * 16_000
        caller.transport.write(sent)
        await until(lambda: len(caller.data) == len(sent))
        assert bytes(caller.data) == sent
        assert first.metric("syncline_tunnel_forwarded_total", direction="out") == 1
        assert second.metric("syncline_tunnel_forwarded_total", direction="in") == 1
        caller.transport.abort()
        await asyncio.wait_for(caller.lost, 5)


async def test_a_link_of_its_own_is_always_preferred() -> None:
    async with AsyncExitStack() as stack:
        first, second, _ = await linked(stack)
        await first.agent()
        caller = await call(first)
        assert second.metric("syncline_tunnel_forwarded_total", direction="in") == 0
        caller.transport.abort()


async def test_a_link_that_is_silent_is_left_for_one_that_is_not() -> None:
    """It may be lost: that is told after 15 s, and requests need not wait so long."""
    async with AsyncExitStack() as stack:
        first, second, _ = await linked(stack)
        await first.agent()
        await until(first.tunnels.links)
        (counted,) = first.tunnels._targets["east"].sessions
        counted.session.protocol.liveness.last_received -= 8
        caller = await call(first)
        assert second.metric("syncline_tunnel_forwarded_total", direction="in") == 1
        caller.transport.abort()
        first.tunnels.members_changed(first.members.remove("r2"))
        caller = await call(first)
        caller.transport.abort()


def full(place: Place) -> None:
    """The links of this replica take no more streams, and it does not know before it asks."""
    for counted in place.tunnels._targets["east"].sessions:
        counted.session.protocol._peer_max_streams = 0


async def test_a_link_that_is_full_is_left_for_one_that_is_not() -> None:
    """As is one whose agent drains while the question is on its way: nothing of it has reached the target."""
    async with AsyncExitStack() as stack:
        first, second, _ = await linked(stack)
        await first.agent()
        await until(first.tunnels.links)
        full(first)
        caller = await call(first)
        assert second.metric("syncline_tunnel_forwarded_total", direction="in") == 1
        caller.transport.abort()


async def test_a_replica_whose_link_is_full_is_left_for_another_one() -> None:
    async with AsyncExitStack() as stack:
        first, second, _ = await linked(stack)
        third = await stack.enter_async_context(hub("r3"))
        await third.agent(links=("r2",))
        await until(third.tunnels.links)
        first.sees(third)
        chosen, other = (second, third) if first.members.holders("east")[0].replica == "r2" else (third, second)
        full(chosen)
        caller = await call(first)
        assert other.metric("syncline_tunnel_forwarded_total", direction="in") == 1
        caller.transport.abort()


async def test_what_the_agent_refuses_for_another_reason_is_tried_nowhere_else() -> None:
    """Only it can tell whether something was begun."""
    async with AsyncExitStack() as stack:
        first, second, _ = await linked(stack)

        def broken() -> asyncio.Protocol:
            raise StreamRefused(StreamCode.DIAL_FAILED, "nobody there")

        first.service = second.service = broken
        for opener in (first, second):
            with pytest.raises(TunnelError, match="nobody there"):
                await call(opener)
        await first.agent()
        await until(first.tunnels.links)
        with pytest.raises(TunnelError, match="nobody there"):
            await call(first)


async def test_the_end_of_an_answer_arrives_as_an_end_and_a_broken_one_as_an_error() -> None:
    """A cut answer must not look whole, one hop further neither."""
    async with AsyncExitStack() as stack:
        first, _, agent = await linked(stack)
        whole, broken, lost = [await call(first) for _ in range(3)]
        for caller in (whole, broken, lost):
            caller.transport.write(b"answer")
            await until(lambda: bytes(caller.data) == b"answer")  # noqa: B023 - awaited here
        streams = [agent.protocol.streams[id_].owner for id_ in sorted(agent.protocol.streams)]
        assert len(streams) == 3
        assert streams[0] is not None
        assert streams[1] is not None
        streams[0].close()
        assert await asyncio.wait_for(whole.lost, 5) is None
        assert whole.ended
        streams[1].abort(StreamCode.DIAL_FAILED)
        assert isinstance(await asyncio.wait_for(broken.lost, 5), OSError)
        agent.close(CloseCode.GONE, "the agent ends")
        assert isinstance(await asyncio.wait_for(lost.lost, 5), OSError)
        assert not lost.ended


async def test_a_caller_that_goes_ends_the_stream_at_the_agent() -> None:
    async with AsyncExitStack() as stack:
        first, _, agent = await linked(stack)
        caller = await call(first)
        await until(lambda: agent.protocol.streams)
        caller.transport.abort()
        await until(lambda: not agent.protocol.streams)


async def test_a_forwarded_stream_is_never_forwarded_again() -> None:
    """Two replicas that each believe that the other one has the link ask once and say so."""
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(hub(name, dial_seconds=SHORT)) for name in ("r1", "r2")]
        link = {"east": Link(1, 1, 1_777_896_000)}
        first.tunnels.members_changed(first.members.observe(Record("r2", second.url, 1, link), "1", 0.0))
        second.tunnels.members_changed(second.members.observe(Record("r1", first.url, 1, link), "1", 0.0))
        with pytest.raises(NoLink, match="no link to east here"):
            await call(first)
        assert second.metric("syncline_tunnel_forwarded_total", direction="out") == 0
        assert second.metric("syncline_tunnel_forwarded_total", direction="in") == 0


async def test_a_replica_without_a_link_is_left_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the connection open behind its refusal; who asks has read all of that."""
    monkeypatch.setattr(dial, "REFUSAL_SECONDS", 3600.0)
    async with AsyncExitStack() as stack:
        first, second = await replicas(stack, "r1", "r2")
        holder = holds("r2", int(second.url.rpartition(":")[2]))
        with pytest.raises(forwarding.NotForwarded, match="no link to east here"):
            async with asyncio.timeout(10):
                await first.tunnels._forwarder.open(holder, "east", Caller, "kube-api")


async def ask(
    place: Place, upgrade: str, *, name: str = "", replica: str = "r9", authority: KeyPair = AUTHORITY
) -> str:
    """First line of the answer to somebody who asks for a stream; "" if the connection ends instead."""
    tls = client_context()
    if name:
        load_pair(tls, issue_replica(authority, name, replica, now=datetime.now(UTC)))
    port = int(place.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        writer.write(GET.format(upgrade).encode())
        return (await reader.readline()).decode()
    except OSError:
        return ""
    finally:
        writer.close()


async def test_only_replicas_are_answered() -> None:
    """Neither nobody nor another certificate of the same authority opens a stream; one of another is not even heard."""
    async with AsyncExitStack() as stack:
        _, second, _ = await linked(stack)
        assert " 403 " in await ask(second, forwarding.PROTOCOL)
        assert " 403 " in await ask(second, forwarding.PROTOCOL, name="system:syncline:target:east")
        assert " 426 " in await ask(second, "websocket", name=COMMON_NAME)
        assert " 101 " in await ask(second, forwarding.PROTOCOL, name=COMMON_NAME)
        stranger = make_authority(now=datetime.now(UTC))
        assert await ask(second, forwarding.PROTOCOL, name=COMMON_NAME, authority=stranger) == ""


def holds(name: str, port: int) -> Record:
    """The word of a replica that says it has a link."""
    return Record(name, f"https://127.0.0.1:{port}/{name}", 1, {"east": Link(1, 1, 1_777_896_000)})


async def test_a_replica_that_is_gone_is_asked_last() -> None:
    async with AsyncExitStack() as stack:
        first, _, _ = await linked(stack)
        for number in range(4):  # before the one that answers or behind it, as the hash has it
            first.members.observe(holds(f"dead-{number}", free_port()), "1", 0.0)
        caller = await call(first)
        caller.transport.abort()
        assert first.metric("syncline_tunnel_forwarded_total", direction="out") == 1
        avoided = first.tunnels._forwarder.avoided
        order = [holder.replica for holder in first.members.holders("east")]
        assert [avoided(holds(name, 1)) for name in order[: order.index("r2") + 1]] == [True] * order.index("r2") + [
            False
        ]


async def test_a_replica_that_is_silent_holds_nobody_up() -> None:
    async with hub("r1", dial_seconds=SHORT) as place:
        place.tunnels._forwarder.patience_seconds = 0.1
        with socket.create_server(("127.0.0.1", 0)) as silent:  # connects, and never says a word
            place.members.observe(holds("r2", silent.getsockname()[1]), "1", 0.0)
            with pytest.raises(NoLink, match="replica r2 does not answer"):
                await call(place)


async def test_a_replica_that_hangs_up_behind_its_answer_leaves_nobody_waiting() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        await writer.drain()
        writer.close()

    tls = server_context(client_certificates=False)
    load_pair(tls, issue_server(AUTHORITY, ["127.0.0.1"], now=datetime.now(UTC)))
    async with (
        hub("r1", dial_seconds=SHORT) as place,
        await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls) as server,
    ):
        place.members.observe(holds("r2", server.sockets[0].getsockname()[1]), "1", 0.0)
        try:
            caller = await call(place)
        except NoLink as error:
            assert "hung up" in str(error)  # noqa: PT017 - whichever was first
        else:
            await asyncio.wait_for(caller.lost, 5)


async def test_who_waits_goes_on_when_another_replica_tells_of_a_link() -> None:
    async with AsyncExitStack() as stack:
        first, second = await replicas(stack, "r1", "r2")
        first.sees(second)
        waiting = asyncio.create_task(call(first))
        await asyncio.sleep(0)
        await second.agent()
        await until(lambda: second.tunnels.links())
        first.sees(second, epoch=2)
        caller = await asyncio.wait_for(waiting, 5)
        caller.transport.abort()


async def test_links_elsewhere_count_in_status_and_their_changes_are_told() -> None:
    async with AsyncExitStack() as stack:
        first, _, _ = await linked(stack)
        assert first.changes == ["east"]
        told = first.tunnels.status("east")
        assert (told.links, told.replica, told.rtt_milliseconds) == (1, "r2", 0)
        assert told.since.endswith("Z")
        await first.agent()
        await until(lambda: first.tunnels.status("east").links == 2)
        assert first.tunnels.status("east").replica == "r1, r2"
        first.tunnels.members_changed(first.members.remove("r2"))
        assert first.tunnels.status("east").replica == "r1"


async def test_connections_to_a_replica_that_is_gone_end() -> None:
    """One that was frozen would hold its callers for ever."""
    async with AsyncExitStack() as stack:
        first, _, _ = await linked(stack)
        caller = await call(first)
        first.tunnels.members_changed(first.members.remove("r2"))
        await asyncio.wait_for(caller.lost, 5)


async def test_an_agent_is_told_of_other_replicas_and_takes_no_second_link_to_one() -> None:
    async with AsyncExitStack() as stack:
        first, second = await replicas(stack, "r1", "r2")
        _, answer = await first.agent()
        assert answer.replicas == ()
        first.sees(second)
        await until(lambda: first.addresses == [second.url])
        _, answer = await first.agent(instance="two")
        assert answer.replicas == (second.url,)
        first.tunnels.members_changed(first.members.remove("r2"))
        await until(lambda: first.addresses == [])
        with pytest.raises(TunnelError, match="has a link to this replica"):
            await first.agent(links=("r1",))


@pytest.mark.parametrize(
    "scenario",
    [
        test_a_stream_takes_one_hop_to_the_replica_that_has_a_link,
        test_the_end_of_an_answer_arrives_as_an_end_and_a_broken_one_as_an_error,
        test_a_caller_that_goes_ends_the_stream_at_the_agent,
        test_a_replica_that_hangs_up_behind_its_answer_leaves_nobody_waiting,
        test_only_replicas_are_answered,
    ],
)
def test_the_same_on_uvloop(scenario: object) -> None:
    """The loop of the operator: its TLS is another."""
    uvloop.run(scenario())  # type: ignore[operator]
