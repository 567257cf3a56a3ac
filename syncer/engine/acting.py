"""Do controllers of the upstream itself act on workloads? Then a copy on a target would run beside the Pods that they
start upstream, and both would write one status: such workloads are refused, `UpstreamControllerActive`.

Who acts is told by field ownership: the manager that wrote a workload's status last.
"""

from __future__ import annotations

from typing import Final

import structlog

from syncer.api.keys import GroupKind
from syncer.errors import SyncError
from syncer.kube.client import ClusterClient
from syncer.kube.objects import KubeObject, decode_list

# Kinds that end in Pods: one process runs the controllers of all of them, so one object tells of all.
WORKLOADS: Final = frozenset(
    {
        GroupKind("", "Pod"),
        GroupKind("", "ReplicationController"),
        GroupKind("apps", "DaemonSet"),
        GroupKind("apps", "Deployment"),
        GroupKind("apps", "ReplicaSet"),
        GroupKind("apps", "StatefulSet"),
        GroupKind("batch", "CronJob"),
        GroupKind("batch", "Job"),
    }
)
_ACTORS: Final = frozenset({"kube-controller-manager", "kube-scheduler", "kubelet", "k3s", "kubelite"})
_PATHS: Final = tuple(f"/apis/apps/v1/namespaces/kube-system/{plural}" for plural in ("deployments", "daemonsets"))
_SOME: Final = 20

log = structlog.get_logger()


def evidence(kind: GroupKind, item: KubeObject) -> str:
    """What this upstream object says of its upstream, for people; "" if it says nothing."""
    if kind not in WORKLOADS or item.status_manager not in _ACTORS:
        return ""
    name = f"{item.namespace}/{item.name}"
    return f"the upstream runs workloads itself: its {item.status_manager} writes the status of {kind.kind} {name}"


async def look(client: ClusterClient) -> str:
    """Ask a whole cluster before anything is placed from it: it has its own workloads in kube-system.

    What may not be read tells nothing; then the first workload of a placed kind does.
    """
    for path in _PATHS:
        try:
            answer = await client.request("GET", path, params={"limit": str(_SOME)})
            items = decode_list(answer.body, manager=None).objects
        except SyncError as error:
            log.debug("upstream workloads not looked at", path=path, error=str(error))
            continue
        for item in items:
            found = evidence(GroupKind("apps", item.kind), item)
            if found:
                return found
    return ""
