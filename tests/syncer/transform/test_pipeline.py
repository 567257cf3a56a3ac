"""`syncer.transform.pipeline`: order, selectors, expansion, split, identity, and what a failure says."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.api.keys import GroupKind
from syncer.api.names import Reason
from syncer.api.transforms import Transform
from syncer.errors import TerminalError
from syncer.transform import Pipeline, Split, TransformFailed, compile_transforms, totals
from syncer.transform.draft import Draft
from syncer.transform.pipeline import Step
from tests.syncer.transform.builders import (
    CONFIG_MAP,
    CRON_JOB,
    DEPLOYMENT,
    EAST,
    JOB,
    WEST,
    compiled,
    first_container,
    transformed,
    workload,
)

STATEFUL_SET = GroupKind("apps", "StatefulSet")


def annotated(value: str, **selectors: Any) -> dict[str, Any]:
    """A transform that leaves a trace."""
    return {"annotations": {"set": {"trace": value}}, **selectors}


def trace(*transforms: dict[str, Any], **options: Any) -> str | None:
    """The last trace that was left."""
    annotations: dict[str, str] = transformed(workload(), *transforms, **options)["metadata"].get("annotations", {})
    return annotations.get("trace")


def test_transforms_run_in_their_order() -> None:
    assert trace(annotated("first"), annotated("second")) == "second"
    after = transformed(workload(), {"image": {"tag": "2"}}, {"image": {"registry": "m.example"}})
    assert first_container(after)["image"] == "m.example/library/nginx:2"


@pytest.mark.parametrize(
    ("targets", "east", "west"),
    [
        ({"names": ["west"]}, False, True),
        ({"names": ["west", "east"]}, True, True),
        ({"labelSelector": {"matchLabels": {"region": "eu"}}}, True, False),
        ({"names": ["west"], "labelSelector": {"matchLabels": {"region": "eu"}}}, False, False),
        (
            {"labelSelector": {"matchExpressions": [{"key": "region", "operator": "NotIn", "values": ["eu"]}]}},
            False,
            True,
        ),
    ],
)
def test_a_transform_may_be_for_some_targets(targets: dict[str, Any], east: bool, west: bool) -> None:
    assert trace(annotated("x", targets=targets), target=EAST) == ("x" if east else None)
    assert trace(annotated("x", targets=targets), target=WEST) == ("x" if west else None)


@pytest.mark.parametrize(
    ("kinds", "meant"),
    [(["Deployment"], True), (["Deployment.apps"], True), (["Service", "StatefulSet"], False), ([], True)],
)
def test_a_transform_may_be_for_some_kinds(kinds: list[str], meant: bool) -> None:
    assert trace(annotated("x", kinds=kinds)) == ("x" if meant else None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${target.name}", "west"),
        ("${target.uid}", "west-uid"),
        ('a-${target.labels["region"]}-${target.name}', "a-us-west"),
        ('${target.annotations["note"]}', "far away"),
        ("$(POD_NAME) ${HOME} $target.name ${ target.name}", "$(POD_NAME) ${HOME} $target.name ${ target.name}"),
    ],
)
def test_only_target_references_are_expanded(text: str, value: str) -> None:
    assert trace(annotated(text)) == value


@pytest.mark.parametrize(
    "text", ["${target.nope}", "${target.labels[region]}", "${target.name", "${target.}", '${target.labels[""]}']
)
def test_an_unknown_target_reference_is_refused_early(text: str) -> None:
    """B11: when compiling, so that admission tells, with the path."""
    with pytest.raises(TransformFailed) as caught:
        compiled({"replicas": 1}, annotated(text))
    assert (caught.value.index, caught.value.pointer) == (1, "/spec/transforms/1/annotations/set/trace")
    assert caught.value.reason == Reason.TRANSFORM_FAILED


def test_a_label_that_the_target_lacks_fails_the_transform() -> None:
    with pytest.raises(TransformFailed, match='target west has no label "zone"') as caught:
        transformed(workload(), {"replicas": 1}, annotated('${target.labels["zone"]}'))
    assert (caught.value.index, caught.value.pointer) == (1, "/spec/transforms/1/annotations/set/trace")


def test_values_inside_patches_are_expanded_and_names_are_not() -> None:
    patch = {
        "metadata": {"annotations": {"${target.name}": "${target.name}", "list": None}},
        "spec": {"x": ["${target.uid}", 1]},
    }
    after = transformed(workload(), {"mergePatch": patch})
    assert after["metadata"]["annotations"] == {"${target.name}": "west"}
    assert after["spec"]["x"] == ["west-uid", 1]
    after = transformed(
        workload(), {"jsonPatch": [{"op": "add", "path": "/spec/x", "value": {"a": ["${target.name}"]}}]}
    )
    assert after["spec"]["x"] == {"a": ["west"]}


GUARDED = ["/metadata/name", "/metadata/namespace", "/metadata/uid", "/metadata/finalizers", "/metadata/finalizers/0"]
GUARDED += ["/metadata/ownerReferences/-", "/apiVersion", "/kind", "/metadata", "/metadata/managedFields"]


@pytest.mark.parametrize("pointer", GUARDED)
@pytest.mark.parametrize(
    "operation",
    [
        lambda p: {"remove": [p]},
        lambda p: {"jsonPatch": [{"op": "add", "path": p, "value": 1}]},
        lambda p: {"jsonPatch": [{"op": "move", "path": "/spec/x", "from": p}]},
        lambda p: {"jsonPatch": [{"op": "copy", "path": p, "from": "/spec/x"}]},
        lambda p: {"cel": {"path": p, "expression": "1"}},
    ],
)
def test_identity_finalizers_and_owners_are_out_of_reach(operation: Any, pointer: str) -> None:
    """B11: a patch touching name, namespace, uid, finalizers or owners is rejected with its path when compiled."""
    with pytest.raises(TransformFailed, match="a transform may not change /") as caught:
        compiled(operation(pointer))
    assert str(caught.value.pointer).startswith("/spec/transforms/0/")


@pytest.mark.parametrize(
    "patch", [{"kind": "X"}, {"metadata": {"finalizers": []}}, {"metadata": None}, "{metadata: {name: x}}"]
)
def test_a_merge_patch_does_not_reach_them_either(patch: Any) -> None:
    """B11."""
    with pytest.raises(TransformFailed, match="a transform may not change /"):
        compiled({"mergePatch": patch})


@pytest.mark.parametrize("field", ["name", "uid", "finalizers", "ownerReferences"])
def test_identity_is_checked_again_after_the_pipeline(field: str) -> None:
    """B11: the second check does not trust the first one."""

    def rogue(draft: Draft, context: object) -> None:
        draft.ensure("metadata")[field] = ["other"]

    pipeline = Pipeline([Step(0, "rogue", None, frozenset(), rogue)])
    with pytest.raises(TransformFailed, match=f"/metadata/{field}"):
        pipeline.run(workload(), kind=DEPLOYMENT, target=WEST)


def test_an_entry_with_no_or_two_operations_is_refused() -> None:
    for entry, told in ({}, "none"), ({"replicas": 1, "image": {"tag": "1"}}, "image, replicas"):
        with pytest.raises(TransformFailed, match=f"exactly one operation is needed, there is {told}"):
            compile_transforms([Transform.model_validate(entry)])


def test_an_object_without_the_shape_of_its_kind_fails_the_transform() -> None:
    with pytest.raises(TransformFailed, match="/spec is not an object"):
        transformed({"metadata": {"name": "x"}, "spec": "text"}, {"replicas": 1})


def test_a_pipeline_without_transforms_changes_nothing() -> None:
    assert transformed(workload()) == workload()


@pytest.mark.parametrize(
    ("kind", "manifest", "expected"),
    [
        (DEPLOYMENT, workload(replicas=5), Split(replicas=5)),
        (STATEFUL_SET, workload("StatefulSet"), Split(replicas=1)),
        (JOB, workload("Job", "batch/v1", parallelism=2, completions=6), Split(parallelism=2, completions=6)),
        (JOB, workload("Job", "batch/v1"), Split(parallelism=1, completions=1)),
        (JOB, workload("Job", "batch/v1", parallelism=2), Split(parallelism=2)),
        (CRON_JOB, workload("CronJob", "batch/v1"), None),
        (CONFIG_MAP, {"data": {}}, None),
    ],
)
def test_what_there_is_to_divide(kind: GroupKind, manifest: dict[str, Any], expected: Split | None) -> None:
    assert totals(manifest, kind) == expected


def test_an_indexed_job_cannot_be_divided() -> None:
    with pytest.raises(TerminalError) as caught:
        totals(workload("Job", "batch/v1", completionMode="Indexed", completions=3), JOB)
    assert caught.value.pointer == "/spec/completionMode"


def test_a_share_is_written_before_the_transforms_run() -> None:
    expression = {"cel": {"path": "/spec/minReadySeconds", "expression": "object.spec.replicas * 10"}}
    spec = compiled(expression).run(workload(replicas=5), kind=DEPLOYMENT, target=WEST, split=Split(replicas=2))["spec"]
    assert (spec["replicas"], spec["minReadySeconds"]) == (2, 20)


def test_a_share_reaches_only_the_numbers_of_its_kind() -> None:
    job = compiled().run(
        workload("Job", "batch/v1"), kind=JOB, target=WEST, split=Split(replicas=9, parallelism=2, completions=4)
    )
    assert job["spec"] == workload("Job", "batch/v1", parallelism=2, completions=4)["spec"]
    plain = compiled().run({"data": {}}, kind=CONFIG_MAP, target=WEST, split=Split(replicas=2))
    assert plain == {"data": {}}
