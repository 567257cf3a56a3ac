"""Identities as values: what an object is called, and where."""

from __future__ import annotations

from typing import NamedTuple


class GroupResource(NamedTuple):
    """A kind of object without its version: `deployments.apps`, `configmaps`."""

    group: str  # "" is the core group
    resource: str  # plural, lower case

    def __str__(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource


class GroupKind(NamedTuple):
    """A kind as users spell it: `Deployment.apps`, `ConfigMap`."""

    group: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


class ObjectKey(NamedTuple):
    """One source object in one workspace."""

    workspace: str
    group_resource: GroupResource
    namespace: str  # "" for cluster-scoped objects
    name: str
    origin: str = ""  # uid of an object that a placement holds inline; "" for an object of the API server

    @property
    def place(self) -> ObjectKey:
        """What all sources share that would stand at one place of a target."""
        return self._replace(origin="") if self.origin else self

    def __str__(self) -> str:
        return (
            f"{self.group_resource}/{self.namespace}/{self.name}"
            if self.namespace
            else f"{self.group_resource}/{self.name}"
        )


class SyncKey(NamedTuple):
    """One source object on one target: what the engine's queue holds."""

    object: ObjectKey
    target: str

    def __str__(self) -> str:
        return f"{self.object}@{self.target}"
