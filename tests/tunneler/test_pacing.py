"""Bytes on the way follow what the link carries, also when acknowledgements come in bursts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunneler.pacing import GAIN, RTT_WINDOW_SECONDS, SLACK_BYTES, LinkPacer

RATE = 12_500_000  # bytes per second
RTT_SECONDS = 0.020
STEP_SECONDS = 0.0005
FRAME_BYTES = 4096


def run(seconds: float, hold_seconds: float, rtt: Callable[[float], float] = lambda now: RTT_SECONDS) -> list[int]:
    """The bound after each step of a link that always has bulk to carry.

    Args:
        hold_seconds: four times a second no acknowledgement passes for so long; then all come at once.
        rtt: round trip of what leaves at a time.
    """
    pacer = LinkPacer()
    now, free_at = 0.0, 0.0
    answers: list[tuple[float, int]] = []  # (when it arrives, offset)
    bounds: list[int] = []
    for step in range(int(seconds / STEP_SECONDS)):
        now = pacer.now = step * STEP_SECONDS
        if now % 0.25 >= hold_seconds:
            while answers and answers[0][0] <= now:
                assert pacer.acknowledge(answers.pop(0)[1], now)
        while pacer.room >= FRAME_BYTES:
            pacer.sent += FRAME_BYTES
            free_at = max(free_at, now) + FRAME_BYTES / RATE
            if pacer.sent >= pacer.mark_at:
                pacer.mark()
                answers.append((free_at + rtt(now), pacer.sent))
        if pacer.blocked():
            answers.append((free_at + rtt(now), pacer.sent))
            pacer.mark()
        bounds.append(pacer.cap)
    return bounds


@pytest.mark.parametrize("hold_seconds", [0.0, 0.010, 0.018])
def test_the_bound_is_what_the_link_carries_in_a_round_trip_and_a_half(hold_seconds: float) -> None:
    """Acknowledgements that were held up make the next ones look early; that is no faster link."""
    wanted = GAIN * RATE * RTT_SECONDS + SLACK_BYTES
    bounds = run(5.0, hold_seconds)[2000:]
    assert 0.8 * wanted <= min(bounds)
    assert max(bounds) <= 1.2 * wanted


def test_a_longer_way_is_noticed_and_used() -> None:
    """F31: the route changes; until that is noticed the bound is by the old round trip, and the link nearly idle."""
    change = 2.0
    bounds = run(change + 2 * RTT_WINDOW_SECONDS, 0.0, lambda now: RTT_SECONDS if now < change else 5 * RTT_SECONDS)
    assert bounds[-1] >= 0.8 * (GAIN * RATE * 5 * RTT_SECONDS + SLACK_BYTES)


def test_an_end_that_sends_no_bulk_believes_a_longer_ping() -> None:
    """It cannot probe, and its windows grow by the round trip."""
    pacer = LinkPacer()
    for now, rtt in ((0.0, 0.02), (5.0, 0.1), (RTT_WINDOW_SECONDS + 1, 0.1)):
        pacer.sample_ping(rtt, now)
        found = pacer.rtt_seconds
        assert found == (0.1 if now > RTT_WINDOW_SECONDS else 0.02)
    pacer.now, pacer.sent = 20.0, 1000
    pacer.mark()
    pacer.sample_ping(0.3, 40.0)  # bulk of our own is on the way, and may be the reason
    assert pacer.rtt_seconds == 0.1
