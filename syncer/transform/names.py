"""Step 2: which downstream namespace an upstream namespace becomes, and back."""

from __future__ import annotations

from typing import Protocol

from syncer.api.names import Reason
from syncer.errors import TerminalError


class NamespaceMapping(Protocol):
    """A bijection: `unmap(map(x)) == x`. Cluster-scoped objects have the namespace "", which maps to itself."""

    def map(self, namespace: str) -> str:
        """The downstream namespace."""

    def unmap(self, namespace: str) -> str:
        """The upstream namespace."""


class Same:
    """Names stay, and so does every reference to a namespace inside an object (subjects, client configs)."""

    def map(self, namespace: str) -> str:
        return namespace

    def unmap(self, namespace: str) -> str:
        return namespace


def mapping_for(name: str) -> NamespaceMapping:
    """The mapping that `spec.namespaceMapping` of a SyncTarget names.

    Raises:
        TerminalError: the mapping has a schema but no code yet.
    """
    if name == "Same":
        return Same()
    raise TerminalError(
        Reason.NOT_YET_SUPPORTED,
        f"namespaceMapping {name} is not yet supported; use Same",
        pointer="/spec/namespaceMapping",
    )
