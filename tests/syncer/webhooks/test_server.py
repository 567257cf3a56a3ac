"""Where the webhooks are served, and how their configurations are kept."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509

from syncer.errors import TerminalError, TransientError
from syncer.settings import Bind
from syncer.webhooks.configurations import configurations
from syncer.webhooks.server import AdmissionServer


class Client:
    """Takes or refuses what is published."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.paths: list[str] = []

    async def request(self, method: str, path: str, **_: Any) -> None:
        self.paths.append(f"{method} {path}")
        if self.error is not None:
            raise self.error


async def _never(*_: Any, **__: Any) -> None:
    raise AssertionError("no review was sent")


def test_every_address_needs_the_url_that_upstream_reaches() -> None:
    with pytest.raises(TerminalError, match="--webhook-url"):
        AdmissionServer(Client(), bind=Bind("0.0.0.0", 8443))
    AdmissionServer(Client(), bind=Bind("0.0.0.0", 8443), url="https://operator.example:8443")


async def test_the_url_is_where_it_listens_unless_said() -> None:
    client = Client()
    config = await anext(served := AdmissionServer(client)(_never))
    assert config["url"].startswith("https://127.0.0.1:")
    assert not config["url"].endswith(":0")
    x509.load_pem_x509_certificate(base64.b64decode(config["caBundle"]))
    assert client.paths == [
        "PATCH /apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/syncline.io",
        "PATCH /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/syncline.io",
    ]
    await served.aclose()
    config = await anext(served := AdmissionServer(Client(), url="https://operator.example/")(_never))
    assert config["url"] == "https://operator.example"
    await served.aclose()


async def test_a_failure_to_publish_is_kept_and_told_and_does_not_end_it() -> None:
    server = AdmissionServer(Client(TransientError("upstream is away")))
    await anext(served := server(_never))
    assert server.error == "upstream is away"
    await served.aclose()


def test_configurations_point_to_one_handler_each() -> None:
    made = configurations("https://h:1", b"PEM")
    urls = [manifest["webhooks"][0]["clientConfig"]["url"] for manifest in made.values()]
    assert urls == ["https://h:1/validate", "https://h:1/mutate"]
    assert made["validatingwebhookconfigurations"]["metadata"]["name"] == "syncline.io"
