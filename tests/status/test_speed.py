"""What one report costs; best of several rounds, so that a busy machine does not decide."""

from __future__ import annotations

import sys
from time import perf_counter

import pytest

from status.report import Report
from tests.status.builders import NOW, aggregator, deployment, merged, reported, source

TARGETS = 1_000


@pytest.fixture(autouse=True)
def _untraced() -> None:
    if sys.gettrace() is not None:
        pytest.skip("coverage slows every line down; the limits are for code that runs by itself")


def words(available: int, targets: int = TARGETS) -> list[Report]:
    return [reported(f"target-{number:04}", deployment(3, available=available)) for number in range(targets)]


def seconds_for_each(targets: int) -> float:
    """The quickest of several rounds in which each target says something new."""
    made = aggregator(*(report.target for report in words(3, targets)))
    best = float("inf")
    for available in (3, 1, 2, 3, 0) * (TARGETS // targets):
        reports = words(available, targets)
        started = perf_counter()
        for report in reports:
            made.put(report)
        best = min(best, (perf_counter() - started) / targets)
    assert merged(made, source())["availableReplicas"] == 0
    return best


def test_a_report_costs_little_more_among_1000_targets_than_among_20() -> None:
    """50 microseconds on a quiet machine; what the growth tells does not depend on the machine."""
    assert seconds_for_each(TARGETS) <= 4 * seconds_for_each(20)


def test_a_status_of_1000_targets_is_told_in_a_small_part_of_the_window() -> None:
    """It is told once per write, at most ten times a second."""
    made = aggregator(*(report.target for report in words(3)))
    for report in words(3):
        made.put(report)
    best = float("inf")
    for _ in range(5):
        started = perf_counter()
        assert made.status(source(), now=NOW) is not None
        best = min(best, perf_counter() - started)
    assert best <= 0.1  # 10 ms on a quiet machine
