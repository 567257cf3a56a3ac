"""Models: parsing, words for people, selectors, and what comes later."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.api.common import LabelSelector, Toleration, duration_seconds, not_yet_supported
from syncer.api.names import Reason
from syncer.api.placement import ClusterPlacement, Placement
from syncer.api.synctarget import SyncTarget
from syncer.errors import TerminalError
from tests.syncer.api.cases import LATER, placement, sync_target

MODELS: dict[str, type[SyncTarget | Placement | ClusterPlacement]] = {
    "SyncTarget": SyncTarget,
    "Placement": Placement,
    "ClusterPlacement": ClusterPlacement,
}


@pytest.mark.parametrize(("path", "manifest"), LATER)
def test_a_use_of_what_comes_later_is_named(path: str, manifest: dict[str, Any]) -> None:
    assert not_yet_supported(MODELS[manifest["kind"]].parse(manifest)) == [path]


def test_defaults_use_nothing_that_comes_later() -> None:
    assert not_yet_supported(Placement.parse(placement())) == []
    assert not_yet_supported(SyncTarget.parse(sync_target())) == []


def test_faults_are_told_with_path_and_without_the_values() -> None:
    """B01: every unknown field by its path; a value may be a secret and stays out."""
    manifest = placement(targets={"names": ["SECRET-VALUE"]}, colour="SECRET-VALUE")
    with pytest.raises(TerminalError) as caught:
        Placement.parse(manifest)
    assert caught.value.reason == Reason.INVALID
    assert "spec.colour: unknown field" in str(caught.value)
    assert "spec.targets.names[0]: " in str(caught.value)
    assert "SECRET-VALUE" not in str(caught.value)


def test_fields_that_a_newer_operator_wrote_into_status_are_skipped() -> None:
    """B32: a status of tomorrow does not make the object unreadable."""
    manifest = placement() | {"status": {"objects": 3, "tomorrow": {"a": 1}}}
    assert Placement.parse(manifest).status.objects == 3


def test_names_on_the_wire_are_kubernetes_names() -> None:
    wire = SyncTarget.parse(sync_target() | {"status": {"clusterUID": "u", "viewURL": "https://x"}}).to_wire()
    assert wire["status"]["clusterUID"] == "u"
    assert wire["status"]["viewURL"] == "https://x"
    assert wire["spec"]["limits"]["maxConcurrent"] == 32


def test_models_cannot_be_changed() -> None:
    model = Placement.parse(placement())
    with pytest.raises(ValueError, match="frozen"):
        model.spec.suspend = True


def test_the_kubeconfig_secret_is_named_like_the_target_unless_said() -> None:
    ref = SyncTarget.parse(sync_target("west")).kubeconfig_secret()
    assert ref is not None
    assert (ref.namespace, ref.name, ref.key) == ("syncline-system", "west", "kubeconfig")
    said = {"direct": {"kubeconfigSecretRef": {"name": "other"}}}
    ref = SyncTarget.parse(sync_target("west", connection=said)).kubeconfig_secret()
    assert ref is not None
    assert ref.name == "other"
    assert SyncTarget.parse(sync_target("west", connection={"tunnel": {}})).kubeconfig_secret() is None


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("1.5m", 90), ("250ms", 0.25)])
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"matchLabels": {"a": "1", "b": "2"}}, {"a": "1"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {"a": "2"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {"a": "1"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": ""}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": ""}, False),
    ],
)
def test_label_selectors_match_as_in_kubernetes(
    selector: dict[str, Any], labels: dict[str, str], matches: bool
) -> None:
    assert LabelSelector.model_validate(selector).matches(labels) is matches


@pytest.mark.parametrize(
    ("toleration", "answers"),
    [
        ({"key": "a", "value": "1"}, True),
        ({"key": "a", "value": "2"}, False),
        ({"key": "a"}, False),
        ({"key": "a", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "a", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "b", "operator": "Exists"}, False),
    ],
)
def test_tolerations_answer_taints_as_in_kubernetes(toleration: dict[str, Any], answers: bool) -> None:
    assert Toleration.model_validate(toleration).tolerates("a", "1", "NoSchedule") is answers
