"""`replicas`: a fixed number per target."""

from __future__ import annotations

from syncer.api.keys import GroupKind
from syncer.transform.draft import Draft
from syncer.transform.operations.base import Context, Operation

SCALABLE = frozenset(
    {
        GroupKind("apps", "Deployment"),
        GroupKind("apps", "StatefulSet"),
        GroupKind("apps", "ReplicaSet"),
        GroupKind("", "ReplicationController"),
    }
)


def compile_replicas(count: int) -> Operation:
    """Kinds that scale, and any other object that has an integer `spec.replicas` already."""

    def apply(draft: Draft, context: Context) -> None:
        if context.kind in SCALABLE or type(draft.read("spec", "replicas")) is int:
            draft.ensure("spec")["replicas"] = count

    return apply
