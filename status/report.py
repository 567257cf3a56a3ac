"""Words of the status room: what one target says about one source object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

NOT_THERE: Final = "Missing"  # reason of a target that simply does not hold the object yet


class Health(StrEnum):
    """How one synced object does; `SEVERITY` puts the words in order."""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"
    MISSING = "Missing"
    UNKNOWN = "Unknown"


SEVERITY: Final[Mapping[Health, int]] = {
    Health.DEGRADED: 0,
    Health.MISSING: 1,
    Health.UNKNOWN: 2,
    Health.PROGRESSING: 3,
    Health.SUSPENDED: 4,
    Health.HEALTHY: 5,
}  # 0 is the worst


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One target's word about one source object; replaces the target's earlier word.

    Attributes:
        source_generation: generation of the source object that the synced object carries.
        observed_generation: the newest source generation that `status` can be evidence of:
            `source_generation` once the downstream controller caught up with the synced object,
            one less before that.
        present: False when the target is known to hold no such object (`missing`), never for unknown.
        status: what the target says in `.status`, pruned, capped and free of control characters.
        collected_at: seconds since the epoch.
        message, reason: why `health` is what it is, in the target's words where it has any.
        rolled_out: kubectl's own rollout rule passed for `source_generation`, or the rollout is
            paused or past its deadline (kubectl stops waiting then, too).
        terminal: a Job or Pod that has finished and will not run again.
        cuts: how many strings, list items, conditions and fields were cut to fit the caps.
    """

    target: str
    target_uid: str
    source_uid: str
    source_generation: int
    observed_generation: int
    present: bool
    health: Health
    status: Mapping[str, Any]
    collected_at: float
    message: str = ""
    reason: str = ""
    rolled_out: bool = False
    terminal: bool = False
    cuts: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """A status that no honest controller can have written; the slot keeps its last good report."""

    message: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What one selected target should hold now.

    Attributes:
        generation: source generation that the target should carry.
        replicas: replicas that it should run, None when the kind has none or nobody divided them.
    """

    generation: int
    replicas: int | None = None


@dataclass(frozen=True, slots=True)
class Mode:
    """How slots become one status: their `Sum`, what the `Worst` target says, or a `Single` named target."""

    mode: Literal["Sum", "Worst", "Single"] = "Sum"
    target: str = ""  # only for Single

    def counts(self, target: str) -> bool:
        """Whether this target takes part in the merged status at all."""
        return self.mode != "Single" or target == self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One expected target in the per-target detail.

    Attributes:
        report: the last good report, None while nothing was collected yet.
        stale_since: seconds since the epoch since when the target is unreachable, None when it is not.
        note_reason, note_message: why its Pods do not run, when that was looked up.
        refused: why the last word of the target was not taken, "" when it was.
        passed_generation: newest source generation whose rollout passed on this target, 0 for none.
    """

    target: str
    expected: Expected
    report: Report | None
    ready: bool
    health: Health
    message: str
    stale_since: float | None = None
    note_reason: str = ""
    note_message: str = ""
    refused: str = ""
    passed_generation: int = 0


def missing(
    target: str,
    *,
    target_uid: str,
    source_uid: str,
    now: float,
    reason: str = NOT_THERE,
    message: str = "the object is not there yet",
) -> Report:
    """The report for a target that is known not to hold the object: a complete list lacks it, or its apply failed."""
    return Report(
        target=target,
        target_uid=target_uid,
        source_uid=source_uid,
        source_generation=0,
        observed_generation=0,
        present=False,
        health=Health.MISSING,
        status=_EMPTY,
        collected_at=now,
        message=message,
        reason=reason,
    )


_EMPTY: Final[Mapping[str, Any]] = {}
