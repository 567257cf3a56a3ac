"""`syncer.transform.operations`: what each operation does to the kinds it is for; patches and cel have own files."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.api.keys import GroupKind
from syncer.transform import TransformFailed
from tests.syncer.transform.builders import (
    CONFIG_MAP,
    CRON_JOB,
    DEPLOYMENT,
    EAST,
    JOB,
    POD,
    first_container,
    transformed,
    workload,
)

INGRESS = GroupKind("networking.k8s.io", "Ingress")
STATEFUL_SET = GroupKind("apps", "StatefulSet")
CLAIM = GroupKind("", "PersistentVolumeClaim")


def image(text: str, **wish: Any) -> str:
    """The image after an image transform."""
    after = transformed(workload(containers=[{"name": "app", "image": text}]), {"image": wish})
    return str(first_container(after)["image"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("nginx", "mirror.example/library/nginx"),
        ("nginx:1.27", "mirror.example/library/nginx:1.27"),
        ("team/web:1", "mirror.example/team/web:1"),
        ("docker.io/nginx:1", "mirror.example/library/nginx:1"),
        ("index.docker.io/nginx", "mirror.example/library/nginx"),
        ("docker.io/library/nginx:1", "mirror.example/library/nginx:1"),
        ("quay.example/team/web:1", "mirror.example/team/web:1"),
        ("quay.example/web", "mirror.example/web"),
        ("localhost/web", "mirror.example/web"),
        ("localhost:5000/web:1", "mirror.example/web:1"),
        ("reg:5000/a/b/c:1@sha256:" + "0" * 64, "mirror.example/a/b/c:1@sha256:" + "0" * 64),
        ("REG/web", "mirror.example/web"),
    ],
)
def test_the_registry_host_is_replaced_and_short_names_are_expanded_first(before: str, after: str) -> None:
    assert image(before, registry="mirror.example") == after


@pytest.mark.parametrize(
    ("before", "wish", "after"),
    [
        ("nginx:1", {"tag": "2"}, "nginx:2"),
        ("nginx", {"tag": "2"}, "nginx:2"),
        ("nginx:1@sha256:" + "0" * 64, {"tag": "2"}, "nginx:2"),
        ("nginx:1", {"digest": "sha256:" + "1" * 64}, "nginx@sha256:" + "1" * 64),
        ("nginx", {"tag": "2", "digest": "sha256:" + "1" * 64}, "nginx:2@sha256:" + "1" * 64),
        ("reg:5000/web", {"tag": "2"}, "reg:5000/web:2"),
        ("nginx:1", {"repository": "team/web"}, "team/web:1"),
        ("q.example/a/b:1", {"repository": "c"}, "q.example/c:1"),
        ("nginx:1", {"repository": "a.b/c"}, "docker.io/a.b/c:1"),
        ("nginx:1", {"registry": "m.example:5000", "repository": "x/y", "tag": "3"}, "m.example:5000/x/y:3"),
        ("nginx:1", {"registry": "${target.name}.example"}, "west.example/library/nginx:1"),
    ],
)
def test_parts_of_an_image_are_replaced_one_by_one(before: str, wish: dict[str, Any], after: str) -> None:
    assert image(before, **wish) == after


@pytest.mark.parametrize("registry", ["https://mirror.example", "/mirror", "mirror/", "a@b"])
def test_a_registry_that_is_none_is_refused_with_its_path(registry: str) -> None:
    """B11: an invalid override is rejected with its path."""
    with pytest.raises(TransformFailed) as caught:
        image("nginx", registry=registry)
    assert (caught.value.index, caught.value.pointer) == (0, "/spec/transforms/0/image/registry")


def test_containers_of_every_list_are_meant_and_globs_pick_among_them() -> None:
    pod = {"containers": [{"name": "app-1", "image": "a"}, {"name": "log", "image": "a"}, {"name": "noimage"}]}
    more = {
        "initContainers": [{"name": "app-i", "image": "a"}],
        "ephemeralContainers": [{"name": "app-e", "image": "a"}],
    }
    manifest = workload(containers=pod["containers"])
    manifest["spec"]["template"]["spec"] |= more
    spec = transformed(manifest, {"image": {"tag": "2", "containers": ["app-*"]}})["spec"]["template"]["spec"]
    assert spec["containers"] == [{"name": "app-1", "image": "a:2"}, {"name": "log", "image": "a"}, {"name": "noimage"}]
    assert spec["initContainers"][0]["image"] == spec["ephemeralContainers"][0]["image"] == "a:2"


@pytest.mark.parametrize(
    ("kind", "manifest", "path"),
    [
        (CRON_JOB, workload("CronJob", "batch/v1"), ["spec", "jobTemplate", "spec", "template", "spec"]),
        (POD, workload("Pod", "v1"), ["spec"]),
        (JOB, workload("Job", "batch/v1"), ["spec", "template", "spec"]),
        (STATEFUL_SET, workload("StatefulSet"), ["spec", "template", "spec"]),
        (GroupKind("argoproj.io", "Rollout"), workload("Rollout", "argoproj.io/v1"), ["spec", "template", "spec"]),
        (
            GroupKind("", "PodTemplate"),
            {"metadata": {"name": "t"}, "template": workload()["spec"]["template"]},
            ["template", "spec"],
        ),
    ],
)
def test_every_kind_with_a_pod_template_is_reached(kind: GroupKind, manifest: dict[str, Any], path: list[str]) -> None:
    after: Any = transformed(
        manifest,
        {"image": {"tag": "9"}},
        {"nodeSelector": {"set": {"disk": "ssd"}}},
        {"imagePullSecrets": {"set": ["regcred"]}},
        kind=kind,
    )
    for key in path:
        after = after[key]
    assert after["containers"][0]["image"] == "nginx:9"
    assert (after["nodeSelector"], after["imagePullSecrets"]) == ({"disk": "ssd"}, [{"name": "regcred"}])


POD_OPERATIONS: list[dict[str, Any]] = [
    {"image": {"tag": "2"}},
    {"env": {"set": {"A": "1"}}},
    {"resources": {"scale": "2"}},
    {"nodeSelector": {"set": {"a": "b"}}},
    {"tolerations": {"add": [{"key": "gpu", "operator": "Exists"}]}},
    {"imagePullSecrets": {"set": ["x"]}},
    {"args": {"append": ["-v"]}},
    {"command": {"set": ["run"]}},
    {"storageClass": {"map": {"fast": "gp3"}}},
    {"ingressHost": {"map": {"a": "b"}}},
    {"replicas": 3},
]


@pytest.mark.parametrize("operation", POD_OPERATIONS)
def test_an_object_that_an_operation_is_not_for_stays_as_it_is(operation: dict[str, Any]) -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}
    assert transformed(manifest, operation, kind=CONFIG_MAP) == manifest


@pytest.mark.parametrize("operation", [o for o in POD_OPERATIONS if "args" not in o and "resources" not in o])
def test_an_operation_that_ran_twice_did_what_it_did_once(operation: dict[str, Any]) -> None:
    once = transformed(workload(), operation)
    assert transformed(once, operation) == once


def env(entries: list[dict[str, Any]] | None, **wish: Any) -> Any:
    """The env of the container after an env transform."""
    container: dict[str, Any] = {"name": "app", "image": "a"}
    if entries is not None:
        container["env"] = entries
    return first_container(transformed(workload(containers=[container]), {"env": wish})).get("env")


def test_setting_a_variable_replaces_the_whole_entry_in_its_place() -> None:
    """`valueFrom` goes too; a second entry of the name, which a server refuses, goes as well."""
    before: list[dict[str, Any]] = [
        {"name": "REGION", "valueFrom": {"fieldRef": {"fieldPath": "x"}}},
        {"name": "URL", "value": "$(REGION)"},
        {"name": "REGION", "value": "y"},
    ]
    assert env(before, set={"REGION": '${target.labels["region"]}', "CLUSTER": "${target.name}"}) == [
        {"name": "REGION", "value": "us"},
        {"name": "URL", "value": "$(REGION)"},
        {"name": "CLUSTER", "value": "west"},
    ]


def test_removing_the_last_variable_removes_the_list() -> None:
    assert env([{"name": "DEBUG", "value": "1"}], remove=["DEBUG"]) is None
    assert env(None, remove=["DEBUG"]) is None
    assert env([{"name": "DEBUG", "value": "1"}, {"name": "A", "value": "2"}], remove=["DEBUG"]) == [
        {"name": "A", "value": "2"}
    ]


@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_labels_and_annotations_change_the_object_and_never_the_pod_template(field: str) -> None:
    manifest = workload()
    manifest["metadata"][field] = {"old": "1", "kept": "2"}
    after = transformed(manifest, {field: {"set": {"tier": "${target.name}"}, "remove": ["old", "absent"]}})
    assert after["metadata"][field] == {"kept": "2", "tier": "west"}
    assert after["spec"] == manifest["spec"]


def test_removing_the_last_label_removes_the_map() -> None:
    manifest = workload()
    manifest["metadata"]["labels"] = {"old": "1"}
    assert "labels" not in transformed(manifest, {"labels": {"remove": ["old"]}})["metadata"]


@pytest.mark.parametrize("operation", ["labels", "nodeSelector"])
def test_a_label_value_is_checked_after_expansion(operation: str) -> None:
    with pytest.raises(TransformFailed, match="is not a label value") as caught:
        transformed(workload(), {operation: {"set": {"a/b": '${target.labels["bad"]}'}}})
    assert caught.value.pointer == f"/spec/transforms/0/{operation}/set/a~1b"


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "ReplicaSet"])
def test_replicas_are_set_on_kinds_that_scale(kind: str) -> None:
    assert transformed(workload(kind), {"replicas": 0}, kind=GroupKind("apps", kind))["spec"]["replicas"] == 0


def test_replicas_are_set_on_custom_kinds_that_have_them() -> None:
    kind = GroupKind("e.com", "Farm")
    assert transformed({"metadata": {}, "spec": {"replicas": 1}}, {"replicas": 4}, kind=kind)["spec"] == {"replicas": 4}
    assert transformed({"metadata": {}, "spec": {}}, {"replicas": 4}, kind=kind)["spec"] == {}


def resources(before: dict[str, Any] | None, wish: dict[str, Any]) -> Any:
    """The container's resources after a resources transform."""
    container: dict[str, Any] = {"name": "app"}
    if before is not None:
        container["resources"] = before
    return first_container(transformed(workload(containers=[container]), {"resources": wish})).get("resources")


def test_resources_are_scaled_first_and_then_set() -> None:
    before = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}, "claims": [{"name": "gpu"}]}
    assert resources(before, {"scale": "0.5", "set": {"requests": {"cpu": "100m"}, "limits": {"cpu": 1}}}) == {
        "requests": {"cpu": "100m", "memory": "512Mi"},
        "limits": {"memory": "1Gi", "cpu": 1},
        "claims": [{"name": "gpu"}],
    }
    assert resources(None, {"scale": "0.5"}) is None
    assert resources(None, {"set": {"requests": {"cpu": "1"}}}) == {"requests": {"cpu": "1"}}


def test_a_quantity_that_is_none_is_refused_with_its_path() -> None:
    """B11."""
    with pytest.raises(TransformFailed, match="is not a quantity") as caught:
        resources({}, {"set": {"limits": {"cpu": "lots"}}})
    assert caught.value.pointer == "/spec/transforms/0/resources/set/limits/cpu"
    with pytest.raises(TransformFailed, match=r"container app, resources\.requests\.cpu"):
        resources({"requests": {"cpu": "lots"}}, {"scale": "2"})


def test_tolerations_are_added_once() -> None:
    manifest = workload()
    manifest["spec"]["template"]["spec"]["tolerations"] = [{"key": "a", "operator": "Exists"}]
    wish = {
        "tolerations": {"add": [{"key": "gpu", "operator": "Equal", "value": "${target.name}", "effect": "NoSchedule"}]}
    }
    once = transformed(manifest, wish)
    added = once["spec"]["template"]["spec"]["tolerations"]
    assert added[0] == {"key": "a", "operator": "Exists"}
    assert added[1]["key"] == "gpu"
    assert added[1]["value"] == "west"
    assert transformed(once, wish) == once


def test_node_selectors_and_pull_secrets_disappear_when_they_are_empty() -> None:
    manifest = workload()
    manifest["spec"]["template"]["spec"] |= {"nodeSelector": {"disk": "hdd"}, "imagePullSecrets": [{"name": "old"}]}
    after = transformed(manifest, {"nodeSelector": {"remove": ["disk"]}}, {"imagePullSecrets": {"set": []}})
    assert after["spec"]["template"]["spec"].keys() == {"containers"}


def test_storage_classes_are_renamed_in_claims_templates_and_ephemeral_volumes() -> None:
    wish = {"storageClass": {"map": {"fast": "gp3-${target.name}"}}}
    claim = {
        "metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "fast"}},
        "spec": {"storageClassName": "fast"},
    }
    after = transformed(claim, wish, kind=CLAIM)
    assert after["spec"]["storageClassName"] == "gp3-west"
    assert after["metadata"]["annotations"] == {"volume.beta.kubernetes.io/storage-class": "gp3-west"}
    templates = [{"spec": {"storageClassName": "fast"}}, {"spec": {"storageClassName": "slow"}}, {"spec": {}}]
    manifest = workload("StatefulSet", volumeClaimTemplates=templates)
    manifest["spec"]["template"]["spec"]["volumes"] = [
        {"name": "x", "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}},
        {"name": "y", "emptyDir": {}},
    ]
    spec = transformed(manifest, wish, kind=STATEFUL_SET)["spec"]
    assert [t["spec"].get("storageClassName") for t in spec["volumeClaimTemplates"]] == ["gp3-west", "slow", None]
    volume = spec["template"]["spec"]["volumes"][0]
    assert volume["ephemeral"]["volumeClaimTemplate"]["spec"]["storageClassName"] == "gp3-west"


def test_hosts_of_an_ingress_are_renamed_in_rules_and_tls() -> None:
    manifest = {
        "metadata": {"name": "i"},
        "spec": {
            "rules": [{"host": "web.example", "http": {}}, {"host": "other.example"}, {"http": {}}],
            "tls": [{"hosts": ["other.example", "web.example"], "secretName": "s"}],
        },
    }
    spec = transformed(manifest, {"ingressHost": {"map": {"web.example": "web.${target.name}.example"}}}, kind=INGRESS)[
        "spec"
    ]
    assert [rule.get("host") for rule in spec["rules"]] == ["web.west.example", "other.example", None]
    assert spec["tls"] == [{"hosts": ["other.example", "web.west.example"], "secretName": "s"}]


@pytest.mark.parametrize("field", ["args", "command"])
@pytest.mark.parametrize(
    ("before", "wish", "after"),
    [
        (["a", "b"], {"remove": ["a"], "append": ["c", "${target.name}"]}, ["b", "c", "west"]),
        (["a"], {"set": ["x", "y"], "remove": ["y"]}, ["x"]),
        (["a"], {"set": []}, ["a"]),
        (["a"], {"remove": ["a"]}, None),
        (None, {"append": ["c"]}, ["c"]),
        (None, {"remove": ["c"]}, None),
    ],
)
def test_words_are_set_then_removed_then_appended(
    field: str, before: list[str] | None, wish: dict[str, Any], after: list[str] | None
) -> None:
    container: dict[str, Any] = {"name": "app"} | ({} if before is None else {field: before})
    assert first_container(transformed(workload(containers=[container]), {field: wish})).get(field) == after


def test_two_targets_get_their_own_values_from_one_pipeline() -> None:
    wish = {"env": {"set": {"REGION": '${target.labels["region"]}'}}}
    values = {first_container(transformed(workload(), wish, target=target))["env"][0]["value"] for target in (EAST,)}
    assert values == {"eu"}
    assert first_container(transformed(workload(), wish, kind=DEPLOYMENT))["env"][0]["value"] == "us"
