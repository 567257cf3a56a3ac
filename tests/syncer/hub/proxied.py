"""A hub's proxy behind its real listener, with a target that answers as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from syncer.binds import Bind
from syncer.hub.auth import Authenticator, Authorizer
from syncer.hub.callers import Strangers
from syncer.hub.listener import listen
from syncer.hub.proxy import TargetProxy
from syncer.hub.proxy_exchange import TargetUnavailable, UnknownTarget
from tests.support.http1 import StandIn, connected, running
from tests.syncer.hub.fakes import Reviews

PROXY = "synctargets/proxy.syncline.io"
ALICE = b"Authorization: Bearer alice\r\nHost: hub\r\n"
GET = b"GET /targets/east/api/v1/namespaces/shop/pods/web HTTP/1.1\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
EXEC = b"/targets/east/api/v1/namespaces/shop/pods/web/exec?command=sh HTTP/1.1\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


class Dial:
    """East is the stand-in, west has no link, north's agent never answers, others do not exist."""

    def __init__(self, server: StandIn) -> None:
        self._server = server

    async def open(self, target: str, factory: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        if target == "west":
            raise TargetUnavailable("no link")
        if target == "north":
            await asyncio.Event().wait()
        if target != "east":
            raise UnknownTarget
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(factory, "127.0.0.1", self._server.port)
        return transport


def reviews() -> Reviews:
    known = Reviews(tokens={"alice": ("alice", ["dev"]), "reader": ("reader", []), "bob": ("bob", [])})
    known.rules = {("alice", verb, PROXY, "*") for verb in ("get", "create", "update", "patch", "delete")}
    known.rules |= {("reader", "get", PROXY, "east")}
    return known


@asynccontextmanager
async def hub(
    server: StandIn,
    known: Reviews | None = None,
    *,
    open_seconds: float = 20,
    answer_seconds: float = 20,
    strangers: Strangers | None = None,
) -> AsyncIterator[int]:
    """Port of a hub whose target east is `server`."""
    asked = known or reviews()
    proxy = TargetProxy(
        Authenticator(asked), Authorizer(asked), Dial(server), open_seconds=open_seconds, answer_seconds=answer_seconds
    )
    app = web.Application()
    proxy.add_to(app)
    async with running(server):
        listener = await listen(
            app, Bind("127.0.0.1", 0), setting="hub_bind", cancel_handlers=True, strangers=strangers
        )
        try:
            yield listener.bind.port
        finally:
            proxy.close()
            await listener.close()


@asynccontextmanager
async def caller(
    server: StandIn, known: Reviews | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with hub(server, known) as port, connected(port) as pair:
        yield pair
