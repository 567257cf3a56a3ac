"""The target proxy against a server that answers as told: who may, what reaches the target, what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import orjson
import pytest
import uvloop

from tests.support.http1 import StandIn, connected, gone, read_head, read_message
from tests.syncer.hub.proxied import ALICE, EXEC, GET, SWITCH, UPGRADE, caller, hub, reviews


async def test_a_request_reaches_the_target_as_the_user_that_upstream_named() -> None:
    """S30: nothing that the caller says about identity arrives, in any spelling."""
    east = StandIn()
    forged = (
        b"Impersonate-User: admin\r\nimpersonate-group: system:masters\r\nIMPERSONATE-UID: 1\r\n"
        b"Impersonate-Extra-Scopes: all\r\nImpersonate_User: admin\r\nX-Remote-User: admin\r\nX_Remote_Group: a\r\n"
        b"X-Remote-Extra-A: b\r\nForwarded: for=1\r\nX-Forwarded-For: 1\r\nX-Forwarded-User: admin\r\nX-Real-IP: 1\r\n"
        b"Proxy-Authorization: a\r\nCookie: a=b\r\nVia: c\r\nX-Client-Cert: d\r\nImpersonate-User: twice\r\n"
    )
    async with caller(east) as (reader, writer):
        writer.write(GET + ALICE + forged + b"Accept: application/json\r\nUser-Agent: kubectl\r\n\r\n")
        head, body = await read_message(reader)
        assert (head.split(b" ")[1], body) == (b"200", b"{}")
    lines = east.heads[0].split(b"\r\n")
    assert lines[0] == b"GET /api/v1/namespaces/shop/pods/web HTTP/1.1"
    assert sorted(lines[1:-2]) == [
        b"accept: application/json",
        b"content-length: 0",
        b"host: kubernetes",
        b"impersonate-group: dev",
        b"impersonate-user: alice",
        b"user-agent: kubectl",
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: Impersonate-User, Impersonate-Group, Authorization",
        b"Connection: close, host",
        b"Connection: keep-alive\r\nConnection: impersonate-user\r\nKeep-Alive: timeout=1\r\nTE: trailers",
        b"Connection: content-length\r\nUpgrade: SPDY/3.1",
    ],
)
async def test_connection_takes_nothing_of_ours_away(line: bytes) -> None:
    """S31."""
    east = StandIn()
    async with caller(east) as (reader, writer):
        writer.write(GET + ALICE + line + b"\r\n\r\n")
        assert b" 200 " in await read_head(reader)
    lines = east.heads[0].lower().split(b"\r\n")
    for kept in (b"impersonate-user: alice", b"impersonate-group: dev", b"host: kubernetes", b"content-length: 0"):
        assert lines.count(kept) == 1
    assert not any(line.startswith((b"connection", b"keep-alive", b"te:", b"upgrade")) for line in lines)


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (GET + b"Host: hub\r\n\r\n", b"401"),
        (GET + b"Host: hub\r\nAuthorization: Bearer wrong\r\n\r\n", b"401"),
        (GET + b"Host: hub\r\nX-Remote-User: alice\r\nImpersonate-User: alice\r\n\r\n", b"401"),
        (GET + b"Host: hub\r\nAuthorization: Bearer bob\r\n\r\n", b"403"),
        (GET + b"Host: hub\r\nAuthorization: Bearer reader\r\n\r\n", b"200"),
        (GET.replace(b"GET", b"DELETE") + b"Host: hub\r\nAuthorization: Bearer reader\r\n\r\n", b"403"),
        (GET.replace(b"east", b"west") + b"Host: hub\r\nAuthorization: Bearer reader\r\n\r\n", b"403"),
        (b"GET " + EXEC + b"Host: hub\r\nAuthorization: Bearer reader\r\n\r\n", b"403"),
        (b"GET " + EXEC + b"Host: hub\r\nAuthorization: Bearer reader\r\n" + UPGRADE + b"\r\n", b"403"),
        (GET + b"Host: hub\r\nAuthorization: Bearer reader\r\n" + UPGRADE + b"\r\n", b"403"),
        (GET.replace(b"east", b"nowhere") + ALICE + b"\r\n", b"404"),
        (GET.replace(b"east", b"nowhere") + b"Host: hub\r\nAuthorization: Bearer bob\r\n\r\n", b"403"),
        (GET.replace(b"east", b"west") + ALICE + b"\r\n", b"503"),
        (GET + ALICE + b"Origin: https://evil.example\r\n\r\n", b"403"),
    ],
)
async def test_who_may_what(request_head: bytes, status: bytes) -> None:
    """S30, S62, P19: an upgrade and a channel are `create`; who may nothing learns nothing."""
    east = StandIn()
    async with caller(east) as (reader, writer):
        writer.write(request_head)
        head, body = await read_message(reader)
    assert head.split(b" ")[1] == status
    if status != b"200":
        assert orjson.loads(body)["kind"] == "Status"
        assert east.heads == []
    assert (b"retry-after: 1" in head.lower()) is (status == b"503")


async def test_upstream_being_down_is_a_503() -> None:
    known = reviews()
    known.down = True
    async with caller(StandIn(), known) as (reader, writer):
        writer.write(GET + ALICE + b"\r\n")
        assert (await read_head(reader)).startswith(b"HTTP/1.1 503 ")


BROKEN = {
    "two lengths": b"POST /targets/east/api HTTP/1.1\r\n" + ALICE + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "length and chunks": b"POST /targets/east/api HTTP/1.1\r\n"
    + ALICE
    + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"POST /targets/east/api HTTP/1.1\r\n" + ALICE + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "compressed": b"POST /targets/east/api HTTP/1.1\r\n"
    + ALICE
    + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\na",
    "folded": GET + ALICE + b"A: b\r\n c\r\n\r\n",
    "nul": GET + ALICE + b"A: b\0c\r\n\r\n",
    "bare lf": GET + b"Host: x\nA: b\r\n\r\n",
    "large head": GET + ALICE + b"A: " + b"a" * 100_000 + b"\r\n\r\n",
    "absolute": b"GET http://hub/targets/east/api HTTP/1.1\r\n" + ALICE + b"\r\n",
    "trace": b"TRACE /targets/east/api HTTP/1.1\r\n" + ALICE + b"\r\n",
    "http/1.0": b"GET /targets/east/api HTTP/1.0\r\n" + ALICE + b"\r\n",
    "dots": b"GET /targets/east/api/../../west/api HTTP/1.1\r\n" + ALICE + b"\r\n",
    "encoded dots": b"GET /targets/east/%2e%2e/west/api HTTP/1.1\r\n" + ALICE + b"\r\n",
    "encoded slash": b"GET /targets/east%2fapi/v1 HTTP/1.1\r\n" + ALICE + b"\r\n",
    "double slash": b"GET /targets/east//api HTTP/1.1\r\n" + ALICE + b"\r\n",
    "semicolon": b"GET /targets/east/api;a=b HTTP/1.1\r\n" + ALICE + b"\r\n",
    "name": b"GET /targets/East/api HTTP/1.1\r\n" + ALICE + b"\r\n",
    "other upgrade": b"GET /targets/east/api HTTP/1.1\r\n" + ALICE + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_two_servers_could_read_differently_is_refused_and_the_connection_ends(name: str) -> None:
    """B36, S33: the target sees nothing of it, nor of what follows."""
    east = StandIn()
    async with caller(east) as (reader, writer):
        writer.write(BROKEN[name])
        answer = await gone(reader)
    assert answer.split(b" ")[1] in (b"400", b"405", b"415", b"505")
    assert east.heads == []


async def test_connect_reaches_nothing() -> None:
    """B36."""
    east = StandIn()
    async with caller(east) as (reader, writer):
        writer.write(b"CONNECT east:443 HTTP/1.1\r\n" + ALICE + b"\r\n")
        assert (await read_head(reader)).split(b" ")[1] in (b"400", b"404", b"405")
    assert east.connections == 0


async def test_many_requests_share_both_connections() -> None:
    east = StandIn()
    async with caller(east) as (reader, writer):
        for _ in range(5):
            writer.write(GET + ALICE + b"\r\n")
            assert (await read_message(reader))[1] == b"{}"
    assert (east.connections, len(east.heads)) == (1, 5)


async def test_bodies_pass_both_ways_and_chunks_are_written_anew() -> None:
    """S33: extensions and trailers end here."""
    east = StandIn()
    body = bytes(range(256)) * 4000
    post = b"POST /targets/east/api/v1/namespaces/shop/configmaps HTTP/1.1\r\n" + ALICE
    async with caller(east) as (reader, writer):
        writer.write(post + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert (await read_message(reader))[1] == b"{}"
        writer.write(
            post + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nImpersonate-User: x\r\n\r\n"
        )
        assert (await read_message(reader))[1] == b"{}"
    assert east.bodies[0] == body
    assert b"".join(east.bodies[1].split(b"\r\n")[1::2]) == b"abcde"
    assert b"Impersonate" not in east.bodies[1]


async def test_a_kept_connection_that_has_ended_is_replaced_for_reads() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        east.heads.append(await read_head(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    east = StandIn(serve=once)
    async with caller(east) as (reader, writer):
        for _ in range(3):
            writer.write(GET + ALICE + b"\r\n")
            assert (await read_message(reader))[1] == b"{}"
    assert len(east.heads) == 3


async def test_a_target_that_breaks_off_is_a_502_or_a_cut_and_never_a_whole_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        if b"watch=1" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")

    async with hub(StandIn(serve=serve)) as port:
        async with connected(port) as (reader, writer):
            writer.write(GET + ALICE + b"\r\n")
            assert (await gone(reader)).startswith(b"HTTP/1.1 502 ")
        async with connected(port) as (reader, writer):
            writer.write(b"GET /targets/east/api/v1/pods?watch=1 HTTP/1.1\r\n" + ALICE + b"\r\n")
            assert b"0\r\n\r\n" not in await gone(reader)


@pytest.mark.parametrize(
    "answer", [SWITCH, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"]
)
async def test_a_target_that_lies_about_switching_or_says_too_much_is_dropped(answer: bytes) -> None:
    """S15, S33."""
    east = StandIn(answer=answer)
    async with caller(east) as (reader, writer):
        writer.write(GET + ALICE + b"\r\n")
        assert (await gone(reader)).startswith(b"HTTP/1.1 502 ")


async def test_an_upgrade_that_the_target_refuses_is_passed_on_and_both_connections_end() -> None:
    """S15."""
    east = StandIn(answer=b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}")
    async with caller(east) as (reader, writer):
        writer.write(b"POST " + EXEC + ALICE + UPGRADE + b"Content-Length: 0\r\n\r\n")
        answer = await gone(reader)
        await asyncio.wait_for(east.all_lost.wait(), 20)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"connection: close" in answer


@pytest.mark.parametrize("method", [b"POST ", b"GET "])
async def test_after_a_switch_bytes_are_raw_both_ways_and_half_closes_pass(method: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        assert b"upgrade: SPDY/3.1" in head
        assert b"connection: Upgrade" in head
        assert b"x-stream-protocol-version: v4.channel.k8s.io" in head
        writer.write(SWITCH + b"first")
        received = await reader.read(-1)
        writer.write(b"got " + received)
        writer.write_eof()

    async with caller(StandIn(serve=serve)) as (reader, writer):
        writer.write(method + EXEC + ALICE + UPGRADE + b"\r\n")
        assert await read_head(reader) == SWITCH
        assert await asyncio.wait_for(reader.readexactly(5), 20) == b"first"
        writer.write(b"\x80\x03\x00\x01 GET / HTTP/1.1\r\n\r\n")
        writer.write_eof()
        assert await gone(reader) == b"got \x80\x03\x00\x01 GET / HTTP/1.1\r\n\r\n"


async def test_a_websocket_keeps_its_headers_but_no_browser_token() -> None:
    """S62."""
    east = StandIn(answer=b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    ask = (
        b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.YWJj, v5.channel.k8s.io\r\n\r\n"
    )
    async with caller(east) as (reader, writer):
        writer.write(b"GET " + EXEC + ALICE + ask)
        await gone(reader)
    head = east.heads[0]
    assert b"sec-websocket-protocol: v5.channel.k8s.io\r\n" in head
    assert b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n" in head
    assert b"upgrade: websocket\r\n" in head
    assert b"YWJj" not in head


async def test_a_quiet_watch_of_a_caller_that_went_away_ends_at_the_target() -> None:
    """P18."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await reader.read(-1)

    east = StandIn(serve=serve)
    async with hub(east) as port:
        async with connected(port) as (reader, writer):
            writer.write(b"GET /targets/east/api/v1/pods?watch=1 HTTP/1.1\r\n" + ALICE + b"\r\n")
            await read_head(reader)
        await asyncio.wait_for(east.all_lost.wait(), 20)


async def test_a_caller_that_stands_still_stops_the_target_and_not_our_memory() -> None:
    """S63."""
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_head(reader)
        size = 256 * 1024 * 1024
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with caller(StandIn(serve=serve)) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET + ALICE + b"\r\n")
        before = -1
        while sent != before or sent == 0:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 64 * 1024 * 1024


@pytest.mark.parametrize(
    "scenario",
    [
        test_a_request_reaches_the_target_as_the_user_that_upstream_named,
        test_upstream_being_down_is_a_503,
        test_connect_reaches_nothing,
        test_many_requests_share_both_connections,
        test_bodies_pass_both_ways_and_chunks_are_written_anew,
        test_a_kept_connection_that_has_ended_is_replaced_for_reads,
        test_a_target_that_breaks_off_is_a_502_or_a_cut_and_never_a_whole_answer,
        test_an_upgrade_that_the_target_refuses_is_passed_on_and_both_connections_end,
        test_a_websocket_keeps_its_headers_but_no_browser_token,
        test_a_quiet_watch_of_a_caller_that_went_away_ends_at_the_target,
        test_a_caller_that_stands_still_stops_the_target_and_not_our_memory,
    ],
)
def test_the_same_holds_on_the_loop_of_the_operator(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    """uvloop's transports are no `asyncio.Transport` by class, and tell things at other times."""
    uvloop.run(scenario())
