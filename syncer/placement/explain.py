"""Why a placement does not select an object, in words for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from syncer.api.common import LabelRequirement, LabelSelector
from syncer.api.keys import GroupKind
from syncer.api.names import GROUP, SKIP_LABEL
from syncer.placement.compiled import NO_LABELS, CompiledPlacement, Globs, ObjectRule, is_protected_object
from syncer.placement.targets import TargetState


@dataclass(frozen=True, slots=True)
class Miss:
    """The placement that came nearest to an object, and every term that failed."""

    placement: CompiledPlacement
    terms: tuple[str, ...]

    @property
    def text(self) -> str:
        return "; ".join(self.terms)


def why_not(
    placement: CompiledPlacement,
    kind: GroupKind,
    namespace: str,
    name: str,
    labels: Mapping[str, str],
    namespace_labels: Mapping[str, str] = NO_LABELS,
) -> tuple[str, ...]:
    """The failed terms of the entry that comes nearest; empty if the placement selects the object."""
    general = _never_placed(kind, namespace, name, labels) + _namespace_terms(placement, namespace, namespace_labels)
    entries = []
    for index, rule in enumerate(placement.rules):
        wrong_kind = not rule.matches_kind(kind)
        terms = _entry_terms(rule, kind, name, labels, wrong_kind=wrong_kind)
        entries.append((len(terms), wrong_kind, index, terms))
    nearest_terms = min(entries)[3]
    excluded = tuple(
        f"exclude[{index}] matches it"
        for index, rule in enumerate(placement.exclude)
        if rule.matches(kind, name, labels)
    )
    return general + nearest_terms + excluded


def nearest(
    placements: Iterable[CompiledPlacement],
    kind: GroupKind,
    namespace: str,
    name: str,
    labels: Mapping[str, str],
    namespace_labels: Mapping[str, str] = NO_LABELS,
) -> Miss | None:
    """Of the placements that do not select the object, the one with the fewest failed terms; None if there is none.

    Among equals one that names the kind goes first, then the one that would win.
    """
    best: tuple[tuple[int, bool, tuple[int, str, str]], Miss] | None = None
    for placement in placements:
        terms = why_not(placement, kind, namespace, name, labels, namespace_labels)
        if not terms:
            continue
        other_kind = not any(rule.matches_kind(kind) for rule in placement.rules)
        rank = (len(terms), other_kind, placement.precedence)
        if best is None or rank < best[0]:
            best = rank, Miss(placement, terms)
    return None if best is None else best[1]


def why_not_target(placement: CompiledPlacement, target: TargetState) -> tuple[str, ...]:
    """The terms of `spec.targets` that a target fails; empty for a candidate, which may be refused all the same."""
    rule = placement.targets
    named = () if not rule.names or target.name in rule.names else (f"it is not one of {', '.join(rule.names)}",)
    return named + _label_terms("", rule.selector, target.labels)


def _never_placed(kind: GroupKind, namespace: str, name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
    terms = []
    if labels.get(SKIP_LABEL) == "true":
        terms.append(f"the object is labelled {SKIP_LABEL}=true")
    if is_protected_object(kind, namespace, name):
        terms.append(f"namespace {namespace or name} is protected")
    if kind.group == GROUP:
        terms.append(f"objects of {GROUP} are never placed")
    return tuple(terms)


def _namespace_terms(placement: CompiledPlacement, namespace: str, labels: Mapping[str, str]) -> tuple[str, ...]:
    if placement.covers_namespace(namespace, labels):
        return ()
    if placement.kind == "Placement":
        where = f"namespace {namespace}" if namespace else "no namespace"
        return (f"the object is in {where}, the placement in {placement.namespace}",)
    rule = placement.namespaces
    if rule is None:
        return ("spec.namespaces is not set, so only cluster-scoped objects are placed",)
    return _name_terms("namespace ", rule.names, namespace) + _label_terms("namespace ", rule.selector, labels)


def _entry_terms(
    rule: ObjectRule, kind: GroupKind, name: str, labels: Mapping[str, str], *, wrong_kind: bool
) -> tuple[str, ...]:
    terms = (f"kind {kind} is not {GroupKind(rule.group, rule.kind)}",) if wrong_kind else ()
    return terms + _name_terms("", rule.names, name) + _label_terms("", rule.selector, labels)


def _name_terms(what: str, names: Globs | None, name: str) -> tuple[str, ...]:
    if names is None or names.matches(name):
        return ()
    return (f"{what}name {name} does not match {', '.join(names.texts)}",)


def _label_terms(what: str, selector: LabelSelector | None, labels: Mapping[str, str]) -> tuple[str, ...]:
    if selector is None:
        return ()
    terms = []
    for key, value in sorted(selector.match_labels.items()):
        if labels.get(key) != value:
            terms.append(f"{what}label {key} is {_shown(labels, key)}, wanted {value}")
    for requirement in selector.match_expressions:
        if not LabelSelector(match_expressions=(requirement,)).matches(labels):
            terms.append(f"{what}label {requirement.key} is {_shown(labels, requirement.key)}, {_wanted(requirement)}")
    return tuple(terms)


def _shown(labels: Mapping[str, str], key: str) -> str:
    return f'"{labels[key]}"' if key in labels else "missing"


def _wanted(requirement: LabelRequirement) -> str:
    values = ", ".join(requirement.values)
    return {
        "In": f"wanted one of {values}",
        "NotIn": f"wanted none of {values}",
        "Exists": "wanted any value",
        "DoesNotExist": "wanted without it",
    }[requirement.operator]
