"""Which kinds a target takes: the preset's list, the denied kinds, and the role a target's identity needs for them.

`spec.resources.allow` of a SyncTarget opens a denied kind only by its full name ("nodes"), never by a pattern.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from syncer.api.keys import GroupKind, GroupResource
from syncer.api.names import GROUP, SYSTEM_NAMESPACE


class BuiltinKind(NamedTuple):
    """One kind of kube-apiserver itself."""

    group: str
    resource: str
    kind: str
    namespaced: bool

    @property
    def group_resource(self) -> GroupResource:
        """Its resource without the version."""
        return GroupResource(self.group, self.resource)


# {group: "resource Kind, …"}
_WORKLOADS: Final = {
    "": "configmaps ConfigMap, limitranges LimitRange, persistentvolumeclaims PersistentVolumeClaim, pods Pod, "
    "replicationcontrollers ReplicationController, resourcequotas ResourceQuota, secrets Secret, "
    "serviceaccounts ServiceAccount, services Service",
    "apps": "daemonsets DaemonSet, deployments Deployment, replicasets ReplicaSet, statefulsets StatefulSet",
    "autoscaling": "horizontalpodautoscalers HorizontalPodAutoscaler",
    "batch": "cronjobs CronJob, jobs Job",
    "networking.k8s.io": "ingresses Ingress, networkpolicies NetworkPolicy",
    "policy": "poddisruptionbudgets PodDisruptionBudget",
}
# Rights over the cluster, not workloads: whoever places these owns the target.
_DENIED_CLUSTER: Final = {
    "": "namespaces Namespace, nodes Node",
    "admissionregistration.k8s.io": "mutatingadmissionpolicies MutatingAdmissionPolicy, "
    "mutatingadmissionpolicybindings MutatingAdmissionPolicyBinding, "
    "mutatingwebhookconfigurations MutatingWebhookConfiguration, "
    "validatingadmissionpolicies ValidatingAdmissionPolicy, "
    "validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding, "
    "validatingwebhookconfigurations ValidatingWebhookConfiguration",
    "apiregistration.k8s.io": "apiservices APIService",
    "certificates.k8s.io": "certificatesigningrequests CertificateSigningRequest, "
    "clustertrustbundles ClusterTrustBundle",
    "rbac.authorization.k8s.io": "clusterrolebindings ClusterRoleBinding, clusterroles ClusterRole",
    GROUP: "clusterplacements ClusterPlacement, synctargets SyncTarget",
}
_DENIED_NAMESPACED: Final = {
    "rbac.authorization.k8s.io": "rolebindings RoleBinding, roles Role",
    GROUP: "placements Placement",
}
# Every cluster makes its own; a copy would fight the controller there.
_GENERATED: Final = {
    "": "endpoints Endpoints, events Event",
    "apps": "controllerrevisions ControllerRevision",
    "coordination.k8s.io": "leases Lease",
    "discovery.k8s.io": "endpointslices EndpointSlice",
    "events.k8s.io": "events Event",
}
_OTHER_CLUSTER: Final = {
    "": "persistentvolumes PersistentVolume",
    "apiextensions.k8s.io": "customresourcedefinitions CustomResourceDefinition",
    "flowcontrol.apiserver.k8s.io": "flowschemas FlowSchema, prioritylevelconfigurations PriorityLevelConfiguration",
    "networking.k8s.io": "ingressclasses IngressClass",
    "node.k8s.io": "runtimeclasses RuntimeClass",
    "scheduling.k8s.io": "priorityclasses PriorityClass",
    "storage.k8s.io": "csidrivers CSIDriver, csinodes CSINode, storageclasses StorageClass",
}


def _kinds(table: Mapping[str, str], *, namespaced: bool) -> tuple[BuiltinKind, ...]:
    return tuple(
        BuiltinKind(group, resource, kind, namespaced)
        for group, text in table.items()
        for resource, kind in (pair.split() for pair in text.split(", "))
    )


WORKLOAD_KINDS: Final = _kinds(_WORKLOADS, namespaced=True)
DENIED_KINDS: Final = _kinds(_DENIED_CLUSTER, namespaced=False) + _kinds(_DENIED_NAMESPACED, namespaced=True)
GENERATED_KINDS: Final = _kinds(_GENERATED, namespaced=True)
_ALL: Final = WORKLOAD_KINDS + DENIED_KINDS + GENERATED_KINDS + _kinds(_OTHER_CLUSTER, namespaced=False)
_BY_KIND: Final = {GroupKind(known.group, known.kind): known for known in _ALL}

WORKLOAD_RESOURCES: Final = frozenset(kind.group_resource for kind in WORKLOAD_KINDS)
DENIED_RESOURCES: Final = frozenset(kind.group_resource for kind in DENIED_KINDS)
GENERATED_RESOURCES: Final = frozenset(kind.group_resource for kind in GENERATED_KINDS)

DENIED_POLICY: Final = "denied-kinds"  # what the 403 names


def is_protected(namespace: str) -> bool:
    """Whether nothing is ever placed in or from that namespace; `default` may be used."""
    return namespace.startswith("kube-") or namespace == SYSTEM_NAMESPACE


def builtin_kind(api_version: str, kind: str) -> BuiltinKind | None:
    """The kind as kube-apiserver ships it; None for every other one."""
    group, _, _ = api_version.rpartition("/")
    return _BY_KIND.get(GroupKind(group, kind))


_SYNC_VERBS: Final = ["get", "list", "watch", "create", "patch", "delete"]
_READ_VERBS: Final = ["get", "list", "watch"]
# Other namespaced kinds of kube-apiserver: a namespace is removed only after a look at everything that may be in it.
_LISTED: Final = {
    "": ["podtemplates"],
    "apps": ["controllerrevisions"],
    "coordination.k8s.io": ["leases"],
    "discovery.k8s.io": ["endpointslices"],
    "rbac.authorization.k8s.io": ["rolebindings", "roles"],
    "resource.k8s.io": ["resourceclaims", "resourceclaimtemplates"],
    "storage.k8s.io": ["csistoragecapacities"],
}


class Accepted(Protocol):
    """What a target accepts: `spec.resources` of a SyncTarget, for those who need not load the model of one."""

    @property
    def preset(self) -> str: ...
    @property
    def allow(self) -> Sequence[str]: ...
    @property
    def deny(self) -> Sequence[str]: ...


class Preset(NamedTuple):
    """What a target accepts that names nothing itself."""

    preset: str = "Workloads"
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


def target_role(resources: Accepted, *, name: str = "syncline-target") -> dict[str, Any]:
    """ClusterRole of Syncline's identity on a target: what it accepts, namespaces, a look at nodes and pods, and
    lists of what else can be in a namespace.

    The preset `All` and patterns need wildcards, as nobody knows the kinds yet; the operator's own policy still
    refuses denied kinds.
    """
    accepted: dict[str, set[str]] = {}
    if resources.preset == "Workloads":
        for kind in WORKLOAD_KINDS:
            accepted.setdefault(kind.group, set()).add(kind.resource)
    elif resources.preset == "All":
        accepted["*"] = {"*"}
    for pattern in resources.allow:
        resource, _, group = pattern.partition(".")
        accepted.setdefault(group, set()).add(resource)
    for pattern in resources.deny:
        resource, _, group = pattern.partition(".")
        if resource == "*":
            accepted.pop(group, None)
        else:
            accepted.get(group, set()).discard(resource)
    rules = [
        {"apiGroups": [group], "resources": sorted(names), "verbs": _SYNC_VERBS}
        for group, names in sorted(accepted.items())
        if names
    ]
    rules.append({"apiGroups": [""], "resources": ["namespaces"], "verbs": _SYNC_VERBS})
    rules.append({"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": _READ_VERBS})
    rules += [{"apiGroups": [group], "resources": names, "verbs": ["list"]} for group, names in _LISTED.items()]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    }
