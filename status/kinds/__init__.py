"""Rules per kind. `rules_for` finds them; `base` says what a kind can be asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from status.kinds.autoscaler import AutoscalerRules
from status.kinds.base import KindRules
from status.kinds.cronjob import CronJobRules
from status.kinds.daemonset import DaemonSetRules
from status.kinds.deployment import DeploymentRules
from status.kinds.disruptionbudget import DisruptionBudgetRules
from status.kinds.generic import GenericRules
from status.kinds.job import JobRules
from status.kinds.loadbalancer import IngressRules, ServiceRules
from status.kinds.pod import PodRules
from status.kinds.replicaset import ReplicaSetRules
from status.kinds.statefulset import StatefulSetRules
from status.kinds.volume import VolumeClaimRules, VolumeRules

_RULES: Final[Mapping[tuple[str, str], KindRules]] = {
    ("apps", "Deployment"): DeploymentRules(),
    ("apps", "StatefulSet"): StatefulSetRules(),
    ("apps", "DaemonSet"): DaemonSetRules(),
    ("apps", "ReplicaSet"): ReplicaSetRules(),
    ("", "ReplicationController"): ReplicaSetRules(),
    ("batch", "Job"): JobRules(),
    ("batch", "CronJob"): CronJobRules(),
    ("", "Pod"): PodRules(),
    ("", "Service"): ServiceRules(),
    ("networking.k8s.io", "Ingress"): IngressRules(),
    ("", "PersistentVolumeClaim"): VolumeClaimRules(),
    ("", "PersistentVolume"): VolumeRules(),
    ("autoscaling", "HorizontalPodAutoscaler"): AutoscalerRules(),
    ("policy", "PodDisruptionBudget"): DisruptionBudgetRules(),
}
_GENERIC: Final = GenericRules()


def rules_for(group: str, kind: str) -> KindRules:
    """Rules of a kind (`"apps", "Deployment"`; the core group is ""); the generic ones for a kind without its own."""
    return _RULES.get((group, kind), _GENERIC)


__all__ = ["KindRules", "rules_for"]
