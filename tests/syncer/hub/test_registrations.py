"""The doors of joining by themselves: limits and answers to nonsense. The way through them: `test_joining_real`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from syncer.agent.credentials import certificate_request, new_key
from syncer.events import EventRecorder
from syncer.hub.bootstrap import new_token, token_secret
from syncer.hub.certificates import make_authority
from syncer.hub.identity import Identities
from syncer.hub.registrations import MAX_BODY, NOT_ACCEPTED, REFUSED_SECONDS, RegistrationEndpoint
from syncer.kube.errors import NotFound, Unreachable
from syncer.metrics import Metrics

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HUB, AGENTS = make_authority(now=NOW), make_authority(now=NOW, name="syncline-agent-ca")
Client = TestClient[web.Request, web.Application]


class Clock:
    """Time that passes by sleeping, and by what upstream takes."""

    def __init__(self) -> None:
        self.now = 0.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Upstream:
    """Knows the tokens that tests put into it."""

    def __init__(self) -> None:
        self.down = False
        self.asked: list[str] = []
        self.secrets: dict[str, dict[str, Any]] = {}
        self.takes = 0.0  # seconds
        self.clock = Clock()

    async def get_json(self, path: str) -> dict[str, Any]:
        self.asked.append(path)
        self.clock.now += self.takes
        if self.down:
            raise Unreachable(0, "Unreachable", "upstream (https://10.0.0.1:6443): cannot connect")
        if path in self.secrets:
            return self.secrets[path]
        raise NotFound(404, "NotFound", "no such Secret")


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def hub(upstream: Upstream, metrics: Metrics, clock: Clock) -> AsyncIterator[Client]:
    client: Any = upstream
    upstream.clock = clock
    app = web.Application(client_max_size=4096)
    identities = Identities(AGENTS.certificate, clock=lambda: NOW)
    RegistrationEndpoint(
        client,
        identities,
        agents=AGENTS,
        hub_authority=HUB.certificate,
        events=EventRecorder(client, metrics),
        metrics=metrics,
        now=lambda: NOW,
        clock=lambda: clock.now,
        sleep=clock.sleep,
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
        assert answer.headers["Connection"] == "close"  # S63: nobody knows who that was


@pytest.mark.parametrize("token", ["", "x", "../../secrets.x", f"{'0' * 12}.{'é' * 43}", f"{'0' * 12}.{'A' * 43}"])
async def test_whatever_is_wrong_with_a_token_the_answer_is_one(hub: Client, token: str) -> None:
    """S02: no oracle."""
    assert await post(hub, body(), token=token) == (401, NOT_ACCEPTED)


async def test_every_token_that_is_not_taken_is_refused_after_the_same_time(
    hub: Client, upstream: Upstream, metrics: Metrics, clock: Clock
) -> None:
    """S01, S02: no clock tells a token that exists from one that does not, nor what is wrong with it."""

    def known(**more: Any) -> str:
        token = new_token()
        said = {"expires": NOW + timedelta(hours=1), "labels": {}, "target": "east", **more}
        secret = token_secret(token, said.pop("target"), **said)
        upstream.secrets[f"/api/v1/namespaces/syncline-system/secrets/{token.secret_name}"] = secret
        return str(token)

    wrong = known()
    cases = {
        "no token": "",
        "unknown": str(new_token()),
        "wrong secret": wrong[:-1] + ("A" if wrong[-1] != "A" else "B"),
        "late": known(expires=NOW - timedelta(seconds=1)),
        "of another target": known(target="west"),
        "of another cluster": known(cluster_uid="u2"),
    }
    times = set()
    for number, token in enumerate(cases.values()):
        upstream.takes = 0.01 * number
        began = clock.now
        assert await post(hub, body(), token=token) == (401, NOT_ACCEPTED)
        times.add(round(clock.now - began, 6))
    assert times == {REFUSED_SECONDS}
    refused = metrics.registry.get_sample_value("syncline_registrations_total", {"outcome": "refused"})
    assert refused == len(cases)


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
