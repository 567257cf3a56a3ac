"""`nodeSelector`, `tolerations`, `imagePullSecrets` of pod templates."""

from __future__ import annotations

from typing import Any

from syncer.api.transforms import ImagePullSecretsTransform, NodeSelectorTransform, TolerationsTransform
from syncer.transform.draft import Draft
from syncer.transform.operations.base import Context, Operation, compile_texts, expand_texts, writable_pod_spec
from syncer.transform.operations.metadata import check_label_value
from syncer.transform.target import compile_value, expand


def compile_node_selector(model: NodeSelectorTransform) -> Operation:
    """Remove, then set."""
    values = compile_texts(model.set)

    def apply(draft: Draft, context: Context) -> None:
        spec = writable_pod_spec(draft, context)
        if spec is None:
            return
        wanted = expand_texts(values, context.target)
        for key, value in wanted.items():
            check_label_value(key, value)
        selector = {key: value for key, value in (spec.get("nodeSelector") or {}).items() if key not in model.remove}
        selector.update(wanted)
        _put(spec, "nodeSelector", selector)

    return apply


def compile_tolerations(model: TolerationsTransform) -> Operation:
    """Add those that are not there yet."""
    added = compile_value([toleration.to_wire() for toleration in model.add])

    def apply(draft: Draft, context: Context) -> None:
        spec = writable_pod_spec(draft, context)
        if spec is not None:
            tolerations = list(spec.get("tolerations") or [])
            tolerations.extend(entry for entry in expand(added, context.target) if entry not in tolerations)
            _put(spec, "tolerations", tolerations)

    return apply


def compile_image_pull_secrets(model: ImagePullSecretsTransform) -> Operation:
    """Replace the list; an empty one removes it."""
    secrets = compile_value([{"name": name} for name in model.set])

    def apply(draft: Draft, context: Context) -> None:
        spec = writable_pod_spec(draft, context)
        if spec is not None:
            _put(spec, "imagePullSecrets", expand(secrets, context.target))

    return apply


def _put(spec: dict[str, Any], key: str, value: Any) -> None:
    if value:
        spec[key] = value
    else:
        spec.pop(key, None)
