"""From the API models to what the engine uses; nothing else in this room reads a whole model."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

from syncer.api.common import LabelSelector, Toleration, duration_seconds, not_yet_supported
from syncer.api.names import Reason
from syncer.api.placement import AnyPlacement, ClusterPlacement, NamespaceSelector, ObjectSelector, TargetSelector
from syncer.api.policy import is_protected
from syncer.api.synctarget import SyncTarget
from syncer.errors import TerminalError
from syncer.placement.compiled import (
    CompiledPlacement,
    Globs,
    NamespaceRule,
    ObjectRule,
    TargetRule,
)
from syncer.placement.policy import ResourcePolicy
from syncer.placement.targets import TargetState

POD_SECURITY_LABELS: Final = "pod-security.kubernetes.io/*"


def compile_placement(model: AnyPlacement) -> CompiledPlacement:
    """Compile one placement.

    Raises:
        TerminalError: `NotYetSupported` for a feature whose code comes later, `ProtectedNamespace`, or `Invalid` for a
            selector that says nothing; `pointer` is the path of the field.
    """
    meta, spec = model.metadata, model.spec
    later = not_yet_supported(spec)
    if later:
        raise TerminalError(Reason.NOT_YET_SUPPORTED, f"spec.{later[0]}", pointer=f"spec.{later[0]}")
    if is_protected(meta.namespace):
        raise TerminalError(
            Reason.PROTECTED_NAMESPACE,
            f"nothing is placed from namespace {meta.namespace}; move the placement and its objects to another one",
            pointer="metadata.namespace",
        )
    weights = spec.replicas.weights
    return CompiledPlacement(
        uid=meta.uid,
        kind=model.kind,
        namespace=meta.namespace,
        name=meta.name,
        created=meta.creation_timestamp,
        generation=meta.generation,
        rules=compile_rules(spec.resources, "spec.resources"),
        exclude=compile_rules(spec.exclude, "spec.exclude"),
        namespaces=_namespace_rule(model.spec.namespaces) if isinstance(model, ClusterPlacement) else None,
        targets=_target_rule(spec.targets),
        divided=spec.replicas.mode == "Divide",
        weights=MappingProxyType(dict(weights.static)) if weights is not None and weights.static else None,
        transforms=spec.transforms,
        conflict=spec.conflict,
        drift=spec.drift,
        deletion=spec.deletion,
        status=spec.status,
        namespace_labels=Globs((*spec.namespace_labels, POD_SECURITY_LABELS)),
        suspend=spec.suspend,
        manifests=spec.manifests,
        annotations=MappingProxyType(dict(meta.annotations)),
    )


def compile_target(model: SyncTarget, *, ready: bool) -> TargetState:
    """Compile what placement needs to know of one target; `ready` is the engine's own knowledge."""
    meta, spec = model.metadata, model.spec
    return TargetState(
        name=meta.name,
        uid=meta.uid,
        labels=MappingProxyType(dict(meta.labels)),
        taints=spec.taints,
        unschedulable=spec.unschedulable,
        ready=ready,
        deleting=meta.deletion_timestamp is not None,
        evict_after_seconds=None if spec.evict_after is None else duration_seconds(spec.evict_after),
        resources=ResourcePolicy.of(spec.resources),
    )


def compile_rules(entries: Sequence[ObjectSelector], path: str) -> tuple[ObjectRule, ...]:
    """Compile `resources` or `exclude`. Raises TerminalError for a selector that says nothing."""
    return tuple(_object_rule(one, f"{path}[{index}]") for index, one in enumerate(entries))


def _object_rule(one: ObjectSelector, path: str) -> ObjectRule:
    _require(one.names, one.label_selector, path)
    api_version = one.api_version
    group = api_version.rpartition("/")[0] if api_version != "*" else "*"
    return ObjectRule(api_version, group, one.kind, Globs(one.names) if one.names else None, one.label_selector)


def _namespace_rule(one: NamespaceSelector | None) -> NamespaceRule | None:
    if one is None:
        return None
    _require(one.names, one.label_selector, "spec.namespaces")
    return NamespaceRule(Globs(one.names) if one.names else None, one.label_selector)


def _target_rule(one: TargetSelector) -> TargetRule:
    path = "spec.targets"
    if not one.all:
        _require(one.names, one.label_selector, path)
    for index, toleration in enumerate(one.tolerations):
        _check_toleration(toleration, f"{path}.tolerations[{index}].tolerationSeconds")
    return TargetRule(one.names, one.label_selector, one.tolerations, one.max_targets)


def _check_toleration(toleration: Toleration, path: str) -> None:
    if toleration.toleration_seconds is not None:  # a SyncTarget's taint does not say since when it is there
        raise TerminalError(Reason.NOT_YET_SUPPORTED, path, pointer=path)


def _require(names: tuple[str, ...], selector: LabelSelector | None, path: str) -> None:
    """An empty selector would match everything by accident; the API server refuses it too, by the CRD's rules."""
    if selector is not None and not (selector.match_labels or selector.match_expressions):
        path += ".labelSelector"
    elif names or selector is not None:
        return
    raise TerminalError(Reason.INVALID, f"{path} selects nothing; say what it selects", pointer=path)
