"""PersistentVolumeClaim and PersistentVolume: the worst phase; the status of one target as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from status.kinds.base import HEALTHY, KindRules, Verdict, View
from status.report import Health, Report
from status.values import text


def worst_phase(reports: Sequence[Report], order: Sequence[str]) -> Report:
    """The report whose phase stands first in `order`; the first by name among equals, unknown phases before all."""
    ranks = {phase: rank for rank, phase in enumerate(order)}
    return min(reports, key=lambda report: (ranks.get(text(report.status, "phase"), -1), report.target))


class VolumeClaimRules(KindRules):
    fields = frozenset({"phase", "accessModes", "capacity", "conditions"})
    generational = False
    phases = ("Lost", "Pending", "Bound")

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        phase = text(status, "phase")
        if phase == "Lost":
            return Verdict(Health.DEGRADED, "Lost", "the claim lost its volume")
        return (
            HEALTHY if phase == "Bound" else Verdict(Health.PROGRESSING, phase or "Pending", "the claim is not bound")
        )

    def merge(self, view: View) -> dict[str, Any] | None:
        if not view.targets:
            return {**view.previous, "phase": "Pending", "conditions": []}
        if not view.reports:
            return None
        worst = worst_phase(view.reports, self.phases)
        merged = {"phase": text(worst.status, "phase") or "Pending"}
        if len(view.reports) < len(view.targets):
            merged["phase"] = next(p for p in self.phases if p in (merged["phase"], "Pending"))
        known = [worst, *view.reports]
        for name in ("accessModes", "capacity"):
            values = [report.status[name] for report in known if report.status.get(name)]
            if values:
                merged[name] = values[0]
        return {**merged, "conditions": list(view.conditions)}


class VolumeRules(KindRules):
    fields = frozenset({"phase", "message", "reason", "lastPhaseTransitionTime"})
    generational = False
    phases = ("Failed", "Released", "Pending", "Available", "Bound")

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        phase = text(status, "phase")
        if phase == "Failed":
            return Verdict(Health.DEGRADED, "Failed", text(status, "message"))
        return HEALTHY if phase in ("Bound", "Available") else Verdict(Health.PROGRESSING, phase or "Pending")

    def merge(self, view: View) -> dict[str, Any] | None:
        if not view.reports:
            return None
        merged = dict(worst_phase(view.reports, self.phases).status)
        merged["lastPhaseTransitionTime"] = view.previous.get("lastPhaseTransitionTime")  # the API server moves it
        return merged
