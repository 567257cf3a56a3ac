"""Step 1: take out what the upstream server and its controllers wrote, so that only intent travels.

Everything here is either a row in a table or a small function named in `_SPECIAL`. Pruning twice is
pruning once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from syncer.api.keys import GroupKind
from syncer.api.names import (
    ACKNOWLEDGE_ANNOTATION,
    APPLIED_ANNOTATION,
    DELETION_ANNOTATION,
    MANAGED_BY_LABEL,
    SOURCE_ANNOTATION,
)
from syncer.transform.draft import Draft, Manifest
from syncer.transform.podspec import Path, template_path

# `generateName` has done its work once there is a name; owners and finalizers belong to upstream controllers.
SERVER_METADATA: Final = frozenset(
    {
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
        "generateName",
        "ownerReferences",
        "finalizers",
    }
)
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_ANNOTATIONS: Final = frozenset(
    {LAST_APPLIED, SOURCE_ANNOTATION, APPLIED_ANNOTATION, DELETION_ANNOTATION, ACKNOWLEDGE_ANNOTATION}
)
_REVISIONS: Final = frozenset(
    f"deployment.kubernetes.io/{name}" for name in ("revision", "revision-history", "desired-replicas", "max-replicas")
)
_KIND_ANNOTATIONS: Final[Mapping[GroupKind, frozenset[str]]] = {
    GroupKind("apps", "Deployment"): _REVISIONS,
    GroupKind("apps", "ReplicaSet"): _REVISIONS,
    GroupKind("apps", "DaemonSet"): frozenset({"deprecated.daemonset.template.generation"}),
    GroupKind("batch", "Job"): frozenset({"batch.kubernetes.io/job-tracking"}),
    GroupKind("", "PersistentVolumeClaim"): frozenset(
        {
            "volume.kubernetes.io/selected-node",
            "volume.kubernetes.io/storage-provisioner",
            "volume.beta.kubernetes.io/storage-provisioner",
            "pv.kubernetes.io/bind-completed",
            "pv.kubernetes.io/bound-by-controller",
        }
    ),
    GroupKind("", "PersistentVolume"): frozenset({"pv.kubernetes.io/bound-by-controller"}),
    GroupKind("", "Endpoints"): frozenset({"endpoints.kubernetes.io/last-change-trigger-time"}),
    GroupKind("autoscaling", "HorizontalPodAutoscaler"): frozenset(
        {"autoscaling.alpha.kubernetes.io/conditions", "autoscaling.alpha.kubernetes.io/current-metrics"}
    ),
}
_SPEC_FIELDS: Final[Mapping[GroupKind, tuple[str, ...]]] = {
    # Priority values, runtime overhead and nodes differ between clusters: admission answers 403.
    # Ephemeral containers can only be added to a running pod, through their own subresource.
    GroupKind("", "Pod"): ("nodeName", "priority", "preemptionPolicy", "overhead", "ephemeralContainers"),
    GroupKind("", "PersistentVolumeClaim"): ("volumeName",),
    GroupKind("", "Namespace"): ("finalizers",),
    GroupKind("batch", "Job"): ("ttlSecondsAfterFinished",),  # honoured on the source: see the engine
    GroupKind("", "Service"): ("healthCheckNodePort",),
}
_JOB_LABELS: Final = frozenset(
    f"{prefix}{name}" for prefix in ("", "batch.kubernetes.io/") for name in ("controller-uid", "job-name")
)
_TOKEN_VOLUME_PREFIX: Final = "kube-api-access-"  # noqa: S105  # a volume's name, not a credential
_TOKEN_MOUNT_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105
_DEFAULT_TOLERATIONS: Final = tuple(
    {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    for what in ("not-ready", "unreachable")
)


def prune(manifest: Manifest, kind: GroupKind, *, has_status_subresource: bool) -> Manifest:
    """What a person meant, on a new dict that shares untouched parts with the input.

    Args:
        manifest: as read from the upstream API server, defaults included; never changed.
        kind: its kind without version.
        has_status_subresource: False keeps `status`, which is plain data there.
    """
    draft = Draft(manifest)
    prune_draft(draft, kind, has_status_subresource=has_status_subresource)
    return draft.root


def prune_draft(draft: Draft, kind: GroupKind, *, has_status_subresource: bool) -> None:
    """`prune` on a draft that goes on through the pipeline."""
    root = draft.root
    if has_status_subresource:
        root.pop("status", None)
    metadata = draft.ensure("metadata")
    for key in SERVER_METADATA & metadata.keys():
        del metadata[key]
    _drop_members(draft, metadata, "annotations", _ANNOTATIONS | _KIND_ANNOTATIONS.get(kind, frozenset()))
    _drop_members(draft, metadata, "labels", frozenset({MANAGED_BY_LABEL}))
    fields = _SPEC_FIELDS.get(kind)
    if fields and (spec := draft.mapping("spec")) is not None:
        for field in fields:
            spec.pop(field, None)
        if not spec:
            del root["spec"]
    special = _SPECIAL.get(kind)
    if special is not None:
        special(draft)
    path = template_path(root, kind)
    if path:
        _drop_null_timestamps(draft, kind, path)


def _drop_members(draft: Draft, parent: Manifest, field: str, names: frozenset[str]) -> None:
    """Remove members of an object by name, and the object itself once it is empty."""
    members = parent.get(field)
    if type(members) is not dict:
        return
    unwanted = names & members.keys()
    if len(unwanted) == len(members):
        del parent[field]
    elif unwanted:
        members = draft.child(parent, field)
        for name in unwanted:
            del members[name]


def _drop_null_timestamps(draft: Draft, kind: GroupKind, path: Path) -> None:
    """Embedded metadata carries `creationTimestamp: null` from older servers and tools."""
    places = [path] if kind != GroupKind("batch", "CronJob") else [path, path[:2]]
    for place in places:
        metadata = draft.read(*place, "metadata")
        if type(metadata) is dict and "creationTimestamp" in metadata:
            owned = draft.mapping(*place, "metadata")
            assert owned is not None  # it was just read
            del owned["creationTimestamp"]


def _service(draft: Draft) -> None:
    spec = draft.mapping("spec")
    if spec is None:
        return
    if spec.get("clusterIP") != "None":
        spec.pop("clusterIP", None)
        spec.pop("clusterIPs", None)
    if spec.get("ipFamilyPolicy", "SingleStack") == "SingleStack":  # another family downstream answers 422
        spec.pop("ipFamilyPolicy", None)
        spec.pop("ipFamilies", None)
    if any(type(port) is dict and "nodePort" in port for port in spec.get("ports") or ()):
        ports = draft.items(spec, "ports") or []
        for index, port in enumerate(ports):
            if type(port) is dict:
                draft.child(ports, index).pop("nodePort", None)


def _job(draft: Draft) -> None:
    spec = draft.read("spec")
    if type(spec) is not dict or spec.get("manualSelector") is True:
        return  # with a manual selector the labels are the user's own
    _drop_members(draft, draft.ensure("metadata"), "labels", _JOB_LABELS)
    draft.ensure("spec").pop("selector", None)
    template = draft.mapping("spec", "template", "metadata")
    if template is not None:
        _drop_members(draft, template, "labels", _JOB_LABELS)


def _pod(draft: Draft) -> None:
    spec = draft.mapping("spec")
    if spec is None:
        return
    # Beside tolerations of the user's own the defaults stay: the list is atomic, so it would differ for ever.
    if all(entry in _DEFAULT_TOLERATIONS for entry in spec.get("tolerations") or ()):
        spec.pop("tolerations", None)
    tokens = {
        volume["name"]
        for volume in spec.get("volumes") or ()
        if type(volume) is dict and "projected" in volume and str(volume.get("name")).startswith(_TOKEN_VOLUME_PREFIX)
    }
    if not tokens:
        return
    _replace_list(spec, "volumes", [volume for volume in spec["volumes"] if volume.get("name") not in tokens])
    for key in ("containers", "initContainers"):
        entries = draft.items(spec, key) or []
        for index, entry in enumerate(entries):
            if type(entry) is dict and entry.get("volumeMounts"):
                container = draft.child(entries, index)
                mounts = [m for m in container["volumeMounts"] if not _is_token_mount(m, tokens)]
                _replace_list(container, "volumeMounts", mounts)


def _is_token_mount(mount: Any, volumes: set[str]) -> bool:
    return type(mount) is dict and mount.get("name") in volumes and mount.get("mountPath") == _TOKEN_MOUNT_PATH


def _replace_list(parent: Manifest, key: str, kept: list[Any]) -> None:
    """Put a filtered list in place of the old one; an empty one disappears."""
    if kept:
        if len(kept) != len(parent[key]):
            parent[key] = kept
    else:
        parent.pop(key, None)


def _cluster_role(draft: Draft) -> None:
    """An aggregated role's rules are gathered by each cluster's own controller, which would fight ours."""
    if draft.root.get("aggregationRule") is not None:
        draft.root.pop("rules", None)


def _service_account(draft: Draft) -> None:
    """Generated token and registry Secrets are named after their account and exist upstream only."""
    name = draft.read("metadata", "name")
    generated = (f"{name}-token-", f"{name}-dockercfg-")
    for key in ("secrets", "imagePullSecrets"):
        entries = draft.root.get(key)
        if type(entries) is list:
            kept = [e for e in entries if not (type(e) is dict and str(e.get("name", "")).startswith(generated))]
            _replace_list(draft.root, key, kept)


def _persistent_volume(draft: Draft) -> None:
    claim = draft.mapping("spec", "claimRef")
    if claim is not None:
        claim.pop("uid", None)
        claim.pop("resourceVersion", None)


def _stateful_set(draft: Draft) -> None:
    """Claim templates keep the `status` that every server defaults: in an atomic list its absence reads as drift."""
    claims = draft.read("spec", "volumeClaimTemplates")
    for index, claim in enumerate(claims if type(claims) is list else ()):
        metadata = claim.get("metadata") if type(claim) is dict else None
        if type(metadata) is dict and "creationTimestamp" in metadata:
            owned = draft.child(draft.child(draft.ensure("spec"), "volumeClaimTemplates"), index)
            del draft.child(owned, "metadata")["creationTimestamp"]


_SPECIAL: Final[Mapping[GroupKind, Callable[[Draft], None]]] = {
    GroupKind("", "Service"): _service,
    GroupKind("", "Pod"): _pod,
    GroupKind("", "ServiceAccount"): _service_account,
    GroupKind("", "PersistentVolume"): _persistent_volume,
    GroupKind("apps", "StatefulSet"): _stateful_set,
    GroupKind("batch", "Job"): _job,
    GroupKind("rbac.authorization.k8s.io", "ClusterRole"): _cluster_role,
}
