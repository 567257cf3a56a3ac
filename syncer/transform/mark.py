"""Step 5: whose copy a downstream object is, and how that is read back.

Downstream text is untrusted: everything read here may have been written by anybody on the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal, Protocol

import orjson

from syncer.api.keys import GroupKind
from syncer.api.names import APPLIED_ANNOTATION, DELETION_ANNOTATION, MANAGED_BY_LABEL, SOURCE_ANNOTATION
from syncer.kube.objects import OwnerReference
from syncer.transform.draft import Draft, Manifest
from syncer.transform.names import NamespaceMapping, Same
from syncer.transform.skip import controller_of

DeletionPolicy = Literal["Delete", "Orphan"]

TEXT_LIMIT: Final = 4096  # characters of a source annotation; the longest names make it a third as long

_NAMESPACE: Final = GroupKind("", "Namespace")
_HASH_BYTES: Final = 16
_WIRE: Final = {"api_version": "apiVersion"}


@dataclass(frozen=True)
class SourceRef:
    """The upstream object that a downstream one is a copy of."""

    hub: str  # UID of the upstream kube-system namespace
    workspace: str
    api_version: str
    kind: str
    namespace: str  # "" for cluster-scoped objects
    name: str
    uid: str
    generation: int  # 0 where the kind has none
    placement: str = ""  # "Placement/shop/web" of an object that a placement holds inline; "" for an upstream object

    @property
    def group_kind(self) -> GroupKind:
        return group_kind(self.api_version, self.kind)

    def to_json(self) -> str:
        """Canonical text for the annotation: keys in order."""
        wire: dict[str, str | int] = {
            "apiVersion": self.api_version,
            "generation": self.generation,
            "hub": self.hub,
            "kind": self.kind,
            "name": self.name,
            "namespace": self.namespace,
            "uid": self.uid,
            "workspace": self.workspace,
        }
        if self.placement:
            wire["placement"] = self.placement
        return orjson.dumps(wire, option=orjson.OPT_SORT_KEYS).decode()

    @classmethod
    def from_json(cls, text: str) -> SourceRef | None:
        """None for anything that is not such a text."""
        return cls._read(text) if len(text) <= TEXT_LIMIT else None

    @classmethod
    @lru_cache(maxsize=4096)  # the same mark is read at every event and every decision about its object
    def _read(cls, text: str) -> SourceRef | None:
        try:
            wire = orjson.loads(text)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(wire, dict):
            return None
        values = {field.name: wire.get(_WIRE.get(field.name, field.name)) for field in fields(cls)}
        generation = values.pop("generation")
        values["placement"] = wire.get("placement", "")
        if type(generation) is not int or not all(isinstance(value, str) for value in values.values()):
            return None
        return cls(generation=generation, **values)  # type: ignore[arg-type]  # all texts, checked above


class MarkedObject(Protocol):
    """What is read of a downstream object: the metadata part of `KubeObject`."""

    @property
    def api_version(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def annotations(self) -> Mapping[str, str]: ...
    @property
    def owner_references(self) -> tuple[OwnerReference, ...]: ...


def mark(manifest: Manifest, source: SourceRef, *, deletion_policy: DeletionPolicy) -> tuple[Manifest, str]:
    """A marked copy of the manifest, and the hash of its content."""
    draft = Draft(manifest)
    return draft.root, mark_draft(draft, source, deletion_policy=deletion_policy)


def mark_draft(draft: Draft, source: SourceRef, *, deletion_policy: DeletionPolicy) -> str:
    """`mark` on a draft; returns the hash, which covers the mark itself except `syncline.io/applied`."""
    draft.ensure("metadata", "labels")[MANAGED_BY_LABEL] = source.hub
    annotations = draft.ensure("metadata", "annotations")
    annotations.pop(APPLIED_ANNOTATION, None)
    annotations[SOURCE_ANNOTATION] = source.to_json()
    annotations[DELETION_ANNOTATION] = deletion_policy
    digest = blake2b(canonical(draft.root), digest_size=_HASH_BYTES).hexdigest()
    annotations[APPLIED_ANNOTATION] = digest
    return digest


def canonical(manifest: Manifest) -> bytes:
    """The JSON that equal manifests share."""
    return orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)


def read_mark(observed: MarkedObject) -> SourceRef | None:
    """The source that a downstream object names; None if it names none, or not readably."""
    text = observed.annotations.get(SOURCE_ANNOTATION)
    return None if text is None else SourceRef.from_json(text)


def read_applied(observed: MarkedObject) -> str | None:
    """Hash of the manifest that was applied last, as the object says."""
    return observed.annotations.get(APPLIED_ANNOTATION)


def read_deletion(observed: MarkedObject) -> DeletionPolicy:
    """What happens to the object when no living placement decides; missing or unreadable means Orphan."""
    return "Delete" if observed.annotations.get(DELETION_ANNOTATION) == "Delete" else "Orphan"


def is_ours(observed: MarkedObject, hub_id: str, mapping: NamespaceMapping | None = None) -> bool:
    """Whether this very object is a copy that this hub made.

    The label alone is not enough: EndpointSlices inherit it from a Service, ReplicaSets the annotations from a
    Deployment.
    """
    if observed.labels.get(MANAGED_BY_LABEL) != hub_id or controller_of(observed.owner_references) is not None:
        return False
    source = read_mark(observed)
    if source is None or source.hub != hub_id:
        return False
    mapping = mapping or Same()
    name = mapping.map(source.name) if source.group_kind == _NAMESPACE else source.name
    own = (group_kind(observed.api_version, observed.kind), observed.namespace, observed.name)
    return own == (source.group_kind, mapping.map(source.namespace), name)


def group_kind(api_version: str, kind: str) -> GroupKind:
    """`apps/v1`, `Deployment` → `Deployment.apps`."""
    group, slash, _ = api_version.partition("/")
    return GroupKind(group if slash else "", kind)
