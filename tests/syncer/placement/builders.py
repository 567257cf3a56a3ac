"""Placements and targets as users write them, compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from syncer.api.keys import GroupKind
from syncer.api.placement import ClusterPlacement, Placement
from syncer.api.synctarget import Taint
from syncer.placement import CompiledPlacement, TargetState, compile_placement

DEPLOYMENT = GroupKind("apps", "Deployment")
CONFIGMAP = GroupKind("", "ConfigMap")
WEB = {"apiVersion": "apps/v1", "kind": "Deployment", "names": ["web*"]}


def manifest(name: str = "web", *, namespace: str = "shop", uid: str = "", **spec: Any) -> dict[str, Any]:
    """A placement of `web*` Deployments on all targets, with other spec fields as given."""
    return {
        "apiVersion": "syncline.io/v1alpha1",
        "kind": "Placement" if namespace else "ClusterPlacement",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid or f"uid-{namespace}-{name}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "generation": 3,
        },
        "spec": {"resources": [WEB], "targets": {"all": True}, **spec},
    }


def compiled(raw: Mapping[str, Any]) -> CompiledPlacement:
    model = Placement if raw["kind"] == "Placement" else ClusterPlacement
    return compile_placement(model.parse(raw))


def placement(name: str = "web", *, namespace: str = "shop", uid: str = "", **spec: Any) -> CompiledPlacement:
    return compiled(manifest(name, namespace=namespace, uid=uid, **spec))


def target(name: str, *taints: tuple[str, str, str], **fields: Any) -> TargetState:
    """A ready target; taints as (key, value, effect)."""
    parsed = tuple(
        Taint.model_validate({"key": key, "value": value, "effect": effect}) for key, value, effect in taints
    )
    return TargetState(name=name, uid=f"uid-{name}", taints=parsed, **fields)


def targets(*states: TargetState) -> dict[str, TargetState]:
    return {state.name: state for state in states}
