"""Token bucket and circuit breaker with a clock in hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.engine.lanes import BreakerState, CircuitBreaker, TokenBucket


def test_a_burst_goes_at_once_and_the_rest_in_order_at_the_rate() -> None:
    bucket = TokenBucket(qps=10, burst=3)
    assert [bucket.take(0.0) for _ in range(5)] == pytest.approx([0.0, 0.0, 0.0, 0.1, 0.2])


def test_tokens_come_back_with_time_but_never_above_the_burst() -> None:
    bucket = TokenBucket(qps=10, burst=2)
    bucket.take(0.0)
    bucket.take(0.0)
    assert [bucket.take(100.0) for _ in range(3)] == pytest.approx([0.0, 0.0, 0.1])


@given(st.lists(st.floats(0.0, 0.5), min_size=1, max_size=80))
def test_no_more_than_burst_plus_rate_leave_in_any_time(gaps: list[float]) -> None:
    bucket = TokenBucket(qps=5, burst=4)
    now, leaves = 0.0, []
    for gap in gaps:
        now += gap
        leaves.append(now + bucket.take(now))
    assert leaves == sorted(leaves)
    for first in range(len(leaves)):
        for last in range(first, len(leaves)):
            assert last - first + 1 <= 4 + 5 * (leaves[last] - leaves[first]) + 1e-6


def test_a_pause_holds_every_take_until_its_end() -> None:
    """F37: no request earlier than told."""
    bucket = TokenBucket(qps=100, burst=10)
    bucket.pause(7.0)
    bucket.pause(3.0)
    assert bucket.take(0.0) == 7.0
    assert bucket.paused_seconds(2.0) == 5.0
    assert bucket.take(7.0) == 0.0


def test_new_limits_count_from_now_on() -> None:
    bucket = TokenBucket(qps=1, burst=100)
    bucket.resize(qps=10, burst=1, now=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])


@pytest.mark.parametrize(("qps", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_limits_that_let_nothing_through_are_refused(qps: float, burst: int) -> None:
    with pytest.raises(ValueError, match="qps must be above 0"):
        TokenBucket(qps, burst)
    with pytest.raises(ValueError, match="qps must be above 0"):
        TokenBucket(1, 1).resize(qps, burst, 0.0)


def state(breaker: CircuitBreaker) -> BreakerState:
    """Read afresh: a type checker believes that a property keeps the value it was compared with."""
    return breaker.state


def opened(threshold: int = 3, now: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker(threshold)
    for _ in range(threshold):
        breaker.failure(now)
    return breaker


def test_the_breaker_opens_only_after_failures_in_a_row() -> None:
    breaker = CircuitBreaker(3)
    for outcome in (breaker.failure, breaker.failure):
        outcome(0.0)
    breaker.success()
    breaker.failure(0.0)
    breaker.failure(0.0)
    assert state(breaker) == BreakerState.CLOSED
    assert breaker.allows(0.0)
    breaker.failure(0.0)
    assert state(breaker) == BreakerState.OPEN
    assert not breaker.allows(0.5)
    assert breaker.retry_at() == 1.0


def test_an_open_breaker_lets_one_probe_through_and_success_closes_it() -> None:
    breaker = opened()
    assert breaker.allows(1.0)
    assert state(breaker) == BreakerState.HALF_OPEN
    assert not breaker.allows(1.0)
    breaker.success()
    assert state(breaker) == BreakerState.CLOSED
    assert breaker.allows(1.0)
    assert breaker.retry_at() < 0.0


def test_a_failed_probe_waits_twice_as_long_up_to_the_cap() -> None:
    breaker = opened()
    now, waits = 0.0, []
    for _ in range(7):
        waits.append(breaker.retry_at() - now)
        now = breaker.retry_at()
        assert breaker.allows(now)
        breaker.failure(now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_late_failures_do_not_prolong_an_open_breaker() -> None:
    breaker = opened()
    breaker.failure(0.9)
    assert breaker.retry_at() == 1.0


def test_a_probe_that_never_reports_is_followed_by_another() -> None:
    breaker = opened()
    assert breaker.allows(1.0)
    assert not breaker.allows(1.0 + CircuitBreaker.PROBE_SECONDS - 0.1)
    assert breaker.allows(1.0 + CircuitBreaker.PROBE_SECONDS)


def test_a_look_at_the_breaker_takes_no_probe() -> None:
    breaker = opened()
    assert not breaker.would_allow(0.5)
    assert breaker.would_allow(1.0)
    assert state(breaker) == BreakerState.OPEN
    assert breaker.allows(1.0)
    assert not breaker.would_allow(1.0)


def test_a_threshold_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="threshold"):
        CircuitBreaker(0)
