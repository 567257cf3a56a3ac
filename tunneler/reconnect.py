"""How long to wait before the next try to connect. Pure; clock and chance are handed in.

Three quick tries, then 1 s doubling to 30 s, each wait a random part of that, for ever. A hub's restart drops all
its agents at once, so the first try after it is spread over 5 s; a hub that drains says so and is left at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tunneler.errors import CloseCode, HandshakeRefused

QUICK_TRIES = 3
QUICK_SECONDS = 0.3
FIRST_SECONDS = 1.0
MAX_SECONDS = 30.0
HEALTHY_SECONDS = 60.0
MASS_DROP_SECONDS = 5.0
DENIED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Wait so long; ``reload``: read the credential again first."""

    seconds: float
    reload: bool = False


class Reconnect:
    """The memory of one link that is to be kept up; the same for agents and for links that the hub dials."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._tries = 0
        self._connected_at: float | None = None

    def connected(self, now: float) -> None:
        """The handshake is complete."""
        self._connected_at = now

    def refused(self, error: HandshakeRefused, now: float) -> Retry:
        """A try failed. 401 and 403: every minute, and the credential may have been renewed. Retry-After is a floor."""
        if error.status in (401, 403):
            return Retry(DENIED_SECONDS * (0.9 + 0.2 * self._chance()), reload=True)
        floor = error.retry_after_seconds or 0.0
        return Retry(max(min(floor, 300.0), self._wait()))

    def lost(self, code: CloseCode | None, now: float, *, retry_after_seconds: float = 0.0) -> Retry:
        """A link ended: ``code`` of GOAWAY, or None when it was cut. Healthy for 60 s counts as a new start."""
        if self._connected_at is not None and now - self._connected_at >= HEALTHY_SECONDS:
            self._tries = 0
        self._connected_at = None
        if retry_after_seconds > 0:
            return Retry(self._chance() * retry_after_seconds)
        if code is CloseCode.DRAIN:
            return Retry(0.0)
        if code is CloseCode.GONE:
            self._tries = max(self._tries, 1)
            return Retry(self._chance() * MASS_DROP_SECONDS)
        if code in (CloseCode.AUTH, CloseCode.REPLACED, CloseCode.VERSION):
            return Retry(DENIED_SECONDS * (0.9 + 0.2 * self._chance()), reload=True)
        return Retry(self._wait())

    def _wait(self) -> float:
        self._tries += 1
        if self._tries <= QUICK_TRIES:
            return self._chance() * QUICK_SECONDS
        doublings = min(self._tries - QUICK_TRIES - 1, 16)
        return self._chance() * min(MAX_SECONDS, FIRST_SECONDS * 2.0**doublings)
