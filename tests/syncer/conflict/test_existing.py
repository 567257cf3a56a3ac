"""An object of the wanted name is on the target already."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

import pytest

from syncer.api.names import MANAGED_BY_LABEL, SOURCE_ANNOTATION, Reason
from syncer.api.placement import ConflictPolicy
from syncer.conflict.existing import STRATEGIES, Found, Owner, Proceed, Refuse, resolve_existing
from syncer.kube.objects import OwnerReference
from syncer.transform.mark import SourceRef

HUB = "hub-1"
OTHER_HUB = "hub-2"


@dataclass
class Observed:
    """A downstream object, as far as `classify` reads it."""

    api_version: str = "apps/v1"
    kind: str = "Deployment"
    name: str = "web"
    namespace: str = "shop"
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()


def marked(hub: str, *, name: str = "other", label: bool = True) -> Observed:
    source = SourceRef(hub, "", "apps/v1", "Deployment", "shop", name, "uid-source", 1)
    return Observed(
        labels={MANAGED_BY_LABEL: hub} if label else {},
        annotations={SOURCE_ANNOTATION: source.to_json()},
    )


def found(owner: Owner) -> Found:
    return Found(owner, "Deployment shop/web", "somebody")


def test_an_object_without_marks_belongs_to_nobody() -> None:
    assert Found.classify(Observed(), HUB) == Found(Owner.NOBODY, "Deployment shop/web")
    cluster_scoped = Observed(kind="PriorityClass", namespace="", name="high")
    assert Found.classify(cluster_scoped, HUB).object == "PriorityClass high"


@pytest.mark.parametrize("label", [True, False])
def test_the_mark_of_another_hub_is_recognised_with_or_without_its_label(label: bool) -> None:
    assert Found.classify(marked(OTHER_HUB, label=label), HUB) == Found(
        Owner.OTHER_HUB, "Deployment shop/web", OTHER_HUB
    )


def test_the_label_of_another_hub_is_enough_to_leave_an_object_alone() -> None:
    assert Found.classify(Observed(labels={MANAGED_BY_LABEL: OTHER_HUB}), HUB).owner is Owner.OTHER_HUB


def test_a_mark_that_names_another_object_is_another_source() -> None:
    assert Found.classify(marked(HUB), HUB) == Found(Owner.OTHER_SOURCE, "Deployment shop/web", "Deployment shop/other")


def test_a_controlled_object_is_its_controllers_whatever_marks_it_inherited() -> None:
    for inherited in (Observed(), marked(HUB), marked(OTHER_HUB)):
        inherited.owner_references = (
            OwnerReference("ReplicaSet", "web-7c5", "uid-rs", api_version="apps/v1", controller=True),
        )
        assert Found.classify(inherited, HUB) == Found(Owner.CONTROLLER, "Deployment shop/web", "ReplicaSet web-7c5")


def test_an_unreadable_mark_is_no_mark() -> None:
    assert Found.classify(Observed(annotations={SOURCE_ANNOTATION: "{"}), HUB).owner is Owner.NOBODY


def test_what_a_stranger_wrote_is_cut_and_printable_in_messages() -> None:
    """B27: text from targets is untrusted."""
    stranger = Observed(labels={MANAGED_BY_LABEL: "evil\n\x1b[31m" + "x" * 500})
    assert Found.classify(stranger, HUB).holder == "evil[31m" + "x" * 118


EXPECTED = {
    "Abort": {Owner.NOBODY: False, Owner.OTHER_SOURCE: False},
    "Adopt": {Owner.NOBODY: True, Owner.OTHER_SOURCE: False},
    "Overwrite": {Owner.NOBODY: True, Owner.OTHER_SOURCE: True},
}


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("owner", list(Owner))
def test_every_strategy_answers_every_owner(strategy: str, owner: Owner) -> None:
    """F64: a foreign object is untouched and reported, unless taking it was asked for."""
    verdict = resolve_existing(strategy, found(owner))
    assert isinstance(verdict, Proceed) == EXPECTED[strategy].get(owner, False)
    if isinstance(verdict, Refuse):
        assert verdict.reason == (Reason.CLAIMED_BY_OTHER_HUB if owner is Owner.OTHER_HUB else Reason.ALREADY_EXISTS)
        assert "Deployment shop/web" in verdict.message


def test_a_refusal_says_what_to_do() -> None:
    hints = {Owner.NOBODY: "Adopt", Owner.OTHER_SOURCE: "Overwrite", Owner.OTHER_HUB: "--adopt-hub somebody"}
    for owner, hint in hints.items():
        verdict = resolve_existing("Abort", found(owner))
        assert isinstance(verdict, Refuse)
        assert hint in verdict.message


def test_the_strategies_are_those_of_the_api() -> None:
    assert set(STRATEGIES) == set(get_args(ConflictPolicy.model_fields["existing"].annotation))
    with pytest.raises(KeyError):
        resolve_existing("Ask", found(Owner.NOBODY))
