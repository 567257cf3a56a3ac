"""ReplicaSet and ReplicationController."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from status.conditions import TRUE, judgements
from status.kinds.base import HEALTHY, NOT_OBSERVED, KindRules, Verdict, View, available, replicas_wanted
from status.report import Health
from status.values import count


class ReplicaSetRules(KindRules):
    counters = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "terminatingReplicas")
    fields = frozenset({*counters, "observedGeneration", "conditions"})
    base_conditions = ("Available",)

    def reflect(self, manifest: Mapping[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        return available(status, ready=count(status, "availableReplicas"), wanted=replicas_wanted(manifest))

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        if not observed:
            return NOT_OBSERVED
        failure = judgements(status).get("ReplicaFailure")
        if failure is not None and failure.status == TRUE:
            return Verdict(Health.DEGRADED, failure.reason or "ReplicaFailure", failure.message)
        wanted, ready = replicas_wanted(manifest), count(status, "availableReplicas")
        if ready < wanted:
            return Verdict(Health.PROGRESSING, "NotAvailable", f"{ready} of {wanted} replicas are available")
        return HEALTHY

    def merge(self, view: View) -> dict[str, Any] | None:
        merged = super().merge(view) or {}
        if not any("terminatingReplicas" in report.status for report in view.reports):
            del merged["terminatingReplicas"]
        return merged
