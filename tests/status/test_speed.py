"""What one report costs, counted in function calls: a busy machine makes them slower, and not more."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from status.report import Report
from tests.status.builders import NOW, aggregator, deployment, merged, reported, source

TARGETS = 1_000


@pytest.fixture(autouse=True)
def _untraced() -> None:
    if sys.gettrace() is not None:
        pytest.skip("coverage traces too, and its calls would be counted")


def words(available: int, targets: int = TARGETS) -> list[Report]:
    return [reported(f"target-{number:04}", deployment(3, available=available)) for number in range(targets)]


def calls(work: Callable[[], object]) -> int:
    """How many functions are entered, those in C included."""
    count = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def calls_for_each(targets: int) -> float:
    """On average, in a round in which each target says something new."""
    made = aggregator(*(report.target for report in words(3, targets)))
    for report in words(3, targets):
        made.put(report)
    reports = words(0, targets)

    def work() -> None:
        for report in reports:
            made.put(report)

    counted = calls(work) / targets
    assert merged(made, source())["availableReplicas"] == 0
    return counted


def test_a_report_costs_no_more_among_1000_targets_than_among_20() -> None:
    assert calls_for_each(TARGETS) <= 1.5 * calls_for_each(20)


def test_a_status_of_1000_targets_is_told_in_a_few_calls_for_each() -> None:
    """It is told once per write, at most ten times a second."""
    made = aggregator(*(report.target for report in words(3)))
    for report in words(3):
        made.put(report)
    assert made.status(source(), now=NOW) is not None
    assert calls(lambda: made.status(source(), now=NOW)) <= 20 * TARGETS
