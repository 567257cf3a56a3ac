"""How often one caller may try. Pure; the clock is handed in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

ENTRIES = 4096  # callers that are remembered; beyond it those that were quiet longest are forgotten


class Throttle:
    """One bucket per key.

    Args:
        burst: tries at once.
        per_second: tries that come back.
    """

    def __init__(self, burst: float, per_second: float, *, clock: Callable[[], float]) -> None:
        self._burst = burst
        self._rate = per_second
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # {key: (tries left, when)}

    def wait_seconds(self, key: str) -> float:
        """How long the key has to wait for its next try; 0 if it may now. Spends nothing."""
        left = self._left(key)
        return 0.0 if left >= 1 else (1 - left) / self._rate

    def spend(self, key: str) -> float:
        """Try once: 0 if it is allowed, else the seconds to wait, and nothing is spent."""
        wait = self.wait_seconds(key)
        if wait == 0.0:
            self._buckets[key] = (self._left(key) - 1, self._clock())
            self._buckets.move_to_end(key)
            if len(self._buckets) > ENTRIES:
                self._buckets.popitem(last=False)
        return wait

    def _left(self, key: str) -> float:
        left, when = self._buckets.get(key, (self._burst, self._clock()))
        return min(self._burst, left + (self._clock() - when) * self._rate)
