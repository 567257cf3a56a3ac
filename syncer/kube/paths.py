"""Paths into managed fields: elements, the edges that spell them in `fieldsV1`, and the forms that people read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

import orjson

from syncer.kube.pointers import join_pointer

Scalar: TypeAlias = str | int | float | bool | None


class ListKey(NamedTuple):
    """The item of a keyed list, by its key fields in the order of their names."""

    tag: Literal["k"]
    keys: tuple[tuple[str, Scalar], ...]


class ListValue(NamedTuple):
    """The item of a set, by its value."""

    tag: Literal["v"]
    value: Scalar


class Position(NamedTuple):
    """The item of a list, by its index."""

    tag: Literal["i"]
    at: int


PathElement: TypeAlias = str | ListKey | ListValue | Position
Path: TypeAlias = tuple[PathElement, ...]
Node: TypeAlias = "dict[str, Node]"

LEAF: Final[Node] = {}


def pointer(path: Path, manifest: Mapping[str, Any]) -> str:
    """A JSON pointer for people, `/spec/template/spec/containers/0/image`.

    A list item that the manifest does not have keeps its key as text, `…/containers/name=web/image`.
    """
    tokens: list[str | int] = []
    value: Any = manifest
    for element in path:
        if isinstance(element, str):
            tokens.append(element)
            value = value.get(element) if isinstance(value, dict) else None
        elif isinstance(element, Position):
            tokens.append(element.at)
            value = value[element.at] if isinstance(value, list) and element.at < len(value) else None
        else:
            items = value if isinstance(value, list) else []
            index = match_items(items, {edge_of(element): LEAF}).get(edge_of(element))
            value = None if index is None else items[index]
            tokens.append(_text(element) if index is None else index)
    return join_pointer(tokens)


_NAME = re.compile(r"\.([^.\[]+)")
_BRACKET = re.compile(r'\[((?:"(?:[^"\\]|\\.)*"|[^"\]])*)\]')
_KEY_VALUE = re.compile(r'([^=,]+)=("(?:[^"\\]|\\.)*"|[^,]*)')


def parse_field_text(text: str, manifest: Mapping[str, Any]) -> Path:
    """Read a path as conflicts write it, `.spec.containers[name="web"].image`.

    Args:
        text: `Cause.field` of a `FieldManagerConflict`, or `SchemaMismatch.pointer`.
        manifest: what was applied; tells where a name with dots ends (`.metadata.labels.app.kubernetes.io/name`).
    Raises:
        ValueError: not such a path.
    """
    path: list[PathElement] = []
    value: Any = manifest
    at = 0
    while at < len(text):
        if text[at] == ".":
            name = _longest_name(text, at + 1, value) if isinstance(value, dict) else None
            if name is None:
                found = _NAME.match(text, at)
                if found is None:
                    raise ValueError(f"{text!r} is not a field path")
                name = found.group(1)
            path.append(name)
            value = value.get(name) if isinstance(value, dict) else None
            at += 1 + len(name)
            continue
        found = _BRACKET.match(text, at)
        if found is None:
            raise ValueError(f"{text!r} is not a field path")
        element = _bracket(found.group(1))
        path.append(element)
        value = _step(value, element)
        at = found.end()
    return tuple(path)


def _longest_name(text: str, start: int, value: dict[str, Any]) -> str | None:
    names = (key for key in value if text.startswith(key, start) and text[start + len(key) :][:1] in ("", ".", "["))
    return max(names, key=len, default=None)


def _bracket(body: str) -> PathElement:
    if body.isascii() and body.isdigit():
        return Position("i", int(body))
    if body.startswith("="):
        return ListValue("v", cast("Scalar", orjson.loads(body[1:])))
    return ListKey("k", tuple((name, cast("Scalar", orjson.loads(value))) for name, value in _KEY_VALUE.findall(body)))


def _step(value: Any, element: PathElement) -> Any:
    """One step down a manifest; None where there is nothing."""
    if isinstance(element, str):
        return value.get(element) if isinstance(value, dict) else None
    if not isinstance(value, list):
        return None
    index = (
        element.at
        if isinstance(element, Position)
        else match_items(value, {edge_of(element): LEAF}).get(edge_of(element))
    )
    return value[index] if index is not None and index < len(value) else None


@lru_cache(maxsize=4096)
def element_of(edge: str) -> PathElement:
    """Read one edge of the tree."""
    match edge[:2]:
        case "f:":
            return edge[2:]
        case "k:":
            return ListKey("k", tuple(sorted(orjson.loads(edge[2:]).items())))
        case "v:":
            return ListValue("v", cast("Scalar", orjson.loads(edge[2:])))
        case "i:":
            return Position("i", int(edge[2:]))
    raise ValueError(f"{edge!r} is not an edge of fieldsV1")


def edge_of(element: PathElement) -> str:
    """Write one edge as the server writes it: keys in the order of their names."""
    if isinstance(element, str):
        return f"f:{element}"
    if isinstance(element, ListKey):
        return "k:" + orjson.dumps(dict(element.keys), option=orjson.OPT_SORT_KEYS).decode()
    if isinstance(element, ListValue):
        return "v:" + orjson.dumps(element.value).decode()
    return f"i:{element.at}"


def _text(element: ListKey | ListValue) -> str:
    if isinstance(element, ListValue):
        return f"={element.value}"
    return ",".join(f"{name}={value}" for name, value in element.keys)


def child(node: Node, element: PathElement) -> Node | None:
    """The node below an edge; edges spelled in another way (escapes) are compared as values."""
    found = node.get(edge_of(element))
    if found is None and not isinstance(element, str | Position):
        return next(
            (below for edge, below in node.items() if edge[:2] == f"{element.tag}:" and element_of(edge) == element),
            None,
        )
    return found


def match_items(items: list[Any], node: Node) -> dict[str, int]:
    """Which list item each `k:`, `v:` or `i:` edge means: {edge: index}; edges without an item are left out.

    An item that leaves out key fields (the server defaults them: `protocol`) matches an edge that no complete item
    matches; of several such edges the one with `TCP` comes first.
    """
    found: dict[str, int] = {}
    open_edges: list[tuple[str, ListKey]] = []
    complete: dict[_Marked, int] = {}
    names: tuple[str, ...] = ()
    for edge in node:
        if edge == ".":
            continue
        element = element_of(edge)
        if isinstance(element, ListKey):
            wanted, values = _marked_keys(edge)
            if wanted != names:
                names = wanted
                complete = {_marked(item, names): index for index, item in enumerate(items) if _has(item, names)}
            if (at := complete.get(values)) is None:
                open_edges.append((edge, element))
            else:
                found[edge] = at
        elif isinstance(element, ListValue):
            value = element.value
            place = next((i for i, item in enumerate(items) if item == value and type(item) is type(value)), None)
            if place is not None:
                found[edge] = place
        elif isinstance(element, Position) and element.at < len(items):
            found[edge] = element.at
    if open_edges:
        _match_defaults(items, names, open_edges, found)
    return found


def _match_defaults(
    items: list[Any], names: tuple[str, ...], edges: list[tuple[str, ListKey]], found: dict[str, int]
) -> None:
    """Match what is left to items that leave out key fields; adds to `found`."""
    taken = set(found.values())
    partial = [i for i, item in enumerate(items) if isinstance(item, dict) and i not in taken and not _has(item, names)]
    for edge, element in sorted(edges, key=lambda pair: ("protocol", "TCP") not in pair[1].keys) if partial else ():
        at = next((i for i in partial if all(items[i].get(key, value) == value for key, value in element.keys)), None)
        if at is not None:
            partial.remove(at)
            found[edge] = at


_Marked: TypeAlias = tuple[Any, ...]


@lru_cache(maxsize=4096)
def _marked_keys(edge: str) -> tuple[tuple[str, ...], _Marked]:
    """Key names of a `k:` edge, and its values as `_marked` gives them."""
    keys = dict(cast("ListKey", element_of(edge)).keys)
    names = tuple(keys)
    return names, _marked(keys, names)


def _has(item: Any, names: tuple[str, ...]) -> bool:
    return isinstance(item, dict) and all(name in item for name in names)


def _marked(item: Mapping[str, Any], names: tuple[str, ...]) -> _Marked:
    """Key values in a form that tells `true` from `1`; what no server accepts as a key equals nothing."""
    return tuple(
        value
        if isinstance(value, str)
        else (type(value) is bool, value)
        if isinstance(value, int | float)
        else object()
        for value in (item[name] for name in names)
    )
