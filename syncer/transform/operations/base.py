"""What every operation is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from syncer.api.keys import GroupKind
from syncer.kube.pointers import join_pointer
from syncer.transform.draft import Draft, Manifest
from syncer.transform.errors import OperationError
from syncer.transform.podspec import Path, template_path
from syncer.transform.target import TargetView, compile_value, expand


@dataclass(frozen=True)
class Context:
    """For what an operation runs."""

    kind: GroupKind
    target: TargetView


# Edits the draft in place; raises OperationError. Whatever can be checked or built early is, in `compile_*`.
Operation = Callable[[Draft, Context], None]


def writable_pod_spec(draft: Draft, context: Context) -> Manifest | None:
    """The pod spec to write to, or None for objects that describe no pods."""
    path: Path | None = template_path(draft.root, context.kind)
    return None if path is None else draft.mapping(*path, "spec")


def compile_texts(values: Mapping[str, Any], field: str = "set") -> dict[str, Any]:
    """Compile the members of `set` and `map`; errors name the member."""
    compiled = {}
    for key, value in values.items():
        try:
            compiled[key] = compile_value(value)
        except OperationError as error:
            raise OperationError(str(error), at=join_pointer((field, key))) from error
    return compiled


def expand_texts(values: Mapping[str, Any], target: TargetView, field: str = "set") -> dict[str, Any]:
    """`compile_texts` for one target; errors name the member."""
    expanded = {}
    for key, value in values.items():
        try:
            expanded[key] = expand(value, target)
        except OperationError as error:
            raise OperationError(str(error), at=join_pointer((field, key))) from error
    return expanded
