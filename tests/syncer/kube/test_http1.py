"""Heads and frames: what is let through reads the same to the next server, however it was cut into pieces."""

from __future__ import annotations

import random

import pytest

from syncer.agent.headers import forwarded
from syncer.kube.http1 import (
    BadMessage,
    Chunks,
    RequestHead,
    ResponseHead,
    ResponseReader,
    connection_names,
    parse_request_head,
    parse_response_head,
    serialize,
    status_answer,
)

SEEDS = (
    b"GET /api/v1/pods?watch=true HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nUser-Agent: a\r\n\r\n",
    b"POST /api/v1/nodes HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Type: application/json\r\n\r\n",
    b"POST /api/v1/nodes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n",
    b"GET /api HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nImpersonate-User: alice\r\n\r\n",
)
TOKENS = (
    *(b"\r", b"\n", b"\r\n", b"\n\n", b"\0", b" ", b"\t", b":", b",", b";", b"\x80", b"\x0b", b"chunked", b"identity"),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length", b"Transfer-Encoding", b"Host: y"),
    *(
        b"\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n ",
        b"+1",
        b"0x5",
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"http://y/",
    ),
)


def mutated(source: random.Random) -> bytes:
    data = bytearray(source.choice(SEEDS))
    for _ in range(source.randint(1, 4)):
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


def again(head: RequestHead) -> RequestHead:
    """What the next server reads of what we send on."""
    line = f"{head.method} {head.target} HTTP/1.1".encode()
    return parse_request_head(serialize(line, forwarded(head, b"api", "Bearer ours")))


def test_a_request_that_is_let_through_is_one_request_to_the_next_server_too() -> None:
    """S33: 100,000 mutated heads; each is refused, or read by the next server with the same frame."""
    source = random.Random(33)
    accepted = 0
    for _ in range(100_000):
        data = mutated(source)
        end = data.find(b"\r\n\r\n")
        if end < 0:
            continue
        try:
            head = parse_request_head(data[: end + 4])
        except BadMessage:
            continue
        accepted += 1
        read = again(head)
        assert (read.method, read.target, read.upgrade) == (head.method, head.target, head.upgrade), data
        assert read.length == head.length, data
        names = [name for name, _ in read.headers]
        assert names.count(b"host") == names.count(b"authorization") == 1, data
        assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1, data
    assert accepted > 10_000  # the rest would prove little


def read(data: bytes, *, method: str = "GET", piece: int = 0) -> tuple[bytes, ResponseReader]:
    heads: list[ResponseHead] = []

    def on_head(head: ResponseHead) -> bytes:
        heads.append(head)
        return head.raw

    reader = ResponseReader(method, on_head)
    size = piece or len(data)
    passed = b"".join(reader.feed(data[start : start + size]) for start in range(0, len(data), size))
    assert len(heads) <= 1
    return passed, reader


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
EARLY = b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n\x80\x03raw"


@pytest.mark.parametrize("piece", [0, 1, 7])
@pytest.mark.parametrize("answer", [LENGTH, CHUNKED, EARLY])
def test_an_answer_passes_whole_however_it_is_cut(answer: bytes, piece: int) -> None:
    passed, reader = read(answer, piece=piece)
    assert passed == answer
    assert (reader.complete, reader.reusable, reader.switched) == (True, True, False)


@pytest.mark.parametrize("piece", [0, 1, 7])
def test_after_a_switch_everything_is_raw(piece: int) -> None:
    passed, reader = read(SWITCH, piece=piece)
    assert passed == SWITCH
    assert (reader.switched, reader.complete) == (True, False)


def test_of_informational_answers_only_the_invitation_passes_and_not_without_end() -> None:
    """S33."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    passed, _ = read(hints * 8 + b"HTTP/1.1 100 Continue\r\nConnection: x\r\nA: b\r\n\r\n" + LENGTH)
    assert passed == EARLY
    with pytest.raises(BadMessage, match="too many"):
        read(hints * 17 + LENGTH)


def test_an_answer_that_ends_with_its_connection_says_so() -> None:
    assert not read(b"HTTP/1.1 200 OK\r\n\r\nhello")[1].framed
    for answer in (LENGTH, CHUNKED, b"HTTP/1.1 204 No Content\r\n\r\n"):
        assert read(answer)[1].framed


def test_answers_without_a_body_end_with_their_head() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    assert read(head, method="HEAD")[1].reusable
    assert read(b"HTTP/1.1 204 No Content\r\n\r\n")[1].reusable
    assert read(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")[1].reusable
    assert not read(head)[1].complete


def test_an_answer_until_the_end_is_whole_at_the_end_and_never_reused() -> None:
    _, reader = read(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert not reader.complete
    assert reader.feed_eof()
    assert not reader.reusable
    assert not read(LENGTH[:-1])[1].feed_eof()
    assert not read(CHUNKED[:-1])[1].feed_eof()


@pytest.mark.parametrize(
    "answer",
    [
        LENGTH + b"x",
        CHUNKED + b"x",
        CHUNKED + LENGTH,
        b"HTTP/1.1 204 No Content\r\n\r\n" + LENGTH,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 5\n\n\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000,
    ],
)
def test_what_is_no_single_answer_is_refused(answer: bytes) -> None:
    """S15, S33."""
    with pytest.raises(BadMessage):
        read(answer)


def test_chunks_end_where_they_end() -> None:
    taken: list[bytes] = []
    chunks = Chunks(taken.append)
    for letter in b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n":
        assert not chunks.done
        chunks.feed(bytes([letter]))
    assert chunks.done
    assert b"".join(taken) == b"abcde"
    for broken in (b"g\r\n", b"3\nabc", b"3\r\nabcd\r\n", b"-1\r\n", b"0x3\r\nabc\r\n"):
        with pytest.raises(BadMessage):
            Chunks().feed(broken)


def test_headers_of_one_connection_are_those_and_what_connection_names() -> None:
    """S31."""
    names = connection_names([(b"connection", b"Close, X-Secret ,"), (b"connection", b"Host, Content-Length")])
    assert {b"connection", b"keep-alive", b"te", b"upgrade", b"close", b"x-secret"} <= names
    assert names.isdisjoint({b"host", b"content-length"})
    raw = b"HTTP/1.1 200 OK\r\nConnection: X-A\r\nX-A: 1\r\nX-B: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert parse_response_head(raw).end_to_end() == b"HTTP/1.1 200 OK\r\nx-b: 2\r\ntransfer-encoding: chunked\r\n\r\n"


def test_our_own_answers_are_answers() -> None:
    passed, reader = read(status_answer(503, 'no "link"\r\nX: y', retry_after=1, close=True))
    assert reader.complete
    assert not reader.reusable
    assert b'warning: 299 - "no linkX: y"\r\n' in passed
    assert read(status_answer(404, "x", head=True), method="HEAD")[1].complete
