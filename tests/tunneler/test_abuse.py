"""A hostile agent on a real WebSocket: its link ends with a code, and the session beside it never notices."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.tunneler.test_session import Echo, Recorder, World, serve
from tunneler import frames
from tunneler.config import MAX_MESSAGE_BYTES, PATH, SUBPROTOCOL, TunnelConfig
from tunneler.core import Role
from tunneler.errors import CloseCode, StreamReset
from tunneler.frames import FrameType, Hello, Open
from tunneler.links.raw import HIGH_WATER_BYTES, RawLink
from tunneler.session import TunnelSession
from tunneler.websocket import PING, WebSocketCodec

GOOD = {"Authorization": "Bearer good"}
HELLO = frames.encode_hello(Hello(agent="east", instance="evil"))


@asynccontextmanager
async def hub() -> AsyncIterator[tuple[World, TunnelSession]]:
    """A hub, and the session of an honest agent."""
    world = World(services={"echo": lambda request: Echo()})
    runner = await serve(world)
    session, agent = await world.connect()
    try:
        yield world, session
        transport, protocol = await session.open_stream(Recorder, "echo")
        transport.write(b"x" * 100_000)
        await protocol.read(100_000)  # it is as it was
        transport.abort()
    finally:
        agent.close(CloseCode.GONE)
        for one in (agent, *world.sessions):
            await asyncio.wait_for(asyncio.shield(one.closed), 20)
        await runner.cleanup()


def dialled(world: World, **more: object) -> connect:
    url = world.url.replace("http", "ws", 1) + PATH
    return connect(url, **{"subprotocols": [SUBPROTOCOL], "additional_headers": GOOD, "proxy": None, **more})  # type: ignore[arg-type]


async def ended(socket: ClientConnection) -> tuple[int, str]:
    """(code, reason) with which the hub closed."""
    await asyncio.wait_for(socket.wait_closed(), 20)
    assert socket.close_code is not None
    return socket.close_code, socket.close_reason or ""


def data(stream: int, size: int) -> bytes:
    return frames.encode(FrameType.DATA, stream, bytes(size))


Said = bytes | str | list[bytes]
# After HELLO was answered, while the hub has stream 2 open on this link.
EVIL: dict[str, tuple[Said, CloseCode]] = {
    "an unknown frame": (frames.encode(77, 0, b"x"), CloseCode.PROTOCOL),
    "a message above the limit": (bytes(MAX_MESSAGE_BYTES + 1), CloseCode.LIMIT),
    "a frame longer than its message": (frames.HEADER.pack(FrameType.DATA, 0, 100, 2) + b"x", CloseCode.PROTOCOL),
    "half a header": (b"\x06\x00\x00", CloseCode.PROTOCOL),
    "empty frames without end": ([frames.encode(FrameType.DATA, 2)] * 2100, CloseCode.LIMIT),
    "pings without end": ([frames.encode(FrameType.PING, 0, bytes(8))] * 50, CloseCode.LIMIT),
    "data of a stream that never was": (data(4, 1), CloseCode.PROTOCOL),
    "data of the session": (data(0, 1), CloseCode.PROTOCOL),
    "a stream toward the hub": (frames.encode_open(4, Open(0, "echo")), CloseCode.PROTOCOL),
    "the id of the hub's stream": (frames.encode_open(2, Open(0, "echo")), CloseCode.PROTOCOL),
    "a second yes": (frames.encode_open_ok(2, 1) * 2, CloseCode.PROTOCOL),
    "a second hello": (HELLO, CloseCode.PROTOCOL),
    "data behind its own end": (
        frames.encode_open_ok(2, 1) + frames.encode(FrameType.FIN, 2) + data(2, 1),
        CloseCode.PROTOCOL,
    ),
    "credit beyond all": (frames.encode_window(0, 1 << 40), CloseCode.PROTOCOL),
    "text": ("hello", CloseCode.PROTOCOL),
}  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
async def test_a_link_that_breaks_the_rules_ends_with_a_code_and_no_other_notices(name: str) -> None:
    """B35, S13, S63: the code is said, with a reason for people."""
    said, code = EVIL[name]
    async with hub() as (world, _), dialled(world) as socket:
        await socket.send(HELLO)
        await socket.recv()
        evil = world.sessions[-1]
        opening = asyncio.ensure_future(evil.open_stream(Recorder, "echo"))
        await socket.recv()  # OPEN of stream 2
        for message in said if isinstance(said, list) else [said]:
            try:
                await socket.send(message)
            except ConnectionClosed:
                break
        closed, reason = await ended(socket)
        assert closed == 4000 + code
        assert reason
        done, _ = await asyncio.wait({opening}, timeout=20)
        assert done
        if opening.exception() is None:
            await asyncio.wait_for(opening.result()[1].lost, 20)
        assert len(world.sessions) == 2


async def test_bytes_beyond_the_window_reset_the_stream_and_then_the_link() -> None:
    """B35: credit is what the reader granted, whatever the sender thinks."""
    async with hub() as (world, _), dialled(world) as socket:
        await socket.send(HELLO)
        await socket.recv()
        evil = world.sessions[-1]
        lost = []
        for stream in (2, 4):
            opening = asyncio.ensure_future(evil.open_stream(Recorder, "echo"))
            await socket.recv()
            await socket.send(frames.encode_open_ok(stream, 1))
            transport, protocol = await opening
            transport.pause_reading()
            lost.append(protocol.lost)
            for _ in range(6):
                await socket.send(data(stream, 60_000))
            if stream == 2:
                assert isinstance(await asyncio.wait_for(protocol.lost, 20), StreamReset)
        assert (await ended(socket))[0] == 4000 + CloseCode.FLOW


FIRST: dict[str, bytes | str] = {
    "nothing": b"",
    "no frame": b"{}",
    "data": data(2, 1),
    "hello twice": HELLO * 2,
    "a long message": bytes(20_000),
    "text": "hi",
}


@pytest.mark.parametrize("name", FIRST)
async def test_who_does_not_begin_with_one_hello_is_not_let_in(name: str) -> None:
    """B35: and does not stand in anybody's table."""
    first = FIRST[name]
    async with hub() as (world, _), dialled(world) as socket:
        await socket.send(first)
        if first:
            assert (await ended(socket))[0] in range(4001, 4010)
        else:
            await socket.close()
        assert len(world.sessions) == 1


REFUSED: dict[str, tuple[dict[str, object], int]] = {
    "a web page": ({"origin": "https://evil.example"}, 403),
    "another version": ({"subprotocols": ["syncline.v2"]}, 426),
    "no version": ({"subprotocols": None}, 426),
    "a cookie for a credential": ({"additional_headers": {"Cookie": "Authorization=Bearer good; token=good"}}, 401),
    "a protocol for a credential": (
        {"additional_headers": {}, "subprotocols": [SUBPROTOCOL, "base64url.bearer.authorization.k8s.io.Z29vZA"]},
        401,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_browsers_have_for_a_credential_is_none(name: str) -> None:
    """S62: refused before the 101."""
    more, status = REFUSED[name]
    async with hub() as (world, _):
        with pytest.raises(InvalidStatus) as refused:
            async with dialled(world, **more):
                pass
        assert refused.value.response.status_code == status
        assert "Set-Cookie" not in refused.value.response.headers


async def test_nothing_is_compressed_however_it_is_offered() -> None:
    """S62: lengths would tell what is inside, and a small message could be a large one."""
    async with hub() as (world, _), dialled(world, compression="deflate") as socket:
        assert socket.response is not None
        assert "Sec-WebSocket-Extensions" not in socket.response.headers
        assert "Set-Cookie" not in socket.response.headers
        assert socket.subprotocol == SUBPROTOCOL


async def test_a_thousand_callers_without_a_credential_cost_the_others_nothing() -> None:
    """S63: each is answered 401; not one becomes a session."""
    async with hub() as (world, session):
        transport, protocol = await session.open_stream(Recorder, "echo")
        slots = asyncio.Semaphore(20)

        async def stranger() -> int:
            async with slots:
                try:
                    async with dialled(world, additional_headers={}):
                        return 101
                except InvalidStatus as refused:
                    return refused.response.status_code

        answers = await asyncio.gather(*(stranger() for _ in range(1000)))
        assert set(answers) == {401}
        transport.write(b"still here")
        assert await protocol.read(10) == b"still here"
        assert len(world.sessions) == 1
        transport.abort()


UPGRADE = "\r\n".join(
    (
        f"GET {PATH} HTTP/1.1",
        "Host: hub",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
        "Authorization: Bearer good",
        "\r\n",
    )
).encode()


async def test_pings_of_a_peer_that_never_reads_fill_no_memory() -> None:
    """B35: the WebSocket's own PINGs are no frames of the session, whose limits never see them."""
    loop = asyncio.get_running_loop()
    codec = WebSocketCodec(client=True, mask=bytes)
    ping = b"".join(codec.encode(bytes(125), PING))
    async with hub() as (world, _):
        with socket.socket() as peer:
            peer.setblocking(False)
            await loop.sock_connect(peer, ("127.0.0.1", int(world.url.rpartition(":")[2])))
            await loop.sock_sendall(peer, UPGRADE)
            while b"\r\n\r\n" not in await loop.sock_recv(peer, 4096):
                pass
            await loop.sock_sendall(peer, b"".join(codec.encode(HELLO)))
            await loop.sock_recv(peer, 4096)  # the last that it reads
            evil, heard = world.sessions[-1], asyncio.Event()
            evil.on_token = lambda token: heard.set()
            for _ in range(200):
                await loop.sock_sendall(peer, ping * 1000)
            await loop.sock_sendall(peer, b"".join(codec.encode(frames.encode(FrameType.AUTH, 0, b"behind all"))))
            await asyncio.wait_for(heard.wait(), 60)
            assert evil._link._transport.get_write_buffer_size() < 2 * HIGH_WATER_BYTES  # type: ignore[union-attr]


async def test_a_link_that_holds_enough_answers_no_ping_and_still_answers_a_close() -> None:
    """One PONG for each piece that arrives would fill it as well."""

    class Full(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__()
            self.held = HIGH_WATER_BYTES + 1
            self.written: list[bytes] = []

        def get_write_buffer_size(self) -> int:
            return self.held

        def write(self, data: bytes) -> None:  # type: ignore[override]
            self.written.append(data)

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
        def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...
        def abort(self) -> None: ...
        def close(self) -> None: ...

    transport, peer = Full(), WebSocketCodec(client=True)
    link = RawLink(TunnelSession(Role.HUB, TunnelConfig()), client=False)
    link.take_over(transport)
    link.data_received(b"".join(peer.encode(b"?", PING)))
    assert transport.written == []
    transport.held = HIGH_WATER_BYTES
    link.data_received(b"".join(peer.encode(b"!", PING)))
    assert transport.written == [b"\x8a\x01!"]
    transport.held = HIGH_WATER_BYTES + 1
    link.data_received(peer.encode_close(4000, "bye"))
    peer.receive(b"".join(transport.written))
    assert peer.closed == (4000, "")
