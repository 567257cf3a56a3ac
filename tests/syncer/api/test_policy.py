"""Which kinds targets take, and the role for them."""

from __future__ import annotations

import pytest

from syncer.api.keys import GroupResource
from syncer.api.policy import (
    DENIED_RESOURCES,
    GENERATED_RESOURCES,
    WORKLOAD_RESOURCES,
    builtin_kind,
    is_protected,
    target_role,
)
from syncer.api.synctarget import AcceptedResources


def _granted(**resources: object) -> dict[str, set[str]]:
    """{group: resources that the role may write}"""
    role = target_role(AcceptedResources.model_validate(resources))
    granted: dict[str, set[str]] = {}
    for rule in role["rules"]:
        if "patch" in rule["verbs"]:
            for group in rule["apiGroups"]:
                granted.setdefault(group, set()).update(rule["resources"])
    return granted


def test_the_role_has_no_wildcard_unless_the_target_takes_unknown_kinds() -> None:
    granted = _granted()
    assert "*" not in granted
    assert not any("*" in resources for resources in granted.values())
    assert granted["apps"] == {"daemonsets", "deployments", "replicasets", "statefulsets"}
    assert _granted(preset="All")["*"] == {"*"}


def test_the_role_grants_no_rights_over_the_cluster() -> None:
    """B18: nothing of the denied list, namespaces apart, which Syncline makes itself."""
    granted = {GroupResource(group, name) for group, names in _granted().items() for name in names}
    assert granted & DENIED_RESOURCES == {GroupResource("", "namespaces")}


def test_the_role_may_look_whether_a_namespace_is_empty() -> None:
    """Every namespaced kind of kube-apiserver that says who made it; Events and Endpoints only follow others."""
    listed = {
        GroupResource(group, name)
        for rule in target_role(AcceptedResources())["rules"]
        if "list" in rule["verbs"]
        for group in rule["apiGroups"]
        for name in rule["resources"]
    }
    followers = {GroupResource("", "events"), GroupResource("events.k8s.io", "events"), GroupResource("", "endpoints")}
    assert listed >= (WORKLOAD_RESOURCES | GENERATED_RESOURCES) - followers


def test_allow_and_deny_change_the_role() -> None:
    granted = _granted(preset="None", allow=["widgets.example.com", "*.other.io"], deny=["secrets"])
    assert granted == {"": {"namespaces"}, "example.com": {"widgets"}, "other.io": {"*"}}
    assert "secrets" not in _granted(deny=["secrets"])[""]
    assert "apps" not in _granted(deny=["*.apps"])


def test_the_lists_do_not_overlap() -> None:
    assert not WORKLOAD_RESOURCES & (DENIED_RESOURCES | GENERATED_RESOURCES)
    assert not DENIED_RESOURCES & GENERATED_RESOURCES


def test_builtin_kinds_are_known_with_group_and_scope() -> None:
    deployment = builtin_kind("apps/v1", "Deployment")
    assert deployment is not None
    assert (deployment.group, deployment.resource, deployment.namespaced) == ("apps", "deployments", True)
    node = builtin_kind("v1", "Node")
    assert node is not None
    assert not node.namespaced
    assert builtin_kind("v1", "Deployment") is None


@pytest.mark.parametrize(
    ("namespace", "protected"),
    [("kube-system", True), ("kube-public", True), ("syncline-system", True), ("default", False), ("kubeflow", False)],
)
def test_protected_namespaces(namespace: str, protected: bool) -> None:
    """B20"""
    assert is_protected(namespace) is protected
