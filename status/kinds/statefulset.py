"""StatefulSet: partitioned and OnDelete updates, revisions only when all targets agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from status.kinds.base import (
    HEALTHY,
    NOT_OBSERVED,
    KindRules,
    Verdict,
    View,
    available,
    keep_collisions,
    replicas_wanted,
)
from status.report import Health
from status.values import count, mapping, text


class StatefulSetRules(KindRules):
    counters = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    fields = frozenset(
        {*counters, "observedGeneration", "conditions", "collisionCount", "currentRevision", "updateRevision"}
    )
    base_conditions = ("Available",)

    def reflect(self, manifest: Mapping[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        return available(status, ready=count(status, "availableReplicas"), wanted=replicas_wanted(manifest))

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        if not observed:
            return NOT_OBSERVED
        wanted, ready = replicas_wanted(manifest), count(status, "readyReplicas")
        if ready < wanted:
            return Verdict(Health.PROGRESSING, "NotReady", f"{ready} of {wanted} replicas are ready")
        strategy = mapping(mapping(manifest, "spec"), "updateStrategy")
        if text(strategy, "type") == "OnDelete":
            return HEALTHY
        partition, updated = count(mapping(strategy, "rollingUpdate"), "partition"), count(status, "updatedReplicas")
        if updated < wanted - partition:
            return Verdict(Health.PROGRESSING, "Updating", f"{updated} of {wanted - partition} replicas are updated")
        if partition == 0 and text(status, "updateRevision") != text(status, "currentRevision"):
            return Verdict(Health.PROGRESSING, "Updating", f"{updated} of {wanted} replicas are updated")
        return HEALTHY

    def rolled_out(self, manifest: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
        """kubectl's StatefulSetStatusViewer; it does not wait for OnDelete at all."""
        strategy = text(mapping(mapping(manifest, "spec"), "updateStrategy"), "type")
        return strategy == "OnDelete" or self.health(manifest, status, observed=True) is HEALTHY

    def merge(self, view: View) -> dict[str, Any] | None:
        merged = super().merge(view) or {}
        for name in ("currentRevision", "updateRevision"):
            revisions = {text(report.status, name) for report in view.reports}
            if len(revisions) == 1:
                merged[name] = revisions.pop()
        keep_collisions(view, merged)
        return merged
