"""Whether two placements may claim one object on one target. Errs towards yes: it only feeds a warning."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from syncer.api.common import LabelSelector
from syncer.api.placement import AnyPlacement, ClusterPlacement, ObjectSelector, TargetSelector

_WILDCARDS: Final = re.compile(r"[*?\[\]]")


class Effort:
    """Comparisons that one review may still make: it holds the event loop, and anybody may write long lists."""

    def __init__(self, comparisons: int = 20_000) -> None:
        self._left = comparisons

    def spend(self, comparisons: int) -> bool:
        """Whether there is enough left for them."""
        self._left -= comparisons
        return self._left >= 0


def overlapping_entry(one: AnyPlacement, other: AnyPlacement, effort: Effort) -> tuple[str, str] | None:
    """Paths of the first two entries that may give one target one object; None if none is found."""
    if not (_share_namespace(one, other) and _share_target(one.spec.targets, other.spec.targets)):
        return None
    rights = list(_entries(other))
    for path, left in _entries(one):
        for counterpart, right in rights:
            labels = _size(left.label_selector) + _size(right.label_selector)
            if not effort.spend(1 + len(left.names) * len(right.names) + labels):
                return None
            if _share_object(left, right):
                return path, counterpart
    return None


def _entries(placement: AnyPlacement) -> Iterator[tuple[str, ObjectSelector]]:
    """What it selects and what it holds, each with its path."""
    for index, entry in enumerate(placement.spec.resources):
        yield f"spec.resources[{index}]", entry
    for index, held in enumerate(placement.spec.manifests):
        named = ObjectSelector(api_version=held.api_version, kind=held.kind, names=(held.metadata.name,))
        yield f"spec.manifests[{index}]", named


def _share_namespace(one: AnyPlacement, other: AnyPlacement) -> bool:
    left, right = _namespaces(one), _namespaces(other)
    return (left is None and right is None) or (left is not None and right is not None and globs_meet(left, right))


def _namespaces(placement: AnyPlacement) -> Sequence[str] | None:
    """Globs of the namespaces; None for cluster-scoped objects."""
    if not isinstance(placement, ClusterPlacement):
        return (placement.metadata.namespace,)
    chosen = placement.spec.namespaces
    held = tuple(entry.metadata.namespace for entry in placement.spec.manifests if entry.metadata.namespace)
    if chosen is None:
        return held or None
    return (*(chosen.names or ("*",)), *held)


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
    """Whether one set of labels may satisfy both; exact, as long as labels are free to take any value."""
    if one is None or other is None:
        return True
    return all(term.possible for term in _terms(one, other).values())


@dataclass
class _Term:
    """What several selectors ask of one label together."""

    allowed: set[str] | None = None  # None: any value
    excluded: set[str] = field(default_factory=set)
    needed: bool = False
    barred: bool = False

    @property
    def possible(self) -> bool:
        if self.allowed is None:
            return not (self.needed and self.barred)
        return not self.barred and bool(self.allowed - self.excluded)

    def one_of(self, values: Iterable[str]) -> None:
        self.allowed = set(values) if self.allowed is None else self.allowed & set(values)


def _terms(*selectors: LabelSelector) -> dict[str, _Term]:
    terms: dict[str, _Term] = defaultdict(_Term)
    for selector in selectors:
        for key, value in selector.match_labels.items():
            terms[key].one_of((value,))
        for expression in selector.match_expressions:
            term = terms[expression.key]
            match expression.operator:
                case "In":
                    term.one_of(expression.values)
                case "NotIn":
                    term.excluded.update(expression.values)
                case "Exists":
                    term.needed = True
                case "DoesNotExist":
                    term.barred = True
    return terms


def _size(selector: LabelSelector | None) -> int:
    """Comparisons that a selector costs."""
    if selector is None:
        return 0
    return len(selector.match_labels) + sum(1 + len(one.values) for one in selector.match_expressions)


def globs_meet(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether one name may match a glob of both, judged by what stands outside their wildcards."""
    return any(_meet(left, right) for left in one for right in other)


def _meet(one: str, other: str) -> bool:
    (head, tail), (start, end) = _ends(one), _ends(other)
    if one in (head, tail) and other in (start, end):  # neither has a wildcard
        return one == other
    return (head.startswith(start) or start.startswith(head)) and (tail.endswith(end) or end.endswith(tail))


def _ends(glob: str) -> tuple[str, str]:
    """The literal beginning and end; of a glob without wildcard both are the whole."""
    pieces = _WILDCARDS.split(glob)
    return pieces[0], pieces[-1]
