"""The arithmetic of the benchmarks, without any server."""

from __future__ import annotations

import json
import math

import pytest

from bench.figures import Goal, Line, busiest_window, counted, median, number, percentile


def test_a_percentile_is_a_value_that_was_measured() -> None:
    """Nearest rank: of ten values the 50th is the fifth, the 99th and the 100th are the last."""
    values = [10.0, 1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 5.0]
    assert [percentile(values, percent) for percent in (1, 50, 51, 99, 100)] == [1.0, 5.0, 6.0, 10.0, 10.0]
    assert median([3.0, 1.0]) == 1.0


def test_no_values_have_no_percentile() -> None:
    assert math.isnan(percentile([], 50))


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_a_percentile_outside_its_range_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="percent"):
        percentile([1.0], percent)


@pytest.mark.parametrize(
    ("ours", "raw", "goal", "reached"),
    [
        (9.9, None, Goal(10), True),
        (10.1, None, Goal(10), False),
        (0, None, Goal(0), True),
        (81, 100, Goal(0.8, of="ratio", at_least=True), True),
        (79, 100, Goal(0.8, of="ratio", at_least=True), False),
        (1, None, None, None),
    ],
)
def test_a_goal_is_held_against_ours_or_the_ratio(
    ours: float, raw: float | None, goal: Goal | None, reached: bool | None
) -> None:
    assert Line("s", "w", "u", ours, raw, goal).reached is reached


def test_what_was_not_measured_reaches_no_goal() -> None:
    """NaN and a missing raw limit are no success."""
    assert Line("s", "w", "u", math.nan, None, Goal(10)).reached is False
    assert Line("s", "w", "u", 100, None, Goal(0.8, of="ratio", at_least=True)).reached is False
    assert Line("s", "w", "u", 100, 0, Goal(0.8, of="ratio", at_least=True)).reached is False


def test_a_line_is_valid_json_with_its_verdict() -> None:
    line = Line("s", "w", "u", math.nan, 4.0, Goal(1), load=(1.0, 2.0)).as_json()
    assert json.loads(json.dumps(line, allow_nan=False)) == line
    assert (line["ours"], line["ratio"], line["reached"], line["goal"]) == (None, None, False, "≤ 1")


def test_the_busiest_window_is_half_open() -> None:
    assert busiest_window([0.0, 0.1, 0.2], 0.1) == 1
    assert busiest_window([0.5, 0.0, 0.05, 0.09, 0.11], 0.1) == 3
    assert busiest_window([], 0.1) == 0


def test_each_change_arrives_with_the_first_total_that_contains_as_many() -> None:
    """Coalesced changes arrive together; changes that no total contains are left out."""
    assert counted([1.0, 2.0, 3.0], [(2.5, 2), (4.0, 2)]) == [1.5, 0.5]
    assert counted([1.0], [(1.5, 7)]) == [0.5]


@pytest.mark.parametrize(
    ("value", "text"),
    [(math.nan, "-"), (1234.6, "1,235"), (12.34, "12.3"), (1.234, "1.23"), (0.8, "0.80"), (3.0, "3"), (-2.5, "-2.50")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text
