"""The sockets of a `ClusterClient`: the loop's own, ended at once, and never opened to instance metadata."""

from __future__ import annotations

import asyncio
import functools
import socket
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from syncer.kube.kubeconfig import is_metadata_host


class Connection(ResponseHandler):
    """aiohttp's own, but what is closed is gone: HTTP says itself where an answer ends.

    A polite end flushes and, with TLS, waits up to 30 s for the peer's goodbye. A peer that hangs says none, and nobody
    holds that transport any more, so closing the session would not end it.
    """

    def close(self) -> None:
        self.abort()


class TcpConnector(aiohttp.TCPConnector):
    """A pool of TCP connections, with TLS or without, each by a socket that the loop makes.

    aiohttp connects sockets of its own and hands them to the loop. uvloop takes such a socket over one step after it
    began to use its descriptor. If the peer resets the connection in between (a server dies during TLS handshakes),
    both close the descriptor, by then perhaps somebody else's: a connection is lost, or the process aborts in libuv.
    """

    def __init__(self, *, untrusted: bool = False, **options: Any) -> None:
        """Args: untrusted: names must not lead to instance metadata. options: aiohttp's."""
        super().__init__(resolver=_GuardedResolver() if untrusted else None, **options)
        connection: type[ResponseHandler] = Connection
        self._factory = functools.partial(connection, loop=self._loop)

    async def _wrap_create_connection(
        self,
        *args: Any,
        addr_infos: list[tuple[Any, ...]],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 (aiohttp's name)
        **kwargs: Any,
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        """Connect to one address after the other; each has its share of the time."""
        share = None if timeout.sock_connect is None else timeout.sock_connect / len(addr_infos)
        limit = aiohttp.ClientTimeout(sock_connect=share, ceil_threshold=timeout.ceil_threshold)
        while True:
            host, port = addr_infos.pop(0)[4][:2]  # the caller tries again while it finds some
            try:
                return await self._wrap_existing_connection(*args, host=host, port=port, timeout=limit, **kwargs)
            except (aiohttp.ClientConnectorError, TimeoutError):
                if not addr_infos:
                    raise


class _GuardedResolver(AbstractResolver):
    """Names of untrusted servers never lead to instance metadata, whatever their DNS says at this moment."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [result for result in found if not is_metadata_host(result["host"])]
        if not allowed:
            raise OSError(None, "the name leads to an instance-metadata address only")
        return allowed

    async def close(self) -> None:
        await self._inner.close()
