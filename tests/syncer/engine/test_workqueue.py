"""The keyed queue, by example and against a naive model."""

from __future__ import annotations

import random
from math import inf
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from syncer.engine.workqueue import (
    BACKOFF_CAP_SECONDS,
    CATCH_UP,
    DRIFT,
    OLDEST_FIRST_EVERY,
    KeyedQueue,
    backoff_seconds,
)


def seeded(seed: int) -> random.Random:
    return random.Random(seed)


def drain(queue: KeyedQueue[Any], now: float = 0.0) -> list[Any]:
    """Take and finish everything that is due."""
    taken = []
    while (key := queue.take(now)) is not None:
        taken.append(key)
        queue.done(key)
    return taken


def test_keys_come_in_the_order_in_which_they_were_added() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    for key in ("b", "a", "c"):
        queue.add(key)
    assert drain(queue) == ["b", "a", "c"]
    assert len(queue) == 0


def test_duplicates_merge() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    for _ in range(3):
        queue.add("a")
    assert len(queue) == 1
    assert drain(queue) == ["a"]


def test_better_priority_goes_first_then_better_rank() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("catch-up", priority=CATCH_UP)
    queue.add("drift", priority=DRIFT)
    queue.add("workload", rank=5)
    queue.add("namespace", rank=0)
    assert drain(queue) == ["namespace", "workload", "drift", "catch-up"]


def test_a_user_change_lifts_a_key_that_waits_for_catch_up() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("first", priority=CATCH_UP)
    queue.add("second", priority=CATCH_UP)
    queue.add("second")
    assert len(queue) == 2
    assert drain(queue) == ["second", "first"]


def test_a_worse_duplicate_changes_nothing() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("a")
    queue.add("b")
    queue.add("a", at=100.0, priority=CATCH_UP)
    queue.add("a", at=-1.0)
    assert drain(queue) == ["a", "b"]


def test_a_key_with_a_time_waits_for_it() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("late", at=20.0)
    queue.add("early", at=10.0)
    assert queue.take(9.9) is None
    assert queue.next_deadline() == 10.0
    assert drain(queue, 10.0) == ["early"]
    assert queue.next_deadline() == 20.0
    assert drain(queue, 20.0) == ["late"]
    assert queue.next_deadline() is None


def test_the_earliest_time_wins() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("a", at=20.0, priority=CATCH_UP)
    queue.add("a", at=10.0, priority=CATCH_UP)
    queue.add("a", at=30.0)
    assert queue.next_deadline() == 10.0
    assert drain(queue, 10.0) == ["a"]
    assert drain(queue, 40.0) == []


def test_a_key_in_hand_is_not_handed_out_and_comes_right_after() -> None:
    """R01: one writer per key at a time."""
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("a")
    assert queue.take(0.0) == "a"
    assert "a" not in queue
    queue.add("a", at=50.0, priority=CATCH_UP)
    queue.add("a")
    assert "a" in queue
    assert len(queue) == 1
    assert queue.take(0.0) is None
    queue.done("a")
    assert queue.take(0.0) == "a"
    queue.done("a")
    assert queue.take(100.0) is None


def test_done_without_take_is_an_error() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("a")
    with pytest.raises(KeyError):
        queue.done("a")
    with pytest.raises(KeyError):
        queue.done("b")


def test_catch_up_does_not_starve_under_endless_user_changes() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("catch-up", priority=CATCH_UP)
    seen = []
    for number in range(OLDEST_FIRST_EVERY):
        queue.add(f"change-{number}")
        queue.add(f"more-{number}")
        key = queue.take(0.0)
        assert key is not None
        seen.append(key)
        queue.done(key)
    assert "catch-up" in seen


def test_the_turn_of_the_oldest_skips_keys_that_were_lifted() -> None:
    queue: KeyedQueue[int] = KeyedQueue()
    for number in range(3 * OLDEST_FIRST_EVERY):
        queue.add(number, priority=CATCH_UP)
        queue.add(number, priority=DRIFT)
        queue.add(number)
    assert sorted(drain(queue)) == list(range(3 * OLDEST_FIRST_EVERY))


def test_lanes_take_turns() -> None:
    """P13: a target with a lot of work does not put the others behind it."""
    queue: KeyedQueue[tuple[str, int]] = KeyedQueue(lambda key: key[0])
    for number in range(100):
        queue.add(("busy", number))
    queue.add(("quiet", 0))
    first = [queue.take(0.0), queue.take(0.0)]
    assert ("quiet", 0) in first


def test_a_held_lane_delays_nobody_else_and_comes_back() -> None:
    """P13, F37: nothing for the target before the time it asked for; the others go on."""
    queue: KeyedQueue[tuple[str, int]] = KeyedQueue(lambda key: key[0])
    queue.add(("sick", 0))
    queue.add(("well", 0))
    queue.hold("sick", 7.0)
    assert drain(queue, 1.0) == [("well", 0)]
    queue.add(("sick", 1))
    assert drain(queue, 6.9) == []
    assert queue.next_deadline() == 7.0
    assert drain(queue, 7.0) == [("sick", 0), ("sick", 1)]


def test_a_lane_held_for_good_is_released_by_the_next_call() -> None:
    queue: KeyedQueue[tuple[str, int]] = KeyedQueue(lambda key: key[0])
    queue.hold("sick", inf)
    queue.add(("sick", 0))
    assert queue.take(1e9) is None
    assert queue.next_deadline() is None
    queue.hold("sick", 0.0)
    assert queue.next_deadline() == 0.0
    assert drain(queue, 1e9) == [("sick", 0)]


def test_no_more_keys_of_a_lane_are_in_hand_than_its_limit() -> None:
    queue: KeyedQueue[tuple[str, int]] = KeyedQueue(lambda key: key[0], lane_limit=2)
    for number in range(4):
        queue.add(("east", number))
    assert [queue.take(0.0) for _ in range(3)] == [("east", 0), ("east", 1), None]
    assert queue.in_hand == 2
    assert queue.next_deadline() is None
    queue.done(("east", 0))
    assert queue.take(0.0) == ("east", 2)
    queue.limit("east", None)
    assert queue.take(0.0) == ("east", 3)


def test_a_dropped_lane_takes_its_keys_along() -> None:
    queue: KeyedQueue[tuple[str, int]] = KeyedQueue(lambda key: key[0], lane_limit=1)
    for number in range(3):
        queue.add(("gone", number))
    assert queue.take(0.0) == ("gone", 0)
    queue.add(("gone", 0))
    queue.hold("gone", inf)
    queue.drop_lane("gone")
    queue.drop_lane("never there")
    assert len(queue) == 0
    queue.done(("gone", 0))
    assert queue.take(0.0) is None
    queue.drop_lane("gone")
    queue.add(("gone", 5))
    assert drain(queue) == [("gone", 5)]


def test_a_discarded_key_is_not_handed_out() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("ready")
    queue.add("delayed", at=10.0)
    for key in ("ready", "delayed", "unknown"):
        queue.discard(key)
    assert len(queue) == 0
    assert queue.next_deadline() is None
    queue.add("ready")
    assert drain(queue, 20.0) == ["ready"]


def test_retry_doubles_with_full_jitter_up_to_the_cap_and_forget_resets() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    rng = seeded(7)
    ceilings = [min(60.0, 0.2 * 2**n) for n in range(12)]
    for ceiling in ceilings:
        delay = queue.retry("a", 0.0, rng)
        assert 0.0 <= delay <= ceiling
    queue.forget("a")
    assert queue.retry("a", 0.0, rng) <= 0.2


def test_full_jitter_uses_the_whole_range() -> None:
    rng = seeded(1)
    delays = [backoff_seconds(30, rng) for _ in range(2000)]
    assert min(delays) < 0.05 * BACKOFF_CAP_SECONDS
    assert max(delays) > 0.95 * BACKOFF_CAP_SECONDS
    assert backoff_seconds(10**6, rng) <= BACKOFF_CAP_SECONDS


def test_retry_after_is_a_floor() -> None:
    """F37, P12: Retry-After is respected."""
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("a")
    assert queue.take(100.0) == "a"
    assert queue.retry("a", 100.0, seeded(0), floor_seconds=7.0) == 7.0
    queue.done("a")
    assert queue.take(106.9) is None
    assert queue.take(107.0) == "a"


def test_a_retried_key_keeps_its_priority() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("slow", priority=CATCH_UP, rank=3)
    assert queue.take(0.0) == "slow"
    queue.retry("slow", 0.0, seeded(0))
    queue.done("slow")
    queue.add("change", at=59.0)
    assert drain(queue, 60.0) == ["change", "slow"]


def test_delayed_entries_that_were_outgrown_do_not_pile_up() -> None:
    """P18: memory follows the number of keys, not the number of calls."""
    queue: KeyedQueue[str] = KeyedQueue()
    queue.take(1.0)
    for number in range(10_000):
        queue.add("a", at=100_000.0 - number)
    assert len(queue._delayed) <= 70
    assert queue.next_deadline() == 90_001.0
    assert drain(queue, 90_001.0) == ["a"]
    assert queue.take(200_000.0) is None


KEYS = st.tuples(st.sampled_from("ab"), st.integers(0, 3))


class QueueAgainstModel(RuleBasedStateMachine):
    """R01: the queue holds what a dict of wishes would hold, and hands out only what is due and free."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: KeyedQueue[tuple[str, int]] = KeyedQueue(lambda key: key[0], lane_limit=2)
        self.now = 0.0
        self.wishes: dict[tuple[str, int], tuple[float, int]] = {}
        self.hand: list[tuple[str, int]] = []
        self.held = {"a": 0.0, "b": 0.0}

    @rule(key=KEYS, delay=st.sampled_from([0.0, 1.0, 5.0]), priority=st.integers(0, 2))
    def add(self, key: tuple[str, int], delay: float, priority: int) -> None:
        at = self.now + delay if delay else 0.0
        self.queue.add(key, at=at, priority=priority)
        old = self.wishes.get(key, (inf, 9))
        self.wishes[key] = (min(old[0], at), min(old[1], priority))

    def due(self) -> list[tuple[str, int]]:
        return [
            key
            for key, (at, _) in self.wishes.items()
            if at <= self.now
            and key not in self.hand
            and self.held[key[0]] <= self.now
            and sum(other[0] == key[0] for other in self.hand) < 2
        ]

    @rule()
    def take(self) -> None:
        due = self.due()
        key = self.queue.take(self.now)
        if key is None:
            assert not due
            return
        assert key in due
        del self.wishes[key]
        self.hand.append(key)

    @precondition(lambda self: self.hand)
    @rule(index=st.integers(0, 7))
    def done(self, index: int) -> None:
        self.queue.done(self.hand.pop(index % len(self.hand)))

    @rule(key=KEYS)
    def discard(self, key: tuple[str, int]) -> None:
        self.queue.discard(key)
        self.wishes.pop(key, None)

    @rule(lane=st.sampled_from("ab"), delay=st.sampled_from([0.0, 2.0]))
    def hold(self, lane: str, delay: float) -> None:
        self.held[lane] = self.now + delay if delay else 0.0
        self.queue.hold(lane, self.held[lane])

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.queue) == len(self.wishes)
        assert self.queue.in_hand == len(self.hand)

    @invariant()
    def the_deadline_is_never_late(self) -> None:
        if self.due():
            deadline = self.queue.next_deadline()
            assert deadline is not None
            assert deadline <= self.now


TestQueueAgainstModel = QueueAgainstModel.TestCase
TestQueueAgainstModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
