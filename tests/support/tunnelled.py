"""A real tunnel within one process: a hub's listener, an agent that dialled it, and one WebSocket between them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tunneler.config import TunnelConfig
from tunneler.core import Role
from tunneler.errors import CloseCode
from tunneler.frames import Hello, HelloOk
from tunneler.links.base import LinkUser
from tunneler.links.dial import DialTarget, dial
from tunneler.links.listen import Peer, TunnelListener
from tunneler.ports import Opener, Services
from tunneler.session import TunnelSession


@asynccontextmanager
async def tunnel(services: Services) -> AsyncIterator[Opener]:
    """What the hub opens streams with, to an agent that offers `services`."""
    config = TunnelConfig()
    admitted: asyncio.Future[TunnelSession] = asyncio.get_running_loop().create_future()

    def admit(session: TunnelSession, hello: Hello) -> HelloOk:
        admitted.set_result(session)
        return HelloOk(session="test")

    async def authenticate(request: web.Request) -> Peer:
        return Peer("east")

    app = web.Application()
    TunnelListener(config, authenticate, admit).add_to(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()

    def make() -> LinkUser:
        hello = Hello(agent="east", instance=str(os.getpid()))
        return TunnelSession(Role.AGENT, config, peer="hub", hello=hello, services=services)

    link, agent = await dial(DialTarget(f"http://127.0.0.1:{runner.addresses[0][1]}"), make)
    assert isinstance(agent, TunnelSession)
    agent.attach(link)
    hub = await asyncio.wait_for(admitted, 20)
    await asyncio.wait_for(asyncio.shield(agent.opened), 20)
    try:
        yield hub
    finally:
        hub.close(CloseCode.AUTH, "the test is over")
        await asyncio.wait_for(asyncio.shield(agent.closed), 20)
        await asyncio.wait_for(asyncio.shield(hub.closed), 20)
        await runner.cleanup()
