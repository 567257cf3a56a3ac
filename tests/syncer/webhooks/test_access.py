"""Which rights a writer needs."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.api.placement import ClusterPlacement, Placement
from syncer.api.synctarget import SyncTarget
from syncer.webhooks.access import EVERY_TARGET, placement_questions, sync_target_questions, targets_used
from syncer.webhooks.findings import Context
from tests.syncer.api.cases import CONFIGMAPS, cluster_placement, placement, sync_target

LABELS = {"labelSelector": {"matchLabels": {"region": "eu"}}}


@pytest.mark.parametrize(
    ("targets", "used"),
    [
        ({"names": ["east", "west"]}, {"east", "west"}),
        ({"names": ["east"]} | LABELS, {"east"}),
        (LABELS, {EVERY_TARGET}),
        ({"all": True}, {EVERY_TARGET}),
    ],
)
def test_names_bound_what_a_placement_may_reach_and_labels_do_not(targets: dict[str, Any], used: set[str]) -> None:
    assert targets_used(Placement.parse(placement(targets=targets))) == used


def _questions(manifest: dict[str, Any]) -> list[str]:
    model = Placement if manifest["kind"] == "Placement" else ClusterPlacement
    return [str(question) for question in placement_questions(model.parse(manifest), Context())]


def test_each_kind_is_asked_for_once_in_its_namespace() -> None:
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "names": ["a"]}
    assert _questions(placement(resources=[CONFIGMAPS, deployment, CONFIGMAPS])) == [
        "use synctargets.syncline.io/east",
        "get configmaps in namespace shop",
        "get deployments.apps in namespace shop",
    ]


def test_a_cluster_placement_asks_for_every_namespace() -> None:
    assert _questions(cluster_placement())[1:] == ["get configmaps"]


@pytest.mark.parametrize(
    ("api_version", "kind", "question"),
    [
        ("*", "*", "get *.* in namespace shop"),
        ("*", "Deployment", "get *.* in namespace shop"),
        ("apps/v1", "*", "get *.apps in namespace shop"),
        ("v1", "*", "get * in namespace shop"),
        ("example.com/v1", "Widget", "get *.example.com in namespace shop"),
    ],
)
def test_wildcards_and_unknown_kinds_take_the_right_to_the_group(api_version: str, kind: str, question: str) -> None:
    entry = {"apiVersion": api_version, "kind": kind, "names": ["*"]}
    assert _questions(placement(resources=[entry]))[1:] == [question]


def test_a_direct_target_asks_for_its_secret_and_a_tunnel_for_nothing() -> None:
    (question,) = sync_target_questions(None, SyncTarget.parse(sync_target("west")))
    assert str(question) == "get secrets/west in namespace syncline-system"
    tunnel = sync_target("west", connection={"tunnel": {}})
    assert list(sync_target_questions(None, SyncTarget.parse(tunnel))) == []


def test_a_change_that_keeps_the_secret_does_not_ask_for_it() -> None:
    """Cordoning takes no right to read credentials."""
    old = SyncTarget.parse(sync_target("west"))
    named = {"direct": {"kubeconfigSecretRef": {"name": "west"}}}
    cordoned = SyncTarget.parse(sync_target("west", connection=named, unschedulable=True))
    assert list(sync_target_questions(old, cordoned)) == []
    other = SyncTarget.parse(sync_target("west", connection={"direct": {"kubeconfigSecretRef": {"name": "other"}}}))
    assert [str(question) for question in sync_target_questions(old, other)] == [
        "get secrets/other in namespace syncline-system"
    ]
