"""Bytes on the way follow what the link carries, also when acknowledgements come in bursts."""

from __future__ import annotations

import pytest

from tunneler.pacing import GAIN, SLACK_BYTES, LinkPacer

RATE = 12_500_000  # bytes per second
RTT_SECONDS = 0.020
STEP_SECONDS = 0.0005
FRAME_BYTES = 4096


def run(seconds: float, hold_seconds: float) -> list[int]:
    """The bound after each step of a link that always has bulk to carry.

    Args:
        hold_seconds: four times a second no acknowledgement passes for so long; then all come at once.
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
                answers.append((free_at + RTT_SECONDS, pacer.sent))
        if pacer.blocked():
            answers.append((free_at + RTT_SECONDS, pacer.sent))
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
