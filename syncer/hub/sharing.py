"""Which way a stream to a target takes: a link of this replica, or one hop to a replica that has one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from syncer.hub.forwarding import Forwarder, NotForwarded
from syncer.hub.members import Members
from tunneler.errors import LinkLost, NoLink
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
            NoLink: no replica had a link in time, or none that answered. TunnelError: the agent refused.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._dial_seconds
        why = f"none came up within {self._dial_seconds:g} s"
        while True:
            session = self._manager.session(self._target)
            if session is not None:
                try:
                    return await session.open_stream(factory, service)
                except (NoLink, LinkLost) as error:
                    why = str(error)
            for holder in sorted(self._members.holders(self._target), key=self._forwarder.avoided):
                try:
                    return await self._forwarder.open(holder, self._target, service, factory)
                except NotForwarded as error:
                    why = str(error)
            left = deadline - loop.time()
            if left <= 0:
                raise NoLink(self._target, why)
            await self._manager.wait_news(self._target, min(left, AGAIN_SECONDS))
