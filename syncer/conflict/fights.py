"""Somebody on the target changes a field back each time it is repaired: notice it, and stop feeding the fight."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

LIMIT: Final = 5  # rewrites of one field within the window that still look like single edits
WINDOW_SECONDS: Final = 600.0
FIRST_PAUSE_SECONDS: Final = 600.0
LONGEST_PAUSE_SECONDS: Final = 3600.0  # 5 at first, then after 10, 30, 70 minutes …: at most 7 rewrites in an hour
MOST_FIELDS: Final = 64  # remembered per object; the one that was quiet longest is forgotten


@dataclass(slots=True)
class _Field:
    rewrites: deque[float] = field(default_factory=lambda: deque(maxlen=LIMIT))
    pause_seconds: float = 0.0  # 0: no fight
    paused_until: float = 0.0


class FightHistory:
    """Rewrites of the fields of one object on one target. Times are monotonic seconds."""

    __slots__ = ("_fields",)

    def __init__(self) -> None:
        self._fields: dict[str, _Field] = {}  # by pointer, in the order of the last record

    def record(self, pointer: str, now: float) -> bool:
        """Ask before a field is rewritten because somebody changed it. True: it is a fight, do not write now.

        A refused rewrite does not count. Each rewrite that is allowed during a fight doubles the pause after it; a
        fight is over when the field was left alone for two pauses.
        """
        known = self._fields.pop(pointer, None) or _Field()
        if len(self._fields) >= MOST_FIELDS:
            del self._fields[next(iter(self._fields))]
        self._fields[pointer] = known
        if now < known.paused_until:
            return True
        if known.pause_seconds:
            if now < known.paused_until + 2 * known.pause_seconds:
                self._pause(known, min(2 * known.pause_seconds, LONGEST_PAUSE_SECONDS), now)
                return False
            known.pause_seconds = 0.0
            known.rewrites.clear()
        if len(known.rewrites) == LIMIT and now - known.rewrites[0] < WINDOW_SECONDS:
            self._pause(known, FIRST_PAUSE_SECONDS, now)
            return True
        known.rewrites.append(now)
        return False

    def wait_seconds(self, now: float) -> float:
        """Time until every field may be rewritten again; 0.0 without a fight."""
        return max([0.0, *(known.paused_until - now for known in self._fields.values())])

    @staticmethod
    def _pause(known: _Field, seconds: float, now: float) -> None:
        known.pause_seconds = seconds
        known.paused_until = now + seconds
