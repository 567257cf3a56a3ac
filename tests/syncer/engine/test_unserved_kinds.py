"""B24: where a kind is not served nothing of it can stand, so nothing waits there for its end; unless nobody knows."""

from __future__ import annotations

from typing import Any, cast

import pytest

from syncer.api.keys import GroupResource
from syncer.api.names import SYNCED_FINALIZER, Reason
from syncer.engine.actions import Replied
from syncer.engine.catalog import Cause
from syncer.engine.pair import State
from syncer.engine.passes import Passes
from syncer.engine.state import Source
from syncer.engine.targets import TargetRuntime
from syncer.errors import TransientError
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.objects import ResourceInfo
from syncer.metrics import Metrics
from tests.syncer.engine.worlds import VERBS, Mirror, Realm, Served

WIDGETS = ResourceInfo("example.com", "v1", "widgets", "Widget", True, VERBS)
GOING = {"deletionTimestamp": "2026-03-01T00:00:00Z"}


class Unsure(Served):
    """A cluster that does not say what it serves."""

    def find_resource(self, resource: GroupResource) -> ResourceInfo | None:
        raise TransientError("the server behind its API group does not answer")


class Untouched:
    """An executor that nobody may need."""

    async def perform(self, step: Any, *_: Any) -> Replied:
        pytest.fail(f"nothing is there, and yet: {step}")


class Bench:
    """A Widget that is placed on a target without its CRD, and waits for it."""

    def __init__(self) -> None:
        self.realm = realm = Realm()
        realm.discovery.known_resources.append(WIDGETS)
        self.target: TargetRuntime = realm.target("east", resources={"preset": "All"})
        self.target.swept = True
        realm.place(deletion={"wait": True})
        self.source = self.widget()
        told = (lambda *given: given[-1], lambda *given: None)
        self.passes = Passes(realm.world, realm.sight, cast(Any, Untouched()), Metrics(), *told)

    def widget(self, **more: Any) -> Source:
        metadata = {"name": "web", "namespace": "shop", "finalizers": [SYNCED_FINALIZER], **more}
        source = self.realm.put(WIDGETS, {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata})
        assert source is not None
        return source

    def asked(self) -> None:
        """The target said what it serves since the Widget was placed."""
        assert self.target.link is not None
        self.target.link.lacks[WIDGETS.group_resource] = True

    async def waiting(self) -> Source:
        self.asked()
        await self.work()
        assert self.source.pairs["east"].outcome.reason == Reason.API_MISSING
        return self.source

    async def work(self) -> None:
        queue = self.realm.world.queue
        while (key := queue.take(self.realm.now)) is not None:
            await self.passes.run(key)
            queue.done(key)


def terminate(bench: Bench) -> None:
    bench.widget(**GOING)


def delete(bench: Bench) -> None:
    item = bench.source.object
    assert item is not None
    mirror = cast(Mirror, bench.realm.sight.informers[WIDGETS.group_resource])
    mirror.cache.clear()
    bench.realm.catalog.source_event(WIDGETS, InformerEvent(EventType.DELETED, item))


def displace(bench: Bench) -> None:
    record = next(iter(bench.realm.world.placements.values()))
    bench.realm.catalog.placement_event(InformerEvent(EventType.DELETED, record.manifest))


def drain(bench: Bench) -> None:
    going = {"deletion_timestamp": GOING["deletionTimestamp"]}
    metadata = bench.target.model.metadata.model_copy(update=going)
    bench.target.update(bench.target.model.model_copy(update={"metadata": metadata}))
    assert bench.target.draining
    bench.realm.catalog.targets_changed(Cause("SyncTarget east is being deleted"))


ENDS = [terminate, delete, displace, drain]


@pytest.mark.parametrize("end", ENDS)
async def test_what_could_never_be_placed_is_gone_at_once(end: Any) -> None:
    bench = Bench()
    source = await bench.waiting()
    end(bench)
    await bench.work()
    assert not source.pairs  # of what is left a drain and the finalizer look at pairs


@pytest.mark.parametrize("end", ENDS)
async def test_nobody_knows_what_a_silent_target_serves(end: Any) -> None:
    """P3: unknown is not absent; it is looked at again, and then it may be."""
    bench = Bench()
    source = await bench.waiting()
    link = bench.target.link
    assert link is not None
    known, link.discovery = link.discovery, Unsure()
    end(bench)
    for _ in range(3):
        await bench.work()
        bench.realm.now += 30.0
    assert source.pairs["east"].outcome.state is State.PENDING
    assert source.pairs["east"].outcome.reason == Reason.UNREACHABLE
    link.discovery = known
    await bench.work()
    assert not source.pairs


async def test_what_a_target_served_earlier_is_no_answer_for_what_is_placed_later() -> None:
    """Its CRD may be new, and a copy may stand there since before we looked."""
    bench = Bench()
    terminate(bench)
    await bench.work()
    assert bench.source.pairs["east"].outcome.state is State.PENDING
    bench.asked()
    bench.realm.now += 1.0
    await bench.work()
    assert not bench.source.pairs
