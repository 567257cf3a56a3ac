"""Which way a stream to a target takes: a link of this replica, or one hop to a replica that has one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from syncer.hub.forwarding import Forwarder, elsewhere
from syncer.hub.members import Members, Record
from syncer.hub.tunnel_targets import StreamOpener
from tunneler.connections import DEGRADED_SILENCE_SECONDS
from tunneler.errors import NoLink, TunnelError
from tunneler.manager import DIAL_SECONDS, ConnectionManager
from tunneler.ports import P

AGAIN_SECONDS = 1.0  # between two looks at replicas that have a link and do not answer


class SharedOpener:
    """Opens streams to one target, whichever replica its agent is linked to."""

    def __init__(
        self,
        target: str,
        manager: ConnectionManager,
        members: Members,
        forwarder: Forwarder,
        *,
        dial_seconds: float = DIAL_SECONDS,
    ) -> None:
        """Args: dial_seconds: how long a stream waits for a link."""
        self._target = target
        self._manager = manager
        self._members = members
        self._forwarder = forwarder
        self._dial_seconds = dial_seconds

    async def open_stream(self, factory: Callable[[], P], service: str) -> tuple[asyncio.Transport, P]:
        """A stream, once the agent said yes.

        Until then nothing of it has reached the target, so another way may be tried.

        Raises:
            NoLink: no replica had a link in time, or none with room that answered. TunnelError: the agent refused.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._dial_seconds
        why = f"none came up within {self._dial_seconds:g} s"
        while True:
            for way in self._ways():
                try:
                    return await way.open_stream(factory, service)
                except TunnelError as error:
                    if not elsewhere(error):
                        raise
                    why = str(error)
            left = deadline - loop.time()
            if left <= 0:
                raise NoLink(self._target, why)
            await self._manager.wait_news(self._target, min(left, AGAIN_SECONDS))

    def _ways(self) -> list[StreamOpener]:
        """Our own link, then those of others, who did not answer a moment ago last; ours last where it is silent."""
        holders = sorted(self._members.holders(self._target), key=self._forwarder.avoided)
        ways: list[StreamOpener] = [_Hop(self._forwarder, holder, self._target) for holder in holders]
        session = self._manager.session(self._target)
        if session is not None:
            silent = session.statistics().silent_seconds > DEGRADED_SILENCE_SECONDS
            ways.insert(len(ways) if silent else 0, session)
        return ways


@dataclass(frozen=True)
class _Hop:
    """The way over another replica's link."""

    forwarder: Forwarder
    holder: Record
    target: str

    async def open_stream(self, factory: Callable[[], P], service: str) -> tuple[asyncio.Transport, P]:
        return await self.forwarder.open(self.holder, self.target, factory, service)
