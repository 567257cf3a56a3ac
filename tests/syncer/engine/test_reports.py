"""Reports on one object and on targets: status, Pods, targets. The worlds are made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from status.report import Health
from syncer.api.keys import GroupResource
from syncer.api.names import Reason
from syncer.api.shapes import TargetInfo
from syncer.engine import reports as room
from syncer.engine.pair import State
from syncer.engine.reports import pod_info
from syncer.kube.errors import Forbidden
from tests.syncer.engine.test_problems import landed, report
from tests.syncer.engine.worlds import CONFIG_MAPS, DEPLOYMENTS, NOW, Realm, config_map

DEPLOY = GroupResource("apps", "deployments")


@pytest.fixture
def realm() -> Realm:
    """Targets east (eu) and west (us)."""
    made = Realm()
    made.target("east", labels={"region": "eu"})
    made.target("west", labels={"region": "us"})
    return made


def test_the_status_of_a_workload_is_told_per_target(realm: Realm) -> None:
    realm.place()
    source = landed(realm, generation=3)
    report(source, "east", Health.PROGRESSING, message="1 of 2 updated")
    found = realm.reports.object_status(DEPLOY, "shop", "web")
    assert found is not None
    assert (found.object, found.generation) == ("apps/v1/Deployment/shop/web", 3)
    east, west = found.targets
    assert (east.name, east.health, east.message) == ("east", "Progressing", "1 of 2 updated")
    assert (east.counters, east.stale) == ({"replicas": 2, "readyReplicas": 1}, False)
    assert east.age_seconds == 5.0  # the watch spoke since
    assert (west.health, west.message, west.age_seconds) == ("Unknown", "no status yet", None)


def test_a_target_that_is_away_is_stale_and_its_age_grows(realm: Realm) -> None:
    realm.place()
    source = landed(realm)
    report(source, "east", Health.HEALTHY)
    assert source.aggregator is not None
    realm.world.targets["east"].set_reachable(False, NOW - 5, "timeout")
    source.aggregator.stale("east", NOW - 5)
    realm.now += 100
    found = realm.reports.object_status(DEPLOY, "shop", "web")
    assert found is not None
    assert (found.targets[0].health, found.targets[0].stale) == ("Unknown", True)
    assert found.targets[0].age_seconds == 10.0


@pytest.mark.parametrize(
    ("state", "reason", "health", "message"),
    [
        (State.SYNCED, "", "Healthy", ""),
        (State.FAILED, Reason.INVALID, "Missing", "Invalid: data is too odd"),
        (State.DELETING, "", "Progressing", "Deleting: being deleted on the target"),
    ],
)
def test_a_kind_without_a_status_is_there_or_not(
    realm: Realm, state: State, reason: str, health: str, message: str
) -> None:
    realm.place()
    source = realm.put(CONFIG_MAPS, config_map())
    assert source is not None
    realm.settle(source, "east", state, reason, "data is too odd" if reason else "")
    found = realm.reports.object_status(CONFIG_MAPS.group_resource, "shop", "web")
    assert found is not None
    assert (found.targets[0].health, found.targets[0].message) == (health, message)


def test_the_status_of_what_nothing_places_is_none(realm: Realm) -> None:
    assert realm.reports.object_status(DEPLOY, "shop", "web") is None


def test_a_broken_watch_makes_the_status_stale(realm: Realm) -> None:
    realm.place()
    source = landed(realm)
    report(source, "east", Health.HEALTHY)
    realm.mirrors["east", DEPLOYMENTS.group_resource].error = "403"
    found = realm.reports.object_status(DEPLOY, "shop", "web")
    assert found is not None
    assert found.targets[0].stale


# Pods

PODS = "/api/v1/namespaces/shop/pods"


def pod(name: str, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": "2027-01-15T07:59:00Z"},
        "spec": {"nodeName": "node-1", "containers": [{"name": "web"}, {"name": "side"}]},
        "status": {"phase": "Running", **status},
    }


async def test_pods_of_all_targets_are_listed_and_silent_targets_named(realm: Realm) -> None:
    realm.place()
    landed(realm)
    realm.apis["east"].answers[PODS] = {"items": [pod("web-2"), pod("web-1")]}
    realm.apis["west"].answers[PODS] = Forbidden(403, "Forbidden", "pods is forbidden")
    found = await realm.reports.pods(DEPLOY, "shop", "web")
    assert found is not None
    assert [(one.target, one.name) for one in found.items] == [("east", "web-1"), ("east", "web-2")]
    assert found.unreachable == ["west"]


async def test_a_target_that_never_answers_delays_the_others_only_for_a_while(
    realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.05)
    realm.place()
    landed(realm)
    realm.apis["east"].answers[PODS] = {"items": [pod("web-1")]}
    realm.apis["west"].stuck = True
    found = await realm.reports.pods(DEPLOY, "shop", "web")
    assert found is not None
    assert ([one.name for one in found.items], found.unreachable) == (["web-1"], ["west"])


async def test_pods_of_what_nothing_places_are_none(realm: Realm) -> None:
    assert await realm.reports.pods(DEPLOY, "shop", "web") is None


def test_a_pod_is_told_with_the_reason_why_it_does_not_run() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    containers = [
        {"name": "web", "ready": True, "restartCount": 2},
        {"name": "side", "ready": False, "restartCount": 1, "state": waiting},
    ]
    found = pod_info("east", pod("web-1", phase="Pending", containerStatuses=containers), NOW)
    assert (found.target, found.namespace, found.name, found.node) == ("east", "shop", "web-1", "node-1")
    assert (found.phase, found.ready, found.restarts) == ("Pending", "1/2", 3)
    assert (found.reason, found.message) == ("ImagePullBackOff", "Back-off pulling image")
    assert found.age_seconds == 60.0


def test_a_pod_that_goes_is_terminating() -> None:
    leaving = pod("web-1")
    leaving["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"
    assert pod_info("east", leaving, NOW).reason == "Terminating"


def test_what_a_pod_says_may_be_anything() -> None:
    """B27."""
    found = pod_info("east", {"metadata": {"name": "x"}, "status": {"phase": "a\nb", "containerStatuses": "no"}}, NOW)
    assert (found.phase, found.ready, found.restarts, found.age_seconds) == ("a b", "0/0", 0, None)


# Targets


def test_targets_are_told_as_they_are_now(realm: Realm) -> None:
    realm.place(targets={"names": ["east"]})
    source = landed(realm)
    assert source.plan.assignments.keys() == {"east"}
    west = realm.world.targets["west"]
    west.link = None
    west.set_reachable(False, NOW - 10, "connection refused")
    east, other = realm.reports.targets().items
    assert (east.name, east.ready, east.connected, east.objects, east.synced) == ("east", True, True, 1, 1)
    assert other == TargetInfo(
        name="west", reason="TargetNotReady", message="connection refused", since="2027-01-15T07:59:50Z"
    )


def test_a_frozen_target_is_listed_with_its_token(realm: Realm) -> None:
    realm.frozen["east"] = ("abc123", "40 deletes wait")
    east = realm.reports.targets().items[0]
    assert (east.reason, east.message, east.frozen_token) == ("Frozen", "40 deletes wait", "abc123")
