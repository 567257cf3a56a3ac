"""Deployment: sums of replicas, worst conditions, a truthful `kubectl rollout status`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from status.conditions import judgements
from status.kinds.base import HEALTHY, NOT_OBSERVED, KindRules, Verdict, View, keep_collisions, replicas_wanted
from status.report import Health
from status.values import count, mapping


class DeploymentRules(KindRules):
    counters = (
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
    )
    fields = frozenset({*counters, "observedGeneration", "conditions", "collisionCount"})
    base_conditions = ("Available",)
    wanting = "unavailableReplicas"
    touched = "lastUpdateTime"

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        if mapping(manifest, "spec").get("paused") is True:
            return Verdict(Health.SUSPENDED, "Paused", "the rollout is paused")
        if not observed:
            return NOT_OBSERVED
        progressing = judgements(status).get("Progressing")
        if progressing is not None and progressing.reason == "ProgressDeadlineExceeded":
            return Verdict(Health.DEGRADED, progressing.reason, progressing.message)
        wanted, updated = replicas_wanted(manifest), count(status, "updatedReplicas")
        if updated < wanted:
            return Verdict(Health.PROGRESSING, "Updating", f"{updated} of {wanted} replicas are updated")
        if count(status, "replicas") > updated:
            old = count(status, "replicas") - updated
            return Verdict(Health.PROGRESSING, "Terminating", f"{old} old replicas are pending termination")
        if count(status, "availableReplicas") < updated:
            ready = count(status, "availableReplicas")
            return Verdict(Health.PROGRESSING, "NotAvailable", f"{ready} of {updated} updated replicas are available")
        return HEALTHY

    def rolled_out(self, manifest: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
        """The rule of kubectl's DeploymentStatusViewer; a paused or overdue rollout has nothing to wait for."""
        verdict = self.health(manifest, status, observed=True)
        return verdict.health is not Health.PROGRESSING

    def merge(self, view: View) -> dict[str, Any] | None:
        merged = super().merge(view) or {}
        if not any("terminatingReplicas" in report.status for report in view.reports):
            del merged["terminatingReplicas"]  # an API server without that feature drops it
        keep_collisions(view, merged)
        return merged
