"""Names on the wire: the API group, labels, annotations, finalizers, field managers, reasons."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

GROUP: Final = "syncline.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

SYSTEM_NAMESPACE: Final = "syncline-system"
HUB_CONFIGMAP: Final = "syncline-hub"

# On synced objects, downstream.
MANAGED_BY_LABEL: Final = "syncline.io/managed-by"  # value: hub id
SOURCE_ANNOTATION: Final = "syncline.io/source"  # JSON, see syncer.transform.mark
APPLIED_ANNOTATION: Final = "syncline.io/applied"  # hash of the desired manifest
DELETION_ANNOTATION: Final = "syncline.io/deletion"  # Delete | Orphan; anything else means Orphan

# On source objects, placements and targets, upstream.
SKIP_LABEL: Final = "syncline.io/skip"  # "true": never placed
ACKNOWLEDGE_ANNOTATION: Final = "syncline.io/acknowledge"
SYNCED_FINALIZER: Final = "syncline.io/synced"  # source objects with deletion.wait
TARGET_FINALIZER: Final = "syncline.io/target"  # SyncTargets

SPEC_MANAGER: Final = "syncline"
CEDED_MANAGER: Final = "syncline-ceded"
STATUS_MANAGER: Final = "syncline-status"

# In the certificates of agents.
COMMON_NAME_PREFIX: Final = "system:syncline:target:"
ORGANIZATION: Final = "system:syncline:targets"


def common_name(target: str) -> str:
    """The name that the agent of a target has: `system:syncline:target:east`."""
    return COMMON_NAME_PREFIX + target


class Reason(StrEnum):
    """Reasons in conditions, placement errors and Events."""

    TARGET_NOT_FOUND = "TargetNotFound"
    TARGET_NOT_READY = "TargetNotReady"
    TARGET_UNSCHEDULABLE = "TargetUnschedulable"
    NO_TARGETS = "NoTargets"
    API_MISSING = "APIMissing"
    RESOURCE_DENIED = "ResourceDenied"
    PROTECTED_NAMESPACE = "ProtectedNamespace"
    NAMESPACE_NOT_OURS = "NamespaceNotOurs"
    MISSING_REFERENCE = "MissingReference"
    TRANSFORM_FAILED = "TransformFailed"
    ALREADY_EXISTS = "AlreadyExists"
    CLAIMED_BY_OTHER_HUB = "ClaimedByOtherHub"
    CLAIMED_BY_PLACEMENT = "ClaimedByPlacement"
    FIELD_CONFLICT = "FieldConflict"
    DRIFT_REPAIRED = "DriftRepaired"
    DRIFT_DETECTED = "DriftDetected"
    DRIFT_FIGHT = "DriftFight"
    IMMUTABLE_FIELD = "ImmutableField"
    INVALID = "Invalid"
    FORBIDDEN = "Forbidden"
    ADMISSION_DENIED = "AdmissionDenied"
    OBJECT_TOO_LARGE = "ObjectTooLarge"
    FIELD_PRUNED = "FieldPruned"
    FROZEN = "Frozen"
    UPSTREAM_CONTROLLER_ACTIVE = "UpstreamControllerActive"
    INVALID_STATUS = "InvalidStatus"
    NOT_YET_SUPPORTED = "NotYetSupported"
    VERSION_SKEW = "VersionSkew"
    HPA_NOT_PLACED = "HPANotPlaced"
    DEADLOCK = "Deadlock"
    WORKSPACE_MISMATCH = "WorkspaceMismatch"
    SKIPPED = "Skipped"
    SUSPENDED = "Suspended"
    UNREACHABLE = "Unreachable"
    RETRYING = "Retrying"
    DELETING = "Deleting"
