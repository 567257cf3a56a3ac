"""Token buckets against abuse. Pure; the clock is handed in."""

from __future__ import annotations


class TokenBucket:
    """So many a second on average, and up to ``burst`` at once."""

    __slots__ = ("_last", "_tokens", "burst", "rate_per_second")

    def __init__(self, rate_per_second: float, burst: float | None = None) -> None:
        self.rate_per_second = rate_per_second
        self.burst = burst if burst is not None else 2 * rate_per_second
        self._tokens = self.burst
        self._last: float | None = None

    def take(self, now: float) -> bool:
        """Whether one more is within the limit; it is spent only then."""
        if self._last is not None:
            self._tokens = min(self.burst, self._tokens + (now - self._last) * self.rate_per_second)
        self._last = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
