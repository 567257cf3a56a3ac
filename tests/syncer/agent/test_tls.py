"""Whom the agent takes for its hub: on its tunnel, when it joins, and when it renews."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from syncer.agent.http import HubNotReached, Route, send
from tests.support.http1 import read_head
from tunneler.errors import HandshakeRefused
from tunneler.links.base import LinkUser
from tunneler.links.dial import DialTarget, client_tls, dial

OURS, OTHER = trustme.CA(), trustme.CA()
PAST = datetime.now(UTC) - timedelta(days=1)
SECRET = "Bearer c4n4ry"


def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def old(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = serving(OURS.issue_cert("127.0.0.1"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is deprecated is why it is tried
        context.minimum_version = context.maximum_version = version
    return context


IMPOSTORS: dict[str, Callable[[], ssl.SSLContext | None]] = {
    "another authority": lambda: serving(OTHER.issue_cert("127.0.0.1")),
    "another name": lambda: serving(OURS.issue_cert("hub.example", "127.0.0.2")),
    "a name without address": lambda: serving(OURS.issue_cert("localhost")),
    "over": lambda: serving(OURS.issue_cert("127.0.0.1", not_after=PAST)),
    "TLS 1.2": lambda: old(ssl.TLSVersion.TLSv1_2),
    "TLS 1.1": lambda: old(ssl.TLSVersion.TLSv1_1),
    "no TLS": lambda: None,
}


@asynccontextmanager
async def server(context: ssl.SSLContext | None, answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """(port, heads that came) of a server that answers everything alike."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append(await read_head(reader))
            writer.write(answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1], heads
    finally:
        listener.close()


def nobody() -> LinkUser:
    raise AssertionError("no link may come up")


async def by_tunnel(url: str, tls: ssl.SSLContext) -> None:
    await dial(DialTarget(url, {"Authorization": SECRET}, tls), nobody)


async def by_request(url: str, tls: ssl.SSLContext) -> None:
    await send(Route(url), "POST", "/registrations/v1", tls=tls, body=b"{}", headers={"Authorization": SECRET})


WAYS = {"tunnel": by_tunnel, "join and renewal": by_request}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("tls") / "hub-ca.crt"
    OURS.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("impostor", IMPOSTORS)
async def test_an_impostor_gets_no_word_of_the_agent(way: str, impostor: str, authority: str) -> None:
    """S60: authority, name, end of life, old TLS, plain HTTP."""
    go: Callable[[str, ssl.SSLContext], Awaitable[None]] = WAYS[way]
    async with server(IMPOSTORS[impostor](), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (port, heads):
        with pytest.raises((HandshakeRefused, HubNotReached)):
            await go(f"https://127.0.0.1:{port}", client_tls(authority))
        assert heads == []


@pytest.mark.parametrize("status", [b"301 Moved", b"307 Temporary Redirect"])
async def test_a_hub_cannot_send_the_agent_elsewhere(status: bytes, authority: str) -> None:
    """S60: a redirect to plain HTTP is an answer that is no yes, and nothing is asked there."""
    context = serving(OURS.issue_cert("127.0.0.1"))
    async with server(None, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (elsewhere, heard):
        answer = b"HTTP/1.1 %b\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % (status, elsewhere)
        async with server(context, answer) as (port, _):
            tls = client_tls(authority)
            with pytest.raises(HandshakeRefused) as refused:
                await by_tunnel(f"https://127.0.0.1:{port}", tls)
            assert refused.value.status == int(status[:3])
            told = await send(Route(f"https://127.0.0.1:{port}"), "GET", "/registrations/v1/authority", tls=tls)
            assert told.status == int(status[:3])
        assert heard == []


def test_there_is_no_context_that_does_not_check(authority: str) -> None:
    """S60: neither by default nor with the agent's own authority."""
    for context in (client_tls(), client_tls(authority)):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert len(client_tls(authority).get_ca_certs()) == 1  # this one, and none of the machine's
