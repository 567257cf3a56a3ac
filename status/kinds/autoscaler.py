"""HorizontalPodAutoscaler: sums of replicas, worst conditions.

The API server gives it no `metadata.generation` and its controller writes no `observedGeneration`,
so its conditions are the only sign that it has been looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from status.conditions import FALSE, judgements
from status.kinds.base import HEALTHY, NOT_OBSERVED, KindRules, Verdict, View
from status.report import Health
from status.values import objects, text, times

_BROKEN: Final = ("FailedGet", "InvalidSelector", "InvalidMetricSourceType", "FailedComputeMetrics")


class AutoscalerRules(KindRules):
    counters = ("currentReplicas", "desiredReplicas")
    fields = frozenset({*counters, "observedGeneration", "lastScaleTime", "currentMetrics", "conditions"})
    base_conditions = ("AbleToScale", "ScalingActive")
    generational = None

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        given = judgements(status)
        if not observed or not given:
            return NOT_OBSERVED
        for kind in ("AbleToScale", "ScalingActive"):
            said = given.get(kind)
            if said is not None and said.status == FALSE:
                if kind == "AbleToScale" or said.reason.startswith(_BROKEN):
                    return Verdict(Health.DEGRADED, said.reason, said.message)
                return Verdict(Health.PROGRESSING, said.reason, said.message)
        return HEALTHY

    def merge(self, view: View) -> dict[str, Any] | None:
        merged = super().merge(view) or {}
        scaled = times((report.status.get("lastScaleTime") for report in view.reports), view.now)
        newest = scaled[-1] if scaled else text(view.previous, "lastScaleTime")
        if newest:
            merged["lastScaleTime"] = newest
        alone = len(view.targets) == 1 and len(view.reports) == 1
        return {**merged, "currentMetrics": objects(view.reports[0].status, "currentMetrics") if alone else []}
