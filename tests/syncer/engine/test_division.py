"""`replicas: Divide` over a restart: what the copies have is the only memory of who had been rounded up."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.api.keys import GroupResource
from syncer.api.names import Reason
from syncer.engine import intents
from syncer.engine.downstream import Downstream
from syncer.engine.situation import Held, Situation, Wanted
from syncer.engine.state import Source
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.objects import decode_object
from tests.syncer.engine.worlds import DEPLOYMENTS, JOBS, Mirror, Realm, Served, deployment

HERE = GroupResource("apps", "deployments")
DIVIDE = {"mode": "Divide"}
WEIGHTS = st.dictionaries(st.sampled_from(["east", "north", "south", "west"]), st.integers(1, 9), min_size=1)
NUMBERS = st.fixed_dictionaries({}, optional={"parallelism": st.integers(0, 9), "completions": st.integers(0, 9)})


def mirror(realm: Realm, target: str) -> Mirror:
    return realm.mirrors[target, HERE]


def stands(realm: Realm, target: str, replicas: int) -> None:
    """A copy that an earlier process left on the target."""
    manifest: dict[str, Any] = deployment("web", uid=f"{target}-1", resourceVersion="7")
    manifest["spec"]["replicas"] = replicas
    mirror(realm, target).cache["shop", "web"] = decode_object(orjson.dumps(manifest))


def a_source(realm: Realm, replicas: int) -> Source:
    manifest = deployment("web")
    manifest["spec"]["replicas"] = replicas
    source = realm.put(DEPLOYMENTS, manifest)
    assert source is not None
    return source


def shares(source: Source) -> dict[str, int | None]:
    return {t: a.split.replicas if a.split is not None else None for t, a in source.plan.assignments.items()}


def looked_at(realm: Realm, source: Source, target: str) -> Situation:
    runtime = realm.world.targets[target]
    return intents.situation(realm.world, realm.sight, source, realm.world.pair(source, target), runtime)


@pytest.mark.parametrize("more", ["east", "west"])
def test_a_restart_moves_no_replica(more: str) -> None:
    """L15: of three replicas one target has two; which one that was is read from the copies."""
    realm = Realm()
    for name in ("east", "west"):
        realm.target(name)
        stands(realm, name, 2 if name == more else 1)
    realm.place(replicas=DIVIDE)
    assert shares(a_source(realm, 3)) == {"east": 1, "west": 1} | {more: 2}


def test_the_sum_is_right_whatever_the_copies_say() -> None:
    realm = Realm()
    for name, replicas in (("east", 7), ("south", 0), ("west", 2)):
        realm.target(name)
        stands(realm, name, replicas)
    realm.place(replicas=DIVIDE)
    found = shares(a_source(realm, 5))
    assert found == {"east": 2, "south": 1, "west": 2}


def test_while_a_copy_is_not_read_nothing_moves() -> None:
    """Unknown is not absent: the copy that can be seen keeps its share, and a new target gets none yet."""
    realm = Realm()
    for name in ("east", "south", "west"):
        realm.target(name)
    stands(realm, "east", 2)
    stands(realm, "west", 1)
    mirror(realm, "west").synced = False
    realm.place(replicas=DIVIDE)
    source = a_source(realm, 4)
    assert source.plan.awaits == ("west",)
    assert shares(source) == {"east": 2, "south": None, "west": None}
    for name in ("south", "west"):
        held = looked_at(realm, source, name).intent
        assert isinstance(held, Held)
        assert (held.reason, held.failed) == (Reason.RETRYING, False)
        assert "west" in held.message
    seen = looked_at(realm, source, "east").intent
    assert isinstance(seen, Wanted)
    assert seen.manifest["spec"]["replicas"] == 2  # its content goes on


def test_a_copy_that_cannot_keep_its_number_waits_as_it_is() -> None:
    realm = Realm()
    for name in ("east", "west"):
        realm.target(name)
    stands(realm, "east", 2)
    mirror(realm, "west").synced = False
    realm.place(replicas=DIVIDE)
    source = a_source(realm, 30)
    assert shares(source) == {"east": None, "west": None}
    assert isinstance(looked_at(realm, source, "east").intent, Held)


def test_once_all_copies_are_read_the_division_goes_on() -> None:
    """The same event of the target's informer that makes the copies known."""
    realm = Realm()
    for name in ("east", "west"):
        realm.target(name)
    stands(realm, "east", 1)
    stands(realm, "west", 2)
    mirror(realm, "west").synced = False
    realm.place(replicas=DIVIDE)
    source = a_source(realm, 3)
    assert source.plan.awaits
    mirror(realm, "west").synced = True
    told = Downstream(realm.world, realm.catalog, lambda *_: None, lambda *_: None, lambda *_: None)
    told.event("west", DEPLOYMENTS, InformerEvent(EventType.SYNCED))
    assert shares(source) == {"east": 1, "west": 2}
    assert not source.plan.awaits


def test_a_new_object_does_not_wait_for_a_target_that_is_away() -> None:
    """P13: no target that answers has a copy, so there is nothing that could be moved."""
    realm = Realm()
    realm.target("east")
    gone = realm.target("west")
    realm.place(replicas=DIVIDE)
    gone.set_reachable(False, 0.0, "no answer")
    mirror(realm, "west").synced = False
    assert shares(a_source(realm, 3)) == {"east": 2, "west": 1}


def test_a_target_that_does_not_serve_the_kind_is_not_waited_for() -> None:
    """B24"""
    realm = Realm()
    realm.target("east")
    lacking = realm.target("west")
    assert lacking.link is not None
    del lacking.link.watches[HERE]
    served = lacking.link.discovery
    assert isinstance(served, Served)
    served.known_resources = [info for info in served.known_resources if info != DEPLOYMENTS]
    realm.place(replicas=DIVIDE)
    stands(realm, "east", 2)
    assert not a_source(realm, 3).plan.awaits


@given(weights=WEIGHTS, spec=NUMBERS)
def test_every_target_can_end_its_part_of_a_job(weights: dict[str, int], spec: dict[str, int]) -> None:
    """A Job without workers is paused: the merged one would never end. Paused upstream it is paused everywhere."""
    realm = Realm()
    for name in weights:
        realm.target(name)
    realm.place(replicas={**DIVIDE, "weights": {"static": weights}})
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "web", "namespace": "shop"}, "spec": spec}
    source = realm.put(JOBS, manifest)
    assert source is not None
    splits = [a.split for a in source.plan.assignments.values() if a.split is not None]
    assert len(splits) == len(weights)
    assert {split.parallelism == 0 for split in splits} == {spec.get("parallelism") == 0}
    if spec.get("parallelism", 1) >= sum(weights.values()):
        assert sum(split.parallelism or 0 for split in splits) == spec.get("parallelism", 1)
    if "completions" in spec or not spec:
        assert sum(split.completions or 0 for split in splits) == spec.get("completions", 1)
    else:
        assert {split.completions for split in splits} == {None}
