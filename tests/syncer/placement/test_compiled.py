"""Which objects a placement selects, and what it says about those that it does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.api.keys import GroupKind
from syncer.placement import CompiledPlacement, nearest, why_not
from syncer.placement.compiled import Globs
from tests.syncer.placement.builders import CONFIGMAP, DEPLOYMENT, WEB, placement

NAMESPACE = GroupKind("", "Namespace")
ROLE = GroupKind("rbac.authorization.k8s.io", "ClusterRole")


def entry(kind: str = "ConfigMap", api_version: str = "v1", **terms: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, **terms}


def everything(**spec: Any) -> CompiledPlacement:
    return placement(resources=[entry("*", "*", names=["*"])], **spec)


@pytest.mark.parametrize(
    ("glob", "name", "matches"),
    [
        ("web", "web", True),
        ("web", "web2", False),
        ("web*", "web-1.2", True),
        ("*", "anything", True),
        ("w?b", "wxb", True),
        ("w?b", "wb", False),
        ("web-[ab]", "web-b", True),
        ("web-[!ab]", "web-b", False),
        ("Web*", "web", False),
        ("a.c", "abc", False),
    ],
)
def test_names_are_case_sensitive_shell_globs(glob: str, name: str, *, matches: bool) -> None:
    assert Globs([glob]).matches(name) == matches
    assert Globs(["other", glob, "x*y"]).matches(name) == matches


def test_globs_are_equal_by_their_texts() -> None:
    assert Globs(["a*", "b"]) == Globs(["a*", "b"])
    assert hash(Globs(["a*"])) == hash(Globs(["a*"]))
    assert Globs(["a"]) != Globs(["b"])
    assert repr(Globs(["a*", "b"])) == "Globs(a*, b)"


def test_the_version_of_an_entry_does_not_matter_but_its_group_does() -> None:
    one = placement(resources=[entry("Deployment", "apps/v1beta2", names=["*"])])
    assert one.selects(DEPLOYMENT, "shop", "web", {})
    assert not one.selects(GroupKind("extensions", "Deployment"), "shop", "web", {})


def test_name_and_labels_of_one_entry_are_anded_and_entries_ored() -> None:
    one = placement(
        resources=[
            entry(names=["web*"], labelSelector={"matchLabels": {"app": "web"}}),
            entry("Secret", labelSelector={"matchExpressions": [{"key": "tier", "operator": "Exists"}]}),
        ]
    )
    secret = GroupKind("", "Secret")
    assert one.selects(CONFIGMAP, "shop", "web-1", {"app": "web"})
    assert not one.selects(CONFIGMAP, "shop", "web-1", {"app": "api"})
    assert not one.selects(CONFIGMAP, "shop", "api-1", {"app": "web"})
    assert one.selects(secret, "shop", "x", {"tier": ""})
    assert not one.selects(secret, "shop", "web", {"app": "web"})


def test_excluded_objects_are_not_selected() -> None:
    one = everything(exclude=[entry(names=["secret-*"]), entry("*", "*", labelSelector={"matchLabels": {"own": "x"}})])
    assert one.selects(CONFIGMAP, "shop", "web", {})
    assert not one.selects(CONFIGMAP, "shop", "secret-1", {})
    assert not one.selects(DEPLOYMENT, "shop", "web", {"own": "x"})


def test_a_placement_stays_in_its_namespace() -> None:
    """B17: cluster-scoped kinds are out of reach for it."""
    one = everything()
    assert one.selects(CONFIGMAP, "shop", "web", {})
    assert not one.selects(CONFIGMAP, "other", "web", {})
    assert not one.selects(ROLE, "", "admin", {})


def test_a_cluster_placement_reaches_cluster_scoped_objects_only_by_default() -> None:
    one = everything(namespace="")
    assert one.selects(ROLE, "", "admin", {})
    assert not one.selects(CONFIGMAP, "shop", "web", {})


def test_a_cluster_placement_reaches_namespaces_by_name_and_label() -> None:
    one = everything(namespace="", namespaces={"names": ["shop-*"], "labelSelector": {"matchLabels": {"env": "prod"}}})
    assert one.selects(CONFIGMAP, "shop-a", "web", {}, {"env": "prod"})
    assert not one.selects(CONFIGMAP, "shop-a", "web", {}, {"env": "test"})
    assert not one.selects(CONFIGMAP, "bank", "web", {}, {"env": "prod"})
    assert one.selects(ROLE, "", "admin", {})


@pytest.mark.parametrize("namespace", ["kube-system", "kube-public", "syncline-system"])
def test_protected_namespaces_are_never_placed(namespace: str) -> None:
    """B20"""
    one = everything(namespace="", namespaces={"names": ["*"]})
    assert not one.selects(CONFIGMAP, namespace, "web", {})
    assert not one.selects(NAMESPACE, "", namespace, {})
    assert one.selects(NAMESPACE, "", "default", {})
    assert one.selects(CONFIGMAP, "default", "web", {})


def test_the_skip_label_is_obeyed_only_if_true() -> None:
    one = everything()
    assert not one.selects(CONFIGMAP, "shop", "web", {"syncline.io/skip": "true"})
    assert one.selects(CONFIGMAP, "shop", "web", {"syncline.io/skip": "false"})


def test_our_own_kinds_are_never_placed() -> None:
    """B23: a placement cannot place placements."""
    assert not everything().selects(GroupKind("syncline.io", "Placement"), "shop", "web", {})


def test_a_failed_term_is_named_with_what_was_seen_and_what_was_wanted() -> None:
    one = placement(
        resources=[
            entry(
                names=["web*"],
                labelSelector={
                    "matchLabels": {"app": "web"},
                    "matchExpressions": [
                        {"key": "tier", "operator": "In", "values": ["a", "b"]},
                        {"key": "old", "operator": "DoesNotExist"},
                        {"key": "env", "operator": "NotIn", "values": ["test"]},
                        {"key": "team", "operator": "Exists"},
                    ],
                },
            )
        ]
    )
    assert why_not(one, CONFIGMAP, "shop", "api", {"app": "api", "old": "1", "env": "test"}) == (
        "name api does not match web*",
        'label app is "api", wanted web',
        "label tier is missing, wanted one of a, b",
        'label old is "1", wanted without it',
        'label env is "test", wanted none of test',
        "label team is missing, wanted any value",
    )
    assert why_not(one, CONFIGMAP, "shop", "web", {"app": "web", "tier": "a", "team": "x"}) == ()


def test_only_the_terms_of_the_nearest_entry_are_told() -> None:
    one = placement(resources=[entry("Secret", names=["x"]), entry(names=["web*"]), WEB])
    assert why_not(one, DEPLOYMENT, "shop", "api", {}) == ("name api does not match web*",)
    assert why_not(one, GroupKind("batch", "Job"), "shop", "web", {}) == ("kind Job.batch is not ConfigMap",)


@pytest.mark.parametrize(
    ("one", "kind", "namespace", "name", "labels", "terms"),
    [
        (everything(), CONFIGMAP, "bank", "x", {}, ("the object is in namespace bank, the placement in shop",)),
        (everything(), ROLE, "", "x", {}, ("the object is in no namespace, the placement in shop",)),
        (
            everything(),
            CONFIGMAP,
            "shop",
            "x",
            {"syncline.io/skip": "true"},
            ("the object is labelled syncline.io/skip=true",),
        ),
        (
            everything(namespace=""),
            CONFIGMAP,
            "shop",
            "x",
            {},
            ("spec.namespaces is not set, so only cluster-scoped objects are placed",),
        ),
        (
            everything(namespace="", namespaces={"names": ["a*"], "labelSelector": {"matchLabels": {"env": "prod"}}}),
            CONFIGMAP,
            "shop",
            "x",
            {},
            ("namespace name shop does not match a*", "namespace label env is missing, wanted prod"),
        ),
        (
            everything(namespace="", namespaces={"names": ["*"]}),
            CONFIGMAP,
            "kube-system",
            "x",
            {},
            ("namespace kube-system is protected",),
        ),
        (everything(namespace=""), NAMESPACE, "", "kube-system", {}, ("namespace kube-system is protected",)),
        (
            everything(),
            GroupKind("syncline.io", "Placement"),
            "shop",
            "x",
            {},
            ("objects of syncline.io are never placed",),
        ),
        (everything(exclude=[WEB]), DEPLOYMENT, "shop", "web", {}, ("exclude[0] matches it",)),
    ],
)
def test_what_stands_above_the_entries_is_told_too(
    one: CompiledPlacement, kind: GroupKind, namespace: str, name: str, labels: dict[str, str], terms: tuple[str, ...]
) -> None:
    assert why_not(one, kind, namespace, name, labels) == terms


def test_the_nearest_placement_has_the_fewest_failed_terms() -> None:
    far = placement("far", resources=[entry("Secret", names=["x"], labelSelector={"matchLabels": {"a": "b"}})])
    near = placement("near", resources=[entry("Deployment", "apps/v1", names=["api*"])])
    miss = nearest([far, near], DEPLOYMENT, "shop", "web", {})
    assert miss is not None
    assert miss.placement is near
    assert miss.text == "name web does not match api*"


def test_among_equally_near_placements_the_one_that_names_the_kind_is_told() -> None:
    other_kind = placement("a", resources=[entry("Secret", names=["*"])], conflict={"priority": 9})
    same_kind = placement("b", resources=[entry("Deployment", "apps/v1", names=["api*"])])
    miss = nearest([other_kind, same_kind], DEPLOYMENT, "shop", "web", {})
    assert miss is not None
    assert miss.placement is same_kind


def test_there_is_no_nearest_miss_where_everything_matches() -> None:
    assert nearest([everything()], CONFIGMAP, "shop", "web", {}) is None
    assert nearest([], CONFIGMAP, "shop", "web", {}) is None


LABELS = st.dictionaries(st.sampled_from(["app", "tier", "syncline.io/skip"]), st.sampled_from(["web", "true"]))
ENTRIES = st.fixed_dictionaries(
    {
        "apiVersion": st.sampled_from(["*", "v1", "apps/v1"]),
        "kind": st.sampled_from(["*", "ConfigMap", "Deployment"]),
        "names": st.lists(st.sampled_from(["*", "web*", "web", "*-1", "api"]), min_size=1, max_size=2),
    },
    optional={
        "labelSelector": st.sampled_from(
            [
                {"matchLabels": {"app": "web"}},
                {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]},
            ]
        )
    },
)


@given(
    st.lists(ENTRIES, min_size=1, max_size=3),
    st.lists(ENTRIES, max_size=1),
    st.sampled_from([CONFIGMAP, DEPLOYMENT, GroupKind("syncline.io", "Placement")]),
    st.sampled_from(["shop", "bank", "kube-system", ""]),
    st.sampled_from(["web", "web-1", "api"]),
    LABELS,
)
def test_there_is_a_failed_term_exactly_if_the_placement_does_not_select_the_object(
    resources: list[Any], exclude: list[Any], kind: GroupKind, namespace: str, name: str, labels: dict[str, str]
) -> None:
    for scope in (
        {"namespace": "shop"},
        {"namespace": ""},
        {"namespace": "", "namespaces": {"names": ["shop", "kube-*"]}},
    ):
        one = placement(resources=resources, exclude=exclude, **scope)
        assert one.selects(kind, namespace, name, labels) == (not why_not(one, kind, namespace, name, labels))
