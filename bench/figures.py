"""Figures and what they are held against. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Goal:
    """A limit.

    Attributes:
        of: which number is held against it: ours, or the ratio of ours to the raw limit.
        at_least: larger is better; else at most the limit is wanted.
    """

    limit: float
    of: Literal["ours", "ratio"] = "ours"
    at_least: bool = False

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {number(self.limit)}{' of raw' if self.of == 'ratio' else ''}"


@dataclass(frozen=True)
class Line:
    """One measured number.

    Attributes:
        raw: the same, reached without Syncline in the same run; None where there is no such thing.
        note: how it was measured, or what it is made of.
        load: load average over one minute when the scenario began, and its highest value until it ended.
    """

    scenario: str
    what: str
    unit: str
    ours: float
    raw: float | None = None
    goal: Goal | None = None
    note: str = ""
    load: tuple[float, float] = field(default=(math.nan, math.nan))

    @property
    def ratio(self) -> float | None:
        """Ours by raw; None without a raw limit."""
        return self.ours / self.raw if self.raw else None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal. What could not be measured (NaN) reaches nothing."""
        if self.goal is None:
            return None
        value = self.ours if self.goal.of == "ours" else self.ratio
        if value is None:
            return False
        return value >= self.goal.limit if self.goal.at_least else value <= self.goal.limit

    def as_json(self) -> dict[str, Any]:
        """For files; what was not measured (NaN) is None there."""
        numbers = {"ours": self.ours, "raw": self.raw, "ratio": self.ratio}
        return asdict(self) | {
            **{name: None if value is None or math.isnan(value) else value for name, value in numbers.items()},
            "goal": str(self.goal) if self.goal else None,
            "reached": self.reached,
            "load": list(self.load),
        }


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that at least `percent` of all values do not exceed (nearest rank); NaN for no values."""
    if not 0 < percent <= 100:
        raise ValueError(f"percent must be above 0 and at most 100, not {percent}")
    ordered = sorted(values)
    return ordered[math.ceil(len(ordered) * percent / 100) - 1] if ordered else math.nan


def median(values: Iterable[float]) -> float:
    """The middle value, the lower one of two; NaN for no values."""
    return percentile(values, 50)


def busiest_window(times: Sequence[float], seconds: float) -> int:
    """Most events within any `seconds` (half-open, so two events exactly that far apart are not in one window)."""
    ordered = sorted(times)
    most = first = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def counted(changes: Sequence[float], totals: Iterable[tuple[float, int]]) -> list[float]:
    """Seconds from each of many equal changes until a running total contains as many.

    Every change raises the total by one, so the k-th change has certainly arrived when the total is k; which one it
    was does not matter to the sum. Changes that no total ever contained are left out.

    Args:
        changes: when each was made, ascending.
        totals: (when seen, how many changes it contains), ascending in time.
    """
    delays: list[float] = []
    for at, total in totals:
        while len(delays) < min(total, len(changes)):
            delays.append(at - changes[len(delays)])
    return delays


def number(value: float) -> str:
    """Three significant digits, whole from 100 on; a dash for NaN."""
    if math.isnan(value):
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
