"""Any replica answers people from the leader's engine; only replicas may ask for that."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from syncer.api.keys import GroupKind, GroupResource
from syncer.errors import SyncError
from syncer.hub.api import HubApi
from syncer.hub.auth import Authenticator, Authorizer
from syncer.hub.certificates import issue_server, load_pair, server_context
from syncer.hub.members import Members, Record
from syncer.hub.replica_identity import ReplicaIdentity
from syncer.hub.views import PATH, SharedView
from tests.support.process import free_port
from tests.syncer.hub.places import AUTHORITY, client_context
from tests.syncer.hub.test_api import ADMIN, ALICE, DEPLOYMENTS, Engine, Leading, reviews

PATHS = (
    "/api/v1/targets",
    "/api/v1/problems",
    "/api/v1/problems?namespace=shop",
    "/api/v1/explain/deployments.apps/shop/web",
    "/api/v1/explain/deployments.apps/shop/unheard-of",
    "/api/v1/status/deployments.apps/shop/web",
    "/api/v1/pods/deployments.apps/shop/web",
)


@asynccontextmanager
async def replica(name: str, leading: Leading, members: Members) -> AsyncIterator[str]:
    """The hub of one replica, by TLS; its URL."""
    kinds = {GroupKind("apps", "Deployment"): DEPLOYMENTS} if leading.engine is not None else {}
    views = SharedView(leading, ReplicaIdentity(AUTHORITY, name), members, find_kind=kinds.get)
    api = HubApi(Authenticator(reviews()), Authorizer(reviews()), views, find_kinds=views.find_kinds)
    tls = server_context()
    tls.load_verify_locations(cadata=AUTHORITY.certificate.decode())
    load_pair(tls, issue_server(AUTHORITY, ["127.0.0.1"], now=datetime.now(UTC)))
    server = TestServer(api.app([views]), host="127.0.0.1")
    await server.start_server(ssl=tls)
    try:
        yield str(server.make_url("")).rstrip("/")
    finally:
        await server.close()


@asynccontextmanager
async def pair(engine: Any) -> AsyncIterator[tuple[str, str]]:
    """(URL of the one that leads, URL of another that knows it)."""
    members = Members("second")
    async with (
        replica("first", Leading(engine, "first"), Members("first")) as leads,
        replica("second", Leading(None, "first"), members) as follows,
    ):
        members.observe(Record("first", leads), "t", 0.0)
        yield leads, follows


async def get(url: str, headers: dict[str, str], tls: Any = None) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, ssl=tls or client_context()) as answer,
    ):
        return answer.status, await answer.text()


@pytest.mark.parametrize("user", [ADMIN, ALICE, {}], ids=["admin", "alice", "nobody"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_replica_that_does_not_lead_answers_as_the_leader_does(path: str, user: dict[str, str]) -> None:
    """Rights are looked at by the one that was asked: Alice sees no more there."""
    async with pair(Engine()) as (leads, follows):
        assert await get(follows + path, user) == await get(leads + path, user)


async def test_only_replicas_are_told_what_the_engine_knows() -> None:
    """It tells everything: no user has asked, and nobody else is let in, whatever rights they have."""
    async with pair(Engine()) as (leads, _):
        assert (await get(f"{leads}{PATH}targets", ADMIN))[0] == 403
        own = ReplicaIdentity(AUTHORITY, "third").context()
        assert (await get(f"{leads}{PATH}targets", {}, own))[0] == 200
        assert (await get(f"{leads}{PATH}secrets", {}, own))[0] == 404


async def test_kinds_of_more_problems_than_a_request_line_holds_are_asked_for() -> None:
    """Each name may be as long as names are: nothing is cut, and nothing is refused for its length."""
    members = Members("second")
    long = {GroupKind(f"{number:03}.{'g' * 60}.{'h' * 60}.example", "K" * 63) for number in range(150)}
    async with pair(Engine()) as (leads, _):
        members.observe(Record("first", leads), "t", 0.0)
        views = SharedView(
            Leading(None, "first"), ReplicaIdentity(AUTHORITY, "second"), members, find_kind=lambda _: None
        )
        found = await views.find_kinds({*long, GroupKind("apps", "Deployment")})
        assert found == {GroupKind("apps", "Deployment"): DEPLOYMENTS.group_resource}


async def test_a_replica_that_does_not_lead_passes_nothing_on() -> None:
    """Two that take each other for the leader would ask each other for ever."""
    async with pair(Engine()) as (_, follows):
        own = ReplicaIdentity(AUTHORITY, "third").context()
        assert (await get(f"{follows}{PATH}targets", {}, own))[0] == 503


@pytest.mark.parametrize("url", [f"https://127.0.0.1:{free_port()}", ""], ids=["it does not answer", "nobody knows it"])
async def test_a_leader_out_of_reach_is_a_503_that_says_so(url: str) -> None:
    members = Members("second")
    if url:
        members.observe(Record("first", url), "t", 0.0)
    async with replica("second", Leading(None, "first"), members) as follows:
        status, text = await get(f"{follows}/api/v1/targets", ADMIN)
        assert status == 503
        assert "ry again" in text


async def test_a_frozen_leader_is_given_up_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel still accepts connections, and nothing answers on them."""
    monkeypatch.setattr("syncer.hub.views.CONNECT_SECONDS", 0.2)
    members = Members("second")
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        members.observe(Record("first", f"https://127.0.0.1:{frozen.getsockname()[1]}"), "t", 0.0)
        async with replica("second", Leading(None, "first"), members) as follows:
            status, text = await get(f"{follows}/api/v1/targets", ADMIN)
    assert status == 503
    assert "does not answer" in text


class Failing(Engine):
    """Its API server is away."""

    def object_status(self, kind: GroupResource, namespace: str, name: str) -> Any:
        raise SyncError("no route")


async def test_what_fails_at_the_leader_is_told_by_the_other() -> None:
    async with pair(Failing()) as (_, follows):
        status, text = await get(f"{follows}/api/v1/status/deployments.apps/shop/web", ADMIN)
        assert status == 503
        assert "no route" in text
