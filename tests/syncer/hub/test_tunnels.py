"""The hub's end of the tunnel, with agents that dial it within this process."""

from __future__ import annotations

import asyncio

import pytest

from syncer.hub.tunnels import version_skew
from tests.syncer.hub.places import SHORT, TARGET, Echo, hub, until
from tunneler.errors import CloseCode, HandshakeRefused, NoLink, TunnelError


async def test_a_link_shows_in_status_and_metrics_and_is_told() -> None:
    async with hub() as place:
        tunnels = place.tunnels
        assert tunnels.status("east").links == 0
        session, answer = await place.agent()
        assert (answer.replica, answer.software) == ("replica-1", "0.1.0")
        await until(lambda: tunnels.status("east").links == 1)
        told = tunnels.status("east")
        assert told.replica == "replica-1"
        assert told.since.endswith("Z")
        assert "east" in place.changes
        assert place.metric("syncline_tunnel_links") == 1
        session.close(CloseCode.GONE, "the agent ends")
        await until(lambda: tunnels.status("east").links == 0)
        assert place.metric("syncline_tunnel_links") == 0


@pytest.mark.parametrize(("seconds", "told"), [(None, 0), (0.0, 1), (0.0010000000002, 1), (0.0316, 32)])
async def test_a_round_trip_that_was_measured_is_never_told_as_none(seconds: float | None, told: int) -> None:
    async with hub() as place:
        await place.agent()
        await until(lambda: place.tunnels.status("east").links == 1)
        (counted,) = place.tunnels._targets["east"].sessions
        core = counted.session.protocol
        await until(lambda: core.liveness.rtt_seconds is not None)
        core.liveness.rtt_seconds = core.pacer._rtt = seconds
        assert place.tunnels.status("east").rtt_milliseconds == told


async def test_a_stream_goes_to_the_agent_and_is_counted() -> None:
    async with hub() as place:
        await place.agent()
        opener = place.tunnels.opener("east")
        assert opener is not None
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        class Ask(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                heard.set_result(data)

        transport, _ = await opener.open_stream(Ask, "kube-api")
        transport.write(b"x" * 100)
        assert await asyncio.wait_for(heard, 10) == b"x" * 100
        await until(lambda: place.metric("syncline_tunnel_bytes_total", direction="in") == 100)
        assert place.metric("syncline_tunnel_bytes_total", direction="out") == 100
        assert place.metric("syncline_tunnel_streams_open") == 1
        transport.abort()


async def test_agents_that_take_turns_are_told_as_duplicates() -> None:
    """More than five take-overs a minute; who comes then is refused, and told again."""
    async with hub() as place:
        for number in range(7):
            assert not place.tunnels.duplicate("east")
            await place.agent(instance=f"agent-{number}")
        await place.agent(instance="agent-7")
        await until(lambda: place.tunnels.duplicate("east"))
        place.changes.clear()
        with pytest.raises(TunnelError, match="two take turns"):
            await place.agent(instance="agent-8")
        assert place.changes
        place.tunnels.cut("east", "the SyncTarget is gone")
        assert not place.tunnels.duplicate("east")


async def test_who_is_not_known_is_refused_before_the_101() -> None:
    async with hub() as place:
        with pytest.raises(HandshakeRefused, match="who are you"):
            await place.agent(headers={})


@pytest.mark.parametrize("version", ["0.3.0", "1.1.0"])
async def test_an_agent_of_another_age_is_not_admitted(version: str) -> None:
    """Both versions are named, at the hub and at the agent."""
    async with hub() as place:
        with pytest.raises(TunnelError, match=f"VersionSkew: the hub is 0.1.0, the agent {version}"):
            await place.agent(version=version)
        assert place.tunnels.status("east").links == 0


def test_neighbours_of_one_minor_version_understand_each_other() -> None:
    assert version_skew("1.4.2", "1.5.0") == ""
    assert version_skew("1.4.2", "1.3.9") == ""
    assert version_skew("1.4.2", "") == ""
    assert version_skew("1.4.2", "1.6.0")
    assert version_skew("1.4.2", "2.4.2")


async def test_what_the_gate_says_of_the_hello_counts() -> None:
    async with hub() as place:
        place.gate.not_admitted = "another cluster"
        with pytest.raises(TunnelError, match="another cluster"):
            await place.agent()


async def test_no_stream_is_opened_for_a_target_that_does_not_count_any_more() -> None:
    async with hub(dial_seconds=SHORT) as place:
        await place.agent(headers={**TARGET, "X-Proof": "first"})
        opener = place.tunnels.opener("east")
        assert opener is not None
        transport, _ = await opener.open_stream(Echo, "kube-api")
        transport.abort()
        place.gate.refused["first"] = "denied"
        with pytest.raises(NoLink):
            await opener.open_stream(Echo, "kube-api")


async def test_a_session_stands_on_the_proof_of_its_own_handshake() -> None:
    """S07: one whose registration was replaced between the 101 and its HELLO is not admitted on the newer one's."""
    async with hub() as place:
        old, begin_old = await place.handshake(instance="one", headers={**TARGET, "X-Proof": "first"})
        place.gate.refused["first"] = "was replaced"
        await place.agent(instance="two", headers={**TARGET, "X-Proof": "second"})
        begin_old()
        with pytest.raises(TunnelError, match="was replaced"):
            await asyncio.wait_for(asyncio.shield(old.opened), 10)
        await until(lambda: place.tunnels.status("east").links == 1)
        opener = place.tunnels.opener("east")
        assert opener is not None
        transport, _ = await opener.open_stream(Echo, "kube-api")
        transport.abort()


async def test_a_target_without_a_tunnel_has_no_opener_and_one_with_it_waits_for_its_agent() -> None:
    async with hub() as place:
        tunnels = place.tunnels
        assert tunnels.opener("west") is None
        opener = tunnels.opener("east")
        assert opener is not None
        waiting = asyncio.create_task(opener.open_stream(Echo, "kube-api"))
        await place.agent()
        transport, _ = await asyncio.wait_for(waiting, 10)
        transport.abort()


async def test_cutting_a_target_ends_its_links_and_those_who_wait() -> None:
    async with hub() as place:
        tunnels = place.tunnels
        session, _ = await place.agent()
        await until(lambda: tunnels.status("east").links == 1)
        tunnels.cut("east", "deleted")
        assert "AUTH" in await asyncio.wait_for(asyncio.shield(session.closed), 5)
        assert tunnels.status("east").links == 0
        opener = tunnels.opener("east")
        assert opener is not None
        waiting = asyncio.create_task(opener.open_stream(Echo, "kube-api"))
        await asyncio.sleep(0)
        tunnels.cut("east", "deleted again")
        with pytest.raises(NoLink):
            await waiting


async def test_a_link_that_comes_again_counts_as_a_reconnect() -> None:
    async with hub() as place:
        await place.agent()
        assert place.metric("syncline_tunnel_reconnects_total") == 0
        await place.agent()
        assert place.metric("syncline_tunnel_reconnects_total") == 1


async def test_a_replica_that_ends_sends_agents_away_and_takes_no_new_ones() -> None:
    async with hub() as place:
        session, _ = await place.agent()
        draining = asyncio.create_task(place.tunnels.drain())
        await asyncio.sleep(0)
        with pytest.raises(HandshakeRefused, match="this replica ends") as refused:
            await place.agent(instance="two")
        assert refused.value.status == 503
        assert refused.value.retry_after_seconds == 1
        await asyncio.wait_for(draining, 10)
        await asyncio.wait_for(asyncio.shield(session.closed), 5)
