"""When to say PING, and when a link is lost. Pure; clock and chance are handed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

BLOCKED_SECONDS = 2.0
"""A tick that comes so late says that this process slept, not the peer."""

MEASURE_INTERVALS = 2
"""After so many intervals a PING is sent on a busy link too: the round trip is of interest there."""


class Liveness:
    """Any byte counts as life: a fixed timer for PONG would kill slow links under load.

    Attributes:
        rtt_seconds: smallest round trip of the last four PINGs, or None before the first PONG.
    """

    __slots__ = ("_asleep", "_chance", "_dead_after", "_expected", "_interval", "_measure_at", "_next_ping", "_number",
                 "_rtts", "_sent_at", "last_received", "rtt_seconds")  # fmt: skip

    def __init__(
        self, *, now: float, ping_interval_seconds: float, dead_after_seconds: float, chance: Callable[[], float]
    ) -> None:
        self._interval = ping_interval_seconds
        self._dead_after = dead_after_seconds
        self._chance = chance
        self._number = 0
        self._sent_at: dict[int, float] = {}
        self.last_received = now
        self._rtts: deque[float] = deque(maxlen=4)
        self.rtt_seconds: float | None = None
        self._asleep = 0.0
        self._next_ping = 0.0
        self._expected = 0.0
        self._measure_at = now + ping_interval_seconds
        self.sent(now)

    def sent(self, now: float) -> None:
        """A message left: the next PING can wait a whole interval, give or take 20 %, unless one is due to measure."""
        self._next_ping = min(now + self._interval * (0.8 + 0.4 * self._chance()), self._measure_at)

    def received(self, now: float) -> None:
        """A message arrived."""
        self.last_received = now
        self._asleep = 0.0

    def ping(self, now: float) -> int | None:
        """The number of a PING that is due, or None."""
        return self.measure(now) if now >= self._next_ping else None

    def measure(self, now: float) -> int:
        """The number of a PING that leaves now."""
        self._number += 1
        self._measure_at = now + MEASURE_INTERVALS * self._interval
        if len(self._sent_at) >= 8:  # unanswered ones; more tell nothing
            del self._sent_at[min(self._sent_at)]
        self._sent_at[self._number] = now
        return self._number

    def pong(self, number: int, now: float) -> float | None:
        """The round trip in seconds; None for a PONG that answers nothing."""
        sent_at = self._sent_at.pop(number, None)
        if sent_at is None:
            return None
        rtt = max(0.0, now - sent_at)
        self._rtts.append(rtt)
        self.rtt_seconds = min(self._rtts)
        return rtt

    def dead(self, now: float) -> bool:
        """Whether the silence is long enough. Time in which this process itself was blocked does not count."""
        if self._expected and now - self._expected > BLOCKED_SECONDS:
            self._asleep += now - self._expected
        self._expected = 0.0
        return now >= self.deadline

    @property
    def deadline(self) -> float:
        """When the link counts as lost if nothing arrives."""
        return self.last_received + self._dead_after + self._asleep

    def next_deadline(self) -> float:
        """When to look again; to be asked once per timer, since `dead` compares with it."""
        self._expected = min(self._next_ping, self.deadline)
        return self._expected
