"""All placements, arranged so that an object finds the few that may select it without asking the others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from syncer.api.common import LabelSelector
from syncer.api.keys import GroupKind
from syncer.placement.compiled import ANY, NO_LABELS, CompiledPlacement, Globs, ObjectRule

# What an object must have for a rule to match it: ("name", n), ("prefix", p), ("suffix", s), ("label", k, v),
# ("key", k), or () for a rule that any object may match. A rule is filed under hooks of which at least one must hold.
Hook = tuple[str, ...]
BucketKey = tuple[str, str, str]  # namespace ("" cluster-scoped, "*" any), group, kind

_LITERAL_START: Final = re.compile(r"^[^*?\[]*")
_LITERAL_END: Final = re.compile(r"[^*?\]]*$")


class _Bucket:
    """Placements of one namespace and kind, by hook."""

    __slots__ = ("by_hook", "prefix_lengths", "suffix_lengths")

    def __init__(self) -> None:
        self.by_hook: dict[Hook, dict[str, CompiledPlacement]] = {}  # then by uid; no empty entries
        self.prefix_lengths: Counter[int] = Counter()  # of the hooks in use
        self.suffix_lengths: Counter[int] = Counter()

    def file(self, hook: Hook, placement: CompiledPlacement) -> None:
        entry = self.by_hook.get(hook)
        if entry is None:
            entry = self.by_hook[hook] = {}
            self._count(hook, 1)
        entry[placement.uid] = placement

    def unfile(self, hook: Hook, uid: str) -> None:
        entry = self.by_hook[hook]
        del entry[uid]
        if not entry:
            del self.by_hook[hook]
            self._count(hook, -1)

    def collect(self, name: str, labels: Mapping[str, str], found: dict[str, CompiledPlacement]) -> None:
        by_hook = self.by_hook
        hooks: list[Hook] = [(), ("name", name)]
        hooks += [("prefix", name[:length]) for length in self.prefix_lengths]
        hooks += [("suffix", name[-length:]) for length in self.suffix_lengths]
        for key, value in labels.items():
            hooks.append(("label", key, value))
            hooks.append(("key", key))
        for hook in hooks:
            entry = by_hook.get(hook)
            if entry is not None:
                found.update(entry)

    def _count(self, hook: Hook, step: int) -> None:
        if hook and hook[0] in ("prefix", "suffix"):
            lengths = self.prefix_lengths if hook[0] == "prefix" else self.suffix_lengths
            lengths[len(hook[1])] += step
            if not lengths[len(hook[1])]:
                del lengths[len(hook[1])]


class PlacementIndex:
    """Placements by uid, and the labels of namespaces that ClusterPlacements select by label."""

    def __init__(self) -> None:
        self._filed: dict[str, list[tuple[BucketKey, Hook]]] = {}  # by uid, without duplicates
        self._buckets: dict[BucketKey, _Bucket] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}

    def put(self, placement: CompiledPlacement) -> None:
        """Add a placement, or replace the one with its uid."""
        self.remove(placement.uid)
        filed = self._filed[placement.uid] = []
        for rule in placement.rules:
            for namespace in _namespaces(placement):
                key = (namespace, rule.group, rule.kind)
                bucket = self._buckets.get(key)
                if bucket is None:
                    bucket = self._buckets[key] = _Bucket()
                for hook in _hooks(rule, bucket):
                    if (key, hook) not in filed:
                        bucket.file(hook, placement)
                        filed.append((key, hook))

    def remove(self, uid: str) -> None:
        """Forget a placement; one that is not there is fine."""
        for key, hook in self._filed.pop(uid, ()):
            bucket = self._buckets[key]
            bucket.unfile(hook, uid)
            if not bucket.by_hook:
                del self._buckets[key]

    def put_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """Say which labels a namespace has; one that was never told has none."""
        self._namespaces[name] = labels

    def remove_namespace(self, name: str) -> None:
        self._namespaces.pop(name, None)

    def namespace_labels(self, name: str) -> Mapping[str, str]:
        return self._namespaces.get(name, NO_LABELS)

    def match(self, kind: GroupKind, namespace: str, name: str, labels: Mapping[str, str]) -> list[CompiledPlacement]:
        """Placements that select the object, the winner first."""
        found: dict[str, CompiledPlacement] = {}
        buckets = self._buckets
        for where in (namespace, ANY) if namespace else ("",):
            for group in (kind.group, ANY):
                for kind_name in (kind.kind, ANY):
                    bucket = buckets.get((where, group, kind_name))
                    if bucket is not None:
                        bucket.collect(name, labels, found)
        if not found:
            return []
        namespace_labels = self.namespace_labels(namespace)
        matches = [one for one in found.values() if one.selects(kind, namespace, name, labels, namespace_labels)]
        matches.sort(key=lambda placement: placement.precedence)
        return matches


def _namespaces(placement: CompiledPlacement) -> tuple[str, ...]:
    if placement.kind == "Placement":
        return (placement.namespace,)
    if placement.namespaces is None:
        return ("",)
    names = placement.namespaces.names
    return ("", *(names.texts if names is not None and names.exact else (ANY,)))


def _hooks(rule: ObjectRule, bucket: _Bucket) -> list[Hook]:
    """Hooks for a rule, the most selective sort it offers."""
    if rule.names is not None and rule.names.exact:
        return [("name", text) for text in rule.names.texts]
    by_labels = _label_hooks(rule.selector, bucket) if rule.selector is not None else []
    by_name: list[Hook] = _name_hooks(rule.names) if rule.names is not None else [()]
    if by_labels and (by_labels[0][0] == "label" or () in by_name):
        return by_labels
    return by_name


def _name_hooks(names: Globs) -> list[Hook]:
    hooks: list[Hook] = []
    for text in names.texts:
        start, end = _LITERAL_START.findall(text)[0], _LITERAL_END.findall(text)[0]
        hooks.append(
            ("name", text) if start == text else ("prefix", start) if start else ("suffix", end) if end else ()
        )
    return hooks


def _label_hooks(selector: LabelSelector, bucket: _Bucket) -> list[Hook]:
    """Hooks of one term; of several equal ones that which fewest placements use."""
    if selector.match_labels:
        pairs: list[Hook] = [("label", key, value) for key, value in selector.match_labels.items()]
        return [min(pairs, key=lambda hook: len(bucket.by_hook.get(hook, ())))]
    for requirement in selector.match_expressions:
        if requirement.operator == "In":
            return [("label", requirement.key, value) for value in requirement.values]
    for requirement in selector.match_expressions:
        if requirement.operator == "Exists":
            return [("key", requirement.key)]
    return []
