"""From the API models to compiled placements and targets."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.api.keys import GroupKind, GroupResource
from syncer.api.names import Reason
from syncer.api.synctarget import SyncTarget
from syncer.errors import TerminalError
from syncer.placement import compile_target
from tests.syncer.placement.builders import CONFIGMAP, DEPLOYMENT, WEB, compiled, manifest, placement


def refused(**spec: Any) -> TerminalError:
    with pytest.raises(TerminalError) as raised:
        placement(**spec)
    return raised.value


def test_identity_and_choices_are_carried_over() -> None:
    one = placement(
        "web",
        conflict={"existing": "Adopt", "priority": 7},
        drift={"mode": "Warn"},
        deletion={"policy": "Orphan", "wait": True},
        status={"mode": "Worst"},
        suspend=True,
        transforms=[{"replicas": 2}],
        namespaceLabels=["team"],
    )
    assert one.key == ("Placement", "shop", "web")
    assert (one.uid, one.created, one.generation) == ("uid-shop-web", "2026-01-01T00:00:00Z", 3)
    assert one.priority == 7
    assert one.conflict.existing == "Adopt"
    assert one.drift.mode == "Warn"
    assert (one.deletion.policy, one.deletion.wait) == ("Orphan", True)
    assert one.status.mode == "Worst"
    assert one.suspend
    assert len(one.transforms) == 1
    assert one.kinds() == {DEPLOYMENT}


def test_pod_security_labels_are_always_copied_to_namespaces_that_we_make() -> None:
    labels = placement(namespaceLabels=["team*"]).namespace_labels
    assert labels.matches("team-a")
    assert labels.matches("pod-security.kubernetes.io/enforce")
    assert not labels.matches("kubernetes.io/metadata.name")


def test_annotations_do_not_change_under_a_compiled_placement() -> None:
    raw = manifest()
    raw["metadata"]["annotations"] = {"a": "1"}
    one = compiled(raw)
    raw["metadata"]["annotations"]["a"] = "2"
    assert one.annotations == {"a": "1"}


def test_equal_manifests_compile_to_equal_placements() -> None:
    assert placement() == placement()
    assert placement() != placement(suspend=True)


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"dependencies": True}, "spec.dependencies"),
        ({"rollout": {"strategy": "Waves"}}, "spec.rollout.strategy"),
        ({"conflict": {"fields": "Manual"}}, "spec.conflict.fields"),
        (
            {"targets": {"all": True, "tolerations": [{"operator": "Exists", "tolerationSeconds": 5}]}},
            "spec.targets.tolerations[0].tolerationSeconds",
        ),
    ],
)
def test_what_comes_later_is_refused_with_its_path(spec: dict[str, Any], path: str) -> None:
    error = refused(**spec)
    assert (error.reason, error.pointer, str(error)) == (Reason.NOT_YET_SUPPORTED, path, path)


@pytest.mark.parametrize("namespace", ["kube-system", "kube-anything", "syncline-system"])
def test_nothing_is_placed_from_protected_namespaces(namespace: str) -> None:
    """B20"""
    with pytest.raises(TerminalError) as raised:
        placement(namespace=namespace)
    assert raised.value.reason == Reason.PROTECTED_NAMESPACE
    assert placement(namespace="default").namespace == "default"
    assert placement(namespace="kubeflow").namespace == "kubeflow"


DEPLOYMENTS = {"apiVersion": "apps/v1", "kind": "Deployment"}


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"resources": [WEB, DEPLOYMENTS]}, "spec.resources[1]"),
        ({"resources": [{**DEPLOYMENTS, "labelSelector": {}}]}, "spec.resources[0].labelSelector"),
        ({"resources": [{**WEB, "labelSelector": {}}]}, "spec.resources[0].labelSelector"),
        ({"exclude": [DEPLOYMENTS]}, "spec.exclude[0]"),
        ({"targets": {}}, "spec.targets"),
        ({"targets": {"labelSelector": {}}}, "spec.targets.labelSelector"),
        ({"namespace": "", "namespaces": {}}, "spec.namespaces"),
    ],
)
def test_an_empty_selector_never_means_all(spec: dict[str, Any], pointer: str) -> None:
    """B03: refused by the CRD's rules; an object that got around them is refused here."""
    error = refused(**spec)
    assert (error.reason, error.pointer) == (Reason.INVALID, pointer)


def test_without_weights_every_target_has_the_same() -> None:
    one = placement(replicas={"mode": "Divide"})
    assert one.divided
    assert one.weight("anything") == 1


def test_with_weights_a_target_that_is_not_listed_has_none() -> None:
    one = placement(replicas={"mode": "Divide", "weights": {"static": {"east": 2, "west": 0}}})
    assert [one.weight(name) for name in ("east", "west", "south")] == [2, 0, 0]


def test_kinds_may_be_wild_in_either_place() -> None:
    one = placement(
        resources=[
            {"apiVersion": "*", "kind": "*", "names": ["a"]},
            {"apiVersion": "v1", "kind": "*", "names": ["b"]},
            {"apiVersion": "*", "kind": "Deployment", "names": ["c"]},
            {"apiVersion": "v1", "kind": "ConfigMap", "names": ["d"]},
        ]
    )
    assert one.kinds() == {GroupKind("*", "*"), GroupKind("", "*"), GroupKind("*", "Deployment"), CONFIGMAP}


def synctarget(**spec: Any) -> SyncTarget:
    return SyncTarget.parse(
        {
            "apiVersion": "syncline.io/v1alpha1",
            "kind": "SyncTarget",
            "metadata": {"name": "east", "uid": "uid-east", "labels": {"region": "eu"}},
            "spec": {"connection": {"direct": {}}, **spec},
        }
    )


def test_a_target_is_compiled_with_what_the_engine_knows_of_it() -> None:
    model = synctarget(
        taints=[{"key": "a", "value": "b", "effect": "NoExecute"}],
        unschedulable=True,
        evictAfter="1m30s",
        resources={"preset": "None", "allow": ["configmaps"]},
    )
    state = compile_target(model, ready=False)
    assert (state.name, state.uid, state.labels) == ("east", "uid-east", {"region": "eu"})
    assert (state.unschedulable, state.ready, state.deleting) == (True, False, False)
    assert [(taint.key, taint.effect) for taint in state.taints] == [("a", "NoExecute")]
    assert state.evict_after_seconds == 90.0
    assert state.resources.accepts(GroupResource("", "configmaps"))
    assert not state.resources.accepts(GroupResource("apps", "deployments"))


def test_a_target_never_evicts_unless_told() -> None:
    assert compile_target(synctarget(), ready=True).evict_after_seconds is None


def test_a_target_with_a_deletion_timestamp_is_being_deleted() -> None:
    model = synctarget()
    going = model.model_copy(
        update={"metadata": model.metadata.model_copy(update={"deletion_timestamp": "2026-01-01T00:00:00Z"})}
    )
    assert compile_target(going, ready=True).deleting
