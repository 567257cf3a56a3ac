"""The index finds exactly what asking every placement would find."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer.api.keys import GroupKind
from syncer.placement import CompiledPlacement, PlacementIndex
from tests.syncer.placement.builders import CONFIGMAP, DEPLOYMENT, compiled, manifest, placement

ROLE = GroupKind("rbac.authorization.k8s.io", "ClusterRole")


def names(matches: list[CompiledPlacement]) -> list[str]:
    return [one.name for one in matches]


def index(*placements: CompiledPlacement) -> PlacementIndex:
    made = PlacementIndex()
    for one in placements:
        made.put(one)
    return made


def made_at(name: str, created: str, uid: str, priority: int = 0) -> CompiledPlacement:
    raw = manifest(name, uid=uid, conflict={"priority": priority})
    raw["metadata"]["creationTimestamp"] = created
    return compiled(raw)


def test_the_highest_priority_wins_then_the_oldest_then_the_lowest_uid() -> None:
    late_important = made_at("important", "2026-03-01T00:00:00Z", "z", priority=1)
    oldest = made_at("oldest", "2026-01-01T00:00:00Z", "y")
    low_uid = made_at("low-uid", "2026-02-01T00:00:00Z", "a")
    high_uid = made_at("high-uid", "2026-02-01T00:00:00Z", "b")
    every = [high_uid, low_uid, oldest, late_important]
    matches = index(*every).match(DEPLOYMENT, "shop", "web", {})
    assert names(matches) == ["important", "oldest", "low-uid", "high-uid"]


def test_a_placement_is_replaced_by_its_uid_and_removed() -> None:
    one = placement("web", uid="1")
    other = placement("web", uid="1", resources=[{"apiVersion": "v1", "kind": "ConfigMap", "names": ["web"]}])
    made = index(one, other)
    assert made.match(DEPLOYMENT, "shop", "web", {}) == []
    assert made.match(CONFIGMAP, "shop", "web", {}) == [other]
    made.remove("1")
    made.remove("1")
    assert made.match(CONFIGMAP, "shop", "web", {}) == []


def test_nothing_is_left_of_removed_placements() -> None:
    """P18"""
    made = PlacementIndex()
    for number in range(50):
        made.put(
            placement(f"p{number}", resources=[{"apiVersion": "v1", "kind": "ConfigMap", "names": ["a*", "*b", "c"]}])
        )
    for number in range(50):
        made.remove(f"uid-shop-p{number}")
    assert made._buckets == {}
    assert made._filed == {}


def test_namespace_labels_open_and_close_namespaces() -> None:
    one = placement(
        namespace="",
        namespaces={"labelSelector": {"matchLabels": {"env": "prod"}}},
        resources=[{"apiVersion": "v1", "kind": "ConfigMap", "names": ["*"]}],
    )
    made = index(one)
    assert made.match(CONFIGMAP, "shop", "web", {}) == []
    made.put_namespace("shop", {"env": "prod"})
    assert made.match(CONFIGMAP, "shop", "web", {}) == [one]
    assert made.namespace_labels("shop") == {"env": "prod"}
    made.remove_namespace("shop")
    made.remove_namespace("shop")
    assert made.match(CONFIGMAP, "shop", "web", {}) == []


def test_two_thousand_placements_that_match_nothing_are_not_even_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    selects = CompiledPlacement.selects

    def counted(self: CompiledPlacement, *args: Any) -> bool:
        asked.append(self.name)
        return selects(self, *args)

    monkeypatch.setattr(CompiledPlacement, "selects", counted)
    made = PlacementIndex()
    shapes: list[dict[str, Any]] = [
        {"names": ["NAME"]},
        {"names": ["NAME-*"]},
        {"names": ["*-NAME"]},
        {"labelSelector": {"matchLabels": {"app": "web", "instance": "NAME"}}},
        {"labelSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["NAME"]}]}},
        {"labelSelector": {"matchExpressions": [{"key": "NAME", "operator": "Exists"}]}},
        {"names": ["*"], "labelSelector": {"matchLabels": {"app": "NAME"}}},
    ]
    for number in range(2000):
        shape = named(shapes[number % len(shapes)], f"n{number}")
        made.put(placement(f"p{number}", resources=[{"apiVersion": "apps/v1", "kind": "Deployment", **shape}]))
    assert made.match(DEPLOYMENT, "shop", "web", {"app": "web", "tier": "front"}) == []
    assert len(asked) <= 1  # of the entries with app=web, all but the first are filed under their second label
    assert names(made.match(DEPLOYMENT, "shop", "n7", {})) == ["p7"]


def named(shape: Any, name: str) -> Any:
    """The shape with NAME replaced everywhere."""
    if isinstance(shape, dict):
        return {named(key, name): named(value, name) for key, value in shape.items()}
    if isinstance(shape, list):
        return [named(value, name) for value in shape]
    return shape.replace("NAME", name)


LABELS = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["web", "api"]))
GLOBS = ["*", "web", "web*", "w*b", "*-1", "we[b]", "[aw]*", "*eb*", "web-?", "?eb", "api"]
SELECTORS = st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["web", "api"]), min_size=1),
        "matchExpressions": st.lists(
            st.sampled_from(
                [
                    {"key": "app", "operator": "In", "values": ["web", "db"]},
                    {"key": "tier", "operator": "NotIn", "values": ["web"]},
                    {"key": "tier", "operator": "Exists"},
                    {"key": "app", "operator": "DoesNotExist"},
                ]
            ),
            min_size=1,
            max_size=2,
        ),
    },
).filter(bool)
KINDS = st.sampled_from(
    [
        {"apiVersion": "*", "kind": "*"},
        {"apiVersion": "v1", "kind": "ConfigMap"},
        {"apiVersion": "*", "kind": "Deployment"},
    ]
)
TERMS = st.one_of(
    st.fixed_dictionaries({"names": st.lists(st.sampled_from(GLOBS), min_size=1, max_size=3)}),
    st.fixed_dictionaries({"labelSelector": SELECTORS}),
    st.fixed_dictionaries(
        {"names": st.lists(st.sampled_from(GLOBS), min_size=1, max_size=2), "labelSelector": SELECTORS}
    ),
)
ENTRIES = st.builds(lambda kind, terms: {**kind, **terms}, KINDS, TERMS)
SCOPES = st.sampled_from(
    [
        {"namespace": "shop"},
        {"namespace": "bank"},
        {"namespace": ""},
        {"namespace": "", "namespaces": {"names": ["shop"]}},
        {"namespace": "", "namespaces": {"names": ["s*"]}},
        {"namespace": "", "namespaces": {"labelSelector": {"matchLabels": {"env": "prod"}}}},
    ]
)
PLACEMENTS = st.lists(st.tuples(SCOPES, st.lists(ENTRIES, min_size=1, max_size=3)), max_size=6)


@settings(max_examples=300)
@given(
    PLACEMENTS,
    st.sets(st.integers(0, 5)),
    st.sampled_from([CONFIGMAP, DEPLOYMENT, ROLE]),
    st.sampled_from(["shop", "bank", ""]),
    st.sampled_from(["web", "web-1", "api", "-1", "b"]),
    LABELS,
)
def test_the_index_agrees_with_asking_every_placement(
    specs: list[tuple[Any, Any]],
    removed: set[int],
    kind: GroupKind,
    namespace: str,
    name: str,
    labels: dict[str, str],
) -> None:
    every = [placement(f"p{n}", uid=f"u{n}", resources=rules, **scope) for n, (scope, rules) in enumerate(specs)]
    made = index(*every)
    made.put_namespace("shop", {"env": "prod"})
    for number in removed:
        made.remove(f"u{number}")
    kept = [one for number, one in enumerate(every) if number not in removed]
    namespace_labels = {"env": "prod"} if namespace == "shop" else {}
    expected = [one for one in kept if one.selects(kind, namespace, name, labels, namespace_labels)]
    expected.sort(key=lambda one: one.precedence)
    assert made.match(kind, namespace, name, labels) == expected
