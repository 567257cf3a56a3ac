"""From an upstream object to what one target gets: `(manifest, context) -> manifest`, pure, on a copy.

Order: prune (what the upstream server wrote) → map (names) → split (share of replicas) → transforms of the
placement → mark (whose copy it is). No clock, no randomness; the input is never changed.

Reading order: `render`, `draft`, `prune`, `pipeline`, `operations`, `mark`; apart from them `skip` (what is never
synced) and `references` (what a workload needs beside itself).
"""

from __future__ import annotations

from syncer.transform.draft import Manifest
from syncer.transform.errors import TransformFailed
from syncer.transform.mark import SourceRef, is_ours, mark, read_applied, read_deletion, read_mark
from syncer.transform.names import NamespaceMapping, Same
from syncer.transform.pipeline import Pipeline, compile_transforms
from syncer.transform.prune import prune
from syncer.transform.references import Reference, references
from syncer.transform.render import Rendered, render, render_namespace
from syncer.transform.skip import skip_reason
from syncer.transform.split import Split, totals
from syncer.transform.target import TargetView

__all__ = [
    "Manifest",
    "NamespaceMapping",
    "Pipeline",
    "Reference",
    "Rendered",
    "Same",
    "SourceRef",
    "Split",
    "TargetView",
    "TransformFailed",
    "compile_transforms",
    "is_ours",
    "mark",
    "prune",
    "read_applied",
    "read_deletion",
    "read_mark",
    "references",
    "render",
    "render_namespace",
    "skip_reason",
    "totals",
]
