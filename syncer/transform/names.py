"""Step 2: which downstream namespace an upstream namespace becomes, and back."""

from __future__ import annotations

from typing import Protocol


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
