"""The nightly churn, for seconds; and that what it looks for would be seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.nightly.churn import churn
from tests.nightly.flat import Sample, faults

CALM = Sample(80 * 2**20, 40_000, 6, 17, sessions=2, streams=0)


async def test_a_short_churn_finds_every_byte_right() -> None:
    """P18 in short: rounds of calls over links that fail; after each, two sessions are up and no stream is open."""
    said: list[str] = []
    wrong = await churn(5, 1, said.append, silence_seconds=2)
    assert not wrong, said


def test_what_is_flat_is_not_complained_of() -> None:
    """A link that comes up anew at the moment of a sample is no leak."""
    wobbling = [replace(CALM, descriptors=18 if number % 4 == 0 else 17) for number in range(30)]
    assert faults("hub", wobbling, sessions=2) == []


@pytest.mark.parametrize(("what", "by"), [("tasks", 0.1), ("descriptors", 0.1), ("objects", 200), ("rss_bytes", 2**18)])
def test_what_grows_is_told(what: str, by: float) -> None:
    """One task or descriptor in ten rounds, and a quarter of a MiB in each, is a leak."""
    growing = [replace(CALM, **{what: int(getattr(CALM, what) + by * number)}) for number in range(60)]
    (told,) = faults("agent", growing, sessions=2)
    assert told.startswith(f"agent: {what} grew from ")


def test_what_is_open_at_rest_is_told() -> None:
    assert len(faults("hub", [CALM, replace(CALM, streams=1), replace(CALM, sessions=3)], sessions=2)) == 2
