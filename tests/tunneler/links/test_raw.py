"""The end of a raw link: its last word arrives, and a peer that says nothing does not hold it."""

from __future__ import annotations

import asyncio
import time

from tests.tunneler.test_session import Recorder
from tunneler.links.raw import LINGER_SECONDS, RawLink
from tunneler.websocket import WebSocketCodec


class User:
    """A session that notes why it ended."""

    def __init__(self) -> None:
        self.messages = 0
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def message_received(self, message: bytes) -> None:
        self.messages += 1

    def bytes_received(self) -> None:
        return

    def pause_writing(self) -> None:
        return

    def resume_writing(self) -> None:
        return

    def link_lost(self, reason: str) -> None:
        self.lost.set_result(reason)


class Accept(asyncio.Protocol):
    """A link for the connection that comes, closed before it reads a byte."""

    def __init__(self, user: User) -> None:
        self.user = user

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        link = RawLink(self.user, client=False)
        link.take_over(transport)
        link.close(4004, "drained")


async def test_what_it_says_last_is_read_by_a_peer_that_was_still_writing() -> None:
    """A socket closed with unread bytes would be reset, and the reason be lost."""
    user = User()
    server = await asyncio.get_running_loop().create_server(lambda: Accept(user), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    codec = WebSocketCodec(client=True)
    for _ in range(40):
        writer.writelines(codec.encode(bytes(50_000)))
    await writer.drain()
    while codec.closed is None:
        codec.receive(await reader.readuntil(b"drained"))
    assert codec.closed == (4004, "drained")
    writer.write(codec.replies[0])
    assert await reader.read() == b""
    assert await user.lost == "drained"
    assert user.messages == 0
    writer.close()
    await writer.wait_closed()
    server.close()


async def test_a_peer_that_does_not_answer_is_cut() -> None:
    user = User()
    server = await asyncio.get_running_loop().create_server(lambda: Accept(user), "127.0.0.1", 0)
    began = time.monotonic()
    transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, *server.sockets[0].getsockname())
    assert await asyncio.wait_for(user.lost, 10 * LINGER_SECONDS) == "drained"
    assert time.monotonic() - began >= LINGER_SECONDS * 0.9
    transport.close()
    await protocol.lost
    server.close()
