"""Whether two placements may claim one object on one target. Errs towards yes: it only feeds a warning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from syncer.api.common import LabelSelector
from syncer.api.placement import AnyPlacement, ClusterPlacement, ObjectSelector, TargetSelector


def overlapping_entry(one: AnyPlacement, other: AnyPlacement) -> tuple[int, int] | None:
    """Indexes of the first two `resources` entries that may select one object for one target; None if none can."""
    if not (_share_namespace(one, other) and _share_target(one.spec.targets, other.spec.targets)):
        return None
    for index, left in enumerate(one.spec.resources):
        for counter, right in enumerate(other.spec.resources):
            if _share_object(left, right):
                return index, counter
    return None


def _share_namespace(one: AnyPlacement, other: AnyPlacement) -> bool:
    left, right = _namespaces(one), _namespaces(other)
    return (left is None and right is None) or (left is not None and right is not None and globs_meet(left, right))


def _namespaces(placement: AnyPlacement) -> Sequence[str] | None:
    """Globs of the namespaces; None for cluster-scoped objects."""
    if not isinstance(placement, ClusterPlacement):
        return (placement.metadata.namespace,)
    chosen = placement.spec.namespaces
    return None if chosen is None else chosen.names or ("*",)


def _share_object(one: ObjectSelector, other: ObjectSelector) -> bool:
    if not (_either(one.kind, other.kind) and _either(_group(one.api_version), _group(other.api_version))):
        return False
    return globs_meet(one.names or ("*",), other.names or ("*",)) and _labels_meet(
        one.label_selector, other.label_selector
    )


def _share_target(one: TargetSelector, other: TargetSelector) -> bool:
    if one.names and other.names and not set(one.names) & set(other.names):
        return False
    return _labels_meet(one.label_selector, other.label_selector)


def _group(api_version: str) -> str:
    return "*" if api_version == "*" else api_version.rpartition("/")[0]


def _either(one: str, other: str) -> bool:
    return one == other or "*" in (one, other)


def _labels_meet(one: LabelSelector | None, other: LabelSelector | None) -> bool:
    if one is None or other is None:
        return True
    return all(other.match_labels.get(key, value) == value for key, value in one.match_labels.items())


def globs_meet(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether some name may match a glob of both."""
    return any(_meet(_pieces(left), _pieces(right)) for left in one for right in other)


def _pieces(glob: str) -> tuple[str, ...]:
    """Single characters, "*", and "?" for anything that stands for one character."""
    return tuple(
        "?" if piece.startswith("[") and len(piece) > 1 else piece for piece in re.findall(r"\[!?\]?[^\]]*\]|.", glob)
    )


@lru_cache(maxsize=4096)
def _meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    if not one or not other:
        return all(piece == "*" for piece in one + other)
    if one[0] == "*":
        return _meet(one[1:], other) or _meet(one, other[1:])
    if other[0] == "*":
        return _meet(other, one)
    return ("?" in (one[0], other[0]) or one[0] == other[0]) and _meet(one[1:], other[1:])
