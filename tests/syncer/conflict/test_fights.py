"""Noticing that somebody changes a field back each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncer.conflict.fights import LIMIT, MOST_FIELDS, WINDOW_SECONDS, FightHistory

IMAGE = "/spec/template/spec/containers/0/image"


def fought(history: FightHistory, now: float = 0.0, pointer: str = IMAGE) -> None:
    for _ in range(LIMIT + 1):
        history.record(pointer, now)


def test_single_edits_are_repaired() -> None:
    history = FightHistory()
    assert not any(history.record(IMAGE, float(second)) for second in range(LIMIT))
    assert history.wait_seconds(0.0) == 0.0


def test_edits_over_a_long_time_are_no_fight() -> None:
    history = FightHistory()
    step = WINDOW_SECONDS / LIMIT
    assert not any(history.record(IMAGE, number * step) for number in range(100))


def test_one_rewrite_too_many_is_a_fight() -> None:
    """F39"""
    history = FightHistory()
    assert [history.record(IMAGE, 1.0) for _ in range(LIMIT + 1)] == [False] * LIMIT + [True]
    assert history.wait_seconds(1.0) == 600.0


def test_one_rewrite_is_allowed_after_each_pause_and_pauses_grow_to_an_hour() -> None:
    history = FightHistory()
    fought(history)
    now, pauses = 0.0, []
    for _ in range(5):
        pauses.append(history.wait_seconds(now))
        now += pauses[-1]
        assert not history.record(IMAGE, now)
        assert history.record(IMAGE, now + 1.0)
    assert pauses == [600.0, 1200.0, 2400.0, 3600.0, 3600.0]


def test_a_fight_is_over_when_the_field_was_left_alone() -> None:
    history = FightHistory()
    fought(history)
    assert not any(history.record(IMAGE, 1800.0) for _ in range(LIMIT))
    assert history.record(IMAGE, 1800.0)


def test_fields_do_not_count_for_each_other() -> None:
    history = FightHistory()
    fought(history)
    assert not history.record("/spec/paused", 0.0)
    assert history.wait_seconds(0.0) == 600.0


def test_memory_is_bounded_and_the_quietest_field_is_forgotten() -> None:
    """P12, P18"""
    history = FightHistory()
    fought(history)
    for number in range(MOST_FIELDS - 1):
        history.record(f"/data/{number}", 0.0)
    assert history.wait_seconds(0.0)
    history.record("/data/last", 0.0)
    assert not history.wait_seconds(0.0)


@given(st.lists(st.floats(0.0, 400.0), min_size=1, max_size=200))
def test_never_more_than_ten_rewrites_within_an_hour_of_a_fight(gaps: list[float]) -> None:
    """F39: at most 10 writes an hour, however often the field is changed."""
    history = FightHistory()
    now, writes = 0.0, []
    for gap in [*[0.0] * (LIMIT + 1), *gaps]:
        now += gap
        if not history.record(IMAGE, now):
            writes.append(now)
    assert all(sum(first <= write < first + 3600.0 for write in writes) <= 10 for first in writes)
