"""The doors of joining by themselves: limits and answers to nonsense. The way through them: `test_joining_real`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from syncer.agent.credentials import certificate_request, new_key
from syncer.hub.bootstrap import new_token
from syncer.hub.certificates import make_authority
from syncer.hub.identity import Identities
from syncer.hub.registrations import MAX_BODY, NOT_ACCEPTED, RegistrationEndpoint
from syncer.kube.errors import NotFound, Unreachable

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HUB, AGENTS = make_authority(now=NOW), make_authority(now=NOW, name="syncline-agent-ca")
Client = TestClient[web.Request, web.Application]


class Upstream:
    """Knows no token."""

    def __init__(self) -> None:
        self.down = False
        self.asked: list[str] = []

    async def get_json(self, path: str) -> dict[str, Any]:
        self.asked.append(path)
        if self.down:
            raise Unreachable(0, "Unreachable", "upstream (https://10.0.0.1:6443): cannot connect")
        raise NotFound(404, "NotFound", "no such Secret")


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
async def hub(upstream: Upstream) -> AsyncIterator[Client]:
    client: Any = upstream
    app = web.Application(client_max_size=4096)
    identities = Identities(AGENTS.certificate, clock=lambda: NOW)
    RegistrationEndpoint(
        client, identities, agents=AGENTS, hub_authority=HUB.certificate, now=lambda: NOW, clock=lambda: 0.0
    ).add_to(app)
    async with TestClient(TestServer(app)) as served:
        yield served


async def post(hub: Client, body: bytes, *, token: str = "", path: str = "/registrations/v1") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with hub.post(path, data=body, headers=headers) as answer:
        return answer.status, str((await answer.json())["message"])


def body(target: str = "east") -> bytes:
    return json.dumps(
        {"target": target, "clusterUID": "u1", "request": certificate_request(new_key(), target)}
    ).encode()


async def test_the_authority_is_told_to_everybody(hub: Client) -> None:
    async with hub.get("/registrations/v1/authority") as answer:
        assert (answer.status, await answer.read()) == (200, HUB.certificate)


@pytest.mark.parametrize("token", ["", "x", "../../secrets.x", f"{'0' * 12}.{'é' * 43}", f"{'0' * 12}.{'A' * 43}"])
async def test_whatever_is_wrong_with_a_token_the_answer_is_one(hub: Client, token: str) -> None:
    """S02: no oracle."""
    assert await post(hub, body(), token=token) == (401, NOT_ACCEPTED)


async def test_after_ten_wrong_tokens_not_even_upstream_is_asked(hub: Client, upstream: Upstream) -> None:
    """S02."""
    answers = [(await post(hub, body(), token=str(new_token())))[0] for _ in range(12)]
    assert answers == [401] * 10 + [429] * 2
    assert len(upstream.asked) == 10


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 400), (b'{"target": 1}', 400), (b" " * (MAX_BODY + 1), 413), (b"\xff", 400)],
)
async def test_nonsense_is_refused_before_anything_is_asked(
    hub: Client, upstream: Upstream, sent: bytes, status: int
) -> None:
    assert (await post(hub, sent, token=str(new_token())))[0] == status
    assert upstream.asked == []


async def test_an_upstream_that_is_down_is_told_without_its_address(hub: Client, upstream: Upstream) -> None:
    upstream.down = True
    status, message = await post(hub, body(), token=str(new_token()))
    assert status == 503
    assert "10.0.0.1" not in message


async def test_without_a_client_certificate_nothing_is_renewed(hub: Client) -> None:
    """S08: a bootstrap token is no credential there."""
    for token in ("", str(new_token())):
        status, message = await post(hub, body(), token=token, path="/registrations/v1/renew")
        assert status == 401
        assert "client certificate" in message


async def test_strangers_do_not_hold_up_renewals(hub: Client) -> None:
    """S02: the common limit is for those who show no certificate."""
    for _ in range(400):
        async with hub.get("/registrations/v1/authority") as answer:
            assert answer.status == 200
    async with hub.get("/registrations/v1/authority") as answer:
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await post(hub, body()))[0] == 429
    assert (await post(hub, body(), path="/registrations/v1/renew"))[0] == 401
