"""JSON pointers and quantities."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.kube.pointers import get_pointer, join_pointer, remove_pointer, set_pointer, split_pointer
from syncer.kube.quantities import parse_quantity

MANIFEST: dict[str, Any] = {
    "metadata": {"labels": {"app.kubernetes.io/name": "web", "a~b": "tilde"}},
    "spec": {"replicas": 3, "containers": [{"name": "web", "image": "x"}, {"name": "side"}], "none": None},
}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", MANIFEST),
        ("/spec/replicas", 3),
        ("/spec/containers/1/name", "side"),
        ("/metadata/labels/app.kubernetes.io~1name", "web"),
        ("/metadata/labels/a~0b", "tilde"),
        ("/spec/containers/2", "missing"),
        ("/spec/containers/-1", "missing"),
        ("/spec/containers/01", "missing"),
        ("/spec/replicas/x", "missing"),
        ("/spec/none", None),
    ],
)
def test_get_follows_every_kind_of_step(pointer: str, value: Any) -> None:
    assert get_pointer(MANIFEST, pointer, "missing") == value


def test_remove_and_set_leave_their_input_alone_and_share_the_rest() -> None:
    before = copy.deepcopy(MANIFEST)
    removed = remove_pointer(MANIFEST, "/spec/containers/0/image")
    changed = set_pointer(MANIFEST, "/spec/template/metadata", {"x": 1})
    assert before == MANIFEST
    assert removed["spec"]["containers"] == [{"name": "web"}, {"name": "side"}]
    assert changed["spec"]["template"] == {"metadata": {"x": 1}}
    assert removed["metadata"] is MANIFEST["metadata"]
    assert changed["spec"]["containers"] is MANIFEST["spec"]["containers"]


def test_remove_of_what_is_not_there_is_the_same_manifest() -> None:
    assert remove_pointer(MANIFEST, "/spec/nope/deeper") is MANIFEST
    assert remove_pointer(MANIFEST, "/spec/containers/7") is MANIFEST


def test_set_appends_replaces_and_refuses_a_way_through_scalars() -> None:
    assert set_pointer({"a": [1]}, "/a/-", 2) == {"a": [1, 2]}
    assert set_pointer({"a": [1]}, "/a/0", 2) == {"a": [2]}
    for pointer in ("/spec/replicas/x", "/spec/containers/9/name"):
        with pytest.raises(ValueError, match="nothing to go into"):
            set_pointer(MANIFEST, pointer, 1)


@pytest.mark.parametrize(
    "call", [lambda p: get_pointer({}, p), lambda p: remove_pointer({}, p), lambda p: set_pointer({}, p, 1)]
)
def test_a_pointer_begins_with_a_slash(call: Any) -> None:
    with pytest.raises(ValueError, match="must begin with '/'"):
        call("spec")


def test_the_whole_document_is_neither_removed_nor_set() -> None:
    with pytest.raises(ValueError, match="whole document"):
        remove_pointer({}, "")
    with pytest.raises(ValueError, match="whole document"):
        set_pointer({}, "", 1)


@given(st.lists(st.text(), min_size=1))
def test_split_is_the_inverse_of_join(tokens: list[str]) -> None:
    assert split_pointer(join_pointer(tokens)) == tokens


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4), st.integers())
def test_what_was_set_is_found_and_what_was_removed_is_not(tokens: list[str], value: int) -> None:
    pointer = join_pointer(tokens)
    changed = set_pointer({"kept": 1}, pointer, value)
    assert get_pointer(changed, pointer) == value
    assert get_pointer(remove_pointer(changed, pointer), pointer, "gone") == "gone"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1000m", "1"),
        ("1", 1),
        ("1Gi", 1073741824),
        ("1e3", "1k"),
        ("0.5", "500m"),
        ("1.5Gi", "1536Mi"),
        (1.0, 1),
        ("5n", "0.000000005"),
    ],
)
def test_spellings_of_one_quantity_are_one_number(one: Any, other: Any) -> None:
    assert parse_quantity(one) == parse_quantity(other) is not None


@pytest.mark.parametrize("value", ["", "m", "1mm", "1 Gi", "x", True, None, [], "1.2.3", "१", "25%", "1e999999999"])
def test_everything_else_is_no_quantity(value: Any) -> None:
    assert parse_quantity(value) is None


def test_large_quantities_are_exact() -> None:
    assert parse_quantity("9007199254740993") == Decimal(9007199254740993)
