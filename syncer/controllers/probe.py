"""Is a target reachable? Answers of single probes in, a steady verdict out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CONFIRM_SECONDS: Final = 2.0  # after a failure the next probe comes soon: to confirm it, or to notice the return


@dataclass(frozen=True)
class ProbeSettings:
    """All in seconds but `failures`."""

    interval: float = 10.0
    timeout: float = 5.0
    failures: int = 3


@dataclass(frozen=True)
class Verdict:
    """What the probes say.

    Attributes:
        reachable: None until the first answer, or the first run of failures.
        reason: a word for conditions, `Connected` while reachable.
        since: when the verdict last turned, monotonic seconds.
    """

    reachable: bool | None
    reason: str
    message: str
    since: float


class ProbeTracker:
    """One failure says nothing; `threshold` failures in a row turn the verdict, one success turns it back."""

    def __init__(self, *, threshold: int, interval_seconds: float, now: float) -> None:
        self._threshold = threshold
        self._interval = interval_seconds
        self._failures = 0
        self.verdict = Verdict(None, "Connecting", "not yet asked", now)

    def success(self, now: float) -> bool:
        """A good answer. Returns whether the verdict turned."""
        self._failures = 0
        if self.verdict.reachable is True:
            return False
        self.verdict = Verdict(True, "Connected", "", now)
        return True

    def failure(self, reason: str, message: str, now: float) -> bool:
        """No answer, or a bad one. Returns whether the verdict turned, or its reason changed while it stands."""
        self._failures += 1
        if self._failures < self._threshold:
            if self.verdict.reachable is None:
                self.verdict = Verdict(None, "Connecting", message, self.verdict.since)
            return False
        turned = self.verdict.reachable is not False
        changed = turned or self.verdict.reason != reason
        # The text of an unreachable target varies from try to try; it follows the reason, so that status stays still.
        if changed:
            self.verdict = Verdict(False, reason, message, now if turned else self.verdict.since)
        return changed

    def next_probe(self) -> float:
        """Seconds until the next probe."""
        return min(self._interval, CONFIRM_SECONDS) if self._failures else self._interval
