"""The hub's one port against those who only want to keep it busy."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import orjson
import pytest
import uvloop
from aiohttp import web

from syncer.binds import Bind
from syncer.errors import StartError
from syncer.hub.api import HubApi
from syncer.hub.auth import Authenticator, Authorizer
from syncer.hub.callers import Strangers
from syncer.hub.certificates import issue_server, load_pair, make_authority, server_context
from syncer.hub.listener import listen
from syncer.hub.registrations import PREFIX as REGISTRATIONS
from tests.support.http1 import connected, gone, read_message
from tests.syncer.hub.fakes import Reviews
from tests.syncer.hub.proxied import reviews
from tests.syncer.hub.test_api import find_kinds

NOW = datetime.now(UTC)
AUTHORITY = make_authority(now=NOW)


class Follows:
    """No replica leads."""

    engine = None
    leader = "another"


async def told(_: web.Request) -> web.Response:
    return web.Response(text="yes")


class Told:
    """A door that answers everybody."""

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/told", told)


@asynccontextmanager
async def hub(strangers: Strangers | None = None, known: Reviews | None = None) -> AsyncIterator[int]:
    """A TLS listener with the API, and one door that asks nothing."""
    asked, context = known or reviews(), server_context()
    load_pair(context, issue_server(AUTHORITY, ["127.0.0.1"], now=NOW))
    api = HubApi(Authenticator(asked), Authorizer(asked), Follows(), find_kinds=find_kinds)
    listener = await listen(
        api.app([Told()]), Bind("127.0.0.1", 0), setting="hub_bind", tls=lambda: context, strangers=strangers
    )
    try:
        yield listener.bind.port
    finally:
        await listener.close()


def tls() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=AUTHORITY.certificate.decode())


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls())
    writer.write(b"GET /told HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
    answer = await gone(reader)
    writer.transport.abort()
    return answer


async def test_connections_without_tls_make_room_for_others() -> None:
    """S63: those that never begin it, and those that begin it with nonsense; who is served stays served."""
    strangers = Strangers(limit=20, seconds=3600)
    async with hub(strangers) as port:
        kept, kept_writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls())
        question = b"GET /told HTTP/1.1\r\nHost: hub\r\n\r\n"
        kept_writer.write(question)
        assert (await read_message(kept))[1] == b"yes"
        silent = []
        for number in range(200):
            one = await asyncio.open_connection("127.0.0.1", port)
            if number % 2:
                one[1].write(b"GET /told HTTP/1.1\r\n\r\n")  # no TLS at all
            silent.append(one)
        for reader, _ in silent[:160]:
            await gone(reader)
        assert len(strangers) <= 20
        assert (await ask(port)).endswith(b"yes")
        kept_writer.write(question)
        assert (await read_message(kept))[1] == b"yes"
        for _, writer in (*silent, (kept, kept_writer)):
            writer.transport.abort()


async def test_hundreds_of_callers_that_nobody_knows_leave_nothing_behind() -> None:
    """S63, P18: each is told so and loses its connection."""
    strangers = Strangers(seconds=3600)
    async with hub(strangers) as port:
        slots = asyncio.Semaphore(20)

        async def stranger() -> bytes:
            async with slots:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls_once)
                writer.write(b"GET /api/v1/targets HTTP/1.1\r\nHost: hub\r\n\r\n")
                try:
                    return await gone(reader)
                finally:
                    writer.transport.abort()

        tls_once = tls()
        answers = await asyncio.gather(*(stranger() for _ in range(300)))
        assert {answer.split(b" ")[1] for answer in answers} == {b"401"}
        assert (await ask(port)).endswith(b"yes")
        assert len(strangers) == 0


async def test_a_listener_that_is_closed_keeps_nobody() -> None:
    silent = None
    with contextlib.suppress(ConnectionError):
        async with hub() as port:
            silent = await asyncio.open_connection("127.0.0.1", port)
            await ask(port)
    assert silent is not None
    assert await gone(silent[0]) == b""
    silent[1].transport.abort()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_an_address_that_is_taken_is_told() -> None:
    async with hub() as port:
        with pytest.raises(StartError, match="in use"):
            await listen(web.Application(), Bind("127.0.0.1", port), setting="hub_bind")


HEAD = b"Host: hub\r\nAuthorization: Bearer alice\r\n"
BROKEN = {
    "two lengths": b"POST %b HTTP/1.1\r\n" + HEAD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "length and chunks": b"POST %b HTTP/1.1\r\n" + HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "unknown coding": b"POST %b HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
    "a fold": b"GET %b HTTP/1.1\r\n" + HEAD + b"A: b\r\n c\r\n\r\n",
    "nul": b"GET %b HTTP/1.1\r\n" + HEAD + b"A: b\0c\r\n\r\n",
    "bare lf": b"GET %b HTTP/1.1\nHost: hub\n\n",
    "a large header": b"GET %b HTTP/1.1\r\n" + HEAD + b"A: " + b"a" * 100_000 + b"\r\n\r\n",
    "a large head": b"GET %b HTTP/1.1\r\n" + HEAD + (b"A: " + b"a" * 30_000 + b"\r\n") * 3,
    "http/0.9": b"GET %b\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("path", [b"/api/v1/targets", b"/told", REGISTRATIONS.encode()])
async def test_what_is_no_http_ends_every_connection(name: str, path: bytes) -> None:
    """B36: at every route of the port, before anybody is asked who they are; nothing behind it is read."""
    data = BROKEN[name].replace(b"%b", path) + b"GET /told HTTP/1.1\r\nHost: hub\r\n\r\n"
    app = web.Application()
    Told().add_to(app)
    listener = await listen(app, Bind("127.0.0.1", 0), setting="http_bind")
    try:
        async with connected(listener.bind.port) as (reader, writer):
            writer.write(data)
            answer = await gone(reader)
    finally:
        await listener.close()
    assert answer.split(b" ")[1] in (b"400", b"431")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["kind"] == "Status"


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("target", ["/api/v1/targets", "http://hub/api/v1/targets", "169.254.169.254:80", "*"])
async def test_no_method_and_no_form_of_address_opens_anything(method: str, target: str) -> None:
    """B36, S20: neither of the ways to ask a proxy for another server."""
    asked = Reviews()
    async with hub(known=asked) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls())
        writer.write(f"{method} {target} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n".encode())
        answer = await gone(reader)
        writer.transport.abort()
    assert answer.split(b" ")[1] in (b"400", b"401", b"404", b"405")


@pytest.mark.parametrize(
    "scenario",
    [
        test_connections_without_tls_make_room_for_others,
        test_hundreds_of_callers_that_nobody_knows_leave_nothing_behind,
        test_a_listener_that_is_closed_keeps_nobody,
        test_an_address_that_is_taken_is_told,
    ],
)
def test_the_same_holds_on_the_loop_of_the_operator(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    uvloop.run(scenario())
