"""Lets aiohttp's client speak through streams that somebody else opens: the way to a target behind the tunnel.

A `ClusterClient` over it lists, watches and applies as over TCP. No address is dialled and no name resolved: whatever
host the URL names, the connection is a new stream.
"""

from __future__ import annotations

import asyncio
import errno
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest

from syncer.kube.connector import Connection
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.kubeconfig import Access

OpenStream = Callable[[Callable[[], asyncio.Protocol]], Awaitable[Any]]
"""Opens a stream whose protocol the given factory makes; returns after its `connection_made`. Raises OSError."""
_SERVER: Final = "http://kubernetes"


class _Handler(Connection):
    """Told of a broken stream as of a broken socket: it knows what to make of an OSError only.

    A stream of a link that drains is not kept, for the next one goes over another link.
    """

    @property
    def should_close(self) -> bool:
        return super().should_close or self._drains

    def is_connected(self) -> bool:
        return super().is_connected() and not self._drains

    @property
    def _drains(self) -> bool:
        return self.transport is not None and bool(self.transport.get_extra_info("draining"))

    def connection_lost(self, exc: BaseException | None) -> None:
        broken = exc is None or isinstance(exc, OSError)
        super().connection_lost(exc if broken else ConnectionResetError(errno.ECONNRESET, str(exc)))


class StreamConnector(aiohttp.BaseConnector):
    """A pool of streams instead of sockets; each carries one exchange after another."""

    def __init__(self, open_stream: OpenStream, *, limit: int, keepalive_timeout: float) -> None:
        """Args: limit: streams in use at a time, 0 for any number. keepalive_timeout: seconds an idle one is kept."""
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout)
        self._open_stream = open_stream

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> ResponseHandler:
        made: list[ResponseHandler] = []

        def factory() -> ResponseHandler:
            made.append(_Handler(asyncio.get_running_loop()))
            return made[-1]

        try:
            async with asyncio.timeout(timeout.sock_connect):
                await self._open_stream(factory)
        except TimeoutError:
            raise
        except OSError as error:
            raise aiohttp.ClientConnectorError(req.connection_key, error) from error
        return made[-1]


def stream_credentials() -> ClusterCredentials:
    """Credentials of a client over streams: none. The far end has its own, and who we are the link has proven."""
    return ClusterCredentials(Access(_SERVER))


def connector_factory(open_stream: OpenStream) -> Callable[[int, float], StreamConnector]:
    """What a `ClusterClient` takes as `connector`: (limit, keep-alive seconds) → connector."""
    return functools.partial(_connector, open_stream)


def _connector(open_stream: OpenStream, limit: int, keepalive_timeout: float) -> StreamConnector:
    return StreamConnector(open_stream, limit=limit, keepalive_timeout=keepalive_timeout)
