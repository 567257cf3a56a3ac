"""An agent's links, dialled for real to replicas within this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from syncer.agent.hubs import HubChoice
from syncer.agent.links import REPLICAS_SERVICE, AgentLinks, usable
from tests.syncer.hub.places import TARGET, Echo, Place, client_context, hub, until
from tunneler.config import TunnelConfig
from tunneler.core import Role
from tunneler.frames import Hello
from tunneler.links.base import LinkUser
from tunneler.links.dial import DialTarget, dial
from tunneler.ports import Services
from tunneler.rendezvous import ranked
from tunneler.session import TunnelSession


class Agent:
    """What the process does, without credentials and cluster."""

    def __init__(self, *seeds: str, move_seconds: float = 1000.0) -> None:
        self.choice = HubChoice("east", seeds)
        self.links = AgentLinks(
            self.choice, self._dial, drain_seconds=0.5, move_seconds=move_seconds, chance=lambda: 0.0
        )

    async def _dial(self, link: int, url: str) -> TunnelSession:
        hello = Hello(agent="east", instance="one", software="0.1.0", links=self.choice.linked(link))

        def make() -> LinkUser:
            services: Services = {
                "kube-api": lambda _: Echo(),
                REPLICAS_SERVICE: partial(self.links.replicas, link),
            }
            return TunnelSession(Role.AGENT, TunnelConfig(), peer=url, hello=hello, services=services)

        made, session = await dial(DialTarget(url, headers=TARGET, tls=client_context()), make)
        assert isinstance(session, TunnelSession)
        session.attach(made)
        return session


@asynccontextmanager
async def running(agent: Agent) -> AsyncIterator[Agent]:
    work = asyncio.create_task(agent.links.run())
    try:
        yield agent
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def replicas(stack: AsyncExitStack, count: int) -> list[Place]:
    """They know of each other."""
    made = [await stack.enter_async_context(hub(f"r{number}")) for number in range(count)]
    for one in made:
        for other in made:
            if one is not other:
                one.sees(other)
    return made


def counts(places: list[Place]) -> list[int]:
    """Links of each."""
    return [len(place.tunnels._usable("east")) for place in places]


async def test_one_address_is_enough_for_links_to_two_replicas() -> None:
    async with AsyncExitStack() as stack:
        places = await replicas(stack, 2)
        async with running(Agent(places[0].url)) as agent:
            await until(lambda: counts(places) == [1, 1])
            assert agent.links.up
            assert agent.choice.linked(1) == ("r0",)


async def test_a_replica_that_joins_later_gets_a_link_and_one_that_is_alone_keeps_its_only_one() -> None:
    async with AsyncExitStack() as stack:
        (first,) = await replicas(stack, 1)
        async with running(Agent(first.url)) as agent:
            await until(lambda: counts([first]) == [1])
            second = await stack.enter_async_context(hub("late"))
            second.sees(first)
            first.sees(second)
            await until(lambda: counts([first, second]) == [1, 1])
            assert first.metric("syncline_tunnel_reconnects_total") == 0
            await until(lambda: agent.choice.linked(0) == ("late",))


async def test_a_link_that_is_lost_goes_to_another_replica() -> None:
    async with AsyncExitStack() as stack:
        places = await replicas(stack, 3)
        async with running(Agent(places[0].url)):
            await until(lambda: sum(counts(places)) == 2)
            (spare,) = (place for place, links in zip(places, counts(places), strict=True) if not links)
            lost = next(place for place, links in zip(places, counts(places), strict=True) if links)
            for place in places:
                if place is not lost:
                    place.tunnels.members_changed(place.members.remove(lost.members.own))
            await lost.tunnels.drain()
            await until(lambda: counts([spare]) == [1])
            assert counts([lost]) == [0]


async def test_links_move_to_the_replicas_that_the_target_belongs_to() -> None:
    """Two of three, whichever address the agent began with; a link is left only when there is somewhere to go."""
    async with AsyncExitStack() as stack:
        places = await replicas(stack, 3)
        best = set(ranked("east", [place.url for place in places])[:2])
        (other,) = (place for place in places if place.url not in best)
        async with running(Agent(other.url, move_seconds=0.2)):
            await until(lambda: {place.url for place in places if counts([place]) == [1]} == best)
            await asyncio.sleep(0.5)  # some looks later
            assert {place.url for place in places if counts([place]) == [1]} == best


def test_a_hub_sends_agents_nowhere_but_to_https() -> None:
    words = ["https://a.example:8443", "http://127.0.0.1:80", "https://a:99999", "file:///etc", "https://", "x"]
    assert usable(words) == ["https://a.example:8443"]
