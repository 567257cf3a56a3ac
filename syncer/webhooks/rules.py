"""The rules of our kinds as pure functions. Admission and reconcile (`--webhooks off`) run exactly these.

`check` takes a manifest and is what admission calls, `require_valid` a parsed model and is for reconcile.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from syncer.api.common import faults_of
from syncer.api.keys import GroupResource
from syncer.api.names import Reason
from syncer.api.placement import AnyPlacement, ClusterPlacement, ObjectSelector, Placement
from syncer.api.policy import WORKLOAD_KINDS, builtin_kind, is_protected
from syncer.api.synctarget import SyncTarget
from syncer.errors import TerminalError
from syncer.webhooks.cel import broken_rules, later_findings
from syncer.webhooks.findings import Context, Finding
from syncer.webhooks.manifest_rules import denial, manifest_findings
from syncer.webhooks.overlap import Effort, overlapping_entry
from syncer.webhooks.transform_rules import transform_findings

KINDS: Final[Mapping[str, type[SyncTarget | Placement | ClusterPlacement]]] = {
    "SyncTarget": SyncTarget,
    "Placement": Placement,
    "ClusterPlacement": ClusterPlacement,
}

MAX_OVERLAPS: Final = 5  # warnings; kubectl prints each of them


def check(manifest: Mapping[str, Any], context: Context) -> list[Finding]:
    """All findings about one object of our kinds; errors first."""
    model = KINDS[manifest["kind"]]
    try:
        parsed = model.model_validate(manifest)
    except ValidationError as error:
        return [Finding(path, message) for path, message in _innermost(list(faults_of(error)))]
    if isinstance(parsed, SyncTarget):
        return validate_sync_target(None, parsed, context)
    return validate_placement(None, parsed, context)


def _schema_findings(new: SyncTarget | AnyPlacement, context: Context) -> list[Finding]:
    """What the CRD's rules refuse, and what comes in a later version."""
    return [*([] if context.schema_checked else broken_rules(new)), *later_findings(new)]


def validate_sync_target(old: SyncTarget | None, new: SyncTarget, context: Context) -> list[Finding]:
    """Findings about a SyncTarget. `old` is None on creation; no rule looks at it yet."""
    return _schema_findings(new, context)


def validate_placement(old: AnyPlacement | None, new: AnyPlacement, context: Context) -> list[Finding]:
    """Findings about a Placement or ClusterPlacement. `old` is None on creation; no rule looks at it yet."""
    found = [
        *_schema_findings(new, context),
        *_namespace_findings(new),
        *_kind_findings(new, context),
        *manifest_findings(new, context),
        *transform_findings(new.spec),
        *_target_findings(new, context),
        *itertools.islice(_overlap_findings(new, context), MAX_OVERLAPS),
    ]
    return sorted(found, key=lambda finding: finding.severity != "error")


def require_valid(model: SyncTarget | AnyPlacement, context: Context) -> None:
    """For reconcile: what admission would have refused is refused here too, whether or not webhooks are served.

    Raises:
        TerminalError: every error in one text; reason and pointer of the first one.
    """
    found = (
        validate_sync_target(None, model, context)
        if isinstance(model, SyncTarget)
        else validate_placement(None, model, context)
    )
    errors = [finding for finding in found if finding.severity == "error"]
    if errors:
        raise TerminalError(errors[0].reason, "; ".join(map(str, errors)), pointer=errors[0].path)


def _innermost(faults: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without the lists that are said to be too short only because an entry of theirs is at fault."""
    return [
        (path, message)
        for path, message in faults
        if not any(other.startswith((f"{path}[", f"{path}.")) for other, _ in faults)
    ]


def _namespace_findings(placement: AnyPlacement) -> Iterator[Finding]:
    """B20: nothing is placed from or into a protected namespace."""
    text = "is protected: kube-* and syncline-system are never placed"
    if isinstance(placement, Placement):
        if is_protected(placement.metadata.namespace):
            reason = Reason.PROTECTED_NAMESPACE
            yield Finding(
                "metadata.namespace", f"ProtectedNamespace: {placement.metadata.namespace} {text}", reason=reason
            )
    elif placement.spec.namespaces is not None:
        for index, name in enumerate(placement.spec.namespaces.names):
            if is_protected(name):
                path = f"spec.namespaces.names[{index}]"
                yield Finding(path, f"ProtectedNamespace: {name} {text}", reason=Reason.PROTECTED_NAMESPACE)


def _kind_findings(placement: AnyPlacement, context: Context) -> Iterator[Finding]:
    """B17, B18, and kinds that nobody serves."""
    for index, entry in enumerate(placement.spec.resources):
        if "*" in (entry.kind, entry.api_version):
            continue
        path = f"spec.resources[{index}].kind"
        served = context.resolve(entry.api_version, entry.kind) or builtin_kind(entry.api_version, entry.kind)
        if served is None:
            yield Finding(path, _not_served(entry), "warning", Reason.API_MISSING)
            continue
        resource = GroupResource(served.group, served.resource)
        if (denied := denial(resource, entry.kind, context)) is not None:
            yield Finding(path, denied, reason=Reason.RESOURCE_DENIED)
        elif isinstance(placement, Placement) and not served.namespaced:
            text = (
                f"{entry.kind} is cluster-scoped and a Placement reaches only its own namespace; use a ClusterPlacement"
            )
            yield Finding(path, text, reason=Reason.FORBIDDEN)
        elif isinstance(placement, ClusterPlacement) and served.namespaced and placement.spec.namespaces is None:
            yield Finding("spec.namespaces", f"say the namespaces whose {entry.kind} objects are meant")


def _not_served(entry: ObjectSelector) -> str:
    text = f"APIMissing: {entry.api_version} {entry.kind} is not served upstream (yet)"
    close = difflib.get_close_matches(entry.kind, [kind.kind for kind in WORKLOAD_KINDS], n=1)
    return f"{text}; did you mean {close[0]}?" if close else text


def _target_findings(placement: AnyPlacement, context: Context) -> Iterator[Finding]:
    """B02 and B23: names without a target warn; a target that is the upstream itself is a cycle."""
    for index, name in enumerate(placement.spec.targets.names):
        path = f"spec.targets.names[{index}]"
        target = context.targets.get(name)
        if target is None:
            yield Finding(path, f"TargetNotFound: {name}", "warning", Reason.TARGET_NOT_FOUND)
        elif context.hub_id and target.status.cluster_uid == context.hub_id:
            yield Finding(path, f"cycle: upstream {context.hub_id} → target {name} → upstream {context.hub_id}")


def _overlap_findings(placement: AnyPlacement, context: Context) -> Iterator[Finding]:
    """Warns where another placement of the same priority may claim the same object: the older one wins."""
    mine, effort = placement.metadata, Effort()
    for other in context.placements:
        theirs = other.metadata
        if (other.kind, theirs.namespace, theirs.name) == (placement.kind, mine.namespace, mine.name):
            continue
        if other.spec.conflict.priority != placement.spec.conflict.priority:
            continue
        if (pair := overlapping_entry(placement, other, effort)) is not None:
            name = f"{theirs.namespace}/{theirs.name}" if theirs.namespace else theirs.name
            text = f"overlaps {pair[1]} of {other.kind} {name}; of equal priority the older one wins"
            yield Finding(pair[0], text, "warning", Reason.CLAIMED_BY_PLACEMENT)
