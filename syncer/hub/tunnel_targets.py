"""Targets behind the tunnel, for the proxy and for clients: a connection is a stream of service `kube-api`."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Final, Protocol

from syncer.hub.proxy_exchange import TargetUnavailable, UnknownTarget
from syncer.kube.stream_connector import OpenStream
from tunneler.errors import TunnelError
from tunneler.ports import P

SERVICE: Final = "kube-api"


class StreamOpener(Protocol):
    """Opens streams to one target: `sharing.SharedOpener`, or a session of the tunnel."""

    async def open_stream(self, factory: Callable[[], P], service: str, /) -> tuple[asyncio.Transport, P]:
        """A stream, once the agent said yes; `connection_made` was called. Raises TunnelError."""
        ...


FindOpener = Callable[[str], StreamOpener | None]
"""What opens streams to a target, by its name; None where there is no such target."""


class TunnelDialer:
    """The proxy's `Dialer`."""

    def __init__(self, find: FindOpener) -> None:
        self._find = find

    async def open(self, target: str, factory: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        """A new stream, once the agent said yes.

        Raises:
            UnknownTarget, TargetUnavailable.
        """
        opener = self._find(target)
        if opener is None:
            raise UnknownTarget
        try:
            transport, _ = await opener.open_stream(factory, SERVICE)
        except TunnelError as error:
            raise TargetUnavailable(str(error)) from error
        return transport


def open_stream_of(target: str, find: FindOpener) -> OpenStream:
    """What `stream_connector.connector_factory` takes to reach one target; no link is an OSError."""

    async def open_stream(factory: Callable[[], asyncio.Protocol]) -> object:
        opener = find(target)
        if opener is None:
            raise ConnectionError(errno.EHOSTUNREACH, f"no tunnel is known for target {target}")
        try:
            return await opener.open_stream(factory, SERVICE)
        except TunnelError as error:
            raise ConnectionError(errno.EHOSTUNREACH, str(error)) from error

    return open_stream
