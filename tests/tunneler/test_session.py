"""Hub and agent with real sockets: streams are asyncio transports, as `tunneler.ports` promises."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import ClientSession, web

from tunneler.config import PATH, SUBPROTOCOL, TunnelConfig
from tunneler.core import Role, SessionState
from tunneler.errors import CloseCode, HandshakeRefused, LinkLost, NoLink, StreamCode, StreamRefused, StreamReset
from tunneler.frames import Hello, HelloOk
from tunneler.links.dial import DialTarget, client_tls, dial
from tunneler.links.listen import Peer, TunnelListener
from tunneler.links.proxies import Proxy
from tunneler.ports import Service, StreamRequest, StreamTransport
from tunneler.relay import SocketEnd, StreamEnd, dial_tcp
from tunneler.session import TunnelSession


class Recorder(asyncio.Protocol):
    """Notes what happens to it."""

    def __init__(self, keep_open: bool = True) -> None:
        self.data = bytearray()
        self.eof = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.pauses: list[str] = []
        self.keep_open = keep_open
        self.wanted: tuple[int, asyncio.Event] = (0, asyncio.Event())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, StreamTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        if len(self.data) >= self.wanted[0]:
            self.wanted[1].set()

    async def read(self, size: int) -> bytes:
        if len(self.data) < size:
            self.wanted = (size, asyncio.Event())
            await self.wanted[1].wait()
        got = bytes(self.data[:size])
        del self.data[:size]
        return got

    def eof_received(self) -> bool:
        self.eof.set()
        return self.keep_open

    def pause_writing(self) -> None:
        self.pauses.append("pause")

    def resume_writing(self) -> None:
        self.pauses.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Echo(Recorder):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def eof_received(self) -> bool:
        return False


@dataclass
class World:
    """One hub; agents dial it."""

    url: str = ""
    config: TunnelConfig = field(default_factory=TunnelConfig)
    sessions: list[TunnelSession] = field(default_factory=list)
    agents: list[TunnelSession] = field(default_factory=list)
    services: dict[str, Service] = field(default_factory=dict)
    last: Any = None

    async def connect(self, target: DialTarget | None = None) -> tuple[TunnelSession, TunnelSession]:
        def make() -> TunnelSession:
            return TunnelSession(Role.AGENT, self.config, peer="hub", hello=Hello(agent="east"), services=self.services)

        link, agent = await dial(target or DialTarget(self.url, {"Authorization": "Bearer good"}), make)
        assert isinstance(agent, TunnelSession)
        agent.attach(link)
        self.agents.append(agent)
        await agent.opened
        return self.sessions[-1], agent

    def admit(self, session: TunnelSession, hello: Hello) -> HelloOk:
        self.sessions.append(session)
        return HelloOk(session=f"s-{len(self.sessions)}")

    async def authenticate(self, request: web.Request) -> Peer:
        word = request.headers.get("Authorization", "")
        if word == "Bearer slow down":
            raise HandshakeRefused(429, "later", retry_after_seconds=7)
        if word != "Bearer good":
            raise HandshakeRefused(401, "who are you")
        return Peer("east")

    def record(self, request: StreamRequest) -> asyncio.Protocol:
        self.last = Recorder()
        return self.last  # type: ignore[no-any-return]


async def serve(world: World, context: ssl.SSLContext | None = None) -> web.AppRunner:
    app = web.Application()
    TunnelListener(world.config, world.authenticate, world.admit).add_to(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    world.url = f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    return runner


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    world.services |= {"echo": lambda request: Echo(), "record": world.record}
    runner = await serve(world)
    yield world
    for session in world.agents:
        session.close(CloseCode.GONE)
    for session in world.agents + world.sessions:
        await session.closed
    await runner.cleanup()


async def test_a_stream_is_a_transport_with_everything_a_protocol_expects(world: World) -> None:
    hub, agent = await world.connect()
    transport, protocol = await hub.open_stream(Recorder, "echo", {"trace": "7"})
    assert transport.get_extra_info("stream") == 2
    assert transport.get_extra_info("service") == "echo"
    assert transport.get_extra_info("metadata") == {"trace": "7"}
    assert transport.get_extra_info("session") == "s-1"
    assert transport.get_extra_info("peer") == "east"
    assert transport.get_extra_info("socket", "none") == "none"
    transport.write(b"hello ")
    transport.write(memoryview(b"world"))
    assert await protocol.read(11) == b"hello world"
    assert transport.can_write_eof()
    transport.write_eof()
    await protocol.eof.wait()
    transport.close()
    assert transport.is_closing()
    assert await protocol.lost is None
    assert not hub.protocol.streams
    assert hub.statistics().sent_bytes == agent.statistics().received_bytes == 11


async def test_megabytes_pass_both_ways_unchanged(world: World) -> None:
    hub, _ = await world.connect()
    data = bytes(range(256)) * 40_000
    transport, protocol = hub.open_stream_nowait(Recorder, "echo")
    transport.write(data)
    assert protocol.pauses == ["pause"]
    assert await protocol.read(len(data)) == data
    assert protocol.pauses == ["pause", "resume"]
    transport.abort()
    error = await protocol.lost
    assert isinstance(error, StreamReset)
    assert (error.code, error.remote) == (StreamCode.CANCELLED, False)


async def test_a_paused_reader_holds_one_window_and_gets_everything_later(world: World) -> None:
    hub, _ = await world.connect()
    transport, protocol = await hub.open_stream(Recorder, "record")
    protocol.transport.pause_reading()
    far = world.last
    far.transport.write(bytes(1 << 20))
    far.transport.write_eof()
    other, echo = await hub.open_stream(Recorder, "echo")
    other.write(b"still lively")
    assert await echo.read(12) == b"still lively"
    assert not protocol.data
    assert not protocol.eof.is_set()
    transport.resume_reading()
    assert len(await protocol.read(1 << 20)) == 1 << 20
    await protocol.eof.wait()
    other.abort()
    transport.close()
    assert await protocol.lost is None
    assert await far.lost is None


async def test_an_abort_reaches_the_far_protocol_with_its_code(world: World) -> None:
    hub, _ = await world.connect()
    transport, _ = await hub.open_stream(Recorder, "record")
    transport.abort(StreamCode.BUSY, "too much")
    error = await world.last.lost
    assert isinstance(error, StreamReset)
    assert (error.code, error.remote) == (StreamCode.BUSY, True)


async def test_services_accept_at_once_or_after_a_dial_or_refuse(world: World) -> None:
    world.config = TunnelConfig(service_timeout_seconds=0.05)
    never = asyncio.Event()

    async def late() -> asyncio.Protocol:
        await asyncio.sleep(0)
        return Echo()

    async def stuck() -> asyncio.Protocol:
        await never.wait()
        raise AssertionError

    async def denied() -> asyncio.Protocol:
        raise StreamRefused(StreamCode.DENIED, "not you")

    def broken(request: StreamRequest) -> Awaitable[asyncio.Protocol]:
        raise RuntimeError("a fault")

    world.services |= {"late": lambda r: late(), "stuck": lambda r: stuck(), "denied": lambda r: denied()}
    world.services["broken"] = broken
    hub, _ = await world.connect()
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    transport, protocol = hub.open_stream_nowait(Recorder, "late")
    transport.write(b"before the answer")
    assert await protocol.read(17) == b"before the answer"
    transport.abort()
    for service, code in (
        ("stuck", StreamCode.TIMEOUT),
        ("denied", StreamCode.DENIED),
        ("broken", StreamCode.INTERNAL),
        ("none", StreamCode.UNKNOWN_SERVICE),
    ):
        with pytest.raises(StreamRefused) as caught:
            await hub.open_stream(Recorder, service)
        assert caught.value.code is code
        _, early = hub.open_stream_nowait(Recorder, service)
        error = await early.lost
        assert isinstance(error, StreamRefused)
        assert error.code is code
    assert len(faults) == 2
    assert hub.is_open


async def test_a_cancelled_open_leaves_nothing_behind(world: World) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def slow() -> asyncio.Protocol:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    world.services["slow"] = lambda request: slow()
    hub, agent = await world.connect()
    opening = asyncio.create_task(hub.open_stream(Recorder, "slow"))
    await started.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await asyncio.wait_for(ended.wait(), 10)  # the dial behind it too
    transport, protocol = await hub.open_stream(Recorder, "echo")
    assert len(hub.protocol.streams) == 1
    assert len(agent.protocol.streams) == 1
    transport.abort()
    await protocol.lost


async def test_a_fault_in_a_protocol_ends_its_stream_only(world: World) -> None:
    class Broken(Recorder):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("a fault")

    world.services["broken"] = lambda request: Broken()
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    hub, _ = await world.connect()
    transport, protocol = await hub.open_stream(Recorder, "broken")
    transport.write(b"x")
    error = await protocol.lost
    assert isinstance(error, StreamReset)
    assert error.code is StreamCode.INTERNAL
    assert hub.is_open
    assert len(faults) == 1


@pytest.mark.parametrize("how", ["cut", "goaway"])
async def test_every_stream_hears_that_the_link_is_lost(world: World, how: str) -> None:
    hub, agent = await world.connect()
    streams = [await hub.open_stream(Recorder, "record") for _ in range(3)]
    far = world.last
    if how == "cut":
        agent._link._transport.abort()  # type: ignore[union-attr]
    else:
        agent.close(CloseCode.GONE, "the agent ends")
    for _, protocol in streams:
        assert isinstance(await protocol.lost, LinkLost)
    assert isinstance(await far.lost, LinkLost)
    assert ("GONE" in await hub.closed) or how == "cut"
    assert hub.protocol.state is SessionState.CLOSED
    with pytest.raises(NoLink):
        hub.open_stream_nowait(Recorder, "echo")


async def test_the_hub_refuses_before_the_101(world: World) -> None:
    for word, status, wait in (("bad", 401, None), ("slow down", 429, 7.0)):
        with pytest.raises(HandshakeRefused) as caught:
            await world.connect(DialTarget(world.url, {"Authorization": f"Bearer {word}"}))
        assert (caught.value.status, caught.value.retry_after_seconds) == (status, wait)
    good = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    good |= {"Sec-WebSocket-Key": "x" * 24, "Sec-WebSocket-Protocol": SUBPROTOCOL}
    async with ClientSession() as http:
        for headers, status in (
            ({}, 426),
            (good | {"Origin": "https://evil"}, 403),
            (good | {"Sec-WebSocket-Protocol": "other.v9"}, 426),
            (good | {"Sec-WebSocket-Key": "short"}, 400),
            (good, 401),
        ):
            async with http.get(world.url + PATH, headers=headers) as answer:
                assert answer.status == status
    assert not world.sessions


async def test_an_address_that_is_no_hub_says_why(world: World) -> None:
    for url in ("ftp://hub", "http://hub.example.com", "http://127.0.0.1:1"):
        with pytest.raises(HandshakeRefused) as caught:
            await world.connect(DialTarget(url))
        assert caught.value.status == 0


async def test_tls_is_13_only_and_the_certificate_is_checked(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    stranger.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    world = World(services={"echo": lambda request: Echo()})
    runner = await serve(world, context)
    headers = {"Authorization": "Bearer good"}
    with pytest.raises(HandshakeRefused, match="certificate"):
        await world.connect(DialTarget(world.url, headers, client_tls(str(tmp_path / "other.pem"))))
    tls = client_tls(str(tmp_path / "ca.pem"))
    hub, agent = await world.connect(DialTarget(world.url, headers, tls))
    transport, protocol = await hub.open_stream(Recorder, "echo")
    transport.write(b"x" * 200_000)
    await protocol.read(200_000)
    assert tls.minimum_version is ssl.TLSVersion.TLSv1_3
    agent.close(CloseCode.GONE)
    await hub.closed
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(HandshakeRefused) as caught:
        await world.connect(DialTarget(world.url, headers, tls))
    assert caught.value.status == 0
    await runner.cleanup()


async def test_a_proxy_is_asked_to_connect(world: World) -> None:
    asked: list[bytes] = []
    passed = asyncio.Event()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head)
        if b"Proxy-Authorization: Basic bWU6cHc=" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        far_reader, far_writer = await asyncio.open_connection(*world.url.removeprefix("http://").split(":"))

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        await asyncio.gather(far_writer.wait_closed(), writer.wait_closed())
        passed.set()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    headers = {"Authorization": "Bearer good"}
    with pytest.raises(HandshakeRefused) as caught:
        await world.connect(DialTarget(world.url, headers, proxy=Proxy("127.0.0.1", port)))
    assert caught.value.status == 407
    hub, agent = await world.connect(DialTarget(world.url, headers, proxy=Proxy("127.0.0.1", port, "Basic bWU6cHc=")))
    assert asked[1].startswith(b"CONNECT 127.0.0.1:")
    assert b"Bearer" not in asked[1]
    transport, protocol = await hub.open_stream(Recorder, "echo")
    transport.write(b"through")
    assert await protocol.read(7) == b"through"
    agent.close(CloseCode.GONE)
    await hub.closed
    await passed.wait()
    server.close()


async def test_tcp_connections_are_relayed_with_half_close(world: World) -> None:
    """What comes back after the client ended its direction still arrives."""

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(len(await reader.read())).encode())
        writer.close()

    target = await asyncio.start_server(count, "127.0.0.1", 0)
    world.services["tcp"] = lambda request: dial_tcp(*target.sockets[0].getsockname())
    hub, _ = await world.connect()

    class Accepted(SocketEnd):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            hub.open_stream_nowait(lambda: StreamEnd(self), "tcp")

    front = await asyncio.get_running_loop().create_server(Accepted, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname())
    writer.write(bytes(3_000_000))
    writer.write_eof()
    assert await reader.read() == b"3000000"
    writer.close()
    await writer.wait_closed()
    front.close()
    target.close()
