"""The head of an answer to a dial, and the words of a refusal."""

from __future__ import annotations

import asyncio

import pytest

from tunneler.links import dial
from tunneler.links.dial import MAX_REFUSAL_BYTES, AnswerHead

REFUSED = b"HTTP/1.1 503 Service Unavailable\r\n%b\r\n"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits out the time for a refusal's words fails the test."""
    monkeypatch.setattr(dial, "REFUSAL_SECONDS", 3600.0)


async def words(*pieces: bytes, lost: bool = False) -> str:
    """What a refusal says that comes in these pieces."""
    head = AnswerHead()
    asking = asyncio.create_task(read(head))
    for piece in pieces:
        head.data_received(piece)
        await asyncio.sleep(0)
    if lost:
        head.connection_lost(None)
    return await asyncio.wait_for(asking, 10)


async def read(head: AnswerHead) -> str:
    assert (await head.read())[0] == 503
    return await head.body()


async def test_a_refusal_is_read_to_its_length_and_no_further() -> None:
    """The connection may be kept open behind it."""
    head = REFUSED % b"Content-Length: 4\r\n"
    assert await words(head + b"busy") == "busy"
    assert await words(head, b"bu", b"sy") == "busy"
    assert await words(head + b"busyHTTP/1.1 200 OK") == "busy"
    assert await words(REFUSED % b"content-length: 0\r\n") == ""


@pytest.mark.parametrize("line", [b"", b"Content-Length: many\r\n", b"Content-Length: 1\r\nContent-Length: 2\r\n"])
async def test_one_without_a_length_is_read_to_the_end_of_the_connection(line: bytes) -> None:
    assert await words(REFUSED % line, b"bu", b"sy", lost=True) == "busy"


async def test_no_more_than_a_kibibyte_is_waited_for() -> None:
    said = await words(REFUSED % b"Content-Length: 100000\r\n" + b"x" * (MAX_REFUSAL_BYTES + 1))
    assert said == "x" * MAX_REFUSAL_BYTES


async def test_what_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "REFUSAL_SECONDS", 0.01)
    assert await words(REFUSED % b"Content-Length: 9\r\n" + b"busy") == "busy"
