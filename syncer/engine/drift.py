"""Which fields of a synced object are no longer as applied, and what the placement wants done about each. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from syncer.engine.pair import Memory
from syncer.engine.situation import Wanted
from syncer.kube.fields import (
    FieldSet,
    ListKey,
    ListValue,
    Path,
    differing,
    get_pointer,
    pointer,
    remove_pointer,
    set_pointer,
    surplus,
    uncovered,
)
from syncer.kube.objects import KubeObject


@dataclass(frozen=True, slots=True)
class Drift:
    """JSON pointers that drifted, by what is to be done; sorted, without duplicates."""

    enforced: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()


def compare(wanted: Wanted, memory: Memory, observed: KubeObject) -> Drift:
    """Compare what we want to own with what we own and what stands there, guided by our field ownership."""
    expected = shaped(wanted.manifest, memory, wanted.policy.ignored())
    owned = FieldSet.parse(observed.owned)
    live = observed.manifest()
    pointers = {pointer(path, expected) for path in uncovered(expected, owned)}
    pointers |= {pointer(path, expected) for path in differing(expected, live, owned)}
    pointers |= {p for p in (pointer(path, live) for path in surplus(expected, owned)) if not _below(p, wanted, memory)}
    enforced: list[str] = []
    warned: list[str] = []
    for found in sorted(pointers):
        mode = wanted.policy.mode_at(found)
        if mode == "Enforce":
            enforced.append(found)
        elif mode == "Warn":
            warned.append(found)
    return Drift(tuple(enforced), tuple(warned))


def _below(found: str, wanted: Wanted, memory: Memory) -> bool:
    """Is this field one that we sent once and do not maintain?"""
    skipped = wanted.policy.ignored() + memory.ceded + memory.dropped
    return any(found == p or found.startswith(p + "/") for p in skipped)


def shaped(manifest: Mapping[str, Any], memory: Memory, ignored: Sequence[str] = ()) -> Mapping[str, Any]:
    """What is sent of a manifest: less what is ignored, ceded or unknown to the target, variables named once."""
    for found in memory.deduped:
        listed = get_pointer(manifest, found)
        if not isinstance(listed, list):
            continue  # the container is gone
        entries = {entry["name"]: entry for entry in listed}
        manifest = set_pointer(manifest, found, list(entries.values()))
    return without(manifest, (*ignored, *memory.ceded, *memory.dropped))


def without(manifest: Mapping[str, Any], pointers: Sequence[str]) -> Mapping[str, Any]:
    """The manifest less some fields; the given one is not changed. Pointers to nothing are fine.

    List items are removed from the back, so that one removal does not move the next one's index.
    """
    for found in sorted(pointers, key=_removal_order, reverse=True):
        manifest = remove_pointer(manifest, found)
    return manifest


def _removal_order(found: str) -> list[tuple[int, int, str]]:
    return [(1, int(part), "") if part.isascii() and part.isdigit() else (0, 0, part) for part in found.split("/")]


def live_values(observed: KubeObject, pointers: Sequence[str]) -> dict[str, Any] | None:
    """A manifest of the fields below `pointers` that we own now, with their live values; None if we own none."""
    if observed.owned is None:
        return None
    live = observed.manifest()
    owned = FieldSet.parse(observed.owned)
    chosen = [
        path
        for path in owned.leaves()
        if any((p := pointer(path, live)) == wanted or p.startswith(wanted + "/") for wanted in pointers)
    ]
    if not chosen:
        return None
    metadata = {key: live["metadata"][key] for key in ("name", "namespace") if key in live["metadata"]}
    partial: dict[str, Any] = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata}
    for path in chosen:
        _graft(partial, live, path)
    return partial


def _graft(partial: Any, live: Any, path: Path) -> None:
    """Copy the value at an ownership path from `live` into `partial`, list items by their merge keys."""
    for depth, element in enumerate(path):
        below = path[depth + 1] if depth + 1 < len(path) else None
        if isinstance(element, str) and isinstance(live, dict) and element in live:
            if below is None:
                partial[element] = live[element]
                return
            live = live[element]
            partial = partial.setdefault(element, {} if isinstance(below, str) else [])
        elif isinstance(element, ListKey) and isinstance(live, list):
            keys = dict(element.keys)
            live, partial = _item(live, keys), _item(partial, keys) or _appended(partial, keys)
        else:
            if isinstance(element, ListValue) and element.value not in partial:
                partial.append(element.value)
            return


def _item(items: list[Any], keys: Mapping[str, Any]) -> Any:
    return next((item for item in items if all(item.get(name) == value for name, value in keys.items())), None)


def _appended(items: list[Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    items.append(dict(keys))
    return items[-1]  # type: ignore[no-any-return]
