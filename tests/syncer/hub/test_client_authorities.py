"""Client certificates of upstream's users count while upstream publishes their authority, and no longer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import uvloop
from aiohttp import web

from syncer.binds import Bind
from syncer.errors import SyncError
from syncer.hub.auth import Authenticator
from syncer.hub.certificates import KeyPair, issue_client, load_pair, make_authority
from syncer.hub.hub import CLIENT_CA_PATH, Hub
from syncer.kube.errors import NotFound, Unreachable
from tests.support.http1 import gone, read_message
from tests.syncer.hub.fakes import Reviews

NOW = datetime.now(UTC)
AUTHORITY = make_authority(now=NOW)
A, B, AGENTS = (make_authority(now=NOW, name=name) for name in ("kubernetes", "kubernetes", "agents"))
GET = b"GET /who HTTP/1.1\r\nHost: hub\r\n\r\n"


class Upstream:
    """Publishes authorities, or fails."""

    def __init__(self, published: bytes | SyncError) -> None:
        self.published = published

    async def get_json(self, path: str) -> dict[str, Any]:
        assert path == CLIENT_CA_PATH
        if isinstance(self.published, SyncError):
            raise self.published
        return {"data": {"client-ca-file": self.published.decode()} if self.published else {}}


class Replica:
    """A hub that tells callers their names."""

    def __init__(self, published: bytes | SyncError) -> None:
        self.upstream = Upstream(published)
        client: Any = self.upstream
        self.hub = Hub(client, AUTHORITY, url=None, clients=AGENTS.bundle)
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.asked = asyncio.Event()

    @property
    def port(self) -> int:
        return int(self.hub.url.rpartition(":")[2])

    async def who(self, request: web.Request) -> web.Response:
        self.asked.set()
        user = await Authenticator(Reviews()).identify(request)
        await self.go_on.wait()
        return web.Response(text=user.name if user else "nobody")

    async def publishes(self, published: bytes | SyncError) -> None:
        self.upstream.published = published
        await self.hub._refresh()


@asynccontextmanager
async def replica(published: bytes | SyncError) -> AsyncIterator[Replica]:
    made, app = Replica(published), web.Application()
    app.router.add_get("/who", made.who)
    await made.hub.start(app, Bind("127.0.0.1", 0))
    try:
        yield made
    finally:
        await made.hub.close()


def alice(authority: KeyPair) -> ssl.SSLContext:
    """TLS of a user with a certificate of this authority."""
    context = ssl.create_default_context(cadata=AUTHORITY.certificate.decode())
    load_pair(context, issue_client(authority, "alice", "dev", now=NOW))
    return context


@asynccontextmanager
async def connected(place: Replica, tls: ssl.SSLContext | None) -> AsyncIterator[tuple[Any, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port, ssl=tls)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def told(place: Replica, authority: KeyPair) -> str:
    """Whom the hub takes a user of this authority for; "" if it does not even answer."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        async with connected(place, alice(authority)) as (reader, writer):
            writer.write(GET)
            return (await read_message(reader))[1].decode()
    return ""


async def test_an_authority_that_upstream_took_away_counts_no_more() -> None:
    """A leaked key is void once upstream publishes another authority, or none."""
    async with replica(A.certificate) as place:
        assert [await told(place, one) for one in (A, B, AGENTS)] == ["alice", "", "alice"]
        await place.publishes(A.certificate + B.certificate)
        assert [await told(place, one) for one in (A, B, AGENTS)] == ["alice", "alice", "alice"]
        await place.publishes(B.certificate)
        assert [await told(place, one) for one in (A, B, AGENTS)] == ["", "alice", "alice"]
        await place.publishes(b"")
        assert [await told(place, one) for one in (A, B, AGENTS)] == ["", "", "alice"]


@pytest.mark.parametrize("published", [Unreachable(0, "Unreachable", "upstream is away"), b"no certificate"])
async def test_what_cannot_be_read_changes_nothing(published: bytes | SyncError) -> None:
    async with replica(A.certificate) as place:
        await place.publishes(published)
        assert [await told(place, one) for one in (A, B)] == ["alice", ""]


async def test_an_upstream_without_the_configmap_has_no_authorities() -> None:
    """Not found is an answer."""
    async with replica(A.certificate) as place:
        await place.publishes(NotFound(404, "NotFound", "not found"))
        assert await told(place, A) == ""


async def test_a_connection_that_is_kept_ends_with_the_authority_of_its_certificate() -> None:
    """Else it would be asked for as long as requests come; who showed no certificate keeps his."""
    anonymous = ssl.create_default_context(cadata=AUTHORITY.certificate.decode())
    async with (
        replica(A.certificate) as place,
        connected(place, alice(A)) as (kept, writer),
        connected(place, anonymous) as (reader, other),
    ):
        for one, answers in ((writer, kept), (other, reader)):
            one.write(GET)
            await read_message(answers)
        await place.publishes(B.certificate)
        assert await gone(kept) == b""
        other.write(GET)
        assert (await read_message(reader))[1] == b"nobody"


async def test_a_request_in_hand_is_answered_and_is_the_last() -> None:
    async with replica(A.certificate) as place, connected(place, alice(A)) as (reader, writer):
        place.go_on.clear()
        writer.write(GET + GET)
        await place.asked.wait()
        await place.publishes(B.certificate)
        place.go_on.set()
        assert (await gone(reader)).count(b"alice") == 1


async def test_a_handshake_that_began_before_the_change_opens_nothing() -> None:
    async with replica(A.certificate) as place, connected(place, None) as (reader, writer):
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = alice(A).wrap_bio(into, out, server_hostname="127.0.0.1")
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        writer.write(out.read())
        into.write(await reader.read(65_536))
        while True:  # the server's flight may come in pieces
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                into.write(await reader.read(65_536))
        await place.publishes(B.certificate)
        client.write(GET)
        writer.write(out.read())
        await gone(reader)
        assert not place.asked.is_set()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_ticket_outlives_the_authority(version: ssl.TLSVersion) -> None:
    """A resumed session shows no certificate anew: the ticket stands for it."""
    tls = alice(A)
    tls.maximum_version = version
    tickets: list[ssl.SSLSession | None] = [None]

    def resume(port: int) -> bool:
        """Ask; whether the handshake resumed the last one."""
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
            tls.wrap_socket(plain, server_hostname="127.0.0.1", session=tickets[-1]) as client,
        ):
            client.sendall(GET)
            assert client.recv(65_536)
            tickets.append(client.session)
            return bool(client.session_reused)

    async with replica(A.certificate) as place:
        assert [await asyncio.to_thread(resume, place.port) for _ in range(2)] == [False, True]
        await place.publishes(B.certificate)
        with pytest.raises((OSError, AssertionError)):
            await asyncio.to_thread(resume, place.port)


@pytest.mark.parametrize(
    "scenario",
    [
        test_an_authority_that_upstream_took_away_counts_no_more,
        test_a_connection_that_is_kept_ends_with_the_authority_of_its_certificate,
        test_a_request_in_hand_is_answered_and_is_the_last,
        test_a_handshake_that_began_before_the_change_opens_nothing,
    ],
)
def test_the_same_on_uvloop(scenario: Any) -> None:
    """The loop of the operator: its TLS is another."""
    uvloop.run(scenario())
