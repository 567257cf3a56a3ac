"""One stream of the agent's service against a server that answers what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import orjson
import pytest
import uvloop

from syncer.agent.kube_api import KubeApi
from syncer.agent.policy import People, Policy, Rule
from syncer.agent.role import DISCOVERY
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.kubeconfig import Access, Source
from tests.support.http1 import StandIn, connected, gone, listening, read_head, read_message, running

ALL = Rule(resources=("*.*", "pods/log", "pods/exec", "pods/portforward"), verbs=("*",))
POLICY = Policy(sync=(ALL,), people=People(groups=("dev",), rules=(ALL,)), paths=DISCOVERY)
GET = b"GET /api/v1/namespaces/shop/pods/web HTTP/1.1\r\nHost: x\r\n"
SPDY = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
ASK_SPDY = (
    b"POST /api/v1/namespaces/shop/pods/web/exec?command=sh HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
    b"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
)


@asynccontextmanager
async def stream(
    api: StandIn, policy: Policy = POLICY
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The hub's end of one stream whose agent uses `api`."""
    async with running(api):
        token = Source(b"agent-token")
        service = KubeApi(ClusterCredentials(Access(api.url, token=token)), policy)
        async with listening(service.protocol) as port, connected(port) as pair:
            yield pair


async def test_a_request_goes_on_with_the_agents_token_and_nobody_elses() -> None:
    """S30: an Authorization that comes in is dropped, under whatever spelling; Impersonate stays."""
    api = StandIn()
    async with stream(api) as (reader, writer):
        writer.write(
            GET + b"Authorization: Bearer theirs\r\nX-Remote-User: admin\r\nX-Remote-Group: system:masters\r\n"
            b"Authorization: Bearer twice\r\nX_Remote_User: admin\r\nimpersonate_user: admin\r\nCookie: a=b\r\n"
            b"X-Forwarded-For: 1.2.3.4\r\nForwarded: for=x\r\nAccept: application/json\r\n"
            b"Impersonate-User: alice\r\nImpersonate-Group: dev\r\n\r\n"
        )
        assert (await read_message(reader))[1] == b"{}"
    assert sorted(api.heads[0].split(b"\r\n")[1:-2]) == sorted(
        [
            b"host: 127.0.0.1:%d" % api.port,
            b"accept: application/json",
            b"impersonate-user: alice",
            b"impersonate-group: dev",
            b"authorization: Bearer agent-token",
        ]
    )


@pytest.mark.parametrize(
    "line", [b"Connection: Impersonate-User, Authorization", b"Connection: keep-alive, host", b"Keep-Alive: x\r\nTE: y"]
)
async def test_connection_cannot_take_our_headers_away(line: bytes) -> None:
    """S31."""
    api = StandIn()
    async with stream(api) as (reader, writer):
        writer.write(GET + line + b"\r\nImpersonate-User: alice\r\n\r\n")
        await read_message(reader)
    lower = api.heads[0].lower()
    assert b"impersonate-user: alice" in lower
    assert b"authorization: bearer agent-token" in lower
    assert b"host: 127.0.0.1" in lower
    assert not any(word in lower for word in (b"connection:", b"keep-alive", b"te: "))


BROKEN = {
    "two lengths": b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "length list": b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na",
    "length and chunks": b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunks and length": b"POST /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
    "coding before": b"POST /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "unknown coding": b"POST /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "folded": b"GET /api HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "nul": b"GET /api HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
    "bare lf": b"GET /api HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "bare cr": b"GET /api HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
    "blank before colon": b"GET /api HTTP/1.1\r\nHost : x\r\n\r\n",
    "no host": b"GET /api HTTP/1.1\r\nA: x\r\n\r\n",
    "two hosts": b"GET /api HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "absolute": b"GET http://x/api HTTP/1.1\r\nHost: x\r\n\r\n",
    "connect": b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "trace": b"TRACE /api HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http/1.0": b"GET /api HTTP/1.0\r\nHost: x\r\n\r\n",
    "empty line first": b"\r\nGET /api HTTP/1.1\r\nHost: x\r\n\r\n",
    "garbage": b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    "large head": b"GET /api HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET /api HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    "dots": b"GET /api/v1/../secrets HTTP/1.1\r\nHost: x\r\n\r\n",
    "encoded dots": b"GET /api/v1/%2e%2E/secrets HTTP/1.1\r\nHost: x\r\n\r\n",
    "encoded slash": b"GET /api/v1/namespaces/a%2fb HTTP/1.1\r\nHost: x\r\n\r\n",
    "upgrade with a body": ASK_SPDY.replace(b"Content-Length: 0", b"Content-Length: 3") + b"abc",
    "two users": GET + b"Impersonate-User: a\r\nImpersonate-User: b\r\n\r\n",
    "group alone": GET + b"Impersonate-Group: dev\r\n\r\n",
    "unknown impersonation": GET + b"Impersonate-User: a\r\nImpersonate-Role: b\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_two_servers_could_read_differently_is_refused_and_the_stream_ends(name: str) -> None:
    """B36, S33: the API server sees nothing of it, nor of what follows."""
    api = StandIn()
    async with stream(api) as (reader, writer):
        writer.write(BROKEN[name] + GET + b"\r\n")
        answer = await gone(reader)
    assert answer.split(b" ")[1] in (b"400", b"431", b"505", b"405")
    assert answer.count(b"\r\n\r\n") == 1
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["kind"] == "Status"
    assert api.heads == []


@pytest.mark.parametrize(
    "headers",
    [
        b"Impersonate-User: system:admin",
        b"Impersonate-User: system:serviceaccount:kube-system:default",
        b"Impersonate-User: alice\r\nImpersonate-Group: system:masters",
        b"Impersonate-User: alice\r\nImpersonate-Group: system:nodes",
        b"Impersonate-User: alice\r\nImpersonate-Group: dev\r\nImpersonate-Group: ops",
        b"Impersonate-User: alice\r\nImpersonate-Extra-Scopes: all",
    ],
)
async def test_nobody_of_system_and_no_unlisted_group_is_impersonated(headers: bytes) -> None:
    """S37, S79: whatever the hub stamps."""
    api = StandIn()
    async with stream(api) as (reader, writer):
        writer.write(GET + headers + b"\r\n\r\n")
        head, body = await read_message(reader)
        assert head.startswith(b"HTTP/1.1 403 ")
        assert orjson.loads(body)["reason"] == "Forbidden"
        # The stream itself is fine, and the next request on it is judged by itself.
        writer.write(GET + b"Impersonate-User: alice\r\nImpersonate-Group: system:authenticated\r\n\r\n")
        assert (await read_message(reader))[1] == b"{}"
    assert len(api.heads) == 1


async def test_many_requests_share_a_stream_and_a_connection() -> None:
    api = StandIn()
    async with stream(api) as (reader, writer):
        for number in range(5):
            writer.write(b"GET /api/v1/nodes/n%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
            assert (await read_message(reader))[1] == b"{}"
        writer.write((GET + b"\r\n") * 3)  # without waiting for answers
        for _ in range(3):
            assert (await read_message(reader))[1] == b"{}"
    assert (api.connections, len(api.heads)) == (1, 8)


async def test_bodies_pass_whole_and_chunks_are_written_anew() -> None:
    """S33: extensions and trailers end here."""
    api = StandIn()
    head = b"POST /api/v1/namespaces/shop/configmaps HTTP/1.1\r\nHost: x\r\n"
    async with stream(api) as (reader, writer):
        body = bytes(range(256)) * 1000
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert (await read_message(reader))[1] == b"{}"
        chunked = b"Transfer-Encoding: chunked\r\n\r\n3;evil=1\r\nabc\r\n2\r\nde\r\n0\r\nImpersonate-User: x\r\n\r\n"
        for letter in range(len(head + chunked)):
            writer.write((head + chunked)[letter : letter + 1])
        assert (await read_message(reader))[1] == b"{}"
    assert api.bodies[0] == body
    assert b"evil" not in api.bodies[1]
    assert b"Impersonate" not in api.bodies[1]
    assert b"".join(api.bodies[1].split(b"\r\n")[1::2]) == b"abcde"


async def test_bytes_behind_a_chunked_request_end_the_stream() -> None:
    """S33."""
    api = StandIn()
    async with stream(api) as (reader, writer):
        writer.write(b"POST /api/v1/nodes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET)
        answer = await gone(reader)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 502")
    assert len(api.heads) <= 1


async def test_a_watch_is_passed_on_chunk_by_chunk() -> None:
    written: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while chunk := await written.get():
            writer.write(chunk)
            await writer.drain()

    api = StandIn(serve=serve)
    async with stream(api) as (reader, writer):
        writer.write(b"GET /api/v1/pods?watch=true HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
        for event in (b"3\r\nabc\r\n", b"2\r\nde\r\n"):
            written.put_nowait(event)
            assert await asyncio.wait_for(reader.readexactly(len(event)), 20) == event
        written.put_nowait(b"0\r\n\r\n")
        assert await asyncio.wait_for(reader.readexactly(5), 20) == b"0\r\n\r\n"
        written.put_nowait(b"")


@pytest.mark.parametrize("request_head", [GET + b"\r\n", ASK_SPDY])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nraw",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
async def test_a_switch_that_was_not_asked_for_drops_the_connection(request_head: bytes, answer: bytes) -> None:
    """S15."""
    api = StandIn(answer=answer)
    async with stream(api) as (reader, writer):
        writer.write(request_head)
        assert (await gone(reader)).startswith(b"HTTP/1.1 502 ")


async def test_an_upgrade_that_is_not_granted_is_answered_and_never_used_again() -> None:
    """S15: the server stays open after its 403; we do not."""
    api = StandIn(answer=b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}")
    async with stream(api) as (reader, writer):
        writer.write(ASK_SPDY + GET + b"\r\n")
        answer = await gone(reader)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"connection: close" in answer
    assert len(api.heads) == 1


@pytest.mark.parametrize("extra", [b"garbage", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
async def test_bytes_behind_an_answer_are_not_passed_on(extra: bytes) -> None:
    """S33: the other way round."""
    api = StandIn(answer=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" + extra)
    async with stream(api) as (reader, writer):
        writer.write(GET + b"\r\n")
        answer = await gone(reader)
    assert extra not in answer.removeprefix(b"HTTP/1.1 200 OK")


async def test_after_a_switch_bytes_are_raw_both_ways_and_half_closes_pass() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"upgrade: SPDY/3.1" in await read_head(reader)
        writer.write(SPDY + b"first")
        received = await reader.read(-1)  # until the other side ends
        writer.write(b"got " + received)
        writer.write_eof()

    api = StandIn(serve=serve)
    async with stream(api) as (reader, writer):
        writer.write(ASK_SPDY)
        assert await read_head(reader) == SPDY
        assert await asyncio.wait_for(reader.readexactly(5), 20) == b"first"
        writer.write(b"GET / HTTP/1.1\r\n\r\n\x00\xff")
        writer.write_eof()
        assert await gone(reader) == b"got GET / HTTP/1.1\r\n\r\n\x00\xff"


async def test_informational_answers_pass_while_the_body_is_on_its_way() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"expect: 100-continue" in await read_head(reader)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(3) == b"abc"
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    async with stream(StandIn(serve=serve)) as (reader, writer):
        writer.write(b"POST /api/v1/nodes HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert (await read_head(reader)).startswith(b"HTTP/1.1 100 ")
        writer.write(b"abc")
        assert (await read_head(reader)).startswith(b"HTTP/1.1 201 ")


async def test_a_server_that_goes_before_it_answers_is_a_502_without_retry() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)

    async with stream(StandIn(serve=serve)) as (reader, writer):
        writer.write(GET + b"\r\n")
        answer = await gone(reader)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"retry-after" not in answer.lower()


async def test_an_answer_that_breaks_off_is_cut_and_not_completed() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")

    async with stream(StandIn(serve=serve)) as (reader, writer):
        writer.write(GET + b"\r\n")
        assert b"0\r\n\r\n" not in await gone(reader)


async def test_no_server_is_a_503_that_may_be_tried_again() -> None:
    service = KubeApi(ClusterCredentials(Access("http://127.0.0.1:1")), POLICY)
    async with listening(service.protocol) as port, connected(port) as (reader, writer):
        writer.write(GET + b"\r\n")
        answer = await gone(reader)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in answer


async def test_a_credential_of_the_agent_that_is_refused_is_not_the_callers_fault() -> None:
    api = StandIn(answer=b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}")
    async with stream(api) as (reader, writer):
        writer.write(GET + b"\r\n")
        assert (await gone(reader)).startswith(b"HTTP/1.1 503 ")


async def test_a_stream_that_ends_takes_its_connection_with_it() -> None:
    """P18: a quiet watch whose caller went away leaves nothing behind."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await reader.read(-1)

    api = StandIn(serve=serve)
    async with running(api):
        service = KubeApi(ClusterCredentials(Access(api.url)), POLICY)
        async with listening(service.protocol) as port:
            async with connected(port) as (reader, writer):
                writer.write(b"GET /api/v1/pods?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n")
                await read_head(reader)
                assert service.open_streams == 1
                writer.transport.abort()
            async with asyncio.timeout(20):
                await api.all_lost.wait()
            assert service.open_streams == 0


async def test_a_reader_that_stands_still_stops_the_server_and_not_our_memory() -> None:
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

    async with stream(StandIn(serve=serve)) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET + b"\r\n")
        before = -1
        while sent != before or sent == 0:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 64 * 1024 * 1024


class Unread(asyncio.Transport):
    """A stream whose far end asks and reads nothing until `read`."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.unread, self.reading = b"", True
        self._protocol, self._full = protocol, False
        protocol.connection_made(self)

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.unread += data
        if len(self.unread) > 65_536 and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def read(self) -> bytes:
        data, self.unread, self._full = self.unread, b"", False
        self._protocol.resume_writing()
        return data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        return


async def test_a_hub_that_asks_and_reads_nothing_waits() -> None:
    """S63: answers do not pile up at the agent, and none is lost."""
    question = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"  # refused by the policy
    protocol = KubeApi(ClusterCredentials(Access("http://127.0.0.1:1")), POLICY).protocol()
    stream = Unread(protocol)
    protocol.data_received(question * 1000)
    assert not stream.reading
    assert len(stream.unread) < 70_000
    answers = 0
    while stream.unread:
        answers += stream.read().count(b"HTTP/1.1 403 ")
    assert (answers, stream.reading) == (1000, True)


@pytest.mark.parametrize(
    "scenario",
    [
        test_a_request_goes_on_with_the_agents_token_and_nobody_elses,
        test_many_requests_share_a_stream_and_a_connection,
        test_bodies_pass_whole_and_chunks_are_written_anew,
        test_bytes_behind_a_chunked_request_end_the_stream,
        test_a_watch_is_passed_on_chunk_by_chunk,
        test_an_upgrade_that_is_not_granted_is_answered_and_never_used_again,
        test_after_a_switch_bytes_are_raw_both_ways_and_half_closes_pass,
        test_informational_answers_pass_while_the_body_is_on_its_way,
        test_a_server_that_goes_before_it_answers_is_a_502_without_retry,
        test_an_answer_that_breaks_off_is_cut_and_not_completed,
        test_no_server_is_a_503_that_may_be_tried_again,
        test_a_credential_of_the_agent_that_is_refused_is_not_the_callers_fault,
        test_a_stream_that_ends_takes_its_connection_with_it,
        test_a_reader_that_stands_still_stops_the_server_and_not_our_memory,
    ],
)
def test_the_same_holds_on_the_loop_of_the_operator(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    """uvloop's transports are no `asyncio.Transport` by class, and tell things at other times."""
    uvloop.run(scenario())
