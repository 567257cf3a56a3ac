"""Requests, refusals and broken connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import orjson
import psutil
import pytest
import trustme
from aiohttp import web

from syncer.errors import NotLeadingError, TerminalError, TransientError
from syncer.kube import client as module
from syncer.kube.client import JSON_PATCH, ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.errors import (
    Conflict,
    MalformedAnswer,
    NotFound,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)
from syncer.kube.kubeconfig import Access, Source
from tests.support.fakeapi import CONFIGMAPS, DEPLOYMENTS, FakeApi, Scripted, failure
from tests.support.fleet import eventually
from tests.support.http1 import StandIn, running

WEB = orjson.dumps(
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "5"}}
)


async def test_apply_asks_as_server_side_apply_wants_it(api: FakeApi, client: ClusterClient) -> None:
    api.answer_next("PATCH", Scripted(201, WEB), Scripted(200, WEB))
    item, status = await client.apply(CONFIGMAPS, "shop", "web", b'{"a":1}', force=True)
    assert (item.name, item.resource_version, status) == ("web", "5", 201)
    await client.apply(
        CONFIGMAPS, "shop", "web", b"{}", force=False, manager="other", subresource="status", dry_run=True
    )
    first, second = api.requests
    assert first.path == "/api/v1/namespaces/shop/configmaps/web"
    assert first.query == {"fieldManager": "syncline", "force": "true"}
    assert first.headers["Content-Type"] == "application/apply-patch+yaml"
    assert first.headers["User-Agent"].startswith("syncline")
    assert "Authorization" not in first.headers
    assert first.body == b'{"a":1}'
    assert second.path.endswith("/web/status")
    assert second.query == {"fieldManager": "other", "force": "false", "dryRun": "All"}


async def test_create_patch_delete_and_get(api: FakeApi, client: ClusterClient) -> None:
    api.answer_next("POST", Scripted(201, WEB))
    api.answer_next("PATCH", Scripted(200, WEB))
    api.answer_next("DELETE", Scripted(200, b'{"kind":"Status"}'))
    api.answer_next("GET", Scripted(200, WEB))
    await client.create(CONFIGMAPS, "shop", WEB)
    await client.patch(CONFIGMAPS, "shop", "web", b"[]", JSON_PATCH, manager="m")
    await client.delete(CONFIGMAPS, "shop", "web", uid="u", resource_version="5", propagation="Orphan")
    assert (await client.get(CONFIGMAPS, "shop", "web")).uid == ""
    post, patch, delete, _ = api.requests
    assert (post.path, post.headers["Content-Type"]) == ("/api/v1/namespaces/shop/configmaps", "application/json")
    assert (patch.query["fieldManager"], patch.headers["Content-Type"]) == ("m", JSON_PATCH)
    options = orjson.loads(delete.body)
    assert options["preconditions"] == {"uid": "u", "resourceVersion": "5"}
    assert options["propagationPolicy"] == "Orphan"


async def test_refusals_are_our_errors(api: FakeApi, client: ClusterClient) -> None:
    api.answer_next("GET", failure(429, Retry_After="7"), failure(500), failure(409, "Conflict"), failure(302))
    with pytest.raises(TooManyRequests) as caught:
        await client.get_json("/x")
    assert caught.value.retry_after_seconds == 7
    with pytest.raises(ServerError):
        await client.get_json("/x")
    with pytest.raises(Conflict):
        await client.get_json("/x")
    with pytest.raises(MalformedAnswer, match="redirected"):
        await client.get_json("/x")
    with pytest.raises(NotFound) as missing:
        await client.get_json("/x")
    assert missing.value.kind_of_missing == "resource"


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"a":'])
async def test_what_is_no_json_object_is_malformed(api: FakeApi, client: ClusterClient, body: bytes) -> None:
    api.answer_next("GET", Scripted(200, body))
    with pytest.raises(MalformedAnswer):
        await client.get_json("/version")


async def test_a_cut_answer_is_unreachable(api: FakeApi, client: ClusterClient) -> None:
    """F11, F38: whether a write happened is not known then."""
    api.answer_next("PATCH", Scripted(200, WEB, cut_after=10))
    with pytest.raises(Unreachable, match="the connection broke"):
        await client.apply(CONFIGMAPS, "shop", "web", b"{}", force=True)


async def test_an_answer_above_the_limit_is_not_kept(
    api: FakeApi, client: ClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B27: whatever is asked for, by whichever call."""
    monkeypatch.setattr(module, "OBJECT_LIMIT", 10)
    monkeypatch.setattr(module, "ITEM_LIMIT", 10)
    for _ in range(3):
        api.answer_next("GET", Scripted(200, b"{" + b" " * 100 + b"}"))
    with pytest.raises(MalformedAnswer, match="larger than 10 bytes"):
        await client.get_json("/x")
    with pytest.raises(MalformedAnswer, match="larger than 50 bytes"):
        await client.request("GET", "/x", params={"limit": "5"})
    with pytest.raises(MalformedAnswer, match="larger than 64 bytes"):
        await client.request("GET", "/x", answer_limit=64)


async def test_single_objects_have_a_lower_limit_than_lists(
    api: FakeApi, client: ClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OBJECT_LIMIT", len(WEB) - 1)
    for verb in ("GET", "PATCH", "POST"):
        api.answer_next(verb, Scripted(200, WEB))
    with pytest.raises(MalformedAnswer, match="larger than"):
        await client.get(CONFIGMAPS, "shop", "web")
    with pytest.raises(MalformedAnswer, match="larger than"):
        await client.apply(CONFIGMAPS, "shop", "web", b"{}", force=True)
    with pytest.raises(MalformedAnswer, match="larger than"):
        await client.create(CONFIGMAPS, "shop", WEB)
    api.answer_next("GET", Scripted(200, WEB))
    assert (await client.request("GET", "/apis/other", params={"limit": "500"})).body == WEB


async def test_of_a_long_refusal_only_the_beginning_is_read(
    api: FakeApi, client: ClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ERROR_LIMIT", 10)
    api.answer_next("GET", Scripted(500, b"0123456789" + b"x" * 100_000))
    with pytest.raises(ServerError, match=r"0123456789$"):
        await client.get(CONFIGMAPS, "shop", "web")


async def test_nobody_listening_and_silence_are_unreachable(api: FakeApi) -> None:
    nobody = ClusterClient(ClusterCredentials(Access("http://127.0.0.1:1")), name="nobody")
    with pytest.raises(Unreachable, match=r"nobody \(http://127.0.0.1:1\): cannot connect"):
        await nobody.get_json("/x")
    await nobody.close()
    release = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    silent = ClusterClient(
        ClusterCredentials(Access(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")), name="silent"
    )
    with pytest.raises(Unreachable, match="no answer in time") as caught:
        await silent.request("GET", "/x", timeout_seconds=0.05)
    assert isinstance(caught.value, TransientError)
    release.set()
    await silent.close()
    server.close()
    await server.wait_closed()


async def test_a_rejected_token_file_is_read_again_and_the_request_sent_once_more(api: FakeApi, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    client = ClusterClient(ClusterCredentials(Access(api.url, token=Source(path=file))), name="east")
    api.answer_next(
        "PATCH", Scripted(200, WEB), failure(401, "Unauthorized"), Scripted(200, WEB), failure(401, "Unauthorized")
    )
    await client.apply(CONFIGMAPS, "shop", "web", b'{"x":1}', force=True)
    file.write_text("new")
    await client.apply(CONFIGMAPS, "shop", "web", b'{"x":2}', force=True)
    with pytest.raises(Unauthorized):
        await client.apply(CONFIGMAPS, "shop", "web", b"{}", force=True)
    assert [r.headers["Authorization"] for r in api.requests] == [
        "Bearer old",
        "Bearer old",
        "Bearer new",
        "Bearer new",
    ]
    assert [r.body for r in api.requests][1:3] == [b'{"x":2}', b'{"x":2}']
    await client.close()


async def test_errors_never_carry_the_token(api: FakeApi) -> None:
    """P17, S50."""
    client = ClusterClient(ClusterCredentials(Access(api.url, token=Source(b"canary-9"))), name="east")
    api.answer_next("GET", failure(401), Scripted(200, WEB, cut_after=3))
    for _ in range(3):
        with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever it is)
            await client.get_json("/x")
        error: BaseException | None = caught.value
        while error is not None:
            assert "canary-9" not in f"{error!r} {error}"
            error = error.__cause__ or error.__context__
    await client.close()


async def test_the_guard_stops_a_write_before_it_is_queued(api: FakeApi) -> None:
    """P10."""

    def lost() -> None:
        raise NotLeadingError("lease lost")

    client = ClusterClient(ClusterCredentials(Access(api.url)), name="east", guard=lost)
    with pytest.raises(NotLeadingError):
        await client.apply(CONFIGMAPS, "shop", "web", b"{}", force=True)
    api.answer_next("GET", Scripted(200, WEB))
    await client.get(CONFIGMAPS, "shop", "web")
    assert [recorded.verb for recorded in api.requests] == ["GET"]
    await client.close()


async def test_the_guard_looks_again_just_before_the_bytes_leave(api: FakeApi) -> None:
    """P10, F19: a lease that ends while the write waits for its connection still stops it."""
    calls = 0

    def guard() -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise NotLeadingError("lease lost meanwhile")

    client = ClusterClient(ClusterCredentials(Access(api.url)), name="east", guard=guard)
    with pytest.raises(NotLeadingError):
        await client.delete(CONFIGMAPS, "shop", "web", uid="u")
    assert calls == 2
    assert api.requests == []
    await client.close()


async def test_every_request_is_observed_once(api: FakeApi) -> None:
    seen: list[tuple[str, str, int]] = []
    client = ClusterClient(
        ClusterCredentials(Access(api.url)),
        name="east",
        observe=lambda name, verb, code, seconds: seen.append((name, verb, code)),
    )
    api.answer_next("PATCH", Scripted(201, WEB), failure(409))
    await client.apply(CONFIGMAPS, "shop", "web", b"{}", force=True)
    with pytest.raises(Conflict):
        await client.patch(CONFIGMAPS, "shop", "web", b"{}", JSON_PATCH)
    async with client.stream(CONFIGMAPS.path(), params={"watch": "true"}):
        assert seen[-1] == ("east", "watch", 200)
    assert seen == [("east", "apply", 201), ("east", "patch", 409), ("east", "watch", 200)]
    await client.close()


async def test_a_large_body_goes_through_without_warnings(api: FakeApi, client: ClusterClient) -> None:
    """F32: 900 KB of text, as large as the fake server takes."""
    api.answer_next("PATCH", Scripted(200, WEB))
    body = b'{"x":"' + b"y" * 900_000 + b'"}'
    await client.apply(DEPLOYMENTS, "shop", "web", body, force=True)
    assert api.requests[0].body == body


async def test_short_requests_are_bounded_and_watches_do_not_count(api: FakeApi) -> None:
    client = ClusterClient(ClusterCredentials(Access(api.url)), name="east", max_connections=1)
    api.answer_next("GET", Scripted(200, b"{}"))
    watch = partial(client.stream, CONFIGMAPS.path(), params={"watch": "true"})
    async with watch(), watch():
        assert await client.get_json("/x") == {}
    await client.close()


async def test_what_the_reader_of_a_watch_raises_stays_its_own(client: ClusterClient) -> None:
    """`syncline logs | head`: the pipe broke, not the connection."""
    with pytest.raises(BrokenPipeError):
        async with client.stream(CONFIGMAPS.path(), params={"watch": "true"}):
            raise BrokenPipeError


async def test_a_watch_that_breaks_off_is_unreachable(api: FakeApi, client: ClusterClient) -> None:
    api.answer_next("watch", Scripted(200, b"x" * 100, cut_after=50))
    async with client.stream(CONFIGMAPS.path(), params={"watch": "true"}) as pieces:
        with pytest.raises(Unreachable, match="the connection broke"):
            assert b"".join([piece async for piece in pieces]) == b"x" * 50


def connections_to(server: str) -> list[int]:
    """Our sockets that lead to this server."""
    port = int(server.rpartition(":")[2])
    return [c.fd for c in psutil.Process().net_connections(kind="tcp") if c.raddr and c.raddr.port == port]


@pytest.mark.parametrize("what", ["a watch that was left", "an answer that never came"])
async def test_a_client_that_was_closed_leaves_no_socket_to_a_server_that_hangs(what: str) -> None:
    """F02: TLS would say goodbye first, and wait for a server that was stopped to say it too."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    release = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if what == "a watch that was left":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await release.wait()
        writer.transport.abort()

    listener = await asyncio.start_server(hang, "127.0.0.1", 0, ssl=context)
    server = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    client = ClusterClient(ClusterCredentials(Access(server, ca=Source(ca.cert_pem.bytes()))), name="east")
    if what == "a watch that was left":
        async with client.stream("/x", params={"watch": "true"}):
            assert len(connections_to(server)) == 1
    else:
        with pytest.raises(Unreachable, match="no answer in time"):
            await client.request("GET", "/x", timeout_seconds=1)
    await client.close()
    await asyncio.sleep(0)  # sockets are closed in the next turn of the loop
    assert connections_to(server) == []
    release.set()
    listener.close()
    await listener.wait_closed()


async def test_requests_in_flight_fail_as_unreachable_when_the_client_is_closed() -> None:
    """The one that waits for a connection too."""
    async with running(StandIn(serve=lambda reader, writer: reader.read())) as server:
        client = ClusterClient(ClusterCredentials(Access(server.url)), name="east", max_connections=1)
        asked = [asyncio.create_task(client.get_json("/x")) for _ in range(2)]
        await eventually(lambda: server.open == 1)
        await client.close()
        assert [type(error) for error in await asyncio.gather(*asked, return_exceptions=True)] == [Unreachable] * 2


async def test_a_request_that_comes_too_late_opens_nothing(api: FakeApi) -> None:
    client = ClusterClient(ClusterCredentials(Access(api.url)), name="east")
    await client.close()
    with pytest.raises(Unreachable, match=r"east .*: the client was closed"):
        await client.get_json("/x")
    assert api.requests == []


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[tuple[str, trustme.CA]]:
    """A TLS server for the name `api.internal` that wants a client certificate and says whose it was."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("api.internal").configure_cert(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    ca.configure_trust(context)

    async def who(request: web.Request) -> web.Response:
        peer = request.transport.get_extra_info("peercert") if request.transport else None
        return web.json_response({"peer": str((peer or {}).get("subjectAltName", ""))})

    app = web.Application()
    app.router.add_get("/version", who)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}", ca
    await runner.cleanup()


async def test_certificates_are_checked_by_the_tls_server_name_and_ours_is_shown(tls: tuple[str, trustme.CA]) -> None:
    server, ca = tls
    leaf = ca.issue_cert("us@syncline")
    access = Access(
        server,
        ca=Source(ca.cert_pem.bytes()),
        certificate=Source(leaf.cert_chain_pems[0].bytes()),
        key=Source(leaf.private_key_pem.bytes()),
        tls_server_name="api.internal",
    )
    client = ClusterClient(ClusterCredentials(access), name="east")
    assert "us@syncline" in (await client.get_json("/version"))["peer"]
    await client.close()


@pytest.mark.parametrize("wrong", ["name", "authority"])
async def test_a_certificate_that_does_not_fit_is_refused(tls: tuple[str, trustme.CA], wrong: str) -> None:
    """S60."""
    server, ca = tls
    trusted = trustme.CA() if wrong == "authority" else ca
    access = Access(
        server, ca=Source(trusted.cert_pem.bytes()), tls_server_name="api.internal" if wrong == "authority" else None
    )
    client = ClusterClient(ClusterCredentials(access), name="east")
    with pytest.raises(Unreachable, match="certificate is not trusted"):
        await client.get_json("/version")
    await client.close()


async def test_other_names_of_untrusted_servers_are_resolved_as_ever(api: FakeApi) -> None:
    server = api.url.replace("127.0.0.1", "localhost")
    client = ClusterClient(ClusterCredentials(Access(server, untrusted=True)), name="east")
    api.answer_next("GET", Scripted(200, b"{}"))
    assert await client.get_json("/x") == {}
    await client.close()


async def test_names_of_untrusted_servers_do_not_lead_to_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """S20, S22: rebinding."""

    async def lies(self: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
        return [{"hostname": host, "host": "169.254.169.254", "port": port, "family": 2, "proto": 0, "flags": 0}]

    monkeypatch.setattr("aiohttp.ThreadedResolver.resolve", lies)
    client = ClusterClient(
        ClusterCredentials(Access("https://api.example.com", ca=Source(trustme.CA().cert_pem.bytes()), untrusted=True)),
        name="east",
    )
    with pytest.raises(Unreachable, match="metadata"):
        await client.get_json("/version")
    await client.close()


async def test_https_proxy_is_used_unless_no_proxy_names_the_server(
    tls: tuple[str, trustme.CA], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the proxy knows where `api.internal` is; TLS goes through it to the server."""
    server, ca = tls
    port = int(server.rpartition(":")[2])
    asked: list[bytes] = []

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer), return_exceptions=True)

    proxy = await asyncio.start_server(connect, "127.0.0.1", 0)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
    monkeypatch.setenv("NO_PROXY", ".svc")
    access = Access(f"https://api.internal:{port}", ca=Source(ca.cert_pem.bytes()))
    client = ClusterClient(ClusterCredentials(access), name="east")
    assert "peer" in await client.get_json("/version")
    assert asked[0].startswith(f"CONNECT api.internal:{port} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic" in asked[0]
    await client.close()
    proxy.close()
    monkeypatch.setenv("NO_PROXY", ".svc,.internal")
    assert ClusterCredentials(access).proxy is None
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:secret@proxy")
    with pytest.raises(TerminalError, match="HTTPS_PROXY: the proxy must be http://") as refused:
        ClusterCredentials(access)
    assert "secret" not in str(refused.value)


async def test_a_close_that_is_cancelled_still_ends_every_connection(
    client: ClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sessions of requests and of watches: who closes may be cancelled while the first says goodbye."""
    sessions = [client._session(watch=watch) for watch in (False, True)]
    goodbye, close = asyncio.Event(), aiohttp.ClientSession.close

    async def slow(session: aiohttp.ClientSession) -> None:
        await goodbye.wait()
        await close(session)

    monkeypatch.setattr(aiohttp.ClientSession, "close", slow)
    closing = asyncio.ensure_future(client.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    goodbye.set()
    await eventually(lambda: all(session.closed for session in sessions))
