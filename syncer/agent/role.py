"""The policy that an agent starts with, and the smallest role that its identity needs for a policy. Pure."""

from __future__ import annotations

from typing import Any, Final

from syncer.agent.policy import EVERYBODY, READS, People, Policy, Rule
from syncer.api.names import SYSTEM_NAMESPACE
from syncer.api.policy import Accepted, Preset, target_role

PROTECTED: Final = ("kube-*", SYSTEM_NAMESPACE)  # as `syncer.api.policy.is_protected`
DISCOVERY: Final = ("/api", "/api/*", "/apis", "/apis/*", "/openapi/*", "/version", "/healthz", "/livez", "/readyz")
# Everything that kubectl's usual verbs ask for; not secrets of others: RBAC of the user decides that here.
PEOPLE_RULES: Final = (
    Rule(resources=("*.*",), verbs=("get", "list", "watch")),
    Rule(
        resources=("*.*",),
        verbs=("create", "update", "patch", "delete", "deletecollection"),
        except_namespaces=PROTECTED,
    ),
    Rule(resources=("pods/log",), verbs=("get",)),
    Rule(resources=("pods/exec", "pods/attach", "pods/portforward"), verbs=("create",), except_namespaces=PROTECTED),
)
_OWN_REVIEWS: Final = ("selfsubjectaccessreviews", "selfsubjectrulesreviews")  # what the operator asks about itself
COMMENTS: Final = (
    "What may be asked of this cluster through the tunnel; what no rule names is refused.",
    "",
    "sync     Syncline itself, with the rights of the agent's own identity.",
    "people   users of the hub; their own RBAC on this cluster decides besides. `users` are patterns of names,",
    "         `groups` exact names that the hub may claim for them. Nobody is ever taken for system:masters or for",
    "         another name of system:, and a user with a group that is not listed is refused.",
    "paths    what is no resource and may be read: discovery, versions, health.",
    "",
    "A pattern such as *.apps covers a kind with its status and scale. pods/log, pods/exec, pods/attach and",
    "pods/portforward are granted only where they are named; opening one of the last three is the verb create.",
)


def default_policy(resources: Accepted | None = None, *, groups: tuple[str, ...] = (), channels: bool = True) -> Policy:
    """What an agent allows unless told otherwise: what syncing takes, and to people what their own RBAC allows.

    Args:
        resources: what the target accepts; None is the preset.
        groups: groups of upstream users that may be claimed.
        channels: whether people may have exec, attach and port-forward.
    """
    merged: dict[tuple[str, ...], list[str]] = {}
    for rule in target_role(resources or Preset())["rules"]:
        merged.setdefault(tuple(rule["verbs"]), []).extend(
            f"{resource}.{group}" if group else resource
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        )
    merged[("create",)] = [f"{name}.authorization.k8s.io" for name in _OWN_REVIEWS]
    sync = tuple(
        Rule(resources=tuple(names), verbs=verbs, except_namespaces=() if READS.issuperset(verbs) else PROTECTED)
        for verbs, names in merged.items()
    )
    rules = tuple(rule for rule in PEOPLE_RULES if channels or "pods/exec" not in rule.resources)
    return Policy(sync=sync, people=People(groups=groups, rules=rules), paths=DISCOVERY)


def agent_role(policy: Policy, *, name: str) -> dict[str, Any]:
    """The ClusterRole that a policy takes: what `sync` names, and impersonation of `people`, groups by name.

    People's own requests need nothing here: they run with the rights of the user who is impersonated.
    """
    rules: list[dict[str, Any]] = []
    for rule in policy.sync:
        by_group: dict[str, list[str]] = {}
        for pattern in rule.resources:
            kind, slash, subresource = pattern.partition("/")
            resource, _, group = kind.partition(".")
            by_group.setdefault(group, []).append(f"{resource}{slash}{subresource}")
        rules += [
            {"apiGroups": [group], "resources": names, "verbs": list(rule.verbs)}
            for group, names in sorted(by_group.items())
        ]
    if policy.people.rules:
        rules += _impersonation(policy.people)
    if policy.paths:
        rules.append({"nonResourceURLs": sorted(policy.paths), "verbs": ["get"]})
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    }


def _impersonation(people: People) -> list[dict[str, Any]]:
    users: dict[str, Any] = {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]}
    if not any("*" in name or "?" in name or "[" in name for name in people.users):
        users["resourceNames"] = sorted(people.users)
    extra = ["userextras"] if "*" in people.extra else [f"userextras/{key}" for key in sorted(people.extra)]
    groups = sorted({EVERYBODY, *people.groups})
    return [
        users,
        {"apiGroups": [""], "resources": ["groups"], "resourceNames": groups, "verbs": ["impersonate"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["uids", *extra], "verbs": ["impersonate"]},
    ]
