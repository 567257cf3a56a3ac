"""Drift mode Pause holds over a restart, and a drain tells what it waits for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import orjson
import pytest

from syncer.api.names import Reason
from syncer.engine import actions as do
from syncer.engine import intents
from syncer.engine.decide import decide
from syncer.engine.downstream import Downstream
from syncer.engine.engine import Engine
from syncer.engine.pair import ABSENT, Memory, Outcome, State
from syncer.engine.placementstatus import fold
from syncer.engine.situation import Policy, Wanted
from syncer.engine.state import Source, Unplaced
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.objects import decode_object
from tests.support.objects import LIVE_UID, OWNED, deployment, live, marked, situation, wanted
from tests.syncer.engine.worlds import CREATED, DEPLOYMENTS, Realm

PAUSE = Policy(drift="Pause")
LATER = "2026-01-02T00:00:00Z"


def settled(step: do.Action | do.Settled) -> Outcome:
    assert isinstance(step, do.Settled), step
    return step.outcome


def test_a_paused_object_that_differs_stays_as_it_is_after_a_restart() -> None:
    """Without any memory: neither new content nor drift nor removed marks is a reason to write."""
    before, _ = marked(deployment())
    after, hash_ = marked(deployment(image="nginx:1.28"), generation=2)
    assert settled(decide(situation(wanted(after, hash_, PAUSE), live(before, OWNED), Memory()))).reason == "Suspended"
    manifest, hash_ = marked(deployment())
    changed = {**manifest, "spec": {**manifest["spec"], "replicas": 9}}
    assert settled(decide(situation(wanted(manifest, hash_, PAUSE), live(changed, OWNED), Memory())))


def test_a_paused_object_whose_marks_were_removed_is_left_alone() -> None:
    manifest, hash_ = marked(deployment())
    bare = live(deployment(), OWNED)
    assert settled(decide(situation(wanted(manifest, hash_, PAUSE), bare, Memory(uid=LIVE_UID)))).reason == "Suspended"


def test_a_paused_object_that_was_taken_away_is_not_created_again_until_the_mode_changes() -> None:
    manifest, hash_ = marked(deployment())
    gone = replace(wanted(manifest, hash_, PAUSE), taken_away=True)
    assert settled(decide(situation(gone, ABSENT))).reason == Reason.SUSPENDED
    assert decide(situation(replace(gone, taken_away=False), ABSENT)) == do.Create(manifest)


def paused(realm: Realm, status: dict[str, Any] | None = None, created: str = CREATED) -> Source:
    realm.target("east")
    manifest = {
        "apiVersion": "syncline.io/v1alpha1",
        "kind": "Placement",
        "metadata": {"name": "web", "namespace": "shop", "uid": "p", "creationTimestamp": CREATED},
        "spec": {
            "resources": [{"apiVersion": "*", "kind": "*", "names": ["*"]}],
            "targets": {"all": True},
            "drift": {"mode": "Pause"},
        },
        "status": status or {},
    }
    item = decode_object(orjson.dumps(manifest), manager=None)
    realm.catalog.placement_event(InformerEvent(EventType.ADDED, item))
    return realm.deployment(creationTimestamp=created)


def intent(realm: Realm, source: Source) -> Wanted:
    target, pair = realm.world.targets["east"], realm.world.pair(source, "east")
    found = intents.situation(realm.world, realm.sight, source, pair, target).intent
    assert isinstance(found, Wanted)
    return found


def test_what_is_taken_away_while_paused_is_remembered_in_the_placements_status() -> None:
    """The next process reads it there; a placement that does not pause does not care."""
    realm = Realm()
    source = paused(realm)
    realm.land(source, "east")
    copy = realm.mirrors["east", DEPLOYMENTS.group_resource].cache.pop(("shop", "web"))
    told = Downstream(realm.world, realm.catalog, lambda *_: None, lambda *_: None, lambda *_: None)
    assert not intent(realm, source).taken_away
    told.event("east", DEPLOYMENTS, InformerEvent(EventType.DELETED, copy, copy))
    assert intent(realm, source).taken_away
    status = fold(realm.world, realm.world.placements["p"], {}, LATER)
    assert source.object is not None
    assert status["completedRuns"] == [{"uid": source.object.uid, "target": "uid-east"}]
    successor = Realm()
    assert intent(successor, paused(successor, {"completedRuns": status["completedRuns"]})).taken_away


@pytest.mark.parametrize(
    ("created", "synced", "uid", "away"),
    [
        (CREATED, "True", "uid-east", True),
        (LATER, "True", "uid-east", False),
        (CREATED, "False", "uid-east", False),
        (CREATED, "True", "uid-other", False),
    ],
)
def test_what_was_taken_away_while_nobody_watched_follows_from_the_status(
    created: str, synced: str, uid: str, away: bool
) -> None:
    """Older than the moment since when everything was applied on that very target: it had been there."""
    condition = {"type": "Synced", "status": synced, "lastTransitionTime": "2026-01-01T12:00:00Z"}
    status = {"conditions": [condition], "selectedTargets": [{"name": "east", "uid": uid}]}
    realm = Realm()
    assert intent(realm, paused(realm, status, created)).taken_away is away


def test_a_drain_says_which_objects_wait_for_their_new_place() -> None:
    realm = Realm()
    realm.target("east")
    realm.place()
    source = realm.deployment()
    message = "moves to west, and stays here until it is ready there"
    pair = realm.settle(source, "east", State.PENDING, Reason.RETRYING, message)
    told = cast(Engine, type("OfWorld", (), {"world": realm.world}))
    assert Engine.moving(told, "east") == []
    pair.unplaced = Unplaced("drain", 0.0, heirs=frozenset({"west"}))
    assert Engine.moving(told, "east") == [f"apps/v1/Deployment/shop/web: {message}"]
