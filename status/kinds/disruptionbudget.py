"""PodDisruptionBudget: sums; disrupted Pods are told per target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from status.kinds.base import HEALTHY, NOT_OBSERVED, KindRules, Verdict, View
from status.report import Health
from status.sanitize import MAX_LIST_ITEMS
from status.values import count, mapping, times


class DisruptionBudgetRules(KindRules):
    counters = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    fields = frozenset({*counters, "observedGeneration", "disruptedPods", "conditions"})
    base_conditions = ("DisruptionAllowed",)

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        if not observed:
            return NOT_OBSERVED
        healthy, wanted = count(status, "currentHealthy"), count(status, "desiredHealthy")
        if healthy < wanted:
            return Verdict(Health.PROGRESSING, "NotEnoughPods", f"{healthy} of {wanted} Pods are healthy")
        return HEALTHY

    def merge(self, view: View) -> dict[str, Any] | None:
        merged = super().merge(view) or {}
        disrupted = {
            f"{report.target}/{pod}": moment
            for report in view.reports
            for pod, time in mapping(report.status, "disruptedPods").items()
            for moment in times([time], view.now)
        }
        if disrupted:
            merged["disruptedPods"] = {key: disrupted[key] for key in sorted(disrupted)[:MAX_LIST_ITEMS]}
        return merged
