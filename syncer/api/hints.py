"""What to do next, for every reason: one sentence, the same in the CLI, in conditions and in Events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from syncer.api.names import Reason

HINTS: Final[Mapping[str, str]] = {
    Reason.TARGET_NOT_FOUND: (
        "Correct the name in spec.targets.names, or add the target: syncline target add NAME --target-kubeconfig FILE."
    ),
    Reason.TARGET_NOT_READY: (
        "See why it is not Ready: kubectl describe synctarget NAME; what is placed there stays as it is."
    ),
    Reason.TARGET_UNSCHEDULABLE: (
        "Let new objects in again with syncline uncordon NAME, or give the placement a toleration for the taint."
    ),
    Reason.NO_TARGETS: (
        "Compare spec.targets of the placement with the labels of your targets: syncline get targets -o wide."
    ),
    Reason.API_MISSING: (
        "Install the CRD on that target or select only targets that serve the kind; syncing goes on by itself "
        "once it is served."
    ),
    Reason.RESOURCE_DENIED: (
        "Allow the kind on the target in spec.resources.allow of the SyncTarget, or take it out of the placement."
    ),
    Reason.PROTECTED_NAMESPACE: "Use another namespace: kube-* and syncline-system are never synced.",
    Reason.NAMESPACE_NOT_OURS: (
        "Use another namespace, or take over what the other hub marked: syncline target add NAME --adopt-hub OLD_ID."
    ),
    Reason.MISSING_REFERENCE: "Place the named object to the same target too: add it to spec.resources of a placement.",
    Reason.TRANSFORM_FAILED: "Correct the named transform in the placement; nothing was applied to that target.",
    Reason.ALREADY_EXISTS: (
        "Set conflict.existing of the placement to Adopt (take it over) or Overwrite, or delete the object on "
        "the target."
    ),
    Reason.CLAIMED_BY_OTHER_HUB: (
        "Another hub manages this object; remove it there first, or use --adopt-hub if that hub is gone."
    ),
    Reason.CLAIMED_BY_PLACEMENT: (
        "Select the object in one placement only, or set conflict.priority to say which one decides."
    ),
    Reason.FIELD_CONFLICT: (
        "Stop the named manager from writing the field, or set conflict.fields to DownstreamWins to let it "
        "keep the field."
    ),
    Reason.DRIFT_REPAIRED: (
        "Nothing to do; change the object upstream, or let the path drift with drift.paths in the placement."
    ),
    Reason.DRIFT_DETECTED: "Change the object upstream, or set drift.mode to Enforce to have the target repaired.",
    Reason.DRIFT_FIGHT: "Stop the named manager or webhook on the target, or set drift.paths to Ignore for that field.",
    Reason.IMMUTABLE_FIELD: (
        "Put the old value back, delete the object on the target, or set conflict.onImmutable to Recreate."
    ),
    Reason.INVALID: (
        "Correct the object or the placement as the message says; it is tried again as soon as either changes."
    ),
    Reason.ADMISSION_DENIED: (
        "Change the object, or the quota, policy or webhook of that target that the message names; it is tried again "
        "every minute."
    ),
    Reason.FORBIDDEN: (
        "Give Syncline's identity on that target the named right: run syncline target add again with the "
        "target's admin kubeconfig."
    ),
    Reason.OBJECT_TOO_LARGE: (
        "Make the object smaller, or split it: API servers take about 1.5 MiB, annotations and labels included."
    ),
    Reason.FIELD_PRUNED: (
        "Update the CRD or the Kubernetes version of that target, or remove the field for it with a transform."
    ),
    Reason.FROZEN: "Check that the many deletions are meant, then let the target go on: syncline ack TARGET.",
    Reason.UPSTREAM_CONTROLLER_ACTIVE: (
        "Put the object into spec.manifests of the placement and delete it upstream, or use an upstream that runs no "
        "workloads itself."
    ),
    Reason.INVALID_STATUS: "Look at the object on the target: its status makes no sense, so the last good one is kept.",
    Reason.NOT_YET_SUPPORTED: "Remove the named field; this version of Syncline does not know how to honour it.",
    Reason.VERSION_SKEW: "Upgrade what the message names: the older of the two versions.",
    Reason.HPA_NOT_PLACED: "Add the HorizontalPodAutoscaler to spec.resources of the placement.",
    Reason.DEADLOCK: "Nothing to do: the younger of the two waits and is tried again.",
    Reason.WORKSPACE_MISMATCH: (
        "Report this: an object of one workspace met a client of another and nothing was written."
    ),
    Reason.SKIPPED: "Nothing to do unless you want it placed; the message says which rule or label keeps it here.",
    Reason.SUSPENDED: "Set spec.suspend of the placement to false to go on writing.",
    Reason.UNREACHABLE: (
        "Check the target's API server, network and credentials: kubectl describe synctarget NAME; its "
        "objects stay as they are."
    ),
    Reason.RETRYING: "Wait: it is tried again by itself; if it lasts, the message names the cause.",
    Reason.DELETING: "Wait until the target has deleted it; a finalizer named in the message may hold it there.",
}

# Words that a target's kubelet or scheduler uses for a Pod that does not run.
POD_HINTS: Final[Mapping[str, str]] = {
    "ImagePullBackOff": "Check the image name and tag, imagePullSecrets, and the image transforms of the placement.",
    "ErrImagePull": "Check the image name and tag, imagePullSecrets, and the image transforms of the placement.",
    "InvalidImageName": "Correct the image name; a transform of the placement may have changed it.",
    "CrashLoopBackOff": (
        "Read the container's last output on that target: kubectl --context TARGET logs POD --previous."
    ),
    "CreateContainerConfigError": "Place the ConfigMap or Secret that the Pod names to the same target.",
    "Unschedulable": "Free capacity on that target, or change requests, nodeSelector or tolerations.",
}


def hint(reason: str) -> str:
    """The sentence for `reason`, or "" for a word that nobody here knows."""
    return HINTS.get(reason) or POD_HINTS.get(reason, "")
