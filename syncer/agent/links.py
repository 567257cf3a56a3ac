"""Keeps an agent's links up: one `LinkKeeper` each, and `HubChoice` says where they dial."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from syncer.agent.hubs import LINKS, HubChoice
from tunneler.connections import LinkState
from tunneler.errors import HandshakeRefused
from tunneler.links.dial import hub_address
from tunneler.manager import LinkKeeper
from tunneler.ports import StreamRequest
from tunneler.session import TunnelSession

REPLICAS_SERVICE: Final = "replicas"  # the hub tells by its metadata which other replicas there are now
SPREAD_SECONDS: Final = 5.0  # over which agents come to a new replica
MOVE_SECONDS: Final = 30.0  # half of it to one and a half between two looks whether a link belongs elsewhere

log = structlog.get_logger()
Dial = Callable[[int, str], Awaitable[TunnelSession]]
"""Dials an address for a link, and attaches the session. Raises HandshakeRefused."""


class AgentLinks:
    """All links of one agent.

    Attributes:
        states: {number of a link: its state}.
    """

    def __init__(
        self,
        choice: HubChoice,
        dial: Dial,
        *,
        drain_seconds: float,
        move_seconds: float = MOVE_SECONDS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Args: drain_seconds: what a link that is left has for its streams."""
        self._choice = choice
        self._dial = dial
        self._move_seconds = move_seconds
        self._chance = chance
        self._dialling = asyncio.Lock()  # one link at a time, so that it knows whom the others reach
        self.states: dict[int, LinkState] = {}
        self._keepers = [self._keeper(link, drain_seconds) for link in range(LINKS)]

    @property
    def up(self) -> bool:
        """One at least."""
        return LinkState.CONNECTED in self.states.values()

    async def run(self) -> None:
        """Until cancelled; then the sessions end."""
        async with asyncio.TaskGroup() as group:
            for link, keeper in enumerate(self._keepers):
                group.create_task(keeper.run(), name=f"link {link}")
            group.create_task(self._balance(), name="balance of links")

    async def drain(self) -> None:
        """Before `run` is cancelled: take no more streams, and let those that run end."""
        await asyncio.gather(*(keeper.drain() for keeper in self._keepers))

    def replicas(self, link: int, request: StreamRequest) -> asyncio.Protocol:
        """The service by which a hub tells anew which other replicas there are."""
        self._choice.told(link, usable(request.metadata.get("replicas", "").split()))
        self._hurry_others(link, SPREAD_SECONDS)
        return asyncio.Protocol()

    def _keeper(self, link: int, drain_seconds: float) -> LinkKeeper:
        async def connect(reload: bool) -> TunnelSession:
            return await self._connect(link)

        def told(state: LinkState, reason: str) -> None:
            if state is not LinkState.CONNECTED:
                self._choice.lost(link)
            if self.states.get(link) is not state or reason:
                log.info("link", link=link, hub=self._choice.address(link), state=state.value, reason=reason)
            self.states[link] = state

        return LinkKeeper(connect, on_state=told, drain_seconds=drain_seconds, chance=self._chance)

    async def _connect(self, link: int) -> TunnelSession:
        """One dial, once there is a replica to dial that the other links do not reach. Raises TunnelError."""
        while True:
            async with self._dialling:
                url = self._choice.choose(link)
                if url is not None:
                    session = await self._dial(link, url)
                    answer = await session.opened
                    self._choice.connected(link, answer.replica, usable(answer.replicas))
                    self._hurry_others(link, 0.0)
                    return session
            await self._keepers[link].pause(None)

    def _hurry_others(self, link: int, seconds: float) -> None:
        for number, keeper in enumerate(self._keepers):
            if number != link:
                keeper.hurry(seconds)

    async def _balance(self) -> None:
        """After replicas came, agents move to those that their targets belong to: one link at a time, spread."""
        while True:
            await asyncio.sleep(self._move_seconds * (0.5 + self._chance()))
            link = self._choice.misplaced()
            if link is not None:
                log.info("link moves", link=link, hub=self._choice.address(link))
                self._keepers[link].leave("the link moves to another replica")


def usable(addresses: Iterable[str]) -> list[str]:
    """Those that a hub's words may send this agent to: https URLs."""
    return [url for url in addresses if _by_tls(url)]


def _by_tls(url: str) -> bool:
    try:
        secure, _, _ = hub_address(url)
    except HandshakeRefused:
        return False
    return secure
