"""PersistentVolumeClaim and PersistentVolume: the worst phase; the status of one target as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from status.kinds.base import HEALTHY, KindRules, Verdict, View
from status.report import Health, Report
from status.values import quantities, text, texts


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
        if not view.reports:
            return None if view.held else {**view.previous, "phase": "Pending", "conditions": []}
        worst = worst_phase(view.reports, self.phases)
        phases = {text(worst.status, "phase") or "Pending", "Bound" if view.complete else "Pending"}
        merged: dict[str, Any] = {"phase": next(phase for phase in self.phases if phase in phases)}
        for report in (worst, *view.reports):
            merged["accessModes"] = merged.get("accessModes") or texts(report.status, "accessModes")
            merged["capacity"] = merged.get("capacity") or quantities(report.status, "capacity")
        return {**merged, "conditions": list(view.conditions)}


class VolumeRules(KindRules):
    fields = frozenset({"phase", "message", "reason"})
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
        worst = worst_phase(view.reports, self.phases)
        merged: dict[str, Any] = {name: text(worst.status, name) for name in ("phase", "message", "reason")}
        moved = text(view.previous, "lastPhaseTransitionTime")  # the API server moves it
        return {**merged, "lastPhaseTransitionTime": moved} if moved else merged
