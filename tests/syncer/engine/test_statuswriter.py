"""The writer of merged statuses: its window, and the last word about a source that nobody places any more."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest

from status.report import Health
from syncer.engine.downstream import Downstream
from syncer.engine.state import Source
from syncer.engine.statuswriter import WINDOW_SECONDS, StatusWriter
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.errors import Invalid, ServerError
from syncer.kube.objects import KubeObject, ResourceInfo, decode_object
from syncer.metrics import Metrics
from tests.syncer.engine.test_problems import report
from tests.syncer.engine.worlds import DEPLOYMENTS, Realm


class Upstream:
    """Takes statuses; `failing` is raised once."""

    def __init__(self, realm: Realm) -> None:
        self.realm = realm
        self.written: list[dict[str, Any]] = []
        self.failing: Exception | None = None

    async def patch(
        self, info: ResourceInfo, namespace: str, name: str, body: bytes, content_type: str, **_: Any
    ) -> KubeObject:
        if self.failing is not None:
            error, self.failing = self.failing, None
            raise error
        source = next(iter(self.realm.world.sources.values()))
        assert source.object is not None
        status = next(operation["value"] for operation in orjson.loads(body) if operation["path"] == "/status")
        self.written.append(status)
        metadata = {**source.object.manifest()["metadata"], "resourceVersion": str(100 + len(self.written))}
        return decode_object(orjson.dumps({**source.object.manifest(), "metadata": metadata, "status": status}))


class Placed:
    """A Deployment in sync on east and west, and the writer of its status on a clock of its own."""

    def __init__(self) -> None:
        self.now = 50.0
        self.realm = Realm()
        for name in ("east", "west"):
            self.realm.target(name)
        self.placement = self.realm.place()
        self.source = self.realm.deployment()
        for name in ("east", "west"):
            self.realm.land(self.source, name)
            report(self.source, name, Health.HEALTHY)
        self.upstream = Upstream(self.realm)
        self.writer = StatusWriter(
            self.realm.world,
            self.realm.sight,
            cast(Any, self.upstream),
            Metrics(),
            lambda *_: None,
            mono=lambda: self.now,
        )
        self.realm.world.object_changed = self.writer.changed
        self.downstream = Downstream(self.realm.world, self.realm.catalog, *[lambda *_: None] * 3)

    async def write(self, after: float = 0.0) -> None:
        """Every status pass that is due `after` some seconds."""
        self.now += after
        while (key := self.writer.queue.take(self.now)) is not None:
            await self.writer.run(key)
            self.writer.queue.done(key)

    def unplace(self) -> None:
        manifest = self.realm.world.placements[self.placement].manifest
        self.realm.catalog.placement_event(InformerEvent(EventType.DELETED, manifest, manifest, "watch"))

    def lose(self, target: str) -> None:
        """The copy there is deleted, and the pass that follows finds that nothing is left to do."""
        copy = self.realm.mirrors[target, DEPLOYMENTS.group_resource].cache.pop(("shop", "web"))
        self.downstream.event(target, DEPLOYMENTS, InformerEvent(EventType.DELETED, copy, copy))
        self.realm.world.drop_pair(self.source, target)
        self.realm.world.forget_if_done(self.source)

    @property
    def sources(self) -> list[Source]:
        return list(self.realm.world.sources.values())


@pytest.fixture
async def placed() -> Placed:
    made = Placed()
    made.writer.changed(made.source)
    await made.write()
    assert made.upstream.written[-1]["replicas"] == 4
    return made


def judgement(status: dict[str, Any]) -> tuple[str, str]:
    return next((one["status"], one["reason"]) for one in status["conditions"] if one["type"] == "Available")


async def test_the_last_word_about_an_unplaced_source_is_that_no_target_has_it(placed: Placed) -> None:
    """The second DELETED event comes inside the window of the write for the first."""
    placed.unplace()
    placed.now += 10.0
    placed.lose("east")
    await placed.write()
    assert placed.upstream.written[-1]["replicas"] == 2
    placed.now += 0.03
    placed.lose("west")
    await placed.write()
    assert placed.sources == [placed.source], "what waits to be told keeps its source"
    await placed.write(after=WINDOW_SECONDS)
    last = placed.upstream.written[-1]
    assert (last["replicas"], judgement(last)) == (0, ("False", "NoTargets"))
    await placed.write(after=60.0)
    assert not placed.sources


async def test_a_placement_that_only_seems_gone_changes_no_status(placed: Placed) -> None:
    """While our API is being removed the copies stay, and so does what is said of them."""
    before = len(placed.upstream.written)
    placed.unplace()
    placed.writer.changed(placed.source)
    await placed.write(after=60.0)
    assert (len(placed.upstream.written), placed.sources) == (before, [placed.source])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(ServerError(503, "ServiceUnavailable", "busy"), True, id="busy"),
        pytest.param(Invalid(422, "Invalid", "no"), False, id="refused"),
    ],
)
async def test_a_last_word_that_fails_is_said_again_and_one_that_is_refused_is_not(
    placed: Placed, error: Exception, said: bool
) -> None:
    placed.unplace()
    for target in ("east", "west"):
        placed.lose(target)
    placed.upstream.failing = error
    await placed.write(after=1.0)
    for _ in range(3):
        await placed.write(after=60.0)
    assert (placed.upstream.written[-1]["replicas"] == 0) is said
    assert not placed.sources


async def test_a_source_that_is_placed_again_before_its_last_word_keeps_its_status(placed: Placed) -> None:
    placed.unplace()
    for target in ("east", "west"):
        placed.lose(target)
    placed.realm.place()
    assert placed.sources == [placed.source]
    await placed.write(after=60.0)
    assert placed.source.plan.matched
    assert placed.source.aggregator is not None
    assert all(one["conditions"] == [] or judgement(one)[1] != "NoTargets" for one in placed.upstream.written)
