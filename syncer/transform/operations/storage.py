"""`storageClass`: rename storage classes wherever a claim is described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from syncer.api.keys import GroupKind
from syncer.api.transforms import StorageClassTransform
from syncer.transform.draft import Draft, Manifest
from syncer.transform.operations.base import Context, Operation, compile_texts, expand_texts, writable_pod_spec

_CLAIM = GroupKind("", "PersistentVolumeClaim")
_VOLUME = GroupKind("", "PersistentVolume")
_LEGACY_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def compile_storage_class(model: StorageClassTransform) -> Operation:
    """Classes that the map does not name stay."""
    values = compile_texts(model.map, "map")

    def apply(draft: Draft, context: Context) -> None:
        names = expand_texts(values, context.target, "map")
        for parent, key in _places(draft, context):
            if parent.get(key) in names:
                parent[key] = names[parent[key]]

    return apply


def _places(draft: Draft, context: Context) -> Iterator[tuple[Manifest, str]]:
    """Every (object, member) that names a storage class."""
    if context.kind in (_CLAIM, _VOLUME):
        spec, annotations = draft.mapping("spec"), draft.mapping("metadata", "annotations")
        if spec is not None:
            yield spec, "storageClassName"
        if annotations is not None:
            yield annotations, _LEGACY_ANNOTATION
        return
    for claim in _members(draft, draft.mapping("spec"), "volumeClaimTemplates"):
        if type(claim.get("spec")) is dict:
            yield draft.child(claim, "spec"), "storageClassName"
    for volume in _members(draft, writable_pod_spec(draft, context), "volumes"):
        node: Any = volume
        for key in ("ephemeral", "volumeClaimTemplate", "spec"):
            node = draft.child(node, key) if type(node) is dict and key in node else None
        if type(node) is dict:
            yield node, "storageClassName"


def _members(draft: Draft, parent: Manifest | None, key: str) -> Iterator[Manifest]:
    entries = None if parent is None else draft.items(parent, key)
    for index, entry in enumerate(entries or ()):
        if entries is not None and type(entry) is dict:
            yield draft.child(entries, index)
