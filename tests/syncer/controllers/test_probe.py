"""Probes: one lost packet never turns a target."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncer.controllers.probe import CONFIRM_SECONDS, ProbeTracker


def tracker(threshold: int = 3) -> ProbeTracker:
    return ProbeTracker(threshold=threshold, interval_seconds=10, now=0)


def test_nothing_is_claimed_before_the_first_answer() -> None:
    assert tracker().verdict.reachable is None


def test_a_single_failure_between_successes_never_turns_the_verdict() -> None:
    probe = tracker()
    assert probe.success(0)
    for second in range(1, 100, 2):
        assert not probe.failure("Unreachable", "timeout", second)
        assert not probe.success(second + 1)
    assert probe.verdict.since == 0


def test_the_third_failure_in_a_row_turns_it_and_one_success_turns_it_back() -> None:
    probe = tracker()
    probe.success(0)
    assert [probe.failure("Unreachable", "refused", t) for t in (10, 12, 14, 16)] == [False, False, True, False]
    assert (probe.verdict.reachable, probe.verdict.since) == (False, 14)
    assert probe.success(18)
    assert probe.verdict.reachable is True


def test_the_message_of_a_verdict_stands_still_until_its_reason_changes() -> None:
    """A target that stays away causes one status write, not one per try."""
    probe = tracker(threshold=1)
    assert probe.failure("Unreachable", "refused", 1)
    assert not probe.failure("Unreachable", "timed out", 2)
    assert probe.failure("Unauthorized", "token expired", 3)
    assert probe.verdict.since == 1


def test_after_a_failure_the_next_probe_comes_soon() -> None:
    probe = tracker()
    assert probe.next_probe() == 10
    probe.failure("Unreachable", "refused", 1)
    assert probe.next_probe() == CONFIRM_SECONDS


@given(st.lists(st.booleans(), max_size=50), st.integers(1, 5))
def test_unreachable_means_at_least_threshold_failures_since_the_last_success(answers: list[bool], limit: int) -> None:
    probe = tracker(limit)
    for second, good in enumerate(answers):
        if good:
            probe.success(second)
        else:
            probe.failure("Unreachable", "refused", second)
        tail = answers[: second + 1]
        failures = len(tail) - (max((i for i, ok in enumerate(tail) if ok), default=-1) + 1)
        assert (probe.verdict.reachable is False) == (failures >= limit)
