"""Builders of observed objects for pure tests."""

from __future__ import annotations

from typing import Any

import orjson

from syncer.api.keys import GroupKind
from syncer.engine.pair import Memory, Observation, Present
from syncer.engine.situation import Intent, Policy, Situation, Wanted
from syncer.kube.objects import KubeObject, decode_object
from syncer.transform.mark import SourceRef, mark

HUB = "hub-1"
SOURCE_UID = "source-uid-1"
LIVE_UID = "live-uid-1"


def deployment(replicas: int = 2, image: str = "nginx:1.27") -> dict[str, Any]:
    """A small Deployment as a user would write it."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    }


# What the server says `syncline` owns after applying `marked(deployment())`.
OWNED: dict[str, Any] = {
    "f:metadata": {
        "f:labels": {"f:app": {}, "f:syncline.io/managed-by": {}},
        "f:annotations": {"f:syncline.io/applied": {}, "f:syncline.io/deletion": {}, "f:syncline.io/source": {}},
    },
    "f:spec": {
        "f:replicas": {},
        "f:selector": {},
        "f:template": {
            "f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {"f:containers": {'k:{"name":"web"}': {".": {}, "f:image": {}, "f:name": {}}}},
        },
    },
}


def marked(
    manifest: dict[str, Any], *, uid: str = SOURCE_UID, hub: str = HUB, deletion: Any = "Delete", generation: int = 1
) -> tuple[dict[str, Any], str]:
    """The manifest with our marks, and its hash."""
    metadata = manifest["metadata"]
    source = SourceRef(
        hub,
        hub,
        manifest["apiVersion"],
        manifest["kind"],
        metadata.get("namespace", ""),
        metadata["name"],
        uid,
        generation,
    )
    return mark(manifest, source, deletion_policy=deletion)


def live(
    manifest: dict[str, Any],
    owned: dict[str, Any] | None = None,
    *,
    uid: str = LIVE_UID,
    version: int = 10,
    deleting: bool = False,
) -> KubeObject:
    """The manifest as the target's API server shows it."""
    metadata: dict[str, Any] = {**manifest["metadata"], "uid": uid, "resourceVersion": str(version)}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    if owned is not None:
        entry = {"manager": "syncline", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1"}
        metadata["managedFields"] = [{**entry, "fieldsV1": owned}]
    return decode_object(orjson.dumps({**manifest, "metadata": metadata}))


def wanted(manifest: dict[str, Any], hash_: str, policy: Policy | None = None, **more: Any) -> Wanted:
    group, _, _ = manifest["apiVersion"].rpartition("/")
    return Wanted(
        manifest=manifest,
        hash=hash_,
        kind=GroupKind(group, manifest["kind"]),
        namespace=manifest["metadata"].get("namespace", ""),
        source_uid=more.pop("source_uid", SOURCE_UID),
        policy=policy or Policy(),
        **more,
    )


def situation(
    intent: Intent, downstream: Observation | KubeObject, memory: Memory | None = None, **more: Any
) -> Situation:
    seen = Present(downstream) if isinstance(downstream, KubeObject) else downstream
    return Situation(intent=intent, downstream=seen, memory=memory or Memory(), hub_id=HUB, **more)
