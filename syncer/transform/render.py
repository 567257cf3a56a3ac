"""The whole way from an upstream object to what is sent to one target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from syncer.api.keys import GroupKind
from syncer.transform.draft import Draft, Manifest
from syncer.transform.mark import DeletionPolicy, SourceRef, canonical, mark_draft
from syncer.transform.names import NamespaceMapping
from syncer.transform.pipeline import Pipeline
from syncer.transform.prune import prune_draft
from syncer.transform.split import Split
from syncer.transform.target import TargetView

_POD_SECURITY: Final = "pod-security.kubernetes.io/*"


@dataclass(frozen=True, slots=True)
class Rendered:
    """What one target should hold."""

    manifest: Manifest  # shares parts with the source manifest: read it, do not edit it
    hash: str  # of the content, as in the annotation syncline.io/applied

    @property
    def body(self) -> bytes:
        """Canonical JSON."""
        return canonical(self.manifest)


def render(
    manifest: Manifest,
    *,
    kind: GroupKind,
    has_status_subresource: bool,
    pipeline: Pipeline,
    target: TargetView,
    source: SourceRef,
    deletion_policy: DeletionPolicy,
    mapping: NamespaceMapping,
    split: Split | None = None,
) -> Rendered:
    """Prune, map, split, transform, mark. The input is never changed; equal inputs give equal bytes.

    Args:
        manifest: as read from the upstream API server.
        split: this target's share of a divided placement.
    Raises:
        TransformFailed: a transform does not fit; nothing may be applied.
    """
    draft = Draft(manifest)
    prune_draft(draft, kind, has_status_subresource=has_status_subresource)
    metadata = draft.ensure("metadata")
    namespace: Any = metadata.get("namespace")
    if namespace:
        metadata["namespace"] = mapping.map(namespace)
    pipeline.run_draft(draft, kind=kind, target=target, split=split)
    digest = mark_draft(draft, source, deletion_policy=deletion_policy)
    return Rendered(draft.root, digest)


def render_namespace(
    upstream: Manifest, *, name: str, label_globs: Sequence[str], source: SourceRef, deletion_policy: DeletionPolicy
) -> Rendered:
    """A namespace that we create downstream: its name and the labels that may travel, nothing else.

    Args:
        upstream: the upstream Namespace.
        name: downstream, already mapped.
        label_globs: `spec.namespaceLabels`; pod security labels always travel, for they keep pods as restricted as
            they are upstream.
    """
    globs = (_POD_SECURITY, *label_globs)
    labels = (upstream.get("metadata") or {}).get("labels") or {}
    copied = {key: value for key, value in labels.items() if any(fnmatchcase(key, glob) for glob in globs)}
    draft = Draft({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": copied}})
    digest = mark_draft(draft, source, deletion_policy=deletion_policy)
    return Rendered(draft.root, digest)
