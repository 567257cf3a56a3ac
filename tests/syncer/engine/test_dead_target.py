"""P13, P18: a target that does not answer costs one look per change, and one lot of tries per probe."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from syncer.api.keys import SyncKey
from syncer.engine import intents
from syncer.engine.actions import Action, Replied
from syncer.engine.dispatcher import Dispatcher
from syncer.engine.lanes import BreakerState
from syncer.engine.pair import ABSENT, Outcome, State
from syncer.engine.passes import Passes
from syncer.engine.state import Source
from syncer.engine.targets import TargetRuntime
from syncer.engine.workqueue import CATCH_UP, DRIFT, USER_CHANGE, KeyedQueue
from syncer.kube.errors import Status, Unreachable, error_from_status
from syncer.metrics import Metrics
from tests.syncer.engine.test_passes import Obeying
from tests.syncer.engine.worlds import Realm

OBJECTS = 200
WEBHOOK_DOWN = 'Internal error occurred: failed calling webhook "a.b": failed to call webhook: connection refused'


class Dead:
    """An executor that reaches nobody."""

    def __init__(self) -> None:
        self.tried = 0

    async def perform(self, *_: Any) -> Replied:
        self.tried += 1
        raise Unreachable(0, "Unreachable", "connection refused")


def test_a_hold_may_let_better_priorities_go_on() -> None:
    queue: KeyedQueue[str] = KeyedQueue(lambda key: key[0])
    queue.hold("a", 10.0, above=CATCH_UP)
    queue.add("a-late", priority=CATCH_UP)
    queue.add("a-soon", priority=CATCH_UP)
    queue.add("a-news", priority=USER_CHANGE)
    queue.add("a-drift", priority=DRIFT)
    queue.add("a-soon", priority=DRIFT)  # leaves a dead one behind
    assert [queue.take(1.0) for _ in range(4)] == ["a-news", "a-drift", "a-soon", None]
    assert queue.next_deadline() == 10.0
    assert queue.take(10.0) == "a-late"


def test_starving_is_no_reason_to_hand_out_what_is_held() -> None:
    queue: KeyedQueue[int] = KeyedQueue()
    queue.hold(None, 100.0, above=CATCH_UP)
    for number in range(40):
        queue.add(number, priority=CATCH_UP if number < 20 else USER_CHANGE)
    taken = [queue.take(1.0) for _ in range(21)]
    assert taken == [*range(20, 40), None]
    queue.hold(None, 0.0)
    assert queue.take(2.0) == 0


def open_breaker(realm: Realm, target: TargetRuntime) -> None:
    while target.breaker.state is not BreakerState.OPEN:
        realm.world.failed(target, "connection refused")


def a_realm() -> tuple[Realm, TargetRuntime, list[Source]]:
    realm = Realm()
    target = realm.target("east")
    realm.place()
    sources = [realm.deployment(f"web-{number}") for number in range(OBJECTS)]
    target.link.book._ready["shop"] = ""  # type: ignore[union-attr]
    return realm, target, sources


def test_nothing_is_rendered_for_a_target_that_takes_no_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    realm, target, sources = a_realm()
    open_breaker(realm, target)
    monkeypatch.setattr(intents, "render", lambda *_, **__: pytest.fail("rendered for nobody"))
    now = intents.situation(realm.world, realm.sight, sources[0], sources[0].pairs["east"], target)
    assert now.closed is not None
    assert now.downstream != ABSENT


async def work(realm: Realm, passes: Passes, seconds: float) -> int:
    """Passes that ran within this time of the realm's clock."""
    count = 0

    async def one(key: SyncKey) -> None:
        nonlocal count
        count += 1
        await passes.run(key)

    dispatcher = Dispatcher(realm.world.queue, one, lambda: realm.now)
    end = realm.now + seconds
    while realm.now <= end:
        while (key := realm.world.queue.take(realm.now)) is not None:
            await dispatcher._one(key)
        realm.now += 0.05
    await asyncio.sleep(0)
    return count


async def test_keys_of_a_dead_target_are_not_tried_one_by_one() -> None:
    """P13: 200 objects on a dead target, one minute: one pass each to say so, then a few per probe."""
    realm, target, sources = a_realm()
    executor = Dead()
    passes = Passes(
        realm.world, realm.sight, cast(Any, executor), Metrics(), lambda *given: given[-1], lambda *given: None
    )
    await work(realm, passes, 5.0)
    assert {source.pairs["east"].outcome.state for source in sources} == {State.PENDING}
    assert executor.tried < 20
    assert await work(realm, passes, 60.0) < OBJECTS
    sources[7].pairs["east"].outcome = Outcome(State.SYNCED)
    realm.deployment("web-7", generation=2)
    await work(realm, passes, 0.1)
    assert sources[7].pairs["east"].outcome.reason == "Unreachable"  # a change is told at once, held or not
    realm.world.answered(target)
    assert target.breaker.state is BreakerState.CLOSED
    before = executor.tried
    await work(realm, passes, 0.05)
    assert executor.tried > before  # and everything goes on as soon as the target answers


async def test_a_probe_under_way_brings_no_lot_of_keys_after_it() -> None:
    """Half open, and nobody answered yet: the others wait for the next probe."""
    realm, target, sources = a_realm()
    passes = Passes(
        realm.world, realm.sight, cast(Any, Dead()), Metrics(), lambda *given: given[-1], lambda *given: None
    )
    while (key := realm.world.queue.take(realm.now)) is not None:
        realm.world.queue.done(key)
    open_breaker(realm, target)
    realm.now = target.breaker.retry_at() + 0.01
    assert target.breaker.allows(realm.now)  # the probe
    for source in sources:
        realm.world.enqueue(SyncKey(source.key, "east"), CATCH_UP)
    assert await work(realm, passes, 1.0) < 5


class Guarded:
    """A target that takes everything but what a webhook guards, which is down until `healed`."""

    def __init__(self, realm: Realm, guarded: range) -> None:
        self._obeying = Obeying(realm)
        self._guarded = {f"web-{number}" for number in guarded}
        self.healed = False
        self.refused = 0

    async def perform(self, step: Action, source: Source, *given: Any) -> Replied:
        if source.key.name in self._guarded and not self.healed:
            self.refused += 1
            raise error_from_status(500, Status(500, "InternalError", WEBHOOK_DOWN))
        return await self._obeying.perform(step, source, *given)


async def test_a_dead_webhook_of_a_target_is_no_dead_target() -> None:
    """Six objects are refused again and again; the others stay as they are, and what is new of them goes out."""
    realm, target, sources = a_realm()
    executor = Guarded(realm, range(6))
    passes = Passes(
        realm.world, realm.sight, cast(Any, executor), Metrics(), lambda *given: given[-1], lambda *given: None
    )
    await work(realm, passes, 1.0)
    others = sources[6:]
    for _ in range(30):
        for source in others:
            realm.world.enqueue(SyncKey(source.key, "east"), DRIFT)
        await work(realm, passes, 1.0)
        assert {source.pairs["east"].outcome for source in others} == {Outcome(State.SYNCED)}
        assert target.breaker.state is BreakerState.CLOSED
    assert executor.refused > 6 * 4
    stuck = sources[0].pairs["east"].outcome
    assert (stuck.state, stuck.reason, stuck.message) == (State.PENDING, "Retrying", WEBHOOK_DOWN)
    before = others[0].pairs["east"].memory.applied
    realm.deployment("web-6", generation=2, labels={"tier": "front"})
    await work(realm, passes, 0.1)
    assert others[0].pairs["east"].memory.applied not in ("", before)


async def test_who_has_nothing_to_send_takes_no_probe_from_who_has() -> None:
    realm, target, sources = a_realm()
    passes = Passes(
        realm.world, realm.sight, cast(Any, Obeying(realm)), Metrics(), lambda *given: given[-1], lambda *given: None
    )
    await work(realm, passes, 1.0)
    open_breaker(realm, target)
    realm.now = target.breaker.retry_at() + 0.01
    for source in sources[1:]:
        realm.world.enqueue(SyncKey(source.key, "east"), USER_CHANGE)
    await work(realm, passes, 0.05)
    assert {source.pairs["east"].outcome for source in sources} == {Outcome(State.SYNCED)}
    assert target.breaker.state is BreakerState.OPEN
    before = sources[0].pairs["east"].memory.applied
    realm.deployment("web-0", generation=2, labels={"tier": "front"})
    await work(realm, passes, 0.1)
    assert sources[0].pairs["east"].memory.applied not in ("", before)
