"""How often one caller may try."""

from __future__ import annotations

from syncer.hub.throttle import ENTRIES, Throttle


def test_a_burst_is_spent_and_comes_back_with_time() -> None:
    """S02."""
    now = [0.0]
    throttle = Throttle(3, 0.5, clock=lambda: now[0])
    assert [throttle.spend("a") for _ in range(4)] == [0.0, 0.0, 0.0, 2.0]
    assert throttle.wait_seconds("a") == 2.0
    assert throttle.spend("b") == 0.0
    now[0] += 2
    assert throttle.spend("a") == 0.0
    assert throttle.spend("a") > 0
    now[0] += 1000
    assert [throttle.spend("a") for _ in range(4)] == [0.0, 0.0, 0.0, 2.0]


def test_looking_spends_nothing_and_callers_are_forgotten_in_the_end() -> None:
    throttle = Throttle(1, 1, clock=lambda: 0.0)
    assert [throttle.wait_seconds("a") for _ in range(5)] == [0.0] * 5
    for number in range(ENTRIES + 50):
        throttle.spend(str(number))
    assert len(throttle._buckets) == ENTRIES
