"""`cel`: expressions over the object and the target."""

from __future__ import annotations

import time
from typing import Any

import pytest

from syncer.api.keys import GroupKind
from syncer.transform import TransformFailed
from tests.syncer.transform.builders import DEPLOYMENT, SECRET, WEST, compiled, transformed, workload

ANY = GroupKind("e.com", "Thing")


def evaluated(expression: str, *, kind: GroupKind = ANY, path: str = "/spec/result", **spec: Any) -> Any:
    """What the expression put at its path."""
    manifest = {"metadata": {"name": "x"}, "spec": spec}
    after = transformed(manifest, {"cel": {"path": path, "expression": expression}}, kind=kind)
    return after["spec"].get("result")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("object.n > 3 ? 10 : 0", None),
        ("object.spec.n > 3 ? 10 : 0", 10),
        ("object.spec.n / 2", 2),
        ("double(object.spec.n) * 0.5", 2.5),
        ("double(object.spec.n) * 2.0", 10),
        ("3u", 3),
        ("target.name + '-' + target.labels['region']", "west-us"),
        ("target.annotations['note'] + target.uid", "far awaywest-uid"),
        ("object.spec.list.filter(x, x > 1)", [2, 3]),
        (
            "object.spec.list.map(x, {'v': x, 'none': null})",
            [{"v": 1, "none": None}, {"v": 2, "none": None}, {"v": 3, "none": None}],
        ),
        ("has(object.spec.nope)", False),
        ("object.metadata", {"name": "x"}),
    ],
)
def test_the_result_is_json(expression: str, value: Any) -> None:
    if value is None:
        with pytest.raises(TransformFailed, match="Key not found"):
            evaluated(expression, n=5, list=[1, 2, 3])
        return
    result = evaluated(expression, n=5, list=[1, 2, 3])
    assert result == value
    assert type(result) is type(value)


def test_the_contracts_example() -> None:
    wish = {"cel": {"path": "/spec/minReadySeconds", "expression": "object.spec.replicas > 3 ? 10 : 0"}}
    assert transformed(workload(replicas=4), wish)["spec"]["minReadySeconds"] == 10
    assert transformed(workload(replicas=3), wish)["spec"]["minReadySeconds"] == 0


def test_missing_objects_on_the_way_are_made_and_null_removes() -> None:
    wish = {"cel": {"path": "/spec/strategy/rollingUpdate/maxSurge", "expression": "1"}}
    assert transformed(workload(), wish)["spec"]["strategy"] == {"rollingUpdate": {"maxSurge": 1}}
    assert evaluated("null", result=7) is None
    assert evaluated("null") is None


def test_an_entry_of_a_list_is_replaced_not_shifted() -> None:
    wish = {"cel": {"path": "/spec/template/spec/containers/0/image", "expression": "'x:1'"}}
    assert transformed(workload(), wish)["spec"]["template"]["spec"]["containers"] == [{"name": "app", "image": "x:1"}]
    whole = {"cel": {"path": "/spec/list/0", "expression": "9"}}
    assert transformed({"metadata": {}, "spec": {"list": [1, 2]}}, whole, kind=ANY)["spec"]["list"] == [9, 2]


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("1 +", "Syntax error"),
        ("nope.x", "undeclared reference"),
        ("'a'.nope()", "undeclared reference"),
        ("1+" * 100 + "1", "recursion"),
        ("[1].map(a, [1].map(b, [1].map(c, c)))", "more than 2 of map"),
    ],
)
def test_an_invalid_expression_is_refused_when_compiled(expression: str, told: str) -> None:
    """B11: with index and path."""
    with pytest.raises(TransformFailed, match=told) as caught:
        compiled({"replicas": 1}, {"cel": {"path": "/spec/x", "expression": expression}})
    assert (caught.value.index, caught.value.pointer) == (1, "/spec/transforms/1/cel/expression")


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("object.spec.nope", "Key not found"),
        ("object.spec.n / 0", "divide by zero"),
        ("object.spec.n + 'x'", "No matching overloads"),
        ("9223372036854775807 + object.spec.n", "overflow"),
        ("1.0 / 0.0", "not a finite number"),
        ("b'abc'", "bytearray"),
        ("duration('3s')", "timedelta"),
        ("type(1)", "Type"),
        ("{1: 2}", "dict"),
        ("[timestamp('2026-11-21T00:00:00Z')]", "datetime"),
    ],
)
def test_a_failed_evaluation_is_a_failed_transform(expression: str, told: str) -> None:
    with pytest.raises(TransformFailed, match=told) as caught:
        evaluated(expression, n=5)
    assert (caught.value.index, caught.value.pointer) == (0, "/spec/transforms/0/cel/expression")


def test_a_failure_over_a_secret_tells_only_its_class() -> None:
    """S50: the library quotes values of the object in its messages."""
    expression = "{'a': 1}[object.spec.password]"
    with pytest.raises(TransformFailed) as caught:
        evaluated(expression, kind=SECRET, password="canary-value")
    assert "canary" not in str(caught.value)
    assert "NOT_FOUND" in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "spec", "told"),
    [
        ("object.spec.l.map(x, x * 2 + 1)", {"l": list(range(9999))}, "too long for a loop"),
        ("object.spec.l.filter(x, x > 1)", {"l": list(range(9999))}, "too long for a loop"),
        (
            "object.spec.l.all(x, object.spec.l.all(y, x * y >= 0))",
            {"l": list(range(1000))},
            "Iteration budget exceeded",
        ),
        (
            "size([object.spec.t" + "+object.spec.t" * 20 + "].map(a, [a" + "+a" * 9 + "].map(b, b)))",
            {"t": "x" * 300_000},
            "too large",
        ),
    ],
)
def test_an_expensive_expression_stops_soon(expression: str, spec: dict[str, Any], told: str) -> None:
    """P13: one placement cannot hold the event loop; unbounded, these take seconds."""
    start = time.process_time()
    with pytest.raises(TransformFailed, match=told):
        evaluated(expression, **spec)
    assert time.process_time() - start < 1.0


def test_a_compiled_expression_serves_many_objects() -> None:
    pipeline = compiled({"cel": {"path": "/spec/minReadySeconds", "expression": "object.spec.replicas * 2"}})
    seconds = [
        pipeline.run(workload(replicas=n), kind=DEPLOYMENT, target=WEST)["spec"]["minReadySeconds"] for n in range(5)
    ]
    assert seconds == [0, 2, 4, 6, 8]
