"""DaemonSet: sums over the nodes of all targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from status.kinds.base import HEALTHY, NOT_OBSERVED, KindRules, Verdict, View, available, keep_collisions
from status.report import Health
from status.values import count, mapping, text


class DaemonSetRules(KindRules):
    counters = (
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
    )
    fields = frozenset({*counters, "observedGeneration", "conditions", "collisionCount"})
    base_conditions = ("Available",)

    def reflect(self, manifest: Mapping[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        wanted = count(status, "desiredNumberScheduled")
        return available(status, ready=count(status, "numberAvailable"), wanted=wanted)

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        if not observed:
            return NOT_OBSERVED
        wanted, updated = count(status, "desiredNumberScheduled"), count(status, "updatedNumberScheduled")
        on_delete = text(mapping(mapping(manifest, "spec"), "updateStrategy"), "type") == "OnDelete"
        if not on_delete and updated < wanted:
            return Verdict(Health.PROGRESSING, "Updating", f"{updated} of {wanted} Pods are updated")
        ready = count(status, "numberAvailable")
        if ready < wanted:
            return Verdict(Health.PROGRESSING, "NotAvailable", f"{ready} of {wanted} Pods are available")
        return HEALTHY

    def rolled_out(self, manifest: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
        """kubectl's DaemonSetStatusViewer; it does not wait for OnDelete at all."""
        strategy = text(mapping(mapping(manifest, "spec"), "updateStrategy"), "type")
        return strategy == "OnDelete" or self.health(manifest, status, observed=True) is HEALTHY

    def merge(self, view: View) -> dict[str, Any] | None:
        merged = super().merge(view) or {}
        keep_collisions(view, merged)
        return merged
