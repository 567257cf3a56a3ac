"""`syncer.transform.render`: the whole way, and what holds for every object and every pipeline."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from syncer.api.keys import GroupKind
from syncer.transform import Rendered, Same, SourceRef, Split, TargetView, render, render_namespace
from tests.syncer.transform.builders import DEPLOYMENT, EAST, WEST, compiled, workload

SOURCE = SourceRef("hub-1", "root", "apps/v1", "Deployment", "shop", "web", "uid-1", 3)
TRANSFORMS: list[dict[str, Any]] = [
    {"image": {"registry": "${target.name}.example"}},
    {"env": {"set": {"REGION": '${target.labels["region"]}'}, "remove": ["DEBUG"]}, "targets": {"names": ["west"]}},
    {"labels": {"set": {"tier": "front"}, "remove": ["old"]}},
    {"annotations": {"set": {"note": "${target.name}"}}},
    {"replicas": 2},
    {"resources": {"set": {"requests": {"cpu": "100m"}}, "scale": "0.5"}},
    {"nodeSelector": {"set": {"disk": "ssd"}}},
    {"tolerations": {"add": [{"key": "gpu", "operator": "Exists"}]}},
    {"imagePullSecrets": {"set": ["regcred"]}},
    {"args": {"append": ["-v"], "remove": ["-q"]}},
    {"remove": ["/spec/paused"]},
    {"jsonPatch": [{"op": "add", "path": "/metadata/labels", "value": {"x": "y"}}]},
    {"mergePatch": "{spec: {paused: true, minReadySeconds: null}}"},
    {"cel": {"path": "/spec/revisionHistoryLimit", "expression": "has(object.spec.replicas) ? 5 : 6"}},
]
NAMES = st.sampled_from(["app", "log", "x"])
CONTAINERS = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "image": st.sampled_from(["nginx", "quay.example/a/b:1", "localhost:5000/x@sha256:" + "0" * 64]),
        "env": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["REGION", "DEBUG", "A"]), "value": st.just("1")}),
            max_size=3,
        ),
        "args": st.lists(st.sampled_from(["-v", "-q"]), max_size=2),
        "resources": st.just({"requests": {"cpu": "3", "memory": "1Gi"}}),
    },
)
DEPLOYMENTS = st.builds(
    lambda containers, metadata, spec: {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", **metadata},
        "spec": {**spec, "template": {"spec": {"containers": containers}}},
        "status": {"replicas": 1},
    },
    st.lists(CONTAINERS, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "labels": st.dictionaries(st.sampled_from(["old", "app"]), st.just("v"), max_size=2),
            "annotations": st.dictionaries(st.sampled_from(["deployment.kubernetes.io/revision", "a"]), st.just("v")),
            "finalizers": st.just(["x"]),
            "uid": st.just("u"),
        },
    ),
    st.fixed_dictionaries(
        {}, optional={"replicas": st.integers(0, 5), "paused": st.booleans(), "minReadySeconds": st.just(1)}
    ),
)
PIPELINES = st.lists(st.sampled_from(TRANSFORMS), max_size=5)


def rendered(
    manifest: dict[str, Any], *transforms: dict[str, Any], target: TargetView = WEST, **options: Any
) -> Rendered:
    """Render a Deployment."""
    return render(
        manifest,
        kind=DEPLOYMENT,
        has_status_subresource=True,
        pipeline=compiled(*transforms),
        target=target,
        source=SOURCE,
        deletion_policy="Delete",
        **{"mapping": Same(), **options},
    )


@given(DEPLOYMENTS, PIPELINES, st.sampled_from([EAST, WEST]))
def test_rendering_is_deterministic_and_never_touches_its_input(
    manifest: dict[str, Any], transforms: list[dict[str, Any]], target: TargetView
) -> None:
    before = deepcopy(manifest)
    pipeline = compiled(*transforms)
    results = [
        render(
            manifest,
            kind=DEPLOYMENT,
            has_status_subresource=True,
            pipeline=pipeline,
            target=target,
            source=SOURCE,
            deletion_policy="Delete",
            mapping=Same(),
            split=Split(replicas=3),
        )
        for _ in range(2)
    ]
    assert manifest == before
    assert results[0].body == results[1].body
    assert results[0].hash == results[1].hash
    assert rendered(deepcopy(manifest), *transforms, target=target, split=Split(replicas=3)).body == results[0].body


@given(DEPLOYMENTS, PIPELINES)
def test_identity_and_mark_hold_after_every_pipeline(
    manifest: dict[str, Any], transforms: list[dict[str, Any]]
) -> None:
    result = rendered(manifest, *transforms).manifest
    assert (result["apiVersion"], result["kind"]) == ("apps/v1", "Deployment")
    assert result["metadata"].keys() == {"name", "namespace", "labels", "annotations"}
    assert result["metadata"]["labels"]["syncline.io/managed-by"] == "hub-1"
    assert "status" not in result


@given(DEPLOYMENTS)
def test_rendering_what_was_rendered_changes_nothing(manifest: dict[str, Any]) -> None:
    """Idempotent: prune and mark undo and redo themselves."""
    once = rendered(manifest)
    assert rendered(once.manifest).body == once.body


@given(DEPLOYMENTS)
def test_what_the_servers_keep_for_themselves_does_not_change_the_hash(manifest: dict[str, Any]) -> None:
    noise = {"resourceVersion": "9", "managedFields": [{"manager": "x"}], "generation": 7}
    noisy = {**manifest, "metadata": {**manifest["metadata"], **noise}, "status": {"replicas": 9}}
    assert rendered(noisy).hash == rendered(manifest).hash


def test_a_transform_cannot_forge_the_mark() -> None:
    forged = {"labels": {"set": {"syncline.io/managed-by": "other"}}}
    deletion = {"annotations": {"set": {"syncline.io/deletion": "Orphan", "syncline.io/applied": "x"}}}
    assert rendered(workload(), forged, deletion).body == rendered(workload()).body


class _Prefixed:
    def map(self, namespace: str) -> str:
        return f"x-{namespace}"

    def unmap(self, namespace: str) -> str:
        return namespace.removeprefix("x-")


def test_the_namespace_is_mapped_and_the_source_is_not() -> None:
    result = rendered(workload(), mapping=_Prefixed()).manifest
    assert result["metadata"]["namespace"] == "x-shop"
    assert '"namespace":"shop"' in result["metadata"]["annotations"]["syncline.io/source"]


@given(st.text())
def test_unmap_undoes_map(namespace: str) -> None:
    mapping = Same()
    assert mapping.unmap(mapping.map(namespace)) == namespace


def test_references_to_namespaces_inside_objects_stay() -> None:
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "b", "namespace": "shop"},
        "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "ops"}],
    }
    result = render(
        binding,
        kind=GroupKind("rbac.authorization.k8s.io", "RoleBinding"),
        has_status_subresource=False,
        pipeline=compiled(),
        target=WEST,
        source=SOURCE,
        deletion_policy="Orphan",
        mapping=Same(),
    )
    assert result.manifest["subjects"] == binding["subjects"]


def test_a_namespace_takes_along_pod_security_and_chosen_labels_only() -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "team.example/a": "1", "cost": "2", "other": "3"}
    upstream = {
        "metadata": {"name": "shop", "labels": labels, "annotations": {"a": "b"}, "finalizers": ["x"]},
        "spec": {"finalizers": ["kubernetes"]},
    }
    source = SourceRef("hub-1", "root", "v1", "Namespace", "", "shop", "ns-uid", 0)
    result = render_namespace(
        upstream, name="shop", label_globs=["team.example/*", "cost"], source=source, deletion_policy="Delete"
    )
    metadata = result.manifest["metadata"]
    assert metadata["labels"] == {
        "pod-security.kubernetes.io/enforce": "restricted",
        "team.example/a": "1",
        "cost": "2",
        "syncline.io/managed-by": "hub-1",
    }
    assert metadata["annotations"].keys() == {"syncline.io/source", "syncline.io/deletion", "syncline.io/applied"}
    assert result.manifest.keys() == {"apiVersion", "kind", "metadata"}
