"""Where the webhooks are served, by which certificate, and when they are ready."""

from __future__ import annotations

import asyncio
import base64
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from syncer.binds import Bind
from syncer.errors import TerminalError, TransientError
from syncer.hub.certificates import SERVER_LIFETIME, make_authority
from syncer.webhooks.configurations import configurations
from syncer.webhooks.registration import HttpCaller
from syncer.webhooks.server import AdmissionServer
from tests.syncer.webhooks.fakes import Store

NOW = datetime.now(UTC)
AUTHORITY = make_authority(now=NOW)


async def _allow(review: dict[str, Any], **_: Any) -> dict[str, Any]:
    return {"response": {"uid": review["request"]["uid"], "allowed": True}}


async def _unknown(*_: Any, **__: Any) -> None:
    raise LookupError("kopf does not know this kind yet")


async def _until(check: Any) -> None:
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110 - the registration runs by its own clock
            await asyncio.sleep(0.01)


def test_every_address_needs_the_url_that_upstream_reaches() -> None:
    with pytest.raises(TerminalError, match="--webhook-url"):
        AdmissionServer(Store(), AUTHORITY, bind=Bind("0.0.0.0", 8443))
    AdmissionServer(Store(), AUTHORITY, bind=Bind("0.0.0.0", 8443), url="https://operator.example:8443")


async def test_the_url_is_where_it_listens_unless_said() -> None:
    store = Store()
    server = AdmissionServer(store, AUTHORITY)
    assert "starting" in server.problem
    config = await anext(served := server(_allow))
    assert config["url"].startswith("https://127.0.0.1:")
    assert not config["url"].endswith(":0")
    assert base64.b64decode(config["caBundle"]) == AUTHORITY.certificate
    await _until(lambda: server.problem == "")
    assert store.url() == config["url"]
    await served.aclose()
    config = await anext(served := AdmissionServer(Store(), AUTHORITY, url="https://operator.example/")(_allow))
    assert config["url"] == "https://operator.example"
    await served.aclose()


async def test_it_is_ready_although_only_the_api_server_reaches_its_url() -> None:
    """A Service sends nobody to a replica that is not ready, so its address cannot be what readiness waits for."""
    store = Store()
    server = AdmissionServer(store, AUTHORITY, bind=Bind("0.0.0.0", 0), url="https://operator.invalid:8443")
    served = server(_allow)
    await anext(served)
    await _until(lambda: server.problem == "")
    assert store.url() == "https://operator.invalid:8443"
    await served.aclose()


async def test_a_failure_to_publish_is_kept_and_told_and_does_not_end_it() -> None:
    server = AdmissionServer(Store(TransientError("upstream is away")), AUTHORITY)
    await anext(served := server(_allow))
    await _until(lambda: server.problem == "upstream is away")
    await served.aclose()


async def test_nobody_is_sent_here_before_reviews_are_answered() -> None:
    """kopf takes a moment to learn our kinds; a listener alone proves nothing."""
    store = Store()
    server = AdmissionServer(store, AUTHORITY, check_seconds=0.01)
    config = await anext(served := server(_unknown))
    await _until(lambda: "do not answer" in server.problem)
    caller = HttpCaller()
    assert not await caller.reviews(config["url"], "127.0.0.1", AUTHORITY.certificate)
    assert await caller.answers(f"{config['url']}/validate", AUTHORITY.certificate)
    assert store.calls == []
    await caller.close()
    await served.aclose()


async def test_who_shows_another_authority_or_is_gone_does_not_answer() -> None:
    """S60."""
    config = await anext(served := AdmissionServer(Store(), AUTHORITY)(_allow))
    caller = HttpCaller()
    assert not await caller.answers(f"{config['url']}/validate", make_authority(now=NOW).certificate)
    assert not await caller.answers(f"{config['url']}/validate", b"no certificate")
    assert await caller.answers(f"{config['url']}/validate", AUTHORITY.certificate)
    await served.aclose()
    assert not await caller.answers(f"{config['url']}/validate", AUTHORITY.certificate)
    await caller.close()


async def test_the_certificate_is_renewed_under_the_same_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it serves; whoever trusts the authority goes on."""
    monkeypatch.setattr("syncer.webhooks.server.RENEWAL_SECONDS", 0.02)
    clock = [NOW - SERVER_LIFETIME + timedelta(days=1)]
    authority = make_authority(now=clock[0])
    server = AdmissionServer(Store(), authority, url="https://webhooks.example", now=lambda: clock[0])
    served = server(_allow)
    await anext(served)
    serving = asyncio.create_task(anext(served))
    await _until(lambda: server.problem == "")
    port = urlsplit(server._registration._address).port if server._registration else None
    context = ssl.create_default_context(cadata=authority.certificate.decode())

    async def shown() -> x509.Certificate:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="webhooks.example")
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(found)

    first = await shown()
    assert first.not_valid_after_utc - clock[0] <= SERVER_LIFETIME
    clock[0] = NOW
    async with asyncio.timeout(10):
        while (await shown()).serial_number == first.serial_number:  # noqa: ASYNC110 - renewed by its own clock
            await asyncio.sleep(0.02)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await served.aclose()


def test_configurations_point_to_one_handler_each() -> None:
    made = configurations("https://h:1", b"PEM")
    urls = [manifest["webhooks"][0]["clientConfig"]["url"] for manifest in made.values()]
    assert urls == ["https://h:1/validate", "https://h:1/mutate"]
    assert made["validatingwebhookconfigurations"]["metadata"]["name"] == "syncline.io"
