"""What must not be forgotten, and what must: statuses of placements that are not valid, sources nobody places."""

from __future__ import annotations

import orjson

from syncer.api.keys import ObjectKey
from syncer.api.names import SYNCED_FINALIZER
from syncer.engine.placementstatus import fold
from syncer.engine.state import PlacementRecord, Source
from syncer.engine.world import World
from syncer.kube.objects import KubeObject, ResourceInfo, decode_object

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
