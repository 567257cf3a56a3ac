"""Rights: what the target's own answer covers, and what is named as missing."""

from __future__ import annotations

from typing import Any

from syncer.api.keys import GroupResource
from syncer.controllers.rights import NEEDED_VERBS, Rules, accepted, describe
from syncer.kube.objects import ResourceInfo
from syncer.placement.policy import ResourcePolicy

ALL = frozenset(NEEDED_VERBS)


def info(resource: str, group: str = "", verbs: frozenset[str] = ALL) -> ResourceInfo:
    return ResourceInfo(group, "v1", resource, resource.title(), True, verbs)


def rules(*rules: dict[str, Any], incomplete: bool = False) -> Rules:
    return Rules({"resourceRules": list(rules), "incomplete": incomplete})


def rule(groups: list[str], resources: list[str], verbs: list[str], **more: Any) -> dict[str, Any]:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs, **more}


def test_only_kinds_that_can_be_written_and_that_the_policy_takes_are_accepted() -> None:
    served = [
        info("configmaps"),
        info("deployments", "apps"),
        info("nodes"),
        info("tokenreviews", "authentication.k8s.io", frozenset({"create"})),
        info("widgets", "example.com"),
    ]
    workloads = ResourcePolicy()
    assert [str(i.group_resource) for i in accepted(served, workloads)] == ["configmaps", "deployments.apps"]
    more = ResourcePolicy(allow=("widgets.example.com",), deny=("configmaps",))
    assert [str(i.group_resource) for i in accepted(served, more)] == ["deployments.apps", "widgets.example.com"]


def test_rules_and_wildcards_cover_verbs() -> None:
    some = rules(rule([""], ["configmaps"], ["get", "list"]), rule(["apps"], ["*"], ["*"]))
    assert some.allow(GroupResource("", "configmaps"), "list")
    assert not some.allow(GroupResource("", "configmaps"), "delete")
    assert some.allow(GroupResource("apps", "deployments"), "delete")
    assert not some.allow(GroupResource("batch", "jobs"), "get")


def test_a_rule_for_single_names_or_another_subresource_covers_nothing() -> None:
    some = rules(
        rule([""], ["configmaps"], ["*"], resourceNames=["one"]), rule(["apps"], ["deployments/status"], ["*"])
    )
    missing = some.missing([info("configmaps"), info("deployments", "apps")])
    assert [m.verbs for m in missing] == [NEEDED_VERBS, NEEDED_VERBS]


def test_missing_rights_name_kind_and_verbs_and_what_to_do() -> None:
    missing = rules(rule([""], ["configmaps"], ["get", "list", "watch"])).missing([info("configmaps")])
    assert "configmaps (create, patch, delete)" in describe(missing)
    assert "syncline target add" in describe(missing)
    assert describe([]) == ""


def test_many_missing_kinds_are_counted_not_listed() -> None:
    missing = rules().missing([info(f"kind{n}") for n in range(40)])
    assert "and 35 more kinds" in describe(missing)


def test_an_empty_or_partial_answer_is_no_error() -> None:
    assert Rules({}).missing([info("configmaps")])
    assert not Rules({}).incomplete
    assert rules(incomplete=True).incomplete
