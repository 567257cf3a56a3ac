"""May our identity on a target do what the accepted kinds need? Pure: the target's answer in, missing rights out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from syncer.api.keys import GroupResource
from syncer.kube.objects import ResourceInfo
from syncer.placement.policy import ResourcePolicy

# What syncing an object takes: apply is create and patch.
NEEDED_VERBS: Final = ("get", "list", "watch", "create", "patch", "delete")
# No RoleBinding can exist in a namespace that nobody makes: what is allowed there is allowed everywhere.
REVIEW_NAMESPACE: Final = "syncline-rights-review"
MAX_NAMED: Final = 5  # missing rights spelled out in a condition


class MissingRight(NamedTuple):
    """One kind that cannot be synced, and the verbs that are refused."""

    resource: GroupResource
    verbs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.resource} ({', '.join(self.verbs)})"


def syncable(info: ResourceInfo) -> bool:
    """Whether the kind offers everything that syncing takes."""
    return info.verbs.issuperset(NEEDED_VERBS)


def accepted(resources: Iterable[ResourceInfo], policy: ResourcePolicy) -> list[ResourceInfo]:
    """The kinds that the SyncTarget accepts and its cluster can hold, sorted by name."""
    found = {info.group_resource: info for info in resources if syncable(info) and policy.accepts(info.group_resource)}
    return [found[name] for name in sorted(found, key=str)]


class Rules:
    """The rules that a `SelfSubjectRulesReview` returned.

    Attributes:
        incomplete: an authorizer of the target could not list its rules; a "no" must be asked for one by one.
    """

    def __init__(self, status: Mapping[str, Any]) -> None:
        """Args: status: of the review; rules that name single objects (resourceNames) count for nothing here."""
        self.incomplete = bool(status.get("incomplete"))
        self._rules = [
            (
                frozenset(rule.get("verbs") or ()),
                frozenset(rule.get("apiGroups") or ()),
                frozenset(rule.get("resources") or ()),
            )
            for rule in status.get("resourceRules") or ()
            if not rule.get("resourceNames")
        ]

    def allow(self, resource: GroupResource, verb: str) -> bool:
        """Whether a rule covers the verb, wildcards included."""
        return any(
            {verb, "*"} & verbs and {resource.group, "*"} & groups and {resource.resource, "*"} & resources
            for verbs, groups, resources in self._rules
        )

    def missing(self, resources: Iterable[ResourceInfo]) -> list[MissingRight]:
        """Every needed right that no rule covers, in the order of `resources`."""
        found = (
            MissingRight(r.group_resource, tuple(v for v in NEEDED_VERBS if not self.allow(r.group_resource, v)))
            for r in resources
        )
        return [right for right in found if right.verbs]


def describe(missing: list[MissingRight], *, tunnelled: bool = False) -> str:
    """One sentence that names the first few and says what to do; "" if nothing is missing."""
    if not missing:
        return ""
    more = f" and {len(missing) - MAX_NAMED} more kinds" if len(missing) > MAX_NAMED else ""
    named = "; ".join(map(str, missing[:MAX_NAMED]))
    cure = (
        "Grant these verbs to the agent's identity on its cluster, and allow them in its policy"
        if tunnelled
        else "Repeat `syncline target add`, or grant these verbs to the identity used"
    )
    return f"not allowed: {named}{more}. {cure}"
