"""Problems: everything that is not in sync, nothing that somebody asked for."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from status.report import Health, Report
from syncer.api.names import Reason
from syncer.api.shapes import Problem, ProblemList
from syncer.engine import problems as room
from syncer.engine.pair import State
from syncer.engine.state import Source
from tests.syncer.engine.worlds import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    SCALERS,
    SECRETS,
    Realm,
    config_map,
    deployment,
    secret,
)


@pytest.fixture
def realm() -> Realm:
    """Targets east and west."""
    made = Realm()
    made.target("east", labels={"region": "eu"})
    made.target("west", labels={"region": "us"})
    return made


def told(found: ProblemList) -> list[tuple[str, str, str]]:
    """(object or placement, target, reason)"""
    return [(item.object or item.placement, item.target, item.reason) for item in found.items]


def only(found: ProblemList) -> Problem:
    assert len(found.items) == 1, found.items
    return found.items[0]


def landed(realm: Realm, name: str = "web", **more: Any) -> Source:
    """A Deployment that is in sync on both targets."""
    source = realm.deployment(name, **more)
    for target in sorted(source.plan.assignments):
        realm.land(source, target)
    return source


WEB = "apps/v1/Deployment/shop/web"


def test_nothing_is_told_when_everything_is_in_sync(realm: Realm) -> None:
    realm.place()
    landed(realm)
    assert realm.reports.problems() == ProblemList()


def test_a_failed_pair_is_told_with_its_placement_age_and_what_to_do(realm: Realm) -> None:
    realm.place()
    source = landed(realm)
    realm.settle(source, "east", State.FAILED, Reason.IMMUTABLE_FIELD, "spec.selector cannot change")
    found = only(realm.reports.problems())
    assert (found.object, found.namespace, found.target, found.placement) == (WEB, "shop", "east", "Placement/shop/web")
    assert (found.reason, found.message) == ("ImmutableField", "spec.selector cannot change")
    assert found.since == "2027-01-15T07:59:30Z"
    assert "conflict.onImmutable" in found.hint


def test_an_object_that_was_not_applied_yet_is_not_in_sync(realm: Realm) -> None:
    realm.place()
    realm.deployment()
    assert told(realm.reports.problems()) == [(WEB, "east", "Retrying"), (WEB, "west", "Retrying")]
    assert realm.reports.problems().items[0].message == "not applied yet"


@pytest.mark.parametrize("reason", [Reason.DRIFT_DETECTED, Reason.FIELD_PRUNED, Reason.FIELD_CONFLICT])
def test_what_is_in_sync_with_a_gap_is_told(realm: Realm, reason: Reason) -> None:
    """B25."""
    realm.place()
    source = landed(realm)
    realm.settle(source, "east", State.SYNCED, reason, "/spec/replicas")
    assert only(realm.reports.problems()).reason == reason


def test_a_deletion_names_the_finalizer_that_it_waits_for(realm: Realm) -> None:
    realm.place()
    source = realm.deployment(finalizers=["example.com/keep"])
    realm.land(source, "east")
    realm.land(source, "west")
    realm.settle(source, "east", State.DELETING)
    found = only(realm.reports.problems())
    assert found.reason == "Deleting"
    assert "example.com/keep" in found.message


def test_objects_that_wait_for_a_silent_target_are_counted_not_listed(realm: Realm) -> None:
    realm.place()
    for name in ("web-1", "web-2"):
        source = landed(realm, name)
        realm.settle(source, "west", State.PENDING, Reason.UNREACHABLE, "west does not answer: timeout")
    found = only(realm.reports.problems())
    assert (found.object, found.placement, found.target) == ("", "Placement/shop/web", "west")
    assert found.message.startswith("2 objects wait")


def test_a_kind_that_a_target_refuses_is_told_once(realm: Realm) -> None:
    realm.place()
    realm.target("south", resources={"deny": ["deployments.apps"]})
    source = landed(realm)
    realm.settle(source, "south", State.FAILED, Reason.RESOURCE_DENIED, "south does not accept deployments.apps")
    assert told(realm.reports.problems()) == [(WEB, "south", "ResourceDenied")]
    source.pairs.pop("south")
    assert told(realm.reports.problems()) == [(WEB, "south", "ResourceDenied")]


def test_a_missing_secret_is_told_until_it_is_placed(realm: Realm) -> None:
    """Done when 8: the missing Secret is named, for each target that lacks it."""
    realm.place()
    landed(realm, secret="web-regcred")
    found = realm.reports.problems()
    assert told(found) == [(WEB, "east", "MissingReference"), (WEB, "west", "MissingReference")]
    assert found.items[0].message == "v1/Secret/shop/web-regcred is not placed to east"
    assert found.items[0].since == ""
    for target in ("east", "west"):  # as the pass that applied it left it
        realm.settle(realm.deployment(secret="web-regcred"), target, State.SYNCED, Reason.MISSING_REFERENCE, "x")
    assert [one.since for one in realm.reports.problems().items] == ["2027-01-15T07:59:30Z"] * 2
    placed = realm.put(SECRETS, secret("web-regcred"))
    assert placed is not None
    for target in ("east", "west"):
        realm.land(placed, target)
    assert realm.reports.problems() == ProblemList()


def test_a_reference_counts_as_the_workload_stands_now(realm: Realm) -> None:
    realm.place()
    landed(realm, secret="web-regcred")
    assert realm.reports.problems().items
    realm.put(DEPLOYMENTS, deployment(generation=2))
    assert realm.reports.problems() == ProblemList()


def test_why_pods_wait_is_told(realm: Realm) -> None:
    """Done when 8: a wrong image."""
    realm.place()
    source = landed(realm)
    report(source, "east", Health.PROGRESSING)
    assert source.aggregator is not None
    source.aggregator.note("east", "ImagePullBackOff", "web-1: Back-off pulling image nginx:1.99")
    found = only(realm.reports.problems())
    assert (found.target, found.reason) == ("east", "ImagePullBackOff")
    assert "image name" in found.hint


def test_a_degraded_object_is_told_and_a_progressing_one_is_not(realm: Realm) -> None:
    realm.place()
    source = landed(realm)
    report(source, "west", Health.PROGRESSING)
    report(source, "east", Health.DEGRADED, reason="ProgressDeadlineExceeded", message="timed out")
    assert told(realm.reports.problems()) == [(WEB, "east", "ProgressDeadlineExceeded")]


def test_a_status_that_cannot_be_true_is_told(realm: Realm) -> None:
    realm.place()
    source = landed(realm)
    assert source.aggregator is not None
    source.aggregator.refuse("east", "readyReplicas is negative")
    assert only(realm.reports.problems()).reason == "InvalidStatus"


def test_without_our_crds_one_line_says_what_holds_everything(realm: Realm) -> None:
    """And what to do: nothing of `syncline ack`, which would not help."""
    realm.place()
    source = landed(realm)
    realm.world.frozen = "CustomResourceDefinition placements.syncline.io is not installed"
    for target in ("east", "west"):
        realm.settle(source, target, State.PENDING, Reason.FROZEN, f"nothing is written anywhere: {realm.world.frozen}")
    found = only(realm.reports.problems())
    assert (found.object, found.target, found.reason) == ("", "", "Frozen")
    assert "syncline crds" in found.hint


def test_an_autoscaler_that_stays_behind_is_told(realm: Realm) -> None:
    realm.place()
    landed(realm)
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web-scaler", "namespace": "shop", "labels": {"syncline.io/skip": "true"}},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}},
    }
    realm.put(SCALERS, scaler)
    realm.world.scaled["shop", "Deployment", "web"] = realm.world.key(
        SCALERS.group_resource, realm.sight.informers[SCALERS.group_resource].cache["shop", "web-scaler"]
    )
    found = only(realm.reports.problems())
    assert (found.reason, found.target) == ("HPANotPlaced", "")
    assert "east, west" in found.message


def test_two_placements_of_one_priority_on_one_object_are_told_to_the_one_that_loses(realm: Realm) -> None:
    realm.place("first")
    realm.place("second", created="2026-02-01T00:00:00Z")
    landed(realm)
    found = only(realm.reports.problems())
    assert (found.reason, found.placement) == ("ClaimedByPlacement", "Placement/shop/second")
    assert found.message.startswith("Placement/shop/first comes before Placement/shop/second on east, west")


def test_a_placement_that_gives_way_on_purpose_is_no_problem(realm: Realm) -> None:
    realm.place("first")
    realm.place("second", conflict={"priority": 10})
    landed(realm)
    assert realm.reports.problems() == ProblemList()


def test_a_placement_with_an_error_is_told(realm: Realm) -> None:
    realm.place(transforms=[{"cel": {"path": "/spec/x", "expression": "object.("}}])
    found = only(realm.reports.problems())
    assert (found.placement, found.reason) == ("Placement/shop/web", "TransformFailed")
    assert "transforms[0]" in found.message


def test_a_typo_in_a_kind_is_told_with_what_was_meant(realm: Realm) -> None:
    """Done when 8: a typo in a kind."""
    uid = realm.place()
    realm.world.placements[uid].unserved = ("Deploymnet.apps",)
    found = only(realm.reports.problems())
    assert found.reason == "APIMissing"
    assert "did you mean {apiVersion: apps/v1, kind: Deployment}?" in found.message
    assert "install the CRD upstream" in found.hint


def test_a_kind_in_the_wrong_group_is_found_in_the_right_one(realm: Realm) -> None:
    uid = realm.place()
    realm.world.placements[uid].unserved = ("deployment",)
    assert "apiVersion: apps/v1, kind: Deployment" in only(realm.reports.problems()).message


def test_a_target_that_does_not_exist_is_told_with_one_that_does(realm: Realm) -> None:
    realm.place(targets={"names": ["eaast", "west"]})
    found = only(realm.reports.problems())
    assert (found.reason, found.target) == ("TargetNotFound", "eaast")
    assert "did you mean east?" in found.message


def test_a_placement_without_targets_says_why_each_does_not_fit(realm: Realm) -> None:
    realm.place(targets={"labelSelector": {"matchLabels": {"region": "asia"}}})
    found = only(realm.reports.problems())
    assert found.reason == "NoTargets"
    assert 'east: label region is "eu", wanted asia; west: label region is "us", wanted asia' in found.message


def test_a_cordoned_target_is_told_only_where_it_was_asked_for_by_name(realm: Realm) -> None:
    realm.target("south", unschedulable=True)
    realm.place("by-label")
    assert realm.reports.problems() == ProblemList()
    realm.place("by-name", targets={"names": ["south", "east"]})
    found = only(realm.reports.problems())
    assert (found.placement, found.target, found.reason) == ("Placement/shop/by-name", "south", "TargetUnschedulable")


def test_a_suspended_placement_is_told_once(realm: Realm) -> None:
    realm.place(suspend=True)
    for name in ("web-1", "web-2"):
        source = realm.deployment(name)
        for target in ("east", "west"):
            realm.settle(source, target, State.PENDING, Reason.SUSPENDED, "Placement/shop/web is suspended")
    assert told(realm.reports.problems()) == [("Placement/shop/web", "", "Suspended")]


def test_what_drift_mode_pause_holds_back_is_told_per_object(realm: Realm) -> None:
    realm.place()
    source = landed(realm)
    realm.settle(source, "east", State.PENDING, Reason.SUSPENDED, "drift mode Pause")
    assert told(realm.reports.problems()) == [(WEB, "east", "Suspended")]


def test_a_target_that_is_not_ready_is_told_with_its_reason_and_since(realm: Realm) -> None:
    realm.world.targets["west"].set_reachable(False, 1_799_999_000.0, "connection refused")
    found = only(realm.reports.problems())
    assert (found.target, found.reason, found.message) == ("west", "TargetNotReady", "connection refused")
    assert found.since == "2027-01-15T07:43:20Z"


def test_a_frozen_target_shows_its_token(realm: Realm) -> None:
    realm.frozen["east"] = ("abc123", "40 deletes wait")
    found = only(realm.reports.problems())
    assert found.reason == "Frozen"
    assert found.message == "40 deletes wait; to let them go: syncline ack east (token abc123)"


def test_when_our_own_api_is_away_it_is_told_once_for_all_targets(realm: Realm) -> None:
    """F60."""
    realm.world.frozen = "CustomResourceDefinition placements.syncline.io is gone"
    realm.frozen |= {"east": ("", realm.world.frozen), "west": ("", realm.world.frozen)}
    found = only(realm.reports.problems())
    assert (found.reason, found.target) == ("Frozen", "")
    assert "syncline crds" in found.hint


def test_a_target_that_is_being_deleted_is_told(realm: Realm) -> None:
    realm.target("old", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert told(realm.reports.problems()) == [("", "old", "Deleting")]


def test_a_breaker_that_opened_is_told(realm: Realm) -> None:
    for _ in range(5):
        realm.world.targets["east"].failed(realm.now, "500 Internal Server Error")
    found = only(realm.reports.problems())
    assert (found.target, found.reason, found.message) == ("east", "Unreachable", "500 Internal Server Error")


def test_a_broken_watch_on_a_target_is_told_although_all_seems_in_sync(realm: Realm) -> None:
    realm.place()
    landed(realm)
    realm.mirrors["east", DEPLOYMENTS.group_resource].error = "403 deployments.apps is forbidden"
    found = only(realm.reports.problems())
    assert (found.target, found.reason) == ("east", "Unreachable")
    assert "deployments.apps: 403" in found.message


def test_an_upstream_that_was_not_read_is_told(realm: Realm) -> None:
    realm.sight.unsettled = "the kinds that placements name are being looked up"
    assert only(realm.reports.problems()).message == "the kinds that placements name are being looked up"


def test_problems_of_one_namespace_are_its_objects_and_placements(realm: Realm) -> None:
    realm.place(transforms=[{"replicas": 1}])
    realm.place(namespace="bank")
    realm.deployment()
    realm.deployment(namespace="bank")
    realm.frozen["east"] = ("abc123", "40 deletes wait")
    found = realm.reports.problems("bank")
    assert [item.object for item in found.items] == ["apps/v1/Deployment/bank/web"] * 2
    assert len(realm.reports.problems().items) == 5


def test_problems_are_sorted_and_beyond_the_limit_counted(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_PROBLEMS", 3)
    realm.place()
    for name in ("web-2", "web-1"):
        realm.deployment(name)
    realm.frozen["west"] = ("abc123", "40 deletes wait")
    found = realm.reports.problems()
    assert told(found) == [
        ("", "west", "Frozen"),
        ("apps/v1/Deployment/shop/web-1", "east", "Retrying"),
        ("apps/v1/Deployment/shop/web-1", "west", "Retrying"),
    ]
    assert found.omitted == 2


def test_a_skipped_object_is_no_problem(realm: Realm) -> None:
    """B19."""
    realm.place()
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "u", "controller": True}
    assert realm.put(CONFIG_MAPS, config_map(ownerReferences=[owner])) is not None
    assert realm.reports.problems() == ProblemList()


@pytest.mark.parametrize("failing", [False, True])
def test_ten_thousand_pairs_are_looked_through_at_once(realm: Realm, failing: bool) -> None:
    """The goal is 50 ms on a quiet machine; CPU time is counted, and twice as much is forgiven here."""
    if sys.gettrace() is not None:
        pytest.skip("coverage slows every line down; the limit is for code that runs by itself")
    realm.place()
    for index in range(5000):
        source = realm.deployment(f"web-{index}", secret="")
        for target in ("east", "west"):
            if failing:
                realm.settle(source, target, State.FAILED, Reason.INVALID, "spec.x: Invalid value")
            else:
                realm.settle(source, target, State.SYNCED)
                report(source, target, Health.HEALTHY)
    took = []
    for _ in range(4):
        started = time.process_time()
        found = realm.reports.problems()
        took.append(time.process_time() - started)
    assert len(found.items) + found.omitted == (10_000 if failing else 0)
    assert min(took) < 0.1, took


def report(source: Source, target: str, health: Health, **words: Any) -> None:
    """The target says how the object does."""
    assert source.object is not None
    assert source.aggregator is not None
    said = Report(
        target=target,
        target_uid=f"uid-{target}",
        source_uid=source.object.uid,
        source_generation=1,
        observed_generation=1,
        present=True,
        health=health,
        status={"replicas": 2, "readyReplicas": 1},
        collected_at=1_799_999_990.0,
        **words,
    )
    source.pairs[target].report = said
    source.aggregator.put(said)
