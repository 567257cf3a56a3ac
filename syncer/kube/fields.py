"""Who owns which field: set algebra over `fieldsV1`, the form in which managed fields are stored.

A set is a tree. Its edges are the server's own words: `f:NAME` a field, `k:{…}` the item of a keyed list, `v:VALUE`
the item of a set, `i:N` a position. An edge with nothing below it is a member; `.` among the edges says that the place
itself is a member too. A list or map that the schema calls atomic is one member, whatever it holds.

Everything here is guided by the tree, so no schema is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, TypeAlias, cast

import orjson

from syncer.kube.paths import (
    LEAF,
    ListKey,
    ListValue,
    Node,
    Path,
    PathElement,
    Position,
    child,
    element_of,
    match_items,
    parse_field_text,
    pointer,
)
from syncer.kube.pointers import get_pointer, remove_pointer, set_pointer, split_pointer
from syncer.kube.quantities import parse_quantity

__all__ = [
    "FieldSet",
    "ListKey",
    "ListValue",
    "Path",
    "Position",
    "differing",
    "digest",
    "get_pointer",
    "owners",
    "parse_field_text",
    "pointer",
    "remove_pointer",
    "set_pointer",
    "surplus",
    "uncovered",
]

_Place: TypeAlias = "tuple[()] | tuple[_Place, str]"

# Part of every applied manifest, owned by nobody: the server strips them before it counts ownership.
_IDENTITY_TOP: Final = frozenset({"apiVersion", "kind"})
_IDENTITY_META: Final = frozenset({"name", "namespace", "uid", "resourceVersion"})
# Text here is the user's own; anywhere else two spellings of one quantity are the same value.
_VERBATIM: Final = frozenset({"metadata", "data", "stringData", "binaryData", "immutable"})


class FieldSet:
    """An immutable set of field paths.

    `path in fields` holds for members and for everything inside a member without members below it (atomic values).
    """

    __slots__ = ("_tree",)

    def __init__(self, tree: Node) -> None:
        self._tree = tree

    @classmethod
    def parse(cls, owned: bytes | None) -> FieldSet:
        """Read `fieldsV1`; None is the empty set.

        Raises:
            ValueError: not a JSON object.
        """
        tree = orjson.loads(owned) if owned else {}
        if not isinstance(tree, dict):
            raise ValueError("fieldsV1 is not an object")
        return cls(cast("Node", tree))

    @property
    def tree(self) -> Node:
        """The tree itself, for reading."""
        return self._tree

    def digest(self) -> bytes:
        """16 bytes, equal for equal sets whatever the order of their JSON."""
        return hashlib.blake2b(orjson.dumps(self._tree, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()

    def leaves(self) -> list[Path]:
        """The members that have no members below them."""
        return list(_leaves(self._tree, ())) if self._tree else []

    def difference(self, other: FieldSet) -> FieldSet:
        """The members of this set that the other does not have."""
        return FieldSet(_difference(self._tree, other._tree) or {})

    def intersects(self, other: FieldSet) -> bool:
        """True if some value belongs to both, as a leaf; sharing only the `.` of a list item or map is not enough."""
        return bool(self._tree and other._tree) and _intersects(self._tree, other._tree)

    def resolve(self, text: str, live: Mapping[str, Any]) -> Path:
        """The path that a JSON pointer means here: list positions become the keys of the items at that place in `live`.

        Positions that the set does not know by key stay positions.
        """
        path: list[PathElement] = []
        node, value = self._tree, cast("Any", live)
        for token in split_pointer(text):
            element: PathElement = token
            if isinstance(value, list) and token.isascii() and token.isdigit():
                index = int(token)
                edge = next((edge for edge, at in match_items(value, node).items() if at == index), None)
                element = Position("i", index) if edge is None else element_of(edge)
                value = value[index] if index < len(value) else None
            else:
                value = value.get(token) if isinstance(value, dict) else None
            path.append(element)
            node = child(node, element) or LEAF
        return tuple(path)

    def __contains__(self, path: Path) -> bool:
        node = self._tree
        for element in path:
            if not node:
                return node is not self._tree
            found = child(node, element)
            if found is None:
                return False
            node = found
        return bool(path) and (not node or "." in node)

    def __bool__(self) -> bool:
        return bool(self._tree)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldSet) and self._tree == other._tree

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        return f"FieldSet({orjson.dumps(self._tree, option=orjson.OPT_SORT_KEYS).decode()})"


@lru_cache(maxsize=256)  # objects made alike are owned alike
def digest(owned: bytes | None) -> bytes:
    """The canonical digest of raw `fieldsV1`; b"" where nothing is owned."""
    return FieldSet.parse(owned).digest() if owned else b""


def uncovered(manifest: Mapping[str, Any], owned: FieldSet) -> list[Path]:
    """Leaves of the manifest that are not owned; a list item that is not owned at all is one of them.

    Identity (`apiVersion`, `kind`, `metadata.name`, `namespace`, `uid`, `resourceVersion`) is never owned, so it is not
    counted. Null and empty lists say nothing and are not counted either.
    """
    return _read(_Comparison(manifest, None, owned).uncovered)


def surplus(manifest: Mapping[str, Any], owned: FieldSet) -> list[Path]:
    """Owned leaves that the manifest no longer has."""
    return _read(_Comparison(manifest, None, owned).surplus)


def differing(manifest: Mapping[str, Any], live: Mapping[str, Any], owned: FieldSet) -> list[Path]:
    """Owned leaves whose live value is not the manifest's, and keyed lists whose items stand in another order.

    Quantities compare as numbers, and int as float. A live value that is missing equals null, an empty text, list or
    map, zero and false: the server drops those. Inside an atomic value, live fields that the manifest lacks are the
    server's defaults. Another order counts because ownership does not show it (`env`).
    """
    return _read(_Comparison(manifest, live, owned).differing)


def owners(
    managed_fields: Iterable[Mapping[str, Any]], place: Path | str, live: Mapping[str, Any] | None = None
) -> list[str]:
    """The managers that own a field, in the server's order, each once.

    Args:
        managed_fields: `metadata.managedFields` of a full GET.
        place: a path, or a JSON pointer; a pointer through list positions needs `live` to find the items.
    """
    found: dict[str, None] = {}
    for entry in managed_fields:
        fields = FieldSet(cast("Node", entry.get("fieldsV1") or {}))
        path = fields.resolve(place, live or {}) if isinstance(place, str) else place
        if path in fields:
            found[str(entry.get("manager", ""))] = None
    return list(found)


def _content(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest without identity."""
    content = {key: value for key, value in manifest.items() if key not in _IDENTITY_TOP}
    metadata = {key: value for key, value in (content.pop("metadata", None) or {}).items() if key not in _IDENTITY_META}
    return {"metadata": metadata, **content} if metadata else content


def _leaves(node: Node, path: Path) -> Iterator[Path]:
    if not node or node.keys() == {"."}:
        yield path
    for edge, below in node.items():
        if edge != ".":
            yield from _leaves(below, (*path, element_of(edge)))


def _difference(ours: Node, theirs: Node) -> Node | None:
    """What is left of one node, None where nothing is."""
    if not ours:
        return None if not theirs or "." in theirs else LEAF
    left: Node = {}
    for edge, below in ours.items():
        if edge == ".":
            if theirs and "." not in theirs:
                left[edge] = LEAF
        elif edge not in theirs:
            left[edge] = below
        elif (rest := _difference(below, theirs[edge])) is not None:
            left[edge] = rest
    if not left:
        return None
    return LEAF if left.keys() == {"."} else left


def _intersects(ours: Node, theirs: Node) -> bool:
    if not ours or not theirs:
        return not ours and not theirs
    return any(edge != "." and edge in theirs and _intersects(below, theirs[edge]) for edge, below in ours.items())


class _Comparison:
    """One walk over a manifest, what we own of it and, if given, the live object; finds all three kinds of difference.

    Places are kept as pairs (place above, edge), () at the top, and read into paths only when asked for.
    """

    def __init__(self, manifest: Mapping[str, Any], live: Mapping[str, Any] | None, owned: FieldSet) -> None:
        self.uncovered: list[_Place] = []
        self.surplus: list[_Place] = []
        self.differing: list[_Place] = []
        self._with_live = live is not None
        self._equal: Callable[[Any, Any], bool] = _equal
        self._map(_content(manifest), live, owned.tree, ())

    def _walk(self, value: Any, live: Any, node: Node, place: _Place) -> None:
        if not node:
            if self._with_live and not self._equal(value, live):
                self.differing.append(place)
        elif isinstance(value, dict):
            self._map(value, live, node, place)
        elif isinstance(value, list):
            self._list(value, live, node, place)
        else:
            if value is not None and "." not in node:
                self.uncovered.append(place)
            self.surplus += [(place, edge) for edge in node if edge != "."]

    def _map(self, value: dict[str, Any], live: Any, node: Node, place: _Place) -> None:
        there = live if isinstance(live, Mapping) else {}
        known = 0
        for key, part in value.items():
            if not place:
                self._equal = _equal if key in _VERBATIM else _equal_quantity
            edge = f"f:{key}"
            below = node.get(edge)
            if below is None:
                self._state(part, (place, edge))
            else:
                known += 1
                self._walk(part, there.get(key), below, (place, edge))
        if known < len(node) - ("." in node):
            for edge, below in node.items():
                if edge != "." and edge[2:] not in value:
                    self._lose(below, (place, edge))

    def _list(self, value: list[Any], live: Any, node: Node, place: _Place) -> None:
        items = live if isinstance(live, list) else []
        here = match_items(value, node)
        there = match_items(items, node) if self._with_live else {}
        if len(here) < len(value):
            matched = set(here.values())
            self.uncovered += [(place, f"i:{index}") for index in range(len(value)) if index not in matched]
        self.surplus += [(place, edge) for edge in node if edge != "." and edge not in here]
        order: list[int] = []
        for edge, index in sorted(here.items(), key=itemgetter(1)):
            at = there.get(edge)
            if at is not None and edge[:2] == "k:":
                order.append(at)
            if at is None and self._with_live:
                self.differing.append((place, edge))
            else:
                self._walk(value[index], None if at is None else items[at], node[edge], (place, edge))
        if order != sorted(order):
            self.differing.append(place)

    def _state(self, value: Any, place: _Place) -> None:
        """A part that is not owned at all; a list in it is one leaf: only a schema could split it."""
        if isinstance(value, dict) and value:
            for key, part in value.items():
                self._state(part, (place, f"f:{key}"))
        elif value is not None and value != []:
            self.uncovered.append(place)

    def _lose(self, node: Node, place: _Place) -> None:
        """A part that the manifest no longer has."""
        below = [edge for edge in node if edge != "."]
        if not below:
            self.surplus.append(place)
        for edge in below:
            self._lose(node[edge], (place, edge))


def _read(places: list[_Place]) -> list[Path]:
    """Places as paths, from the top."""
    paths: list[Path] = []
    for place in places:
        elements: list[PathElement] = []
        while place:
            place, edge = place
            elements.append(element_of(edge))
        paths.append(tuple(reversed(elements)))
    return paths


def _equal(want: Any, live: Any) -> bool:
    """True if a live value is what was asked for, spelled as the server may spell it."""
    return _same(want, live, _equal)


def _equal_quantity(want: Any, live: Any) -> bool:
    """As `_equal`, and two spellings of one quantity are equal."""
    if _same(want, live, _equal_quantity):
        return True
    return (number := parse_quantity(want)) is not None and number == parse_quantity(live)


def _same(want: Any, live: Any, equal: Callable[[Any, Any], bool]) -> bool:
    if want is None or (live is None and not want):
        return True
    if isinstance(want, dict):
        return isinstance(live, dict) and all(equal(value, live.get(key)) for key, value in want.items())
    if isinstance(want, list):
        return isinstance(live, list) and len(want) == len(live) and all(map(equal, want, live))
    return isinstance(want, bool) is isinstance(live, bool) and bool(want == live)
