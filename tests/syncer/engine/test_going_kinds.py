"""P3: whoever removes a CRD upstream deletes all its objects and means none of them, finalizers or not."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
import pytest

from syncer.api.names import SYNCED_FINALIZER, Reason
from syncer.engine.executor import Executor
from syncer.engine.guard import ApiGuard
from syncer.engine.pair import State
from syncer.engine.passes import Passes
from syncer.engine.sight import Sight
from syncer.engine.state import Source
from syncer.engine.statuswriter import StatusWriter
from syncer.engine.targets import Watch
from syncer.kube.client import ClusterClient
from syncer.kube.informer import Informer
from syncer.kube.objects import KubeObject, ResourceInfo, decode_object
from syncer.metrics import Metrics
from tests.syncer.engine.worlds import CREATED, VERBS, Api, Mirror, Realm

WIDGETS = ResourceInfo("example.com", "v1", "widgets", "Widget", True, VERBS)
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com"
GOING = {"deletionTimestamp": "2026-03-01T00:00:00Z"}


class Deleting(Api):
    """A target that only counts deletes."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: list[str] = []

    async def delete(self, *given: Any, uid: str) -> None:
        self.deleted.append(uid)


class Finalizers:
    """An upstream that takes writes of finalizers; `written` is the last list of them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.written: list[str] | None = None

    async def patch(self, _info: ResourceInfo, _namespace: str, _name: str, body: bytes, *_: Any) -> KubeObject:
        assert self._source.object is not None
        self.written = orjson.loads(body)["metadata"]["finalizers"]
        manifest = self._source.object.manifest()
        metadata = {**manifest["metadata"], "finalizers": self.written, "resourceVersion": "900"}
        return decode_object(orjson.dumps({**manifest, "metadata": metadata}), manager=None)


class Bench:
    """A Widget in sync on one target, whose CRD upstream a test may remove."""

    def __init__(self, *finalizers: str) -> None:
        self.realm = realm = Realm()
        realm.discovery.known_resources.append(WIDGETS)
        self.target = realm.target("east", resources={"preset": "All"})
        link = self.target.link
        assert link is not None
        cast(Any, link.discovery).known_resources.append(WIDGETS)
        mirror = realm.mirrors["east", WIDGETS.group_resource] = Mirror()
        link.watches[WIDGETS.group_resource] = Watch(cast(Informer, mirror), cast("asyncio.Task[None]", None))
        self.target.swept = True
        self.east = realm.apis["east"] = Deleting()
        link.client = cast(ClusterClient, self.east)
        realm.place(deletion={"wait": True})
        self.finalizers = list(finalizers)
        self.source = self.widget()
        realm.land(self.source, "east")
        upstream = cast(ClusterClient, realm.upstream)
        executor = Executor(upstream, ApiGuard(upstream))
        told = (lambda *given: given[-1], lambda *given: None)
        self.passes = Passes(realm.world, realm.sight, executor, Metrics(), *told)

    def widget(self, **more: Any) -> Source:
        metadata = {"name": "web", "namespace": "shop", "creationTimestamp": CREATED, "finalizers": self.finalizers}
        manifest = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata | more}
        source = self.realm.put(WIDGETS, manifest)
        assert source is not None
        return source

    def crd(self, **metadata: str) -> None:
        """The CRD as the upstream shows it from now on."""
        self.realm.upstream.answers[CRD] = {"metadata": {"creationTimestamp": "2025-01-01T00:00:00Z", **metadata}}

    async def work(self) -> None:
        queue = self.realm.world.queue
        while (key := queue.take(self.realm.now)) is not None:
            await self.passes.run(key)
            queue.done(key)

    async def released(self) -> bool:
        """Whether a look at the source takes our finalizer off it."""
        upstream = Finalizers(self.source)
        sight = Sight(self.realm.discovery)
        sight.unsettled = ""
        writer = StatusWriter(self.realm.world, sight, cast(Any, upstream), Metrics(), lambda *_: None)
        await writer._finalizer(self.source)
        return upstream.written is not None and SYNCED_FINALIZER not in upstream.written


@pytest.mark.parametrize("finalizer", [SYNCED_FINALIZER, "example.com/x"])
async def test_a_terminating_source_whose_kind_goes_keeps_its_copies(finalizer: str) -> None:
    bench = Bench(finalizer)
    bench.crd(**GOING)
    bench.widget(**GOING)
    await bench.work()
    assert bench.east.deleted == []
    outcome = bench.source.pairs["east"].outcome
    assert (outcome.state, outcome.reason) == (State.PENDING, Reason.FROZEN)
    assert "is being deleted upstream" in outcome.message


async def test_a_crd_that_goes_does_not_wait_for_copies_that_stay() -> None:
    bench = Bench(SYNCED_FINALIZER)
    bench.crd(**GOING)
    bench.widget(**GOING)
    assert not await bench.released()
    await bench.work()
    assert await bench.released()


async def test_a_terminating_source_whose_kind_stays_is_deleted_on_its_targets() -> None:
    bench = Bench(SYNCED_FINALIZER)
    bench.crd()
    bench.widget(**GOING)
    await bench.work()
    assert bench.east.deleted == ["east-uid-Widget-shop-web"]
    assert not await bench.released()  # its copy is still there


async def test_a_source_is_let_go_for_its_own_end_only() -> None:
    """Another object of its name, under a CRD that stays, waits for its copies again."""
    bench = Bench(SYNCED_FINALIZER)
    bench.crd(**GOING)
    bench.widget(**GOING)
    await bench.work()
    bench.crd()
    bench.widget(uid="its successor", **GOING)
    assert not await bench.released()
