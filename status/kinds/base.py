"""What every kind can be asked: what it reflects, how it does, how many of it become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

from status.report import Health, Report
from status.values import count, mapping


class Verdict(NamedTuple):
    """Health of one synced object, and why when it is not healthy."""

    health: Health
    reason: str = ""
    message: str = ""


HEALTHY = Verdict(Health.HEALTHY)
NOT_OBSERVED = Verdict(Health.PROGRESSING, "NotObserved", "the controller has not seen the newest generation yet")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a merge rule sees.

    Attributes:
        source: the source manifest; `previous` is its present `.status`.
        observed_generation: the value to write, by the rule of `status.aggregator`.
        targets: names of the targets that should hold the object, sorted; none means no selected target.
        reports: of the targets that take part and hold the object, in target-name order.
        worst: the report with the worst health, the first by name among equals; None without reports.
        totals: sums of the kind's counters over `reports`.
        conditions: merged, ready to be written.
        complete: every target in `targets` has reported the object.
        ended: every target in `targets` has reported that the object has finished, those outside `reports` too.
        held: a target was not heard of since this process started; no counter may fall below `previous`.
    """

    source: Mapping[str, Any]
    previous: Mapping[str, Any]
    observed_generation: int
    targets: Sequence[str]
    reports: Sequence[Report]
    worst: Report | None
    totals: Mapping[str, int]
    conditions: Sequence[Mapping[str, Any]]
    now: datetime
    complete: bool = False
    ended: bool = False
    held: bool = False

    @property
    def spec(self) -> Mapping[str, Any]:
        """`.spec` of the source."""
        return mapping(self.source, "spec")


class KindRules:
    """Rules of one kind; the defaults suit a workload that sums counters and has `observedGeneration`.

    Attributes:
        fields: keys of `.status` that are kept, None for all of them.
        counters: keys that are non-negative counts and are summed.
        wanting: the counter to which a target that lacks the object adds the replicas that it should run, "" for none.
        phases: the values that `.status.phase` may have, worst first; none means that it is free text or missing.
        base_conditions: types that are always reported, also for a target that says nothing.
        generational: `.status` carries `observedGeneration`; None when that is for the object to show.
        typed: the API server omits zero values of this kind when it answers.
        keeps_end: a finished one stays finished in the report when it is gone from the target.
        touched: name of the time field of conditions that moves with every change, "" for none.
    """

    fields: ClassVar[frozenset[str] | None] = None
    counters: ClassVar[tuple[str, ...]] = ()
    wanting: ClassVar[str] = ""
    phases: ClassVar[tuple[str, ...]] = ()
    base_conditions: ClassVar[tuple[str, ...]] = ()
    generational: ClassVar[bool | None] = True
    typed: ClassVar[bool] = True
    keeps_end: ClassVar[bool] = False
    touched: ClassVar[str] = ""

    def reflect(self, manifest: Mapping[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        """What of the sanitized status goes into the report; may add conditions that the kind does not write itself."""
        return status

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        """How the synced object does.

        Args:
            observed: the downstream controller has seen the object's newest generation.
        """
        return HEALTHY if observed else NOT_OBSERVED

    def rolled_out(self, manifest: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
        """kubectl's rollout rule for an observed generation; True for a kind that has none."""
        return True

    def terminal(self, status: Mapping[str, Any]) -> bool:
        """Whether the object has finished for good."""
        return False

    def counter_names(self, status: Mapping[str, Any]) -> tuple[str, ...]:
        """Keys of this status that must be non-negative counts."""
        return self.counters

    def frozen(self, previous: Mapping[str, Any]) -> bool:
        """Whether the source's status is final and must never be written again."""
        return False

    def merge(self, view: View) -> dict[str, Any] | None:
        """The whole new `.status`, or None to leave it as it is."""
        merged: dict[str, Any] = dict(view.totals)
        if view.observed_generation:
            merged["observedGeneration"] = view.observed_generation
        if view.conditions:
            merged["conditions"] = list(view.conditions)
        return merged


def keep_collisions(view: View, merged: dict[str, Any]) -> None:
    """Set `collisionCount`: the API server refuses that it falls or goes away."""
    known = [view.previous, *(report.status for report in view.reports)]
    values = [count(status, "collisionCount") for status in known if "collisionCount" in status]
    if values:
        merged["collisionCount"] = max(values)


def available(status: dict[str, Any], *, ready: int, wanted: int) -> dict[str, Any]:
    """Add an `Available` condition for a workload kind that has none of its own."""
    good = ready >= wanted
    condition = {
        "type": "Available",
        "status": "True" if good else "False",
        "reason": "MinimumReplicasAvailable" if good else "MinimumReplicasUnavailable",
        "message": f"{ready} of {wanted} are available",
    }
    others = [item for item in status.get("conditions") or [] if item.get("type") != "Available"]
    return {**status, "conditions": [*others, condition]}


def replicas_wanted(manifest: Mapping[str, Any]) -> int:
    """`spec.replicas`, which the API server defaults to 1."""
    return count(mapping(manifest, "spec"), "replicas", 1)
