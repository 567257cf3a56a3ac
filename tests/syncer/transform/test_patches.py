"""`remove`, `jsonPatch` and `mergePatch`, against the RFCs and the jsonpatch library."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import jsonpatch
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syncer.api.keys import GroupKind
from syncer.transform import TransformFailed
from syncer.transform.operations.patches import json_equal
from tests.syncer.transform.builders import WEST, compiled, transformed, workload

ANY = GroupKind("e.com", "Thing")


def patched(document: dict[str, Any], *operations: dict[str, Any]) -> Any:
    """The document, as `spec` of an object, after a JSON patch whose paths start inside it."""
    moved = [{**o, **{key: f"/spec{o[key]}" for key in ("path", "from") if key in o}} for o in operations]
    return transformed({"metadata": {"name": "x"}, "spec": document}, {"jsonPatch": moved}, kind=ANY)["spec"]


@pytest.mark.parametrize(
    ("before", "operation", "after"),
    [  # the examples of RFC 6902, appendix A
        ({"foo": "bar"}, {"op": "add", "path": "/baz", "value": "qux"}, {"baz": "qux", "foo": "bar"}),
        ({"foo": ["bar", "baz"]}, {"op": "add", "path": "/foo/1", "value": "qux"}, {"foo": ["bar", "qux", "baz"]}),
        ({"baz": "qux", "foo": "bar"}, {"op": "remove", "path": "/baz"}, {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, {"op": "remove", "path": "/foo/1"}, {"foo": ["bar", "baz"]}),
        ({"baz": "qux"}, {"op": "replace", "path": "/baz", "value": "boo"}, {"baz": "boo"}),
        (
            {"foo": {"bar": 1}, "qux": {}},
            {"op": "move", "from": "/foo/bar", "path": "/qux/x"},
            {"foo": {}, "qux": {"x": 1}},
        ),
        ({"foo": [1, 2, 3]}, {"op": "move", "from": "/foo/0", "path": "/foo/2"}, {"foo": [2, 3, 1]}),
        ({"baz": "qux"}, {"op": "test", "path": "/baz", "value": "qux"}, {"baz": "qux"}),
        ({"foo": "bar"}, {"op": "add", "path": "/child", "value": {"g": {}}}, {"foo": "bar", "child": {"g": {}}}),
        ({"/": 9, "~1": 10}, {"op": "test", "path": "/~01", "value": 10}, {"/": 9, "~1": 10}),
        ({"foo": ["bar"]}, {"op": "add", "path": "/foo/-", "value": ["x"]}, {"foo": ["bar", ["x"]]}),
        ({"a": {"b": 1}}, {"op": "copy", "from": "/a", "path": "/c"}, {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a": 1}, {"op": "add", "path": "/a", "value": None}, {"a": None}),
        ({"a": {}}, {"op": "add", "path": "/a/x~1y", "value": 1}, {"a": {"x/y": 1}}),
        ({"a": 1}, {"op": "move", "from": "/a", "path": "/a"}, {"a": 1}),
    ],
)
def test_json_patch_does_what_the_rfc_says(
    before: dict[str, Any], operation: dict[str, Any], after: dict[str, Any]
) -> None:
    assert patched(before, operation) == after


@pytest.mark.parametrize(
    ("before", "operation"),
    [
        ({"a": 1}, {"op": "remove", "path": "/b"}),
        ({"a": [1]}, {"op": "remove", "path": "/a/1"}),
        ({"a": [1]}, {"op": "remove", "path": "/a/-"}),
        ({"a": [1]}, {"op": "add", "path": "/a/2", "value": 1}),
        ({"a": [1]}, {"op": "add", "path": "/a/01", "value": 1}),
        ({"a": [1]}, {"op": "add", "path": "/a/-1", "value": 1}),
        ({"a": 1}, {"op": "add", "path": "/a/b", "value": 1}),
        ({"a": 1}, {"op": "add", "path": "/b/c", "value": 1}),
        ({"a": 1}, {"op": "replace", "path": "/b", "value": 1}),
        ({"a": 1}, {"op": "test", "path": "/a", "value": True}),
        ({"a": 1}, {"op": "test", "path": "/b", "value": None}),
        ({"a": 1}, {"op": "copy", "from": "/b", "path": "/c"}),
    ],
)
def test_a_json_patch_that_does_not_fit_names_its_entry(before: dict[str, Any], operation: dict[str, Any]) -> None:
    with pytest.raises(TransformFailed) as caught:
        patched({"ok": 1, **before}, {"op": "test", "path": "/ok", "value": 1}, operation)
    assert caught.value.pointer == "/spec/transforms/0/jsonPatch/1"


@pytest.mark.parametrize("operation", ["add", "replace", "test"])
def test_a_value_is_asked_for_where_the_operation_needs_one(operation: str) -> None:
    """B11."""
    with pytest.raises(TransformFailed, match=f"{operation} needs a value"):
        patched({"a": 1}, {"op": operation, "path": "/a"})


def test_a_move_into_itself_and_a_move_without_source_are_refused() -> None:
    """B11."""
    with pytest.raises(TransformFailed, match="cannot be moved into itself"):
        patched({"a": {}}, {"op": "move", "from": "/a", "path": "/a/b"})
    with pytest.raises(TransformFailed, match="copy needs from"):
        patched({"a": {}}, {"op": "copy", "path": "/a/b"})


def test_a_failed_test_does_not_tell_the_value() -> None:
    """The object may be a Secret."""
    with pytest.raises(TransformFailed) as caught:
        patched({"password": "canary-value"}, {"op": "test", "path": "/password", "value": "guess"})
    assert "canary" not in str(caught.value)


def test_a_copied_branch_lives_its_own_life() -> None:
    after = patched(
        {"a": {"list": [1]}},
        {"op": "add", "path": "/a/list/-", "value": 2},
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "add", "path": "/b/list/-", "value": 3},
    )
    assert after == {"a": {"list": [1, 2]}, "b": {"list": [1, 2, 3]}}


def test_the_value_of_a_patch_is_not_changed_by_what_comes_after_it() -> None:
    """One compiled pipeline serves many objects."""
    pipeline = compiled(
        {
            "jsonPatch": [
                {"op": "add", "path": "/spec/x", "value": {"list": [1]}},
                {"op": "add", "path": "/spec/x/list/-", "value": 2},
            ]
        },
        {"mergePatch": {"spec": {"x": {"m": 1}}}},
    )
    results = [pipeline.run({"metadata": {}, "spec": {}}, kind=ANY, target=WEST) for _ in range(3)]
    assert results == [{"metadata": {}, "spec": {"x": {"list": [1, 2], "m": 1}}}] * 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0", "~", "/"]), inner, max_size=3)
    ),
    max_leaves=8,
)
POINTERS = st.lists(st.sampled_from(["a", "b", "0", "1", "-", "~0", "~1"]), min_size=1, max_size=3).map(
    lambda s: "/" + "/".join(s)
)
PATCHES = st.one_of(
    st.fixed_dictionaries({"op": st.sampled_from(["add", "replace", "test"]), "path": POINTERS, "value": JSON}),
    st.fixed_dictionaries({"op": st.just("remove"), "path": POINTERS}),
    st.fixed_dictionaries({"op": st.sampled_from(["move", "copy"]), "path": POINTERS, "from": POINTERS}),
)


@settings(max_examples=400)
@given(st.dictionaries(st.sampled_from(["a", "b", "0"]), JSON, max_size=3), st.lists(PATCHES, min_size=1, max_size=4))
@example({"a": True}, [{"op": "test", "path": "/a", "value": 1}])
def test_the_jsonpatch_library_agrees(document: dict[str, Any], operations: list[dict[str, Any]]) -> None:
    """Same result, or both refuse; never do we accept what it refuses."""
    expected, refusal = _outcome(lambda: jsonpatch.apply_patch(document, operations))
    actual, our_refusal = _outcome(lambda: patched(deepcopy(document), *operations))
    if our_refusal is None:
        assert refusal is None
        assert json_equal(actual, expected)
    elif refusal is None:
        # The library takes true for 1, and moves something into itself if that changes nothing.
        assert "test failed" in str(our_refusal) or "into itself" in str(our_refusal)
    if isinstance(our_refusal, Exception):
        assert isinstance(our_refusal, TransformFailed)


def _outcome(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return call(), None
    except Exception as error:  # the library raises several families for a patch that does not fit
        return None, error


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [  # the examples of RFC 7396, appendix A, that are objects
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": "text"}, {"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 1}}}),
    ],
)
def test_merge_patch_does_what_the_rfc_says(
    before: dict[str, Any], patch: dict[str, Any], after: dict[str, Any]
) -> None:
    manifest = {"metadata": {"name": "x"}, "spec": before}
    assert transformed(manifest, {"mergePatch": {"spec": patch}}, kind=ANY)["spec"] == after


def test_a_merge_patch_may_be_yaml_text_whose_nulls_survive_client_side_apply() -> None:
    after = transformed(
        workload(paused=True, replicas=2), {"mergePatch": "spec:\n  paused: null\n  minReadySeconds: 3\n"}
    )
    assert (after["spec"].get("paused"), after["spec"]["minReadySeconds"], after["spec"]["replicas"]) == (None, 3, 2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: ]", "not valid YAML at line 1"),
        ("- a", "a merge patch is an object"),
        ("", "a merge patch is an object"),
        ("spec: {day: 2026-11-21}", "/spec/day is a date"),
        ("spec: {1: x}", "/spec has a key that is no text"),
        ("a: &x [1]\nb: *x", "aliases are not accepted"),
        ("a: !!python/object:os.system x", "not valid YAML"),
        ("a: " + "x" * 70_000, "longer than"),
    ],
)
def test_yaml_that_is_no_merge_patch_is_refused_with_the_reason(text: str, told: str) -> None:
    """B11."""
    with pytest.raises(TransformFailed, match=told) as caught:
        compiled({"mergePatch": text})
    assert caught.value.pointer == "/spec/transforms/0/mergePatch"


def test_removing_what_is_not_there_is_fine() -> None:
    after = transformed(
        workload(paused=True), {"remove": ["/spec/paused", "/spec/nope/deeper", "/spec/template/spec/containers/7"]}
    )
    assert after == workload()


def test_removing_reaches_into_lists() -> None:
    after = transformed(
        workload(containers=[{"name": "a"}, {"name": "b"}]), {"remove": ["/spec/template/spec/containers/0"]}
    )
    assert after["spec"]["template"]["spec"]["containers"] == [{"name": "b"}]
