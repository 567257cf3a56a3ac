"""The API of the CLI: nothing is told before the caller is known and allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from syncer.api.keys import GroupKind, GroupResource
from syncer.api.shapes import Explanation, PodList, Problem, ProblemList, TargetInfo
from syncer.hub.api import HubApi
from syncer.hub.auth import Authenticator, Authorizer
from syncer.hub.health import Health, health_app
from syncer.kube.objects import ResourceInfo
from syncer.metrics import Metrics
from tests.syncer.hub.fakes import Reviews

DEPLOYMENTS = ResourceInfo("apps", "v1", "deployments", "Deployment", True)
ADMIN = {"Authorization": "Bearer admin"}
ALICE = {"Authorization": "Bearer alice"}
PROBLEMS = [
    Problem(object="apps/v1/Deployment/shop/web", namespace="shop", target="east", reason="Invalid"),
    Problem(object="apps/v1/Deployment/bank/db", namespace="bank", target="east", reason="Invalid"),
    Problem(object="example.com/v1/Gone/shop/x", namespace="shop", target="east", reason="APIMissing"),
    Problem(namespace="shop", placement="Placement/shop/web", reason="NoTargets"),
    Problem(placement="ClusterPlacement/base", reason="NoTargets"),
    Problem(target="west", reason="Unreachable"),
]


class Engine:
    """Knows one object."""

    def targets(self) -> Any:
        return [TargetInfo(name="west"), TargetInfo(name="east", ready=True)]

    def problems(self, namespace: str | None = None) -> Any:
        return ProblemList(items=PROBLEMS, omitted=2)

    async def explain(self, kind: GroupResource, namespace: str, name: str) -> Any:
        if name == "broken":
            raise RuntimeError("c4n4ry")
        return Explanation(object="apps/v1/Deployment/shop/web", generation=3) if name == "web" else None

    def object_status(self, kind: GroupResource, namespace: str, name: str) -> Any:
        return {"object": f"{kind}/{namespace}/{name}"}

    async def pods(self, kind: GroupResource, namespace: str, name: str) -> Any:
        return PodList(unreachable=["west"])


@dataclass
class Leading:
    engine: Any = field(default_factory=Engine)
    leader: str = "replica-2"


async def find_kinds(kinds: Collection[GroupKind]) -> dict[GroupKind, GroupResource]:
    """Upstream serves Deployments only."""
    return {kind: DEPLOYMENTS.group_resource for kind in kinds if kind == ("apps", "Deployment")}


@asynccontextmanager
async def hub(reviews: Reviews, leading: Leading | None = None) -> AsyncIterator[TestClient[Any, Any]]:
    api = HubApi(Authenticator(reviews), Authorizer(reviews), leading or Leading(), find_kinds=find_kinds)
    async with TestClient(TestServer(api.app())) as client:
        yield client


def reviews() -> Reviews:
    return Reviews(
        tokens={"admin": ("admin", []), "alice": ("alice", [])},
        rules={
            ("admin", "get", "*.*", "*"),
            ("admin", "list", "synctargets.syncline.io", "*"),
            ("admin", "get", "deployments.apps", "*"),
            ("alice", "get", "deployments.apps", "shop"),
            ("alice", "get", "placements.syncline.io", "shop"),
        },
    )


ROUTES = [
    "/api/v1/targets",
    "/api/v1/problems",
    "/api/v1/problems?namespace=shop",
    "/api/v1/explain/deployments.apps/shop/web",
    "/api/v1/status/deployments.apps/shop/web",
    "/api/v1/pods/deployments.apps/shop/web",
]


def test_the_list_of_routes_is_complete() -> None:
    api = HubApi(Authenticator(reviews()), Authorizer(reviews()), Leading(), find_kinds=find_kinds)
    served = {route.resource.canonical for route in api.app().router.routes() if route.resource}
    assert served == {
        "/api/v1/targets",
        "/api/v1/problems",
        "/api/v1/explain/{kind}/{namespace}/{name}",
        "/api/v1/status/{kind}/{namespace}/{name}",
        "/api/v1/pods/{kind}/{namespace}/{name}",
    }


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(
    "path", [*ROUTES, "/", "/healthz", "/metrics", "/debug/state", "/api", "/api/v1/nothing", "/%2e%2e/"]
)
async def test_an_anonymous_caller_learns_nothing_not_even_what_exists(method: str, path: str) -> None:
    """S44: the same answer everywhere, before a single question to upstream."""
    known = reviews()
    async with hub(known) as client:
        answer = await client.request(method, path)
        assert answer.status == 401
        assert (await answer.json())["reason"] == "Unauthorized"
    assert known.asked == []


@pytest.mark.parametrize("path", ROUTES)
async def test_an_allowed_caller_is_answered(path: str) -> None:
    async with hub(reviews()) as client:
        answer = await client.get(path, headers=ADMIN)
        assert answer.status == 200
        assert await answer.json()


@pytest.mark.parametrize("path", [ROUTES[0], *(r.replace("shop", "bank") for r in ROUTES[3:])])
async def test_a_caller_without_the_right_is_refused_and_told_which_right(path: str) -> None:
    async with hub(reviews()) as client:
        answer = await client.get(path, headers=ALICE)
        assert answer.status == 403
        status = await answer.json()
        assert 'user "alice" may not' in status["message"]


async def test_problems_are_filtered_by_what_the_caller_may_get() -> None:
    """S40 for the list: objects, placements and targets of others do not show."""
    async with hub(reviews()) as client:
        mine = await (await client.get("/api/v1/problems", headers=ALICE)).json()
        assert [(p["object"], p["placement"]) for p in mine["items"]] == [
            ("apps/v1/Deployment/shop/web", ""),
            ("", "Placement/shop/web"),
        ]
        everything = await (await client.get("/api/v1/problems", headers=ADMIN)).json()
        assert len(everything["items"]) == len(PROBLEMS)
        assert (mine["filtered"], everything["filtered"]) == (True, False)


async def test_problems_of_one_namespace_are_only_those() -> None:
    async with hub(reviews()) as client:
        answer = await (await client.get("/api/v1/problems?namespace=bank", headers=ADMIN)).json()
        assert [p["object"] for p in answer["items"]] == ["apps/v1/Deployment/bank/db"]


async def test_targets_come_sorted() -> None:
    async with hub(reviews()) as client:
        answer = await (await client.get("/api/v1/targets", headers=ADMIN)).json()
        assert [target["name"] for target in answer["items"]] == ["east", "west"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/explain/deployments.apps/shop/nothing", 404),
        ("/api/v1/nothing", 404),
        ("/api/v1/explain/.apps/shop/web", 400),
        (f"/api/v1/explain/deployments.apps/{'x' * 300}/web", 400),
        (f"/api/v1/problems?namespace={'x' * 300}", 400),
    ],
)
async def test_a_wrong_question_is_answered_with_a_status(path: str, status: int) -> None:
    known = reviews()
    known.rules.add(("admin", "get", ".apps", "*"))
    async with hub(known) as client:
        answer = await client.get(path, headers=ADMIN)
        assert answer.status == status
        assert (await answer.json())["kind"] == "Status"


async def test_a_replica_that_does_not_lead_names_the_one_that_does() -> None:
    async with hub(reviews(), Leading(engine=None)) as client:
        answer = await client.get("/api/v1/targets", headers=ADMIN)
        assert answer.status == 503
        assert "replica-2" in (await answer.json())["message"]


async def test_a_fault_in_the_engine_is_a_500_without_its_text() -> None:
    async with hub(reviews()) as client:
        answer = await client.get("/api/v1/explain/deployments.apps/shop/broken", headers=ADMIN)
        assert answer.status == 500
        assert "c4n4ry" not in await answer.text()


async def test_upstream_being_down_is_a_503() -> None:
    known = reviews()
    known.down = True
    async with hub(known) as client:
        assert (await client.get("/api/v1/targets", headers=ADMIN)).status == 503


@asynccontextmanager
async def health(known: Reviews | None, state: Health | None = None) -> AsyncIterator[TestClient[Any, Any]]:
    app = health_app(
        state or Health(),
        Metrics(),
        authenticator=Authenticator(known) if known else None,
        authorizer=Authorizer(known) if known else None,
    )
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_health_answers_anybody_and_metrics_only_who_may_read_them() -> None:
    """S44: every route of the listener."""
    known = reviews()
    known.rules.add(("admin", "get", "/metrics", "*"))
    async with health(known) as client:
        for path, anonymous, alice, admin in (
            ("/healthz", 200, 200, 200),
            ("/readyz", 200, 200, 200),
            ("/metrics", 401, 403, 200),
            ("/debug/state", 404, 404, 404),
            ("/", 404, 404, 404),
        ):
            assert (await client.get(path)).status == anonymous
            assert (await client.get(path, headers=ALICE)).status == alice
            assert (await client.get(path, headers=ADMIN)).status == admin
        known.down = True
        assert (await client.get("/metrics", headers={"Authorization": "Bearer other"})).status == 503


async def test_on_loopback_metrics_are_open() -> None:
    async with health(None) as client:
        answer = await client.get("/metrics")
        assert answer.status == 200
        assert "syncline_leader 0.0" in await answer.text()


async def test_a_failing_check_is_named_and_readiness_includes_liveness() -> None:
    state = Health()
    problem = {"kopf": "", "election": "no leader"}
    state.live["kopf"] = lambda: problem["kopf"]
    state.ready["election"] = lambda: problem["election"]
    async with health(None, state) as client:
        assert (await client.get("/healthz")).status == 200
        answer = await client.get("/readyz")
        assert (answer.status, await answer.text()) == (503, "election: no leader\n")
        problem.update(kopf="ended", election="")
        assert (await client.get("/healthz")).status == 503
        assert (await client.get("/readyz")).status == 503
        problem["kopf"] = ""
        assert (await client.get("/readyz")).status == 200


async def test_a_door_sees_to_callers_and_time_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches of targets and links of agents last; everything else stays guarded, paths beside the door's too."""
    monkeypatch.setattr("syncer.hub.api.ANSWER_SECONDS", 0.05)

    class Slow:
        def add_to(self, app: web.Application) -> None:
            app.router.add_get("/slow", self.answer)

        async def answer(self, request: web.Request) -> web.Response:
            await asyncio.sleep(0.2)
            return web.Response(text="at last")

    asked = reviews()
    api = HubApi(Authenticator(asked), Authorizer(asked), Leading(), find_kinds=find_kinds)
    async with TestClient(TestServer(api.app([Slow()]))) as client:
        answer = await client.get("/slow")
        assert (answer.status, await answer.text()) == (200, "at last")
        assert (await client.get("/slow/er")).status == 401
        assert (await client.get("/api/v1/targets")).status == 401
