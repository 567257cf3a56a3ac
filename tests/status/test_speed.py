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


def words(available: int) -> list[Report]:
    return [reported(f"target-{number:04}", deployment(3, available=available)) for number in range(TARGETS)]


def test_a_report_is_merged_within_50_microseconds_at_1000_targets() -> None:
    made = aggregator(*(report.target for report in words(3)))
    best = float("inf")
    for available in (3, 1, 2, 3, 0):
        reports = words(available)
        started = perf_counter()
        for report in reports:
            made.put(report)
        best = min(best, (perf_counter() - started) / TARGETS)
    assert merged(made, source())["availableReplicas"] == 0
    assert best <= 50e-6


def test_a_status_of_1000_targets_is_told_within_10_milliseconds() -> None:
    """It is told once per write, at most ten times a second."""
    made = aggregator(*(report.target for report in words(3)))
    for report in words(3):
        made.put(report)
    best = float("inf")
    for _ in range(5):
        started = perf_counter()
        assert made.status(source(), now=NOW) is not None
        best = min(best, perf_counter() - started)
    assert best <= 10e-3
