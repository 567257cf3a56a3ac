"""Waits between tries: quick, then patient, random, and told by what happened."""

from __future__ import annotations

import pytest

from tunneler.errors import CloseCode, HandshakeRefused
from tunneler.reconnect import Reconnect, Retry


def test_three_quick_tries_then_doubling_to_30_seconds_for_ever() -> None:
    link = Reconnect(lambda: 1.0)
    failed = HandshakeRefused(0, "refused")
    waits = [link.refused(failed, 0.0).seconds for _ in range(40)]
    assert waits[:9] == [0.3, 0.3, 0.3, 1, 2, 4, 8, 16, 30]
    assert set(waits[9:]) == {30}


def test_every_wait_is_a_random_part() -> None:
    link = Reconnect(lambda: 0.0)
    assert [link.refused(HandshakeRefused(503, ""), 0.0).seconds for _ in range(9)] == [0.0] * 9


def test_a_minute_of_health_is_a_new_start() -> None:
    link = Reconnect(lambda: 1.0)
    for _ in range(6):
        link.refused(HandshakeRefused(0, ""), 0.0)
    link.connected(100.0)
    assert link.lost(None, 159.0).seconds == 8
    link.connected(200.0)
    assert link.lost(None, 260.0).seconds == 0.3


@pytest.mark.parametrize(
    ("code", "told", "retry"),
    [
        (CloseCode.DRAIN, 0.0, Retry(0.0)),
        (CloseCode.DRAIN, 4.0, Retry(2.0)),
        (CloseCode.GONE, 0.0, Retry(2.5)),
        (CloseCode.AUTH, 0.0, Retry(60.0, reload=True)),
        (CloseCode.REPLACED, 0.0, Retry(60.0, reload=True)),
        (CloseCode.TIMEOUT, 0.0, Retry(0.15)),
        (None, 0.0, Retry(0.15)),
    ],
)
def test_what_ended_the_link_decides(code: CloseCode | None, told: float, retry: Retry) -> None:
    assert Reconnect(lambda: 0.5).lost(code, 0.0, retry_after_seconds=told) == retry


def test_a_hub_that_denies_is_asked_each_minute_and_retry_after_is_a_floor() -> None:
    link = Reconnect(lambda: 0.5)
    assert link.refused(HandshakeRefused(401, ""), 0.0) == Retry(60.0, reload=True)
    assert link.refused(HandshakeRefused(403, ""), 0.0) == Retry(60.0, reload=True)
    assert link.refused(HandshakeRefused(429, "", retry_after_seconds=7), 0.0) == Retry(7)
    assert link.refused(HandshakeRefused(503, "", retry_after_seconds=1e9), 0.0) == Retry(300)
