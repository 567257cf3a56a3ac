"""Which kinds are watched, whatever clusters answer when asked what they serve and hold."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from syncer.engine import watches as room
from syncer.engine.targets import TargetRuntime
from syncer.engine.watches import Watches
from syncer.errors import TransientError
from syncer.kube.client import ClusterClient
from syncer.kube.discovery import Discovery
from syncer.kube.errors import BadRequest, Forbidden, NotFound, ServerError
from syncer.kube.objects import ResourceInfo
from tests.syncer.engine.worlds import CONFIG_MAPS, DEPLOYMENTS, SCALERS, SECRETS, VERBS, Realm, Served


def build(realm: Realm) -> Watches:
    upstream = cast(ClusterClient, realm.upstream)
    return Watches(realm.world, realm.sight, upstream, lambda info, event: None, lambda name, info, event: None)


def unwatched(realm: Realm, name: str) -> TargetRuntime:
    """A target of which nothing is watched yet, where every kind answers with an empty list."""
    target = realm.target(name)
    assert target.link is not None
    target.link.watches.clear()
    realm.apis[name].answers = {info.path(): {"items": []} for info in target.link.discovery.resources()}
    return target


def test_autoscalers_are_watched_beside_everything_that_they_scale() -> None:
    """Else the replicas that an HPA sets on a target would be set back each time."""
    realm = Realm()
    controllers = ResourceInfo("", "v1", "replicationcontrollers", "ReplicationController", True, VERBS, True, True)
    realm.discovery.known_resources.append(controllers)
    realm.place(resources=[{"apiVersion": "v1", "kind": "ReplicationController", "names": ["*"]}])
    assert build(realm)._wanted_upstream()[0].keys() == {controllers.group_resource, SCALERS.group_resource}


@pytest.mark.parametrize(
    "refusal",
    [
        Forbidden(403, "Forbidden", "no"),
        BadRequest(405, "MethodNotAllowed", "no"),
        NotFound(404, "NotFound", "the server could not find the requested resource"),
    ],
)
async def test_a_kind_that_is_refused_does_not_keep_a_target_from_being_swept(refusal: Exception) -> None:
    realm = Realm()
    target, watches = unwatched(realm, "east"), build(realm)
    realm.apis["east"].answers[SECRETS.path()] = refusal
    realm.apis["east"].answers[DEPLOYMENTS.path()] = {"items": [{}]}
    await watches.find_leftovers(target)
    assert watches._leftovers["east"] == {DEPLOYMENTS.group_resource}


@pytest.mark.parametrize("trouble", [ServerError(503, "ServiceUnavailable", "no"), ["no list"], {"kind": "Status"}])
async def test_a_kind_that_cannot_be_asked_now_is_asked_again_alone(trouble: Any) -> None:
    realm = Realm()
    target, watches = unwatched(realm, "east"), build(realm)
    api = realm.apis["east"]
    api.answers[SECRETS.path()] = trouble
    with pytest.raises(TransientError, match="secrets"):
        await watches.find_leftovers(target)
    api.asked.clear()
    api.answers[SECRETS.path()] = {"items": [{}]}
    await watches.find_leftovers(target)
    assert api.asked == [SECRETS.path()]
    assert watches._leftovers["east"] == {SECRETS.group_resource}


class Asked(Discovery):
    """Answers, or never does."""

    def __init__(self, *, stuck: bool = False) -> None:
        super().__init__(cast(ClusterClient, None))
        self.stuck = stuck
        self.times = 0

    async def refresh(self) -> bool:
        self.times += 1
        if self.stuck:
            await asyncio.Event().wait()
        return False


async def test_a_cluster_that_does_not_answer_what_it_serves_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "REFRESH_TIMEOUT_SECONDS", 0.2)
    realm = Realm()
    watches = build(realm)
    realm.sight.discovery = Asked()
    asked = {"east": Asked(stuck=True), "west": Asked()}
    for name, discovery in asked.items():
        link = realm.target(name).link
        assert link is not None
        link.discovery = discovery
    watches._refresh(everything=True)
    stuck = watches._refreshing["east"]
    await asyncio.wait({watches._refreshing["west"]}, timeout=5)
    watches._refresh(everything=True)  # asks again whoever answered, and not who is still being asked
    await asyncio.wait({*watches._refreshing.values()} - {stuck}, timeout=5)
    assert (asked["east"].times, asked["west"].times) == (1, 2)
    await asyncio.wait_for(stuck, 5)
    assert not watches._refreshing


async def test_a_kind_that_is_served_in_another_version_is_watched_in_that_one() -> None:
    realm = Realm()
    watches = build(realm)
    target = unwatched(realm, "east")
    assert target.link is not None
    served = cast(Served, target.link.discovery)
    new = CONFIG_MAPS._replace(version="v2")
    assert isinstance(new, ResourceInfo)
    wanted = {CONFIG_MAPS.group_resource: CONFIG_MAPS}
    watches._leftovers["east"] = {CONFIG_MAPS.group_resource}
    watches._reconcile_target(target, wanted)
    before = target.link.watches[CONFIG_MAPS.group_resource]
    watches._reconcile_target(target, wanted)
    assert target.link.watches[CONFIG_MAPS.group_resource] is before
    served.known_resources = [new if info == CONFIG_MAPS else info for info in served.known_resources]
    watches._reconcile_target(target, wanted)
    after = target.link.watches[CONFIG_MAPS.group_resource]
    await asyncio.wait({before.task}, timeout=5)
    assert before.task.cancelled()
    assert after.informer.info == new
    watches.stop_target(target)


async def test_after_a_question_that_was_given_up_absence_proves_nothing() -> None:
    realm = Realm()
    realm.upstream.stuck = True
    realm.upstream.name = "upstream"  # type: ignore[attr-defined]
    discovery = Discovery(cast(ClusterClient, realm.upstream))
    discovery._parts = {"/api": cast(Any, type("Part", (), {"groups": {}, "stale": set()}))}
    assert discovery.find("v1", "Secret") is None
    asking = asyncio.create_task(discovery.refresh())
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    with pytest.raises(TransientError):
        discovery.find("v1", "Secret")
