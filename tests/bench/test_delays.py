"""Delays between what was sent and what arrived."""

from __future__ import annotations

import math
import time

import pytest

from bench.delays import Delays, lines


async def nothing() -> None:
    """A request that takes no time."""


async def measured(*delays_seconds: float) -> Delays:
    found = Delays()
    for number, delay in enumerate(delays_seconds):
        await found.send([number], nothing)
        found.arrived(number, time.monotonic() + delay)
    return found


async def test_only_the_first_arrival_of_a_change_that_was_sent_counts() -> None:
    found = await measured(1.0)
    found.arrived(0, time.monotonic() + 5)
    found.arrived("never sent", time.monotonic())
    assert found.from_sending == [pytest.approx(1.0, abs=0.05)]
    await found.complete()


async def test_one_request_may_cause_changes_in_many_places() -> None:
    found = Delays()
    await found.send([("east", "x"), ("west", "x")], nothing)
    for target in ("east", "west"):
        found.arrived((target, "x"), time.monotonic() + 0.01)
    assert len(found.from_reply) == 2


async def test_a_lost_change_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.delays.ARRIVAL_SECONDS", 0.0)
    found = Delays()
    await found.send([1], nothing)
    with pytest.raises(TimeoutError, match="every change arrives"):
        await found.complete()


async def test_delays_from_the_reply_are_withheld_when_replies_were_read_too_late() -> None:
    """A process without CPU reads reply and arrival in one turn; that is no delay of zero."""
    clear, blurred = await measured(*[0.005] * 10), await measured(*[0.0001] * 5, *[0.005] * 5)
    assert (clear.blurred, blurred.blurred) == (0.0, 0.5)
    sending, reply = lines("s", "w", blurred, clear, {50: 10}, "how")
    assert sending.reached is True
    assert math.isnan(reply.ours)
    assert reply.goal is None
    assert "50% of the replies" in reply.note
    assert not math.isnan(list(lines("s", "w", clear, clear, {50: 10}, "how"))[1].ours)
