"""Rules about `spec.manifests`: what would be refused as an object upstream, or never be placed from there, is refused
here as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from syncer.api.keys import GroupKind, GroupResource
from syncer.api.names import GROUP, Reason
from syncer.api.placement import MAX_INLINE_BYTES, AnyPlacement, InlineObject, Placement
from syncer.api.policy import DENIED_POLICY, DENIED_RESOURCES, builtin_kind
from syncer.kube.errors import MalformedAnswer
from syncer.kube.objects import decode_object
from syncer.placement.compile import compile_rules
from syncer.placement.compiled import is_protected_object
from syncer.transform.mark import group_kind
from syncer.transform.skip import skip_reason
from syncer.webhooks.findings import Context, Finding, ServedKind

_JOB: Final = GroupKind("batch", "Job")


def denial(resource: GroupResource, kind: str, context: Context) -> str | None:
    """Why nobody may place the kind here, for people; None where it may be placed."""
    if resource not in DENIED_RESOURCES or any(
        str(resource) in target.spec.resources.allow for target in context.targets.values()
    ):
        return None
    text = f"policy {DENIED_POLICY} forbids {kind}: it gives rights over a cluster. Only a SyncTarget"
    return f'{text} that lists "{resource}" in spec.resources.allow takes it'


def manifest_findings(placement: AnyPlacement, context: Context) -> Iterator[Finding]:
    """Everything wrong with `spec.manifests`."""
    spec = placement.spec
    if not spec.manifests:
        return
    if spec.deletion.wait:
        text = "holds back objects upstream, and those of spec.manifests are not there; place them by another placement"
        yield Finding("spec.deletion.wait", text)
    size = sum(len(orjson.dumps(entry.manifest())) for entry in spec.manifests)
    if size > MAX_INLINE_BYTES:
        text = f"{size:,} bytes of JSON, at most {MAX_INLINE_BYTES:,}; share the objects out over several placements"
        yield Finding("spec.manifests", text)
    excluded = compile_rules(spec.exclude, "spec.exclude")
    first: dict[tuple[GroupKind, str, str], int] = {}
    for index, entry in enumerate(spec.manifests):
        path = f"spec.manifests[{index}]"
        kind = group_kind(entry.api_version, entry.kind)
        served = context.resolve(entry.api_version, entry.kind) or builtin_kind(entry.api_version, entry.kind)
        yield from _kind_findings(placement, entry, path, served, context)
        namespace = _namespace(placement, entry, served)
        yield from _object_findings(entry, path, kind, namespace)
        known = first.setdefault((kind, namespace, entry.metadata.name), index)
        if known != index:
            yield Finding(path, f"is the same object as spec.manifests[{known}]; remove one of them")
        labels = entry.metadata.labels or {}
        for counter, rule in enumerate(excluded):
            if rule.matches(kind, entry.metadata.name, labels):
                yield Finding(path, f"spec.exclude[{counter}] leaves it out; remove one of the two")


def _namespace(placement: AnyPlacement, entry: InlineObject, served: ServedKind | None) -> str:
    """Where the object will stand, as far as that is known; "" for a cluster-scoped kind."""
    if served is not None and not served.namespaced:
        return ""
    return entry.metadata.namespace or placement.metadata.namespace


def _kind_findings(
    placement: AnyPlacement, entry: InlineObject, path: str, served: ServedKind | None, context: Context
) -> Iterator[Finding]:
    """The kind may be placed at all, and its scope and the namespace fit the placement."""
    kind, own = entry.kind, isinstance(placement, Placement)
    if entry.api_version.rpartition("/")[0] == GROUP:
        yield Finding(f"{path}.kind", f"objects of {GROUP} stay upstream", reason=Reason.RESOURCE_DENIED)
        return
    if (entry.api_version, kind) == ("v1", "List"):
        yield Finding(f"{path}.kind", "a List is no object; write each of its items as an entry of spec.manifests")
        return
    if served is not None:
        denied = denial(GroupResource(served.group, served.resource), kind, context)
        if denied is not None:
            yield Finding(f"{path}.kind", denied, reason=Reason.RESOURCE_DENIED)
            return
    namespace = entry.metadata.namespace
    where = f"{path}.metadata.namespace"
    if own and served is not None and not served.namespaced:
        text = f"{kind} is cluster-scoped and a Placement reaches only its own namespace; use a ClusterPlacement"
        yield Finding(f"{path}.kind", text, reason=Reason.FORBIDDEN)
    elif own and namespace not in (None, "", placement.metadata.namespace):
        text = f"is {namespace}, and a Placement reaches only its own namespace {placement.metadata.namespace}"
        yield Finding(where, f"{text}; leave it out, or use a ClusterPlacement", reason=Reason.FORBIDDEN)
    elif not own and served is not None and served.namespaced and not namespace:
        yield Finding(where, f"say the namespace of this {kind}")
    elif served is not None and not served.namespaced and namespace:
        yield Finding(where, f"{kind} is cluster-scoped; leave the namespace out")


def _object_findings(entry: InlineObject, path: str, kind: GroupKind, namespace: str) -> Iterator[Finding]:
    """The object itself is one that travels."""
    name = entry.metadata.name
    if is_protected_object(kind, namespace, name):
        text = f"ProtectedNamespace: {namespace or name} is protected: kube-* and syncline-system are never placed"
        yield Finding(f"{path}.metadata", text, reason=Reason.PROTECTED_NAMESPACE)
    manifest = entry.manifest()
    meta = {key: value for key, value in manifest["metadata"].items() if key not in ("deletionTimestamp", "namespace")}
    try:
        item = decode_object(orjson.dumps({**manifest, "metadata": {**meta, "namespace": namespace}}), manager=None)
    except MalformedAnswer as error:
        yield Finding(f"{path}.metadata", error.message)
        return
    skipped = skip_reason(item, kind)
    if skipped is not None:
        yield Finding(path, f"is never placed: {skipped}")
    if kind == _JOB and "ttlSecondsAfterFinished" in _mapping(manifest.get("spec")):
        text = "has no effect here; the Job stays on its targets until its entry is removed"
        yield Finding(f"{path}.spec.ttlSecondsAfterFinished", text, "warning")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
