"""What is learned late or must be unlearned: targets at start, copies on cordoned ones, old answers, waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import orjson
import pytest

from status.report import Health
from syncer.api.keys import GroupResource, SyncKey
from syncer.api.names import GROUP, SYNCED_FINALIZER, Reason
from syncer.engine import actions as do
from syncer.engine.absorb import absorb_error, absorb_reply, recreation
from syncer.engine.decide import decide
from syncer.engine.downstream import Downstream
from syncer.engine.pair import Failure, Memory, Present, unlearned
from syncer.engine.passes import LONGEST_PAUSE_SECONDS, Passes
from syncer.engine.sight import Sight
from syncer.engine.situation import Policy
from syncer.engine.state import Source
from syncer.engine.statuswriter import StatusWriter
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.errors import Cause, Invalid, TooManyRequests
from syncer.kube.informer import Informer
from syncer.kube.objects import KubeObject, decode_object
from syncer.metrics import Metrics
from tests.support.objects import LIVE_UID, OWNED, deployment, live, marked, situation, wanted
from tests.syncer.engine.test_problems import report
from tests.syncer.engine.worlds import DEPLOYMENTS, Mirror, Realm

SYNC_TARGETS = GroupResource(GROUP, "synctargets")


def silent(realm: Realm) -> Downstream:
    return Downstream(realm.world, realm.catalog, lambda *_: None, lambda *_: None, lambda *_: None)


# Targets at start


def test_placements_choose_once_every_target_was_read() -> None:
    """With one of two targets known, a placement of one target would move to it."""
    realm = Realm()
    reading = Mirror(synced=False)
    realm.sight.standing[SYNC_TARGETS] = cast(Informer, reading)
    realm.target("west")
    uid = realm.place(targets={"all": True, "maxTargets": 1})
    realm.put(DEPLOYMENTS, {**deployment(), "metadata": {"name": "web", "namespace": "shop", "generation": 1}})
    assert realm.world.placements[uid].selection is None
    assert not any(source.plan.assignments for source in realm.world.sources.values())
    realm.target("east")
    assert realm.world.placements[uid].selection is None
    reading.synced = True
    realm.catalog.targets_read()
    selection = realm.world.placements[uid].selection
    assert selection is not None
    assert len(selection.selected) == 1
    assert [len(source.plan.assignments) for source in realm.world.sources.values()] == [1]


# Cordon


def test_a_cordoned_target_that_was_not_read_yet_keeps_what_it_may_have() -> None:
    """After a restart nobody knows what it has; refusing it would un-place the copy."""
    realm = Realm()
    realm.target("east", unschedulable=True)
    mirror = realm.mirrors["east", DEPLOYMENTS.group_resource]
    mirror.synced = False
    realm.place(targets={"names": ["east"]})
    record = next(iter(realm.world.placements.values()))
    record.holds = frozenset({"east"})
    record.selection = None
    realm.catalog._select(record)
    source = realm.deployment()
    assert "east" in source.plan.assignments
    mirror.synced = True  # it has nothing
    silent(realm).event("east", DEPLOYMENTS, InformerEvent(EventType.SYNCED))
    assert source.plan.refusals["east"].reason == Reason.TARGET_UNSCHEDULABLE
    realm.world.pair(source, "east").memory = Memory(uid="copy-1")
    realm.deployment(generation=2)
    assert "east" in source.plan.assignments  # it has a copy of ours


# Memory


def test_new_content_forgets_what_the_old_one_taught_and_nothing_else() -> None:
    failure = Failure("hash", Reason.INVALID, "no")
    known = Memory(uid="u", applied="hash", owned=b"o", stale=True, proof="p", proof_uid="u")
    assert unlearned(known) is known  # nothing to forget: the digest that saves a comparison stays
    for taught in (
        {"failure": failure},
        {"ceded": ("/spec/replicas",)},
        {"deduped": ("/spec/containers/0/env",)},
        {"dropped": ("/spec/x",)},
        {"recreate": "u/hash"},
    ):
        memory = Memory(**{**{field: getattr(known, field) for field in known.__struct_fields__}, **taught})
        expected = Memory(uid="u", applied="hash", stale=True, proof="p", proof_uid="u")
        assert unlearned(memory) == expected


def test_a_changed_source_is_judged_without_the_old_refusal() -> None:
    realm = Realm()
    realm.target("east")
    realm.place()
    source = realm.deployment()
    pair = source.pairs["east"]
    pair.memory = Memory(uid="u", failure=Failure("hash", Reason.INVALID, "no"), dropped=("/spec/x",))
    realm.deployment(generation=2)
    assert pair.memory == Memory(uid="u")


# Recreation


def test_only_the_very_object_is_recreated_for_the_very_content_that_was_refused() -> None:
    manifest, hash_ = marked(deployment(image="nginx:1.28"))
    before, _ = marked(deployment())
    intent = wanted(manifest, hash_, Policy(on_immutable="Recreate"))
    causes = (Cause(reason="FieldValueInvalid", field="spec.selector", message="field is immutable"),)
    error = Invalid(422, "Invalid", "no", causes=causes)
    memory = absorb_error(Memory(), do.Apply(manifest, LIVE_UID, force=True), error, intent)
    assert memory is not None
    assert memory.recreate == recreation(LIVE_UID, hash_)
    assert isinstance(decide(situation(intent, live(before, OWNED), memory)), do.Delete)
    step = decide(situation(intent, live(before, OWNED, uid="another"), memory))
    assert not isinstance(step, do.Delete)
    other, other_hash = marked(deployment(image="nginx:1.29"))
    step = decide(situation(wanted(other, other_hash, intent.policy), live(before, OWNED), memory))
    assert not isinstance(step, do.Delete)
    assert absorb_reply(memory, do.Create(manifest), do.Replied(live(manifest, OWNED)), hash_).recreate == ""


# Waits and answers


class Answering:
    """An executor that says what it is told to say."""

    def __init__(self) -> None:
        self.steps: list[do.Action] = []
        self.answer: Any = None
        self.afterwards: Callable[[], None] = lambda: None

    async def perform(self, step: do.Action, *_: Any) -> do.Replied:
        self.steps.append(step)
        self.afterwards()
        if isinstance(self.answer, Exception):
            raise self.answer
        return do.Replied(cast(KubeObject, self.answer))


class Bench:
    """One pair whose object is not on its target yet."""

    def __init__(self) -> None:
        self.realm = realm = Realm()
        self.target = realm.target("east")
        realm.place()
        self.source: Source = realm.deployment()
        self.key = SyncKey(self.source.key, "east")
        self.pair = self.source.pairs["east"]
        assert self.target.link is not None
        self.target.link.book._ready["shop"] = ""
        self.executor = Answering()
        self.passes = Passes(
            realm.world,
            realm.sight,
            cast(Any, self.executor),
            Metrics(),
            lambda *given: given[-1],
            lambda *given: None,
        )

    def copy(self, version: int) -> KubeObject:
        """The object as the target's answer to our create."""
        self.realm.land(self.source, "east")
        seen = self.realm.mirrors["east", DEPLOYMENTS.group_resource].cache.pop(("shop", "web"))
        manifest = seen.manifest()
        manifest["metadata"]["resourceVersion"] = str(version)
        return decode_object(orjson.dumps(manifest))


async def test_one_write_takes_one_token_however_long_it_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the token lets the world go on; the decision is made anew, and the token is kept for it."""
    bench = Bench()
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        bench.realm.now += seconds

    monkeypatch.setattr("syncer.engine.passes.asyncio.sleep", sleep)
    taken = 0
    take = bench.target.bucket.take

    def counted(now: float) -> float:
        nonlocal taken
        taken += 1
        return take(now)

    monkeypatch.setattr(bench.target.bucket, "take", counted)
    bench.target.bucket.pause(bench.realm.now + 3.0)
    bench.executor.answer = bench.copy(9)
    bench.executor.afterwards = lambda: setattr(bench.target, "link", None)  # and no further step
    await bench.passes.run(bench.key)
    assert slept == [3.0]
    assert taken == 1
    assert [type(step) for step in bench.executor.steps] == [do.Create]


@pytest.mark.parametrize(("version", "there"), [(9, False), (11, True)])
async def test_an_answer_older_than_the_deleted_event_speaks_of_an_object_that_is_gone(
    version: int, there: bool
) -> None:
    """The event overtook the answer; believing the answer would leave the object away for ever."""
    bench = Bench()
    bench.pair.saw_event(bench.copy(10), deleted=True)
    bench.executor.answer = bench.copy(version)
    await bench.passes.run(bench.key)
    assert isinstance(bench.pair.live, Present) is there


@pytest.mark.parametrize(("said", "waits"), [(7.0, 7.0), (86400.0, LONGEST_PAUSE_SECONDS)])
async def test_a_target_may_ask_for_patience_but_not_for_ever(said: float, waits: float) -> None:
    """P12: Retry-After is a floor, and five minutes are its cap: for the key and for the whole target."""
    bench = Bench()
    bench.executor.answer = TooManyRequests(429, "TooManyRequests", "later", retry_after_seconds=said)
    await bench.passes.run(bench.key)
    now = bench.realm.now
    assert bench.target.bucket.paused_seconds(now) == waits
    bench.realm.world.queue.discard(bench.key)
    bench.realm.world.queue.retry(bench.key, now, bench.realm.world.rng, floor_seconds=waits)
    deadline = bench.realm.world.queue.next_deadline()
    assert deadline is not None
    assert now + waits <= deadline <= now + waits + 60.0


# Finalizers


class Upstream:
    """Answers finalizer writes with a version, and lets the watch be faster than the answer."""

    def __init__(self, answer: KubeObject, meanwhile: Any) -> None:
        self.answer = answer
        self.meanwhile = meanwhile

    async def patch(self, *_: Any, **__: Any) -> KubeObject:
        self.meanwhile()
        return self.answer


def upstream_object(version: int, *finalizers: str, generation: int = 1) -> KubeObject:
    manifest = deployment()
    manifest["metadata"] = {
        "name": "web",
        "namespace": "shop",
        "uid": "uid-Deployment-shop-web",
        "resourceVersion": str(version),
        "generation": generation,
        "finalizers": list(finalizers),
    }
    return decode_object(orjson.dumps(manifest), manager=None)


@pytest.mark.parametrize("seen", [50, 70])
async def test_the_answer_to_a_finalizer_write_never_replaces_something_newer(seen: int) -> None:
    """The watch may already show what came after it: then the answer is history."""
    realm = Realm()
    realm.target("east")
    realm.place(deletion={"wait": True})
    source = realm.deployment(resourceVersion="40")
    newer = upstream_object(seen, SYNCED_FINALIZER, generation=2)

    def meanwhile() -> None:
        source.object = newer

    answer = upstream_object(60, SYNCED_FINALIZER)
    client = Upstream(answer, meanwhile)
    writer = StatusWriter(realm.world, Sight(realm.discovery), cast(Any, client), Metrics(), lambda *_: None)
    await writer._finalizer(source)
    assert source.object is (newer if seen > 60 else answer)


async def test_a_source_that_is_deleted_while_its_status_is_written_is_no_fault() -> None:
    """The watch may tell of the deletion before the answer to the write is there."""
    realm = Realm()
    realm.target("east")
    realm.place()
    source = realm.deployment()
    realm.land(source, "east")
    report(source, "east", Health.HEALTHY)
    before = source.object
    assert before is not None

    def meanwhile() -> None:
        source.object = source.aggregator = None

    client = Upstream(upstream_object(60), meanwhile)
    writer = StatusWriter(realm.world, Sight(realm.discovery), cast(Any, client), Metrics(), lambda *_: None)
    await writer._status(source, before)
    assert source.aggregator is None
