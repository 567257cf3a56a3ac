"""Conversations that go wrong everywhere, through the proxy as it listens, in memory: what a target gets is what one
strict reader of the same bytes reads, and never more. ``SYNCLINE_TEST_CONVERSATIONS=100000`` runs as many."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Callable
from typing import Any, cast

import uvloop
from aiohttp import web

from syncer.hub.auth import Authenticator, Authorizer
from syncer.hub.callers import Caller, Strangers
from syncer.hub.proxy import TargetProxy
from syncer.hub.proxy_exchange import UnknownTarget
from syncer.kube.apirequest import parse_path
from syncer.kube.http1 import END, BadMessage, Chunks, RequestHead, parse_request_head
from tests.support.http1 import OK
from tests.syncer.hub.proxied import reviews

CASES = int(os.environ.get("SYNCLINE_TEST_CONVERSATIONS", "5000"))
TOGETHER = 50  # cases at once
LINES = b"Host: hub\r\nAuthorization: Bearer alice\r\n"
BLANKS = re.compile(rb"(?<!\n)[ \t]+\r\n")  # behind a value; they are no part of it
EVIL = b"GET /targets/east/api/v1/evil HTTP/1.1\r\n" + LINES + b"\r\n"
SEEDS = (
    b"GET /targets/east/api/v1/pods HTTP/1.1\r\n" + LINES + b"Accept: application/json\r\n\r\n",
    b"POST /targets/east/api/v1/nodes HTTP/1.1\r\n" + LINES + b"Content-Length: %d\r\n\r\n" % len(EVIL) + EVIL,
    b"POST /targets/east/api/v1/nodes HTTP/1.1\r\n" + LINES + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVIL), EVIL),
    b"POST /targets/east/api/v1/nodes HTTP/1.1\r\n" + LINES + b"Content-Length: 3\r\n\r\nabc" + EVIL,
    b"GET /targets/east/api HTTP/1.1\r\n" + LINES + b"Connection: keep-alive\r\nX-Remote-User: a\r\n\r\n" + EVIL,
)  # fmt: skip
TOKENS = (
    *(b"\r", b"\n", b"\r\n", b"\n\n", b"\0", b" ", b"\t", b":", b",", b";", b"\x80", b"\x0b", b"chunked", b"identity"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"HTTP/1.0", b"1_0"),
    *(b"Content-Length", b"Transfer-Encoding", b"Host: y\r\n", b"\r\n ", b"+1", b"0x5", b"0\r\n\r\n"),
    *(b"Impersonate-User: admin\r\n", b"Connection: Impersonate-User\r\n", b"Expect: 100-continue\r\n", b";a=b", b"-1"),
    EVIL,
)  # fmt: skip


def mutated(source: random.Random) -> bytes:
    data = bytearray(source.choice(SEEDS))
    for _ in range(source.randint(0, 3)):
        place = source.randrange(len(data) + 1)
        match source.randrange(4):
            case 0:
                data[place:place] = source.choice(TOKENS)
            case 1:
                data[place : place + source.randint(1, 4)] = b""
            case 2:
                data[place : place + 1] = bytes([source.randrange(256)])
            case _:
                other = source.choice(SEEDS)
                data[place:place] = other[source.randrange(len(other)) :][: source.randint(1, 40)]
    return bytes(data)


def strictly(data: bytes) -> list[str]:
    """First lines of the requests in these bytes, up to where they stop being HTTP/1.1."""
    found: list[str] = []
    while (end := (data := data.lstrip(b"\r\n")).find(END)) >= 0:  # empty lines before a request count for nothing
        try:
            head = parse_request_head(BLANKS.sub(b"\r\n", data[: end + 4]))
            data = _behind_body(head, data[end + 4 :])
        except BadMessage:
            return [*found, "?"]
        found.append(f"{head.method} {_one_spelling(head.target)}")
        if not head.keep_alive:
            break
    return found


def _one_spelling(target: str) -> str:
    try:
        return parse_path(target).text()
    except BadMessage:
        return target  # refused, or not below /targets/


def _behind_body(head: RequestHead, data: bytes) -> bytes:
    if head.length is not None:
        return data[head.length :]
    for size in range(len(data) + 1):  # Chunks takes nothing behind the end
        chunks = Chunks()
        chunks.feed(data[:size])
        if chunks.done:
            return data[size:]
    return b""


class Wire(asyncio.Transport):
    """A transport whose far end is this test."""

    def __init__(self, protocol: asyncio.Protocol, heard: Callable[[Wire, bytes], None]) -> None:
        super().__init__()
        self.protocol, self._heard, self._closing = protocol, heard, False
        self.lost = asyncio.get_running_loop().create_future()
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self._heard(self, bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._end)

    abort = close

    def _end(self) -> None:
        self.protocol.connection_lost(None)
        self.lost.set_result(None)

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return


class Target:
    """Reads what reaches it as strictly as it can be read, and answers each request at its end."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def open(self, target: str, factory: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        if target != "east":
            raise UnknownTarget
        buffer = b""

        def heard(wire: Wire, data: bytes) -> None:
            nonlocal buffer
            buffer += data
            while (end := buffer.find(END)) >= 0:
                head = parse_request_head(buffer[: end + 4])
                body = buffer[end + 4 :]
                if head.length is None:
                    stop = body.find(b"0\r\n\r\n")  # written by us, in whole chunks
                    if stop < 0 or not _whole(body):
                        return
                    rest = _behind_body(head, body)
                elif len(body) < head.length:
                    return
                else:
                    rest = body[head.length :]
                self._judge(head)
                buffer = rest
                asyncio.get_running_loop().call_soon(answer, wire)

        def answer(wire: Wire) -> None:
            if not wire.is_closing():
                wire.protocol.data_received(OK)

        return Wire(factory(), heard)

    def _judge(self, head: RequestHead) -> None:
        self.seen.append(f"{head.method} /targets/east{head.target}")
        names = [name for name, _ in head.headers]
        assert [value for name, value in head.headers if name == b"impersonate-user"] == [b"alice"]
        assert [value for name, value in head.headers if name == b"host"] == [b"kubernetes"]
        assert names.count(b"content-length") + names.count(b"transfer-encoding") == 1
        assert not {b"authorization", b"x-remote-user", b"connection", b"expect"} & set(names)


def _whole(body: bytes) -> bool:
    chunks = Chunks()
    try:
        chunks.feed(body)
    except BadMessage:
        return True  # something follows the end
    return chunks.done


async def _case(server: web.Server, strangers: Strangers, data: bytes, pieces: list[int]) -> None:
    """Say it in these pieces, then nothing more."""
    caller = Caller(server, strangers, loop=asyncio.get_running_loop(), **server._kwargs)
    wire = Wire(cast("asyncio.Protocol", caller), lambda *_: None)
    start = 0
    for end in [*pieces, len(data)]:
        if not wire.is_closing():
            wire.protocol.data_received(data[start:end])
        start = end
        await asyncio.sleep(0)
    for _ in range(40):  # turns of the loop; no clock takes part
        if wire.lost.done():
            return
        await asyncio.sleep(0)
    wire.close()
    await wire.lost


async def fuzz(cases: int) -> tuple[int, int]:
    """(requests that reached the target, cases that were no HTTP)."""
    source, reached, broken = random.Random(33), 0, 0
    known, strangers = reviews(), Strangers(limit=cases)
    for _ in range(cases // TOGETHER):
        targets, running = [], []
        for _ in range(TOGETHER):
            target = Target()
            proxy = TargetProxy(Authenticator(known), Authorizer(known), target)
            app = web.Application()
            proxy.add_to(app)
            app.freeze()
            data = mutated(source)
            pieces = sorted(source.randrange(len(data) + 1) for _ in range(source.randrange(3)))
            server = app._make_handler(
                loop=asyncio.get_running_loop(), access_log=None, keepalive_timeout=3600.0, lingering_time=0
            )
            targets.append((target, data))
            running.append((_case(server, strangers, data, pieces), proxy))
        await asyncio.gather(*(case for case, _ in running))
        for _, proxy in running:
            proxy.close()
        for target, data in targets:
            wanted = strictly(data)
            broken += wanted[-1:] == ["?"]
            reached += len(target.seen)
            rest = iter(wanted)
            assert all(request in rest for request in target.seen), repr((data, target.seen))  # in this order
    return reached, broken


def test_what_reaches_a_target_is_what_one_strict_reader_reads() -> None:
    """S33: conversations of one to three requests, mutated and cut anywhere; 100,000 where that is asked for."""
    reached, broken = uvloop.run(fuzz(CASES))
    assert reached > CASES // 4  # the rest would prove little
    assert broken > CASES // 10
