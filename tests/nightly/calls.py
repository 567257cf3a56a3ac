"""Calls of all kinds, each checked byte by byte, and the services that answer them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import struct
from collections.abc import Awaitable, Callable
from typing import Final

from tunneler.errors import StreamCode, StreamRefused, StreamReset
from tunneler.ports import Opener, Services, StreamRequest, StreamTransport

WISH: Final = struct.Struct("!QI")  # seed and number of the bytes that are wanted
SIZES: Final = (1, 300, 20_000, 400_000, 3_000_000)
WEIGHTS: Final = (3, 6, 4, 2, 1)


class Wrong(Exception):
    """Something else came than what was sent, or the wrong end of a stream."""


def content(seed: int, size: int) -> bytes:
    """The same bytes at both ends."""
    return random.Random(seed).randbytes(size)


# At the agent ---------------------------------------------------------------------------------------------------------


class _Service(asyncio.Protocol):
    transport: StreamTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, StreamTransport)
        self.transport = transport


class Echo(_Service):
    """Says what it hears, no faster than it is taken."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class Source(_Service):
    """Sends the bytes of a `WISH` and ends."""

    def __init__(self) -> None:
        self._wish = b""

    def data_received(self, data: bytes) -> None:
        self._wish += data
        if len(self._wish) == WISH.size:
            self.transport.write(content(*WISH.unpack(self._wish)))
            self.transport.close()


class Sink(_Service):
    """Answers the end of what it hears with its digest."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def data_received(self, data: bytes) -> None:
        self._digest.update(data)

    def eof_received(self) -> bool:
        self.transport.write(self._digest.digest())
        self.transport.close()
        return True


class Mute(_Service):
    """Hears and says nothing."""


class Breaks(_Service):
    """Resets the stream at the first byte."""

    def data_received(self, data: bytes) -> None:
        self.transport.abort(StreamCode.INTERNAL, "as it does")


async def late(request: StreamRequest) -> asyncio.Protocol:
    """An echo after a dial that takes a while."""
    await asyncio.sleep(0.05)
    return Echo()


async def never(request: StreamRequest) -> asyncio.Protocol:
    """A dial that leads nowhere."""
    await asyncio.Event().wait()
    raise AssertionError


def denied(request: StreamRequest) -> asyncio.Protocol:
    """No."""
    raise StreamRefused(StreamCode.DENIED, "as it does")


SERVICES: Final[Services] = {
    "echo": lambda _: Echo(),
    "source": lambda _: Source(),
    "sink": lambda _: Sink(),
    "mute": lambda _: Mute(),
    "breaks": lambda _: Breaks(),
    "late": late,
    "never": never,
    "denied": denied,
}


# At the hub -----------------------------------------------------------------------------------------------------------


class Talk(asyncio.Protocol):
    """The caller's end of a stream."""

    transport: StreamTransport

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.lost = False
        self.error: Exception | None = None
        self._news = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, StreamTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._news.set()

    def eof_received(self) -> bool:
        self.ended = True
        self._news.set()
        return True

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost, self.error = True, exc
        self.writable.set()
        self._news.set()

    async def until(self, check: Callable[[], bool]) -> None:
        """Wait for what is to come. Raises what ended the stream instead."""
        while not check():
            if self.lost:
                raise self.error or Wrong("the stream ended before everything had come")
            self._news.clear()
            await self._news.wait()

    async def say(self, chance: random.Random, data: bytes) -> None:
        """In pieces, no faster than they are taken."""
        at = 0
        while at < len(data) and not self.lost:
            size = chance.choice((1, 100, 5000, 70_000, 1_000_000))
            self.transport.write(data[at : at + size])
            at += size
            if chance.random() < 0.1:
                await asyncio.sleep(0)
            await self.writable.wait()

    async def gone(self) -> None:
        """The end, whatever it is."""
        while not self.lost:
            self._news.clear()
            await self._news.wait()


Call = Callable[[random.Random, Opener], Awaitable[None]]


def size_of(chance: random.Random) -> int:
    return chance.choices(SIZES, WEIGHTS)[0]


async def _open(opener: Opener, service: str) -> Talk:
    _, talk = await opener.open_stream(Talk, service)
    return talk


async def _echo(service: str, chance: random.Random, opener: Opener) -> None:
    data = chance.randbytes(size_of(chance))
    talk = await _open(opener, service)
    await talk.say(chance, data)
    await talk.until(lambda: len(talk.data) >= len(data))
    if talk.data != data:
        raise Wrong(f"an echo of {len(data)} bytes differs")
    how = chance.choice(("close", "abort", "eof"))
    if how == "close":
        talk.transport.close()
    elif how == "abort":
        talk.transport.abort()
    else:
        talk.transport.write_eof()
        await talk.until(lambda: talk.ended)
    await talk.gone()


async def echo(chance: random.Random, opener: Opener) -> None:
    await _echo("echo", chance, opener)


async def echo_late(chance: random.Random, opener: Opener) -> None:
    await _echo("late", chance, opener)


async def download(chance: random.Random, opener: Opener) -> None:
    """With a reader that stops now and then."""
    seed, size = chance.getrandbits(64), size_of(chance)
    talk = await _open(opener, "source")
    talk.transport.write(WISH.pack(seed, size))
    for _ in range(chance.randrange(3)):
        talk.transport.pause_reading()
        await asyncio.sleep(chance.random() * 0.2)
        talk.transport.resume_reading()
        await asyncio.sleep(chance.random() * 0.02)
    await talk.until(lambda: talk.ended)
    if bytes(talk.data) != content(seed, size):
        raise Wrong(f"a download of {size} bytes differs: {len(talk.data)} came")
    talk.transport.close()
    await talk.gone()


async def upload(chance: random.Random, opener: Opener) -> None:
    data = chance.randbytes(size_of(chance))
    talk = await _open(opener, "sink")
    await talk.say(chance, data)
    if not talk.lost:
        talk.transport.write_eof()
    await talk.until(lambda: talk.ended)
    if bytes(talk.data) != hashlib.sha256(data).digest():
        raise Wrong(f"an upload of {len(data)} bytes differs")
    await talk.gone()


async def give_up(chance: random.Random, opener: Opener) -> None:
    """Nobody answers; the caller aborts, with or without bytes on their way."""
    talk = await _open(opener, chance.choice(("mute", "source", "echo")))
    if chance.random() < 0.5:
        talk.transport.write(bytes(chance.randrange(1, 200_000)))
    await asyncio.sleep(chance.random() * 0.5)
    talk.transport.abort()
    await talk.gone()


async def cancelled(chance: random.Random, opener: Opener) -> None:
    opening = asyncio.ensure_future(_open(opener, "never"))
    await asyncio.wait({opening}, timeout=chance.random() * 0.5)
    opening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await opening
        raise Wrong("a dial to nowhere arrived")


async def broken(chance: random.Random, opener: Opener) -> None:
    talk = await _open(opener, "breaks")
    talk.transport.write(bytes(chance.randrange(1, 100_000)))
    await _ends_with(talk.until(lambda: False), StreamCode.INTERNAL)


async def refused(chance: random.Random, opener: Opener) -> None:
    service, code = chance.choice((("denied", StreamCode.DENIED), ("none", StreamCode.UNKNOWN_SERVICE)))
    await _ends_with(_open(opener, service), code)


async def _ends_with(call: Awaitable[object], code: StreamCode) -> None:
    try:
        await call
    except StreamReset as error:
        if error.code is code and error.remote:
            return
        raise
    raise Wrong(f"{code.name} was expected")


CALLS: Final[tuple[Call, ...]] = (echo, echo_late, download, upload, give_up, cancelled, broken, refused)
