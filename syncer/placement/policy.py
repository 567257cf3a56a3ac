"""Which kinds a target takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from syncer.api.keys import GroupResource
from syncer.api.policy import DENIED_POLICY, DENIED_RESOURCES, GENERATED_RESOURCES, WORKLOAD_RESOURCES
from syncer.api.synctarget import AcceptedResources


@dataclass(frozen=True, slots=True)
class ResourcePolicy:
    """`spec.resources` of a SyncTarget.

    Patterns are `configmaps`, `deployments.apps`, `*.example.com`, and `*`, which is the core group alone.
    """

    preset: Literal["Workloads", "All", "None"] = "Workloads"
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: AcceptedResources) -> Self:
        return cls(model.preset, model.allow, model.deny)

    def accepts(self, resource: GroupResource) -> bool:
        return self.refusal(resource) is None

    def refusal(self, resource: GroupResource) -> str | None:
        """Why the target does not take the resource, for people; None if it does.

        `deny` wins. What gives rights over a cluster, and what every cluster generates by itself, is taken only if
        `allow` has its full name.
        """
        for pattern in self.deny:
            if _matches(pattern, resource):
                return f"{resource} is denied by spec.resources.deny of the target ({pattern})"
        if str(resource) in self.allow:
            return None
        if resource in DENIED_RESOURCES:
            return (
                f"{resource} is denied by policy {DENIED_POLICY}; only its full name in spec.resources.allow opens it"
            )
        if resource in GENERATED_RESOURCES:
            return f"{resource} is made by every cluster itself; only its full name in spec.resources.allow opens it"
        if self.preset == "All" or (self.preset == "Workloads" and resource in WORKLOAD_RESOURCES):
            return None
        if any(_matches(pattern, resource) for pattern in self.allow):
            return None
        return f'{resource} is not in preset {self.preset} of the target; add "{resource}" to spec.resources.allow'


def _matches(pattern: str, resource: GroupResource) -> bool:
    name, _, group = pattern.partition(".")
    return group == resource.group and name in (resource.resource, "*")
