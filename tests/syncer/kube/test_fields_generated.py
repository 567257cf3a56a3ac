"""Set algebra over managed fields, on generated objects."""

from __future__ import annotations

import copy
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from syncer.kube.fields import (
    FieldSet,
    ListKey,
    Path,
    differing,
    surplus,
    uncovered,
)

# Generated objects. The model server owns what it is given: maps by field, lists of named items by key, others whole.

_names = st.sampled_from(["a", "b", "c.d/e", "spec", "ü", 'q"uote'])
_scalars = st.one_of(st.integers(-5, 5), st.booleans(), st.text(max_size=3), st.floats(-2, 2))
_plain_lists = st.lists(_scalars, min_size=1, max_size=3)


def _named_lists(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    item = st.dictionaries(_names, children, max_size=2)
    return st.dictionaries(st.text(min_size=1, max_size=3), item, min_size=1, max_size=3).map(
        lambda items: [{**body, "name": name} for name, body in items.items()]
    )


_values = st.recursive(
    st.one_of(_scalars, _plain_lists),
    lambda c: st.one_of(st.dictionaries(_names, c, max_size=3), _named_lists(c)),
    max_leaves=12,
)
_manifests = st.dictionaries(_names, _values, min_size=1, max_size=4)


def own(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {f"f:{key}": own(child) for key, child in value.items()}
    if isinstance(value, list) and isinstance(value[0], dict):
        return {f"k:{orjson.dumps({'name': item['name']}).decode()}": {".": {}, **own(item)} for item in value}
    return {}


@given(_manifests)
def test_a_manifest_covers_itself(manifest: dict[str, Any]) -> None:
    owned = FieldSet(own(manifest))
    assert uncovered(manifest, owned) == surplus(manifest, owned) == differing(manifest, manifest, owned) == []


@given(_manifests, st.data())
def test_losing_one_leaf_uncovers_exactly_that_leaf(manifest: dict[str, Any], data: st.DataObject) -> None:
    """The key of an item is not among them: it cannot change, and an item without fields below it is an atomic one."""
    tree = own(manifest)
    paths = [path for path in FieldSet(tree).leaves() if path[-1] != "name"]
    if paths:
        path = data.draw(st.sampled_from(paths))
        rest = FieldSet(tree).difference(one(path))
        assert path not in rest
        assert uncovered(manifest, rest) == [path]
        assert surplus(manifest, rest) == []


@given(_manifests, st.data())
def test_dropping_one_value_makes_exactly_that_leaf_surplus(manifest: dict[str, Any], data: st.DataObject) -> None:
    owned = FieldSet(own(manifest))
    path = data.draw(st.sampled_from([p for p in owned.leaves() if p[-1] != "name"] or [()]))
    if path:
        assert surplus(without(manifest, path), owned) == [path]


@given(_manifests, _manifests)
def test_difference_and_intersection_agree_with_sets_of_paths(one_: dict[str, Any], other: dict[str, Any]) -> None:
    ours, theirs = FieldSet(own(one_)), FieldSet(own(other))
    left = ours.difference(theirs)
    assert members(left) == members(ours) - members(theirs)
    assert ours.intersects(theirs) == bool(set(ours.leaves()) & set(theirs.leaves()))
    assert FieldSet.parse(orjson.dumps(ours.tree)) == ours


def one(path: Path) -> FieldSet:
    tree: dict[str, Any] = {}
    for element in reversed(path):
        edge = f"f:{element}" if isinstance(element, str) else ""
        if isinstance(element, ListKey):
            edge = f"k:{orjson.dumps(dict(element.keys)).decode()}"
        tree = {edge: tree}
    return FieldSet(tree)


def without(manifest: dict[str, Any], path: Path) -> dict[str, Any]:
    result = copy.deepcopy(manifest)
    node: Any = result
    for element in path[:-1]:
        if isinstance(element, ListKey):
            node = next(item for item in node if item["name"] == dict(element.keys)["name"])
        else:
            node = node[element]
    node.pop(path[-1])
    return result


def members(owned: FieldSet) -> set[Path]:
    def walk(node: dict[str, Any], path: Path) -> None:
        if path and (not node or "." in node):
            found.add(path)
        for edge, below in node.items():
            if edge != ".":
                element = edge[2:] if edge[:2] == "f:" else ListKey("k", tuple(orjson.loads(edge[2:]).items()))
                walk(below, (*path, element))

    found: set[Path] = set()
    walk(owned.tree, ())
    return found
