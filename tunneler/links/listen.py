"""Accept links in an aiohttp server: ``GET /tunnel/v1``, checked before the 101. A hub listens, or an agent does.

aiohttp reads the request; the 101 is written on its transport, which then belongs to a `RawLink`, while the handler
stays parked until the session is over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from aiohttp import web
from websockets.utils import accept_key

from tunneler.config import PATH, SUBPROTOCOL, TunnelConfig
from tunneler.core import Role
from tunneler.errors import CloseCode, HandshakeRefused
from tunneler.frames import Hello
from tunneler.links.aio import AiohttpLink, server_socket
from tunneler.links.raw import RawLink
from tunneler.ports import Services
from tunneler.session import Admit, TunnelSession

RETRY_SECONDS = 5.0  # for a peer with too many links: those that ended are gone by then


class Peer(NamedTuple):
    """Who dials.

    Attributes:
        name: what its credential proves.
        proof: what was looked at, for who admits the session and opens streams on it; the tunnel never looks inside.
    """

    name: str
    proof: object = None


Authenticate = Callable[[web.Request], Awaitable[Peer]]
"""Who dials, or `HandshakeRefused` with 401, 403 or 429."""


class TunnelListener:
    """Handler of one route.

    Args:
        admit: at a hub, given each session when its HELLO came.
        services: at an agent that the hub dials, what it offers, and ``hello``, what it says of itself.
        own_transport: False: stay with aiohttp's WebSocket, see `links.aio`.
    """

    def __init__(
        self,
        config: TunnelConfig,
        authenticate: Authenticate,
        admit: Admit | None = None,
        *,
        services: Services | None = None,
        hello: Hello | None = None,
        own_transport: bool = True,
    ) -> None:
        self._own_transport = own_transport
        self._config = config
        self._authenticate = authenticate
        self._admit = admit
        self._services = services
        self._hello = hello
        self._links: Counter[str] = Counter()  # {peer: its connections}

    def add_to(self, app: web.Application) -> None:
        """Route ``GET /tunnel/v1``."""
        app.router.add_get(PATH, self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One link, from its request to the end of its session."""
        problem = check_upgrade(request.headers)
        if problem is not None:
            status, text = problem
            return web.Response(status=status, text=text, headers={"Sec-WebSocket-Protocol": SUBPROTOCOL})
        try:
            peer = await self._authenticate(request)
            if self._links[peer.name] >= self._config.max_links:
                raise HandshakeRefused(429, "too many links of this peer", retry_after_seconds=RETRY_SECONDS)
        except HandshakeRefused as error:
            wait = error.retry_after_seconds
            headers = {} if wait is None else {"Retry-After": str(int(wait))}
            return web.Response(status=error.status, text=str(error), headers=headers)
        self._links[peer.name] += 1
        try:
            return await self._serve(request, peer)
        finally:
            self._links[peer.name] -= 1
            if not self._links[peer.name]:
                del self._links[peer.name]

    async def _serve(self, request: web.Request, peer: Peer) -> web.StreamResponse:
        transport = request.transport
        if transport is None:
            return web.Response(status=499)
        session = self._session(peer)
        if not self._own_transport:
            socket = server_socket()
            await socket.prepare(request)
            aiohttp_link = AiohttpLink(session, socket)
            session.attach(aiohttp_link)
            await aiohttp_link.run()
            return socket
        server = request.protocol
        link = RawLink(session, client=False, on_lost=server.connection_lost)
        transport.write(_switching(request.headers["Sec-WebSocket-Key"]))
        link.take_over(transport)
        session.attach(link)
        try:
            await asyncio.shield(session.closed)
            await asyncio.shield(link.lost)  # the peer reads our last word first
        finally:
            session.close(CloseCode.GONE, "the listener ends")
        return web.Response()

    def _session(self, peer: Peer) -> TunnelSession:
        if self._services is None:
            return TunnelSession(Role.HUB, self._config, peer=peer.name, proof=peer.proof, admit=self._admit)
        return TunnelSession(Role.AGENT, self._config, peer=peer.name, hello=self._hello, services=self._services)


def check_upgrade(headers: Mapping[str, str]) -> tuple[int, str] | None:
    """What is wrong with a handshake: (HTTP status, text), or None. Browsers are refused: they send an Origin."""
    if "Origin" in headers:
        return 403, "not for browsers"
    upgrade = headers.get("Upgrade", "").lower()
    connection = [word.strip().lower() for word in headers.get("Connection", "").split(",")]
    if upgrade != "websocket" or "upgrade" not in connection or headers.get("Sec-WebSocket-Version") != "13":
        return 426, "this is the end of a tunnel: a WebSocket of version 13 is expected"
    if len(headers.get("Sec-WebSocket-Key", "")) != 24:
        return 400, "Sec-WebSocket-Key is missing or wrong"
    offered = [word.strip() for word in headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if SUBPROTOCOL not in offered:
        return 426, f"only {SUBPROTOCOL} is spoken here"
    return None


def _switching(key: str) -> bytes:
    lines = (
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(key)}",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
