"""What must not be forgotten, and what must: statuses of placements that are not valid, sources nobody places."""

from __future__ import annotations

import orjson

from status.aggregator import Aggregator
from status.report import Expected, missing
from syncer.api.keys import ObjectKey
from syncer.api.names import SYNCED_FINALIZER
from syncer.engine.downstream import Downstream
from syncer.engine.placementstatus import fold
from syncer.engine.state import PlacementRecord, Source
from syncer.engine.world import World
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.objects import KubeObject, ResourceInfo, decode_object
from tests.syncer.engine.worlds import DEPLOYMENTS, NAMESPACES, Realm

ANYTHING = {"apiVersion": "*", "kind": "*", "names": ["*"]}
CONFIG_MAPS = ResourceInfo("", "v1", "configmaps", "ConfigMap", True, frozenset(), False, False)


def an_object(*finalizers: str) -> KubeObject:
    metadata = {"name": "web", "namespace": "shop", "uid": "u1", "generation": 3, "finalizers": list(finalizers)}
    return decode_object(orjson.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))


def test_a_placement_that_is_not_valid_at_start_keeps_its_targets_and_finished_runs() -> None:
    record = PlacementRecord(an_object())
    record.error = ("Invalid", "spec.policy is wrong")
    memory = {"objects": 2, "selectedTargets": [{"name": "east"}], "completedRuns": [{"uid": "j", "target": "t"}]}
    status = fold(World("hub", "hub"), record, memory, "2026-01-01T00:00:00Z")
    assert {key: status[key] for key in memory} == memory
    assert (status["reason"], status["observedGeneration"]) == ("Invalid", 3)
    assert [c["status"] for c in status["conditions"]] == ["False"] * 3


def test_only_our_own_finalizer_keeps_an_unplaced_source_in_memory() -> None:
    world = World("hub", "hub")
    source = Source(ObjectKey("hub", CONFIG_MAPS.group_resource, "shop", "web"), CONFIG_MAPS)
    world.sources[source.key] = source
    source.object = an_object(SYNCED_FINALIZER)
    world.forget_if_done(source)
    assert world.sources
    source.object = an_object("example.com/other")
    world.forget_if_done(source)
    assert not world.sources


def test_what_a_target_said_counts_again_when_the_object_comes_back_to_it() -> None:
    """Its placement changed to and fro before the copy was touched: the target has nothing new to say."""
    realm = Realm()
    realm.target("east")
    realm.place()
    source = realm.deployment()
    realm.land(source, "east")
    copy = realm.mirrors["east", DEPLOYMENTS.group_resource].cache["shop", "web"]
    downstream = Downstream(realm.world, realm.catalog, *[lambda *_: None] * 3)
    downstream.event("east", DEPLOYMENTS, InformerEvent(EventType.ADDED, copy))
    said = source.pairs["east"].report
    assert said is not None
    assert source.aggregator is not None
    realm.place(targets={"names": ["nowhere"]})
    assert not source.aggregator.slots()
    realm.place()
    assert [slot.report for slot in source.aggregator.slots()] == [said]


def test_a_target_that_left_keeps_no_slot_whatever_it_says_afterwards() -> None:
    """P18: a copy that is being removed goes on reporting."""
    made = Aggregator(("apps", "Deployment"), "u")
    assert made.expect({"east": Expected(1)}) == ["east"]
    made.expect({})
    made.put(missing("east", target_uid="t", source_uid="u", now=0.0))
    made.expect({"west": Expected(1)})
    assert made._slots.keys() == {"west"}


def test_a_namespace_that_a_placement_selects_stays_known_when_a_target_tells_of_its_own() -> None:
    """The target's namespace of ours is no copy of it, and no reason to forget it."""
    realm = Realm()
    realm.target("east")
    uid = realm.place("all", "", targets={"names": ["nowhere"]}, resources=[{**ANYTHING, "kind": "Namespace"}])
    source = realm.put(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    assert source is not None
    realm.land(source, "east")
    copy = realm.mirrors["east", NAMESPACES.group_resource].cache["", "shop"]
    realm.world.drop_pair(source, "east")
    downstream = Downstream(realm.world, realm.catalog, *[lambda *_: None] * 3)
    downstream.event("east", NAMESPACES, InformerEvent(EventType.MODIFIED, copy))
    assert realm.world.sources[source.key] is source
    assert realm.world.placements[uid].objects == {source.key}
