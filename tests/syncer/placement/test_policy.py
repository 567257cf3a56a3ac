"""Which kinds a target takes."""

from __future__ import annotations

import pytest

from syncer.api.keys import GroupResource
from syncer.api.policy import DENIED_RESOURCES, GENERATED_RESOURCES, WORKLOAD_RESOURCES
from syncer.placement import ResourcePolicy

DEPLOYMENTS = GroupResource("apps", "deployments")
CONFIGMAPS = GroupResource("", "configmaps")
WIDGETS = GroupResource("example.com", "widgets")
NODES = GroupResource("", "nodes")


def test_the_default_takes_workloads_and_nothing_else() -> None:
    policy = ResourcePolicy()
    assert all(policy.accepts(resource) for resource in WORKLOAD_RESOURCES)
    assert not policy.accepts(WIDGETS)
    assert 'add "widgets.example.com" to spec.resources.allow' in (policy.refusal(WIDGETS) or "")


def test_all_takes_any_kind_that_is_neither_denied_nor_generated() -> None:
    policy = ResourcePolicy("All")
    assert policy.accepts(WIDGETS)
    assert not any(policy.accepts(resource) for resource in DENIED_RESOURCES | GENERATED_RESOURCES)


def test_none_takes_only_what_is_allowed() -> None:
    policy = ResourcePolicy("None", allow=("configmaps", "*.example.com"))
    assert policy.accepts(CONFIGMAPS)
    assert policy.accepts(WIDGETS)
    assert not policy.accepts(DEPLOYMENTS)
    assert not policy.accepts(GroupResource("sub.example.com", "widgets"))


@pytest.mark.parametrize("deny", ["deployments.apps", "*.apps"])
def test_deny_wins_over_the_preset_and_allow(deny: str) -> None:
    policy = ResourcePolicy("Workloads", allow=("deployments.apps",), deny=(deny,))
    assert not policy.accepts(DEPLOYMENTS)
    assert policy.accepts(CONFIGMAPS)
    assert deny in (policy.refusal(DEPLOYMENTS) or "")


def test_a_star_alone_is_the_core_group() -> None:
    policy = ResourcePolicy("None", allow=("*",))
    assert policy.accepts(CONFIGMAPS)
    assert not policy.accepts(DEPLOYMENTS)


@pytest.mark.parametrize("preset", ["Workloads", "All", "None"])
@pytest.mark.parametrize("resource", sorted(DENIED_RESOURCES | GENERATED_RESOURCES), ids=str)
def test_denied_kinds_open_by_full_name_only(preset: str, resource: GroupResource) -> None:
    """B18: Node, CSR, webhook configurations, APIService, RBAC; the answer names the policy."""
    pattern = f"*.{resource.group}" if resource.group else "*"
    by_pattern = ResourcePolicy(preset, allow=(pattern,))  # type: ignore[arg-type] # one of the three
    assert not by_pattern.accepts(resource)
    assert "only its full name" in (by_pattern.refusal(resource) or "")
    assert ResourcePolicy(preset, allow=(str(resource),)).accepts(resource)  # type: ignore[arg-type] # as above


def test_the_refusal_of_a_denied_kind_names_the_policy() -> None:
    """B18"""
    assert "policy denied-kinds" in (ResourcePolicy("All").refusal(NODES) or "")
