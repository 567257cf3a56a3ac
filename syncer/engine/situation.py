"""What one decision may look at: a snapshot of one pair, taken by the shell, read by `decide`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from syncer.api.keys import GroupKind
from syncer.engine.pair import Memory, Observation


@dataclass(frozen=True, slots=True)
class PathRule:
    """A drift mode for one JSON pointer and everything below it."""

    pointer: str
    mode: str  # Enforce | Warn | Ignore | CreateOnly | Pause


@dataclass(frozen=True, slots=True)
class Policy:
    """The choices of the winning placement that a decision needs, in the words of the API."""

    existing: str = "Abort"  # Abort | Adopt | Overwrite
    fields: str = "UpstreamWins"  # UpstreamWins | DownstreamWins
    on_immutable: str = "Fail"  # Fail | Recreate
    drift: str = "Enforce"  # Enforce | Warn | Ignore | CreateOnly | Pause
    paths: tuple[PathRule, ...] = ()

    def mode_at(self, pointer: str) -> str:
        """Drift mode of a field: the longest matching rule, else the placement's mode."""
        best = ""
        mode = self.drift
        for rule in self.paths:
            inside = pointer == rule.pointer or pointer.startswith(rule.pointer + "/")
            if inside and len(rule.pointer) > len(best):
                best, mode = rule.pointer, rule.mode
        return mode

    def ignored(self) -> tuple[str, ...]:
        """Pointers that are sent on create only."""
        return tuple(rule.pointer for rule in self.paths if rule.mode in ("Ignore", "CreateOnly", "Pause"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """The source should be on the target, with this content."""

    manifest: Mapping[str, Any]  # rendered and marked
    hash: str  # of that manifest; equal content has an equal hash
    kind: GroupKind
    namespace: str
    source_uid: str
    policy: Policy
    runs_once: bool = False  # Job or bare Pod: replaced by delete and create, never updated into a new run
    taken_away: bool = False  # it was there, and somebody deleted it on the target while the drift mode was Pause
    finished: bool = False  # it reported a terminal state for this source uid and must never be created again here


@dataclass(frozen=True, slots=True)
class Unwanted:
    """Nothing selects the source for the target (any more). Deleting needs `evidence`, or a way to get it.

    `evidence` is set when the reason was seen in this process: a deletionTimestamp, a DELETED event, a placement that
    was changed. `verify` names the live check that supplies it otherwise, or that must confirm what was seen ("kind").
    """

    evidence: str = ""
    counted: bool = True  # spends the deletion budget: anything but a seen deletion of that very object or a drain
    verify: str = ""  # "" | "source" | "kind" | "intent"
    orphan: bool = False  # the last placement that we knew said Orphan
    message: str = ""  # why it cannot be proven, when neither is set


@dataclass(frozen=True, slots=True)
class Held:
    """The pair must not be touched for now: suspended, not rendered, the source not readable, …"""

    reason: str
    message: str
    failed: bool = False  # a person has to act
    retry_seconds: float | None = None


Intent: TypeAlias = Wanted | Unwanted | Held


@dataclass(frozen=True, slots=True)
class Situation:
    """One pair at one moment."""

    intent: Intent
    downstream: Observation
    memory: Memory
    hub_id: str
    closed: Held | None = None  # the target takes no writes now: unreachable, frozen, breaker open
    namespace_ready: bool = True
    namespace_problem: Held | None = None
