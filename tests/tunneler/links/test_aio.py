"""The link through aiohttp, against itself and against the raw link: the same session runs on each."""

from __future__ import annotations

import pytest
from aiohttp import web

from tests.tunneler.test_session import Echo, Recorder, World
from tunneler.core import Role
from tunneler.errors import CloseCode, HandshakeRefused, LinkLost
from tunneler.frames import Hello
from tunneler.links.aio import dial_aiohttp
from tunneler.links.base import Link
from tunneler.links.dial import DialTarget, dial
from tunneler.links.listen import TunnelListener
from tunneler.session import TunnelSession


@pytest.mark.parametrize("server", ["raw", "aiohttp"])
@pytest.mark.parametrize("client", ["raw", "aiohttp"])
async def test_each_kind_of_link_carries_streams_to_each_other_kind(server: str, client: str) -> None:
    world = World(services={"echo": lambda request: Echo()})
    app = web.Application()
    own = server == "raw"
    TunnelListener(world.config, world.authenticate, world.admit, own_transport=own).add_to(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    world.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    def make() -> TunnelSession:
        return TunnelSession(Role.AGENT, world.config, peer="hub", hello=Hello(), services=world.services)

    link: Link
    target = DialTarget(world.url, {"Authorization": "Bearer good"})
    if client == "raw":
        link, agent = await dial(target, make)
    else:
        link, agent = await dial_aiohttp(target, make)
        with pytest.raises(HandshakeRefused) as caught:
            await dial_aiohttp(DialTarget(world.url), make)
        assert caught.value.status == 401
        with pytest.raises(HandshakeRefused) as caught:
            await dial_aiohttp(DialTarget(world.url, {"Authorization": "Bearer slow down"}), make)
        assert (caught.value.status, caught.value.retry_after_seconds) == (429, 7.0)
        for url in ("http://hub.example.com", "ftp://hub", "http://127.0.0.1:1"):
            with pytest.raises(HandshakeRefused) as caught:
                await dial_aiohttp(DialTarget(url), make)
            assert caught.value.status == 0
    assert isinstance(agent, TunnelSession)
    agent.attach(link)
    await agent.opened
    hub = world.sessions[0]
    transport, protocol = await hub.open_stream(Recorder, "echo")
    data = bytes(range(256)) * 8000
    transport.write(data)
    assert await protocol.read(len(data)) == data
    agent.close(CloseCode.GONE, "done")
    assert isinstance(await protocol.lost, LinkLost)
    assert "done" in await hub.closed
    await agent.closed
    await runner.cleanup()
