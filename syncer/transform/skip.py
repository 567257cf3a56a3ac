"""Objects that are never synced, whatever a placement selects, each with the reason that people read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from syncer.api.keys import GroupKind
from syncer.api.names import SKIP_LABEL
from syncer.kube.objects import KubeObject, OwnerReference

_ENDPOINTS_MANAGER: Final = "endpoints.kubernetes.io/managed-by"
_SLICE_MANAGER: Final = "endpointslice.kubernetes.io/managed-by"
_SLICE_CONTROLLERS: Final = ("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io")


def skip_reason(source: KubeObject, kind: GroupKind) -> str | None:
    """Why this object is not synced, as a text for people; None if it is.

    An object made with `generateName` is synced under the name that the upstream server gave it, which is stable.
    """
    if source.terminating:
        return "it is being deleted"
    if source.labels.get(SKIP_LABEL) == "true":
        return f"it is labelled {SKIP_LABEL}=true"
    owner = controller_of(source.owner_references)
    if owner is not None:
        return f"it is controlled by {owner.kind} {owner.name}; place that instead"
    special = _SPECIAL.get(kind)
    return special(source) if special is not None else None


def controller_of(owners: tuple[OwnerReference, ...]) -> OwnerReference | None:
    """The owner that runs the object, if it has one."""
    return next((owner for owner in owners if owner.controller), None)


def _secret(source: KubeObject) -> str | None:
    kind = source.field("type")
    if kind == "kubernetes.io/service-account-token":
        return "it is a token of an upstream ServiceAccount, which no other cluster accepts"
    if kind == "helm.sh/release.v1" or (
        source.labels.get("owner") == "helm" and source.name.startswith("sh.helm.release.")
    ):
        return "it is a Helm release record, which belongs to the cluster that Helm installed into"
    if kind == "bootstrap.kubernetes.io/token":
        return "it is a token for joining nodes to the upstream cluster"
    return None


def _config_map(source: KubeObject) -> str | None:
    return "every cluster writes its own" if source.name == "kube-root-ca.crt" else None


def _service_account(source: KubeObject) -> str | None:
    return "every namespace has its own" if source.name == "default" else None


def _service(source: KubeObject) -> str | None:
    if (source.namespace, source.name) == ("default", "kubernetes"):
        return "it is the API server of the upstream cluster"
    return None


def _endpoints(source: KubeObject) -> str | None:
    if (source.namespace, source.name) == ("default", "kubernetes"):
        return "it is the API server of the upstream cluster"
    return "a controller writes it from its Service" if _ENDPOINTS_MANAGER in source.labels else None


def _endpoint_slice(source: KubeObject) -> str | None:
    if (source.namespace, source.name) == ("default", "kubernetes"):
        return "it is the API server of the upstream cluster"
    if source.labels.get(_SLICE_MANAGER) in _SLICE_CONTROLLERS:
        return "a controller writes it from its Service"
    return None


_SPECIAL: Final[Mapping[GroupKind, Callable[[KubeObject], str | None]]] = {
    GroupKind("", "Secret"): _secret,
    GroupKind("", "ConfigMap"): _config_map,
    GroupKind("", "ServiceAccount"): _service_account,
    GroupKind("", "Service"): _service,
    GroupKind("", "Endpoints"): _endpoints,
    GroupKind("discovery.k8s.io", "EndpointSlice"): _endpoint_slice,
}
