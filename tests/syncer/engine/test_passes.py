"""Whole passes over pairs, with a target that does as it is told: what one pass leaves behind for the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import orjson
import pytest

from syncer.api.names import (
    APPLIED_ANNOTATION,
    DELETION_ANNOTATION,
    MANAGED_BY_LABEL,
    SOURCE_ANNOTATION,
    SPEC_MANAGER,
    Reason,
)
from syncer.conflict.fights import LIMIT
from syncer.engine import actions as do
from syncer.engine.downstream import Downstream
from syncer.engine.pair import State
from syncer.engine.passes import Passes
from syncer.engine.state import Source
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.objects import KubeObject, decode_object
from syncer.metrics import Metrics
from tests.syncer.engine.worlds import DEPLOYMENTS, Realm, deployment


class Obeying:
    """An executor whose target does everything at once; `meanwhile` runs before it answers."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        self.done: list[do.Action] = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def perform(self, action: do.Action, *given: Any) -> do.Replied:
        self.done.append(action)
        self.meanwhile()
        observed: KubeObject | None = given[3]
        match action:
            case do.VerifyIntent() | do.VerifySourceGone():
                return do.Replied(observed, proof="asked")
            case do.Release():
                assert observed is not None
                return do.Replied(self._saved(observed.manifest(), {DELETION_ANNOTATION: "Orphan"}))
            case do.Create(manifest) | do.Apply(manifest):
                before = {"resourceVersion": observed.resource_version} if observed is not None else {}
                return do.Replied(self._saved({**manifest, "metadata": {**manifest["metadata"], **before}}, {}))
        return do.Replied()

    def _saved(self, manifest: Any, annotations: dict[str, str]) -> KubeObject:
        """The manifest as the target shows it from now on; its watch is told by `Bench.show`."""
        before = manifest["metadata"]
        version = str(int(before.get("resourceVersion") or 0) + 1)
        ours = {"manager": "syncline", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}
        metadata = {"managedFields": [ours], "uid": "copy", **before, "resourceVersion": version}
        metadata["annotations"] = before["annotations"] | annotations
        return decode_object(orjson.dumps({**manifest, "metadata": metadata}))


class Bench:
    """A Deployment that one placement gives to one target."""

    def __init__(self) -> None:
        self.realm = Realm()
        self.target = self.realm.target("east")
        self.target.link.book._ready["shop"] = ""  # type: ignore[union-attr]
        self.realm.place()
        self.executor = Obeying(self.realm)
        self.metrics = Metrics()
        world, sight = self.realm.world, self.realm.sight
        told = (lambda *given: given[-1], lambda *given: None)
        self.passes = Passes(world, sight, cast(Any, self.executor), self.metrics, *told)

    async def work(self) -> list[do.Action]:
        """Run all that is due; what was done by it."""
        self.executor.done.clear()
        queue = self.realm.world.queue
        while (key := queue.take(self.realm.now)) is not None:
            await self.passes.run(key)
            queue.done(key)
        return list(self.executor.done)

    def show(self, source: Source, item: KubeObject) -> None:
        """The target's watch tells of the copy."""
        self.realm.mirrors["east", DEPLOYMENTS.group_resource].cache["shop", "web"] = item
        downstream = Downstream(self.realm.world, self.realm.catalog, lambda *_: None, lambda *_: None, lambda *_: None)
        downstream.event("east", source.info, InformerEvent(EventType.MODIFIED, item))


def live(pair: Any) -> KubeObject:
    """What a pass was answered last about the copy."""
    item = pair.live.object
    assert isinstance(item, KubeObject)
    return item


async def test_an_edit_to_orphan_holds_for_every_later_look_at_the_copy() -> None:
    """F61: the edit that un-places and the policy `Orphan` come together; the copy itself said `Delete` until then."""
    bench = Bench()
    source = bench.realm.deployment()
    assert [type(step) for step in await bench.work()] == [do.Create]
    pair = source.pairs["east"]
    bench.show(source, live(pair))
    bench.realm.place(targets={"names": ["nowhere"]}, deletion={"policy": "Orphan"})
    assert await bench.work() == [do.Release("copy")]
    assert not source.pairs
    bench.show(source, live(pair))  # the target changes something of it, or we start again
    assert await bench.work() == []
    assert not source.pairs


def latencies(bench: Bench) -> list[float]:
    """(count, sum) of what was measured so far."""
    read = bench.metrics.registry.get_sample_value
    return [read(f"syncline_sync_latency_seconds_{what}") or 0.0 for what in ("count", "sum")]


async def test_latency_is_measured_from_a_change_of_the_source_and_from_nothing_else() -> None:
    """From its event to its apply, once per target; a later placement, or drift, is no write of the source."""
    bench = Bench()
    bench.realm.deployment()
    bench.realm.now += 2.0
    await bench.work()
    assert latencies(bench) == [1, 2.0]
    bench.realm.now += 3600.0
    bench.realm.place(transforms=[{"labels": {"set": {"tier": "front"}}}])
    assert [type(step) for step in await bench.work()] == [do.Apply]
    bench.realm.put(DEPLOYMENTS, deployment("api"))
    bench.realm.now += 3600.0
    bench.realm.place("later", resources=[{"apiVersion": "apps/v1", "kind": "Deployment", "names": ["api"]}])
    assert [type(step) for step in await bench.work()] == [do.Create]
    assert latencies(bench) == [1, 2.0]


async def test_a_change_during_an_apply_is_measured_by_the_apply_that_brings_it() -> None:
    bench = Bench()
    bench.realm.deployment()

    def meanwhile() -> None:
        bench.executor.meanwhile = lambda: None
        bench.realm.now += 1.0
        bench.realm.deployment(generation=2)
        bench.realm.now += 4.0

    bench.executor.meanwhile = meanwhile
    assert [type(step) for step in await bench.work()] == [do.Create, do.Apply]
    assert latencies(bench) == [2, 5.0 + 4.0]


async def test_a_pass_ends_with_the_target_that_it_is_about() -> None:
    """P3: a proof that arrives when the SyncTarget is gone must not become a delete on the cluster it spoke of."""
    bench = Bench()
    source = bench.realm.deployment()
    await bench.work()
    bench.show(source, live(source.pairs["east"]))
    await bench.work()
    record = next(iter(bench.realm.world.placements.values()))
    bench.realm.catalog.placement_event(InformerEvent(EventType.DELETED, record.manifest))

    def meanwhile() -> None:
        del bench.realm.world.targets["east"]
        bench.realm.world.drop_pair(source, "east")

    bench.executor.meanwhile = meanwhile
    assert await bench.work() == [do.VerifyIntent()]
    assert not source.pairs


class Opponent:
    """A controller on the target that sets labels and annotations to its own idea, whenever it sees the object."""

    def __init__(self, *keys: str) -> None:
        self._keys = keys
        self.seen: dict[str, Any] = {}

    def undo(self, item: KubeObject) -> KubeObject:
        manifest = item.manifest()
        metadata = dict(manifest["metadata"])
        for field in ("labels", "annotations"):
            metadata[field] = {k: v for k, v in metadata.get(field, {}).items() if k not in self._keys}
        version = str(int(metadata["resourceVersion"]) + 1)
        entry = {"manager": SPEC_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {}}}
        metadata |= {"resourceVersion": version, "managedFields": [entry]}
        self.seen = {**manifest, "metadata": metadata}
        return decode_object(orjson.dumps(self.seen))

    async def get_json(self, path: str) -> dict[str, Any]:
        """The target's answer to whoever asks for managers."""
        return self.seen


@pytest.mark.parametrize(
    "keys",
    [
        (APPLIED_ANNOTATION,),
        (APPLIED_ANNOTATION, SOURCE_ANNOTATION, DELETION_ANNOTATION),
        (APPLIED_ANNOTATION, SOURCE_ANNOTATION, DELETION_ANNOTATION, MANAGED_BY_LABEL),
    ],
)
async def test_a_fight_over_our_marks_is_not_fed(keys: tuple[str, ...]) -> None:
    """P12: one round a second for a minute; after a few repairs somebody has to stop it."""
    bench, opponent = Bench(), Opponent(*keys)
    source = bench.realm.deployment()
    assert bench.target.link is not None
    bench.target.link.client = cast(Any, opponent)
    await bench.work()
    pair, applies = source.pairs["east"], 0
    item = live(pair)
    for _ in range(60):
        item = opponent.undo(item)
        bench.realm.now += 1.0
        bench.show(source, item)
        done = [step for step in await bench.work() if isinstance(step, do.Apply)]
        applies += len(done)
        if done:
            item = live(pair)
    assert applies == LIMIT
    assert (pair.outcome.state, pair.outcome.reason) == (State.FAILED, Reason.DRIFT_FIGHT)
    assert "/metadata/annotations/syncline.io~1applied" in pair.outcome.message
