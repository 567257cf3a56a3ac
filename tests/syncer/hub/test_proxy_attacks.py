"""The proxy against callers and targets that mean ill: each case is one that a proxy somewhere got wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import orjson
import pytest
import uvloop
from structlog.testing import capture_logs

from syncer.hub.callers import Strangers
from syncer.kube.http1 import HEAD_LIMIT
from tests.support.http1 import OK, StandIn, connected, gone, read_head, read_message
from tests.syncer.hub.fakes import Reviews
from tests.syncer.hub.proxied import ALICE, EXEC, GET, SWITCH, UPGRADE, caller, hub, reviews

POST = b"POST /targets/east/api/v1/namespaces/shop/configmaps HTTP/1.1\r\n"
LISTED = b"GET /targets/east/api/v1/pods HTTP/1.1\r\n"


async def answered(east: StandIn, asked: bytes, *, known: Reviews | None = None) -> bytes:
    """Everything that a caller gets until the hub ends the connection."""
    async with caller(east, known) as (reader, writer):
        writer.write(asked)
        return await gone(reader)


# Callers --------------------------------------------------------------------------------------------------------------

BROKEN = {
    "an upgrade with a body": b"POST " + EXEC + ALICE + UPGRADE + b"Content-Length: 3\r\n\r\nabc",
    "an upgrade with chunks": b"POST " + EXEC + ALICE + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a websocket with a body": b"GET " + EXEC + ALICE + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 3\r\n\r\nabc",
    "two protocols": b"GET " + EXEC + ALICE + b"Connection: Upgrade\r\nUpgrade: websocket, SPDY/3.1\r\n\r\n",
    "two upgrades": b"GET " + EXEC + ALICE + b"Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: SPDY/3.1\r\n\r\n",
    "digits that are none": POST + ALICE + "Content-Length: \N{SUPERSCRIPT TWO}\r\n\r\nab".encode(),
    "a long number": POST + ALICE + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "a number beyond all": POST + ALICE + b"Content-Length: 9999999999999999999\r\n\r\n",
    "a signed length": POST + ALICE + b"Content-Length: +3\r\n\r\nabc",
    "a length with a blank": POST + ALICE + b"Content-Length: 1 1\r\n\r\nabc",
    "chunks twice": POST + ALICE + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks in a list": POST + ALICE + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunks by another name": POST + ALICE + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "identity": POST + ALICE + b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
    "a blank in a name": GET + ALICE + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a cr in a value": GET + ALICE + b"A: b\rImpersonate-User: admin\r\n\r\n",
    "a fold with a tab": GET + ALICE + b"Content-Length:\r\n\t3\r\n\r\nabc",
    "no host": GET + b"Authorization: Bearer alice\r\n\r\n",
    "two hosts": GET + ALICE + b"Host: other\r\n\r\n",
    "many headers": GET + ALICE + b"A: b\r\n" * 200 + b"\r\n",
    "a head in pieces above the limit": GET + ALICE + (b"A: " + b"a" * 30_000 + b"\r\n") * 3 + b"\r\n",
    "a head without an end": GET + ALICE + (b"A: " + b"a" * 30_000 + b"\r\n") * 3,
    "http/2 by knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http/0.9": b"GET /targets/east/api\r\n\r\n",
    "a fragment": b"GET /targets/east/api#x HTTP/1.1\r\n" + ALICE + b"\r\n",
    "backslashes": b"GET /targets/east/..\\..\\west HTTP/1.1\r\n" + ALICE + b"\r\n",
    "a nul in the path": b"GET /targets/east/api%00 HTTP/1.1\r\n" + ALICE + b"\r\n",
    "a line in the path": b"GET /targets/east/api%0d%0aA:%20b HTTP/1.1\r\n" + ALICE + b"\r\n",
    "twice encoded": b"GET /targets/east/%252e%252e/west HTTP/1.1\r\n" + ALICE + b"\r\n",
    "dots as utf-8": b"GET /targets/east/%c0%ae%c0%ae/west HTTP/1.1\r\n" + ALICE + b"\r\n",
    "a line in the query": b"GET /targets/east/api?a=b\x0bc HTTP/1.1\r\n" + ALICE + b"\r\n",
    "another authority": b"GET //evil.example/targets/east/api HTTP/1.1\r\n" + ALICE + b"\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
async def test_a_request_that_could_be_read_twice_reaches_nobody_and_ends_the_connection(name: str) -> None:
    """B36, S33: what follows it is not read either."""
    east = StandIn()
    if name == "another authority":  # no path of ours: an ordinary 404, and the next request is the next request
        async with caller(east) as (reader, writer):
            writer.write(BROKEN[name])
            assert (await read_head(reader)).split(b" ")[1] in (b"400", b"404")
        assert east.connections == 0
        return
    answer = await answered(east, BROKEN[name] + GET + ALICE + b"\r\n")
    assert answer.split(b" ")[1] in (b"400", b"431", b"505"), answer
    assert answer.count(b"HTTP/1.1 ") == 1
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert orjson.loads(body)["kind"] == "Status"
    assert east.connections == 0


@pytest.mark.parametrize("line", [b"Origin: null", b"Sec-Fetch-Site: none", b"Sec-Fetch-Mode: navigate"])
async def test_no_web_page_is_answered(line: bytes) -> None:
    """S62: a page that a target serves would run at the hub's name, with its reader's certificate."""
    east = StandIn()
    async with caller(east) as (reader, writer):
        writer.write(GET + ALICE + line + b"\r\n\r\n")
        assert (await read_message(reader))[0].startswith(b"HTTP/1.1 403 ")
    assert east.connections == 0


async def test_a_body_is_invited_only_from_who_may_send_it() -> None:
    """S63: `Expect: 100-continue` is answered once it is known who asks; it goes no further."""
    east = StandIn()
    expect = b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    for stranger in (b"Host: hub\r\n", b"Host: hub\r\nAuthorization: Bearer bob\r\n"):
        answer = await answered(east, POST + stranger + b"Connection: close\r\n" + expect)
        assert answer.split(b" ")[1] in (b"401", b"403")
        assert b" 100 " not in answer
    async with caller(east) as (reader, writer):
        writer.write(POST + ALICE + expect)
        assert await read_head(reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await read_message(reader))[1] == b"{}"
        writer.write(POST + ALICE + b"Expect: coffee\r\n\r\n")
        assert (await read_message(reader))[0].startswith(b"HTTP/1.1 417 ")
    assert b"expect" not in east.heads[0].lower()


async def test_whom_nobody_knows_keeps_no_connection() -> None:
    """S63."""
    answer = await answered(StandIn(), GET + b"Host: hub\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_a_user_of_many_groups_is_told_with_all_of_them() -> None:
    """S30: directories give people hundreds of groups; each is a header."""
    known, east = reviews(), StandIn()
    groups = [f"group-{number}" for number in range(300)]
    known.tokens["alice"] = ("alice", groups)
    async with caller(east, known) as (reader, writer):
        writer.write(GET + ALICE + b"\r\n")
        assert (await read_message(reader))[0].startswith(b"HTTP/1.1 200 ")
    told = [line for line in east.heads[0].split(b"\r\n") if line.startswith(b"impersonate-group: ")]
    assert told == [f"impersonate-group: {group}".encode() for group in groups]


async def test_callers_that_say_nothing_make_room_for_others() -> None:
    """S63: the oldest of those who have not asked anything goes first; who has asked stays."""
    strangers = Strangers(limit=20, seconds=3600)
    async with hub(StandIn(), strangers=strangers) as port, connected(port) as (reader, writer):
        writer.write(GET + ALICE + b"\r\n")
        assert (await read_message(reader))[1] == b"{}"
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
        try:
            for _, one in silent:
                one.write(b"GET /targets/east/ap")
            for first, _ in silent[:-20]:
                assert await gone(first) == b""
            assert len(strangers) == 20
            writer.write(GET + ALICE + b"\r\n")
            assert (await read_message(reader))[1] == b"{}"
            async with connected(port) as (new_reader, new_writer):
                new_writer.write(GET + ALICE + b"\r\n")
                assert (await read_message(new_reader))[1] == b"{}"
        finally:
            for _, one in silent:
                one.transport.abort()


async def test_a_head_that_comes_slowly_is_not_waited_for() -> None:
    """S63: a byte now and then keeps nobody's connection."""
    async with hub(StandIn(), strangers=Strangers(seconds=0.5)) as port, connected(port) as (reader, writer):
        answer = asyncio.create_task(gone(reader))
        for letter in GET + ALICE:
            writer.write(bytes([letter]))
            done, _ = await asyncio.wait({answer}, timeout=0.1)
            if done:
                break
        assert await answer == b""


# Targets --------------------------------------------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HOSTILE = {
    "a bare cr": b"HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: c\r\nContent-Length: 0\r\n\r\n",
    "a bare lf": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "a fold": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "an empty line first": b"\r\nHTTP/1.1 200 OK\r\nConnection: a\r\nContent-Length: 0\r\n\r\n",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks that are none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a line in an extension": CHUNKED + b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a blank behind a size": CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    "a chunk that ends with a line feed": CHUNKED + b"5\r\nhello\n0\r\n\r\n",
    "an end that is none": CHUNKED + b"5\r\nhello\r\n0\r\n\n",
    "a length in the trailer": CHUNKED + b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "a length list": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
    "a length beyond all": b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n",
    "no length": b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
    "http/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "another protocol": b"220 mail.example ESMTP\r\n\r\n",
    "a status of no class": b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n",
    "a body where none is": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "many informational answers": b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 100,
    "a head without an end": b"HTTP/1.1 200 OK\r\n" + b"A: " + b"a" * (HEAD_LIMIT + 1),
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    "a switch that nobody asked for": SWITCH,
    "a second answer": OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_an_answer_that_could_be_read_twice_is_a_502(name: str) -> None:
    """S15, S33: nothing of it reaches the caller, and the connection to the target is not used again."""
    east = StandIn(answer=HOSTILE[name])
    async with caller(east) as (reader, writer):
        writer.write(GET + ALICE + b"\r\n")
        head, body = await read_message(reader)
        assert head.startswith(b"HTTP/1.1 502 "), head
        assert orjson.loads(body)["kind"] == "Status"
        assert await gone(reader) == b""
        await asyncio.wait_for(east.all_lost.wait(), 20)


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"307 Temporary Redirect", b"308 Permanent Redirect"])
@pytest.mark.parametrize("request_head", [GET + ALICE + b"\r\n", b"POST " + EXEC + ALICE + UPGRADE + b"\r\n"])
async def test_no_target_sends_a_caller_elsewhere(status: bytes, request_head: bytes) -> None:
    """S20, CVE-2022-3172: kubectl follows a redirect and brings its token along."""
    east = StandIn(answer=b"HTTP/1.1 " + status + b"\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n")
    answer = await answered(east, request_head)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"evil" not in answer
    assert b"redirect" in answer


async def test_what_a_target_says_does_not_outlive_its_answer_at_the_hubs_name() -> None:
    """S33: cookies, transport security, other addresses of the hub."""
    lasting = (
        b'Set-Cookie: a=b\r\nset-cookie2: a\r\nStrict-Transport-Security: max-age=1\r\nAlt-Svc: h3=":1"\r\n'
        b"Clear-Site-Data: *\r\nPublic-Key-Pins: a\r\n"
    )
    for first in (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", SWITCH[:-2]):
        upgrade = first.startswith(SWITCH[:-2])
        east = StandIn(answer=first + lasting + b"Audit-Id: 1\r\n\r\n" + (b"" if upgrade else b"{}"))
        async with caller(east) as (reader, writer):
            writer.write(b"POST " + EXEC + ALICE + UPGRADE + b"\r\n" if upgrade else GET + ALICE + b"\r\n")
            lines = (await read_head(reader)).lower().split(b"\r\n")
        names = {line.split(b":")[0] for line in lines[1:-2]}
        assert names == {b"audit-id"} | ({b"connection", b"upgrade"} if upgrade else {b"content-length"})


async def test_an_answer_without_an_end_of_its_own_ends_the_callers_connection() -> None:
    """S33: else what the hub says next would be its body."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")

    answer = await answered(StandIn(serve=serve), GET + ALICE + b"\r\n" + GET + ALICE + b"\r\n")
    assert answer == b"HTTP/1.1 200 OK\r\n\r\nhello"


async def test_a_target_that_never_answers_is_a_504_and_a_watch_may_be_quiet() -> None:
    """F29: at the dial and at the answer; nothing stays behind."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.read(-1)

    east = StandIn(serve=serve)
    async with hub(east, open_seconds=0.2) as port, connected(port) as (reader, writer):
        writer.write(GET.replace(b"east", b"north") + ALICE + b"\r\n")
        assert (await read_message(reader))[0].startswith(b"HTTP/1.1 504 ")
    async with hub(east, answer_seconds=0.2) as port:
        for asked in (LISTED, POST + b"Content-Length: 3\r\n"):
            async with connected(port) as (reader, writer):
                writer.write(asked + ALICE + b"\r\n" + (b"abc" if b"POST" in asked else b""))
                head, body = await read_message(reader)
                assert head.startswith(b"HTTP/1.1 504 "), head
                assert orjson.loads(body)["reason"] == "Timeout"
        await asyncio.wait_for(east.all_lost.wait(), 20)
        async with connected(port) as (reader, writer):
            writer.write(LISTED.replace(b"pods", b"pods?watch=1") + ALICE + b"\r\n")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await reader.read(1)


async def test_an_endless_body_waits_at_a_target_that_does_not_read() -> None:
    """S63: in the caller's hands, not in our memory."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await over.wait()

    sent, over = 0, asyncio.Event()
    async with hub(StandIn(serve=serve)) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + ALICE + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            while sent < 256:
                writer.write(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
                async with asyncio.timeout(2):
                    await writer.drain()
                sent += 1
        except TimeoutError:
            pass
        finally:
            over.set()
            writer.transport.abort()
    assert sent < 64


async def test_a_caller_that_goes_while_it_is_answered_is_no_fault_of_ours() -> None:
    """S63: nobody fills the log by hanging up, nor by talking nonsense."""
    gate, asked = asyncio.Event(), asyncio.Event()
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        asked.set()
        await gate.wait()

    with capture_logs() as logs:
        async with hub(StandIn(serve=serve)) as port:
            async with connected(port) as (_, writer):
                writer.write(POST + ALICE + b"Content-Length: 100000\r\n\r\nabc")
                await asyncio.wait_for(asked.wait(), 20)
            gate.set()
            async with connected(port) as (reader, writer):
                writer.write(GET + b"Host: hub\r\nA: \0\r\n\r\n")
                assert (await gone(reader)).startswith(b"HTTP/1.1 400 ")
    assert not [line for line in logs if line["log_level"] not in ("debug", "info")]
    assert not faults


@pytest.mark.parametrize(
    "scenario",
    [
        test_a_body_is_invited_only_from_who_may_send_it,
        test_callers_that_say_nothing_make_room_for_others,
        test_a_head_that_comes_slowly_is_not_waited_for,
        test_what_a_target_says_does_not_outlive_its_answer_at_the_hubs_name,
        test_an_answer_without_an_end_of_its_own_ends_the_callers_connection,
        test_a_target_that_never_answers_is_a_504_and_a_watch_may_be_quiet,
        test_an_endless_body_waits_at_a_target_that_does_not_read,
    ],
)
def test_the_same_holds_on_the_loop_of_the_operator(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    uvloop.run(scenario())
