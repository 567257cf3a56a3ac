"""What keeps one target from being asked too much, or asked in vain: a token bucket and a circuit breaker.

Both are values with a clock handed in (monotonic seconds); the engine has one of each per target and holds the lane of
the queue back for as long as they say.
"""

from __future__ import annotations

from enum import StrEnum
from math import inf
from typing import Final


class TokenBucket:
    """At most `qps` requests a second over time, and `burst` at once.

    A take is a reservation: it always succeeds and says how long to wait before using it, so that waiting callers go in
    the order in which they asked and nobody asks twice.
    """

    def __init__(self, qps: float, burst: int) -> None:
        """Args: qps: above 0; burst: at least 1."""
        self._check(qps, burst)
        self._qps = qps
        self._burst = burst
        self._tokens = float(burst)  # below zero: reserved by callers that still wait
        self._at = -inf  # when `_tokens` was true
        self._paused_until = -inf

    def take(self, now: float) -> float:
        """Reserve one request; returns the seconds to wait before sending it, 0.0 for at once."""
        self._fill(now)
        self._tokens -= 1.0
        wait = 0.0 if self._tokens >= 0.0 else -self._tokens / self._qps
        return max(wait, self.paused_seconds(now))

    def pause(self, until: float) -> None:
        """Let nothing through before `until` (a Retry-After); a shorter pause never cuts a longer one."""
        self._paused_until = max(self._paused_until, until)

    def paused_seconds(self, now: float) -> float:
        """Rest of the pause, 0.0 if there is none; a caller that waited for its token looks here again."""
        return max(0.0, self._paused_until - now)

    def resize(self, qps: float, burst: int, now: float) -> None:
        """Change the limits; reservations that were already given keep their time."""
        self._check(qps, burst)
        self._fill(now)
        self._qps, self._burst = qps, burst
        self._tokens = min(self._tokens, float(burst))

    def _fill(self, now: float) -> None:
        if now > self._at:
            if self._at != -inf:
                self._tokens = min(float(self._burst), self._tokens + (now - self._at) * self._qps)
            self._at = now

    @staticmethod
    def _check(qps: float, burst: int) -> None:
        if not (qps > 0 and burst >= 1):
            raise ValueError(f"qps must be above 0 and burst at least 1, not {qps} and {burst}")


class BreakerState(StrEnum):
    """Closed lets everything through, open nothing, half-open one probe at a time."""

    CLOSED = "Closed"
    OPEN = "Open"
    HALF_OPEN = "HalfOpen"


class CircuitBreaker:
    """Stops asking a target that only fails, and finds out by single probes when it is back.

    Count as failures only what says that the target is unreachable or broken (connection, timeout, 5xx), never an
    answer about one object (409, 422, 403, or 500 because a webhook that looks at it is down).
    """

    FIRST_OPEN_SECONDS: Final = 1.0
    LONGEST_OPEN_SECONDS: Final = 30.0  # a target that returns is found within this time
    PROBE_SECONDS: Final = 5.0  # then the next probe may go: a request may hang for much longer

    def __init__(self, threshold: int = 5) -> None:
        """Args: threshold: failures in a row that open it, at least 1."""
        if threshold < 1:
            raise ValueError(f"threshold must be at least 1, not {threshold}")
        self._threshold = threshold
        self._failures = 0  # in a row
        self._open_seconds = 0.0  # length of the current or last open time
        self._retry_at = -inf  # when the next probe may go
        self._state = BreakerState.CLOSED

    @property
    def state(self) -> BreakerState:
        """State after the last call; an open breaker turns half-open in `allows`."""
        return self._state

    def retry_at(self) -> float:
        """When `allows` can next say yes; in the past while closed."""
        return -inf if self._state is BreakerState.CLOSED else self._retry_at

    def would_allow(self, now: float) -> bool:
        """Whether `allows` would say yes now; for those who may have nothing to send."""
        return self._state is BreakerState.CLOSED or now >= self._retry_at

    def allows(self, now: float) -> bool:
        """Whether a request may go now. While not closed a yes is the probe: send it, and report its outcome."""
        if not self.would_allow(now):
            return False
        if self._state is not BreakerState.CLOSED:
            self._state = BreakerState.HALF_OPEN
            self._retry_at = now + self.PROBE_SECONDS
        return True

    def success(self) -> None:
        """The target answered: closed, and nothing is counted against it."""
        self._failures = 0
        self._open_seconds = 0.0
        self._state = BreakerState.CLOSED

    def failure(self, now: float) -> None:
        """The target failed. Opens at the threshold, or at once while half-open, for 1 s doubled up to 30 s."""
        self._failures += 1
        if self._state is BreakerState.OPEN:
            return  # a request that left before it opened; it must not prolong the wait
        if self._state is BreakerState.HALF_OPEN or self._failures >= self._threshold:
            self._open_seconds = min(self._open_seconds * 2 or self.FIRST_OPEN_SECONDS, self.LONGEST_OPEN_SECONDS)
            self._retry_at = now + self._open_seconds
            self._state = BreakerState.OPEN
