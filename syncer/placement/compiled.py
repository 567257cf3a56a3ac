"""A placement as the engine uses it: checked, immutable, and quick to ask."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from types import MappingProxyType
from typing import Final

from syncer.api.common import LabelSelector, Toleration
from syncer.api.keys import GroupKind
from syncer.api.names import GROUP, SKIP_LABEL
from syncer.api.placement import ConflictPolicy, DeletionPolicy, DriftPolicy, InlineObject, StatusPolicy
from syncer.api.policy import is_protected
from syncer.api.transforms import Transform

ANY: Final = "*"
NAMESPACE_KIND: Final = GroupKind("", "Namespace")
NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})

_WILD: Final = re.compile(r"[*?\[]")


def is_protected_object(kind: GroupKind, namespace: str, name: str) -> bool:
    """Whether the object lies in a protected namespace, or is one."""
    return is_protected(namespace) or (kind == NAMESPACE_KIND and is_protected(name))


class Globs:
    """Shell globs (`* ? [seq] [!seq]`), case-sensitive; a name matches if one of them does. Equal by their texts."""

    __slots__ = ("_exact", "_pattern", "texts")

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(texts)
        wild = [text for text in self.texts if _WILD.search(text)]
        self._exact = frozenset(self.texts) - frozenset(wild)
        self._pattern = re.compile("|".join(translate(text) for text in wild)) if wild else None

    @property
    def exact(self) -> bool:
        """Whether no text has a wildcard."""
        return self._pattern is None

    def matches(self, name: str) -> bool:
        return name in self._exact or (self._pattern is not None and self._pattern.match(name) is not None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Globs) and self.texts == other.texts

    def __hash__(self) -> int:
        return hash(self.texts)

    def __repr__(self) -> str:
        return f"Globs({', '.join(self.texts)})"


@dataclass(frozen=True, slots=True)
class ObjectRule:
    """One entry of `resources` or `exclude`. The version only says how to find the kind: one object, many versions."""

    api_version: str  # as written, or "*"
    group: str  # "" is the core group, "*" every group
    kind: str  # or "*"
    names: Globs | None
    selector: LabelSelector | None

    def matches_kind(self, kind: GroupKind) -> bool:
        return self.kind in (kind.kind, ANY) and self.group in (kind.group, ANY)

    def matches(self, kind: GroupKind, name: str, labels: Mapping[str, str]) -> bool:
        return (
            self.matches_kind(kind)
            and (self.names is None or self.names.matches(name))
            and (self.selector is None or self.selector.matches(labels))
        )


@dataclass(frozen=True, slots=True)
class NamespaceRule:
    """`spec.namespaces` of a ClusterPlacement."""

    names: Globs | None
    selector: LabelSelector | None

    def matches(self, namespace: str, labels: Mapping[str, str]) -> bool:
        return (self.names is None or self.names.matches(namespace)) and (
            self.selector is None or self.selector.matches(labels)
        )


@dataclass(frozen=True, slots=True)
class TargetRule:
    """`spec.targets`: names ∧ selector; neither is `all: true`."""

    names: tuple[str, ...] = ()
    selector: LabelSelector | None = None
    tolerations: tuple[Toleration, ...] = ()
    max_targets: int | None = None

    def tolerates(self, key: str, value: str, effect: str) -> bool:
        return any(toleration.tolerates(key, value, effect) for toleration in self.tolerations)


@dataclass(frozen=True, slots=True)
class CompiledPlacement:
    """One (Cluster)Placement.

    Invariant: it never selects an object in a protected namespace, one labelled to be skipped, or one of our own kinds.
    """

    uid: str
    kind: str  # Placement | ClusterPlacement
    namespace: str  # "" for a ClusterPlacement
    name: str
    created: str  # RFC 3339 UTC in seconds, so that text order is time order
    generation: int
    rules: tuple[ObjectRule, ...]
    targets: TargetRule
    exclude: tuple[ObjectRule, ...] = ()
    namespaces: NamespaceRule | None = None  # ClusterPlacement: namespaced objects of these namespaces too
    divided: bool = False  # replicas.mode Divide
    weights: Mapping[str, int] | None = None  # by target name; None: equal shares
    transforms: tuple[Transform, ...] = ()
    conflict: ConflictPolicy = field(default_factory=ConflictPolicy)
    drift: DriftPolicy = field(default_factory=DriftPolicy)
    deletion: DeletionPolicy = field(default_factory=DeletionPolicy)
    status: StatusPolicy = field(default_factory=StatusPolicy)
    namespace_labels: Globs = field(default_factory=lambda: Globs(()))  # copied to namespaces that we make
    suspend: bool = False
    manifests: tuple[InlineObject, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        """(kind, namespace, name)"""
        return self.kind, self.namespace, self.name

    @property
    def priority(self) -> int:
        return self.conflict.priority

    @property
    def precedence(self) -> tuple[int, str, str]:
        """The smallest wins an object: highest priority, then oldest, then lowest uid."""
        return -self.conflict.priority, self.created, self.uid

    def kinds(self) -> frozenset[GroupKind]:
        """Kinds that it names; `*` in either place stands for all."""
        return frozenset(GroupKind(rule.group, rule.kind) for rule in self.rules)

    def covers_namespace(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether objects of this namespace ("": cluster-scoped ones) can be selected; `labels` are the namespace's."""
        if self.kind == "Placement":
            return namespace == self.namespace
        return not namespace or (self.namespaces is not None and self.namespaces.matches(namespace, labels))

    def selects(
        self,
        kind: GroupKind,
        namespace: str,
        name: str,
        labels: Mapping[str, str],
        namespace_labels: Mapping[str, str] = NO_LABELS,
    ) -> bool:
        """Whether the object is placed by this placement."""
        return (
            self.covers_namespace(namespace, namespace_labels)
            and any(rule.matches(kind, name, labels) for rule in self.rules)
            and not is_never_placed(kind, namespace, name, labels)
            and not any(rule.matches(kind, name, labels) for rule in self.exclude)
        )

    def weight(self, target: str) -> int:
        """Weight of a target in a division; 1 where none are given, 0 where others are."""
        return 1 if self.weights is None else self.weights.get(target, 0)


def is_never_placed(kind: GroupKind, namespace: str, name: str, labels: Mapping[str, str]) -> bool:
    """Whether no placement may select the object: skip label, protected namespace, our own kinds."""
    return labels.get(SKIP_LABEL) == "true" or kind.group == GROUP or is_protected_object(kind, namespace, name)
