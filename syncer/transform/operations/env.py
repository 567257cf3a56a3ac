"""`env`: environment variables of containers."""

from __future__ import annotations

from typing import Any

from syncer.api.transforms import EnvTransform
from syncer.transform.draft import Draft
from syncer.transform.operations.base import Context, Operation, compile_texts, expand_texts, writable_pod_spec
from syncer.transform.podspec import containers, name_matcher


def compile_env(model: EnvTransform) -> Operation:
    """Remove, then set. A variable keeps its place in the list, for `$(NAME)` looks backwards; new ones come last."""
    matches = name_matcher(list(model.containers))
    values = compile_texts(model.set)
    removed = frozenset(model.remove)

    def apply(draft: Draft, context: Context) -> None:
        spec = writable_pod_spec(draft, context)
        if spec is None:
            return
        wanted = expand_texts(values, context.target)
        for container in containers(draft, spec, matches):
            env = _changed(container.get("env") or [], wanted, removed)
            if env:
                container["env"] = env
            else:
                container.pop("env", None)

    return apply


def _changed(env: list[Any], wanted: dict[str, Any], removed: frozenset[str]) -> list[Any]:
    changed, placed = [], set()
    for entry in env:
        name = entry.get("name") if isinstance(entry, dict) else None
        if name in wanted:
            if name not in placed:  # a second entry of that name would be refused by the server
                changed.append({"name": name, "value": wanted[name]})
                placed.add(name)
        elif name not in removed:
            changed.append(entry)
    changed.extend({"name": name, "value": value} for name, value in wanted.items() if name not in placed)
    return changed
