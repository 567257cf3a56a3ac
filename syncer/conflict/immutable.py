"""The server refuses to change a field of an object that exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from syncer.api.keys import GroupKind

# Whether the object is deleted and created again.
STRATEGIES: Final[Mapping[str, bool]] = {"Fail": False, "Recreate": True}

# Deleting one of these deletes data, or other people's objects.
NEVER_RECREATED: Final = frozenset(
    {
        GroupKind("", "Namespace"),
        GroupKind("", "PersistentVolume"),
        GroupKind("", "PersistentVolumeClaim"),
        GroupKind("apiextensions.k8s.io", "CustomResourceDefinition"),
    }
)


def may_recreate(strategy: str, kind: GroupKind) -> bool:
    """Whether an object of this kind is deleted and created again to change an immutable field.

    Raises:
        KeyError: no such strategy; the API admits only names in `STRATEGIES`.
    """
    return STRATEGIES[strategy] and kind not in NEVER_RECREATED
