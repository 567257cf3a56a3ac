"""Every rule of applying, on a real API server: existing objects, conflicts, drift modes, immutable fields, schemas."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.local.fleet import Fleet
from tests.support.engine import Running, config_map, deployment, placement, quiet, running_engine

CONFIG_MAPS = [{"apiVersion": "v1", "kind": "ConfigMap", "names": ["*"]}]
DEPLOYMENTS = [{"apiVersion": "apps/v1", "kind": "Deployment", "names": ["*"]}]
BOTH = CONFIG_MAPS + DEPLOYMENTS


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Running]:
    async with running_engine(fleet, ("east",), resources={"preset": "All"}) as run:
        yield run


def place(engine: Running, namespace: str, resources: list[dict[str, Any]] = BOTH, **spec: Any) -> dict[str, Any]:
    return placement("all", namespace, engine.targets.values(), resources, **spec)


async def error(engine: Running, namespace: str, reason: str) -> dict[str, Any]:
    """The placement's first error with this reason."""

    def errors(item: Any) -> list[dict[str, Any]]:
        return [e for t in item["status"]["selectedTargets"] for e in t["errors"] if e["reason"] == reason]

    found = await engine.until("upstream", "placement", "all", namespace, errors, f"reporting {reason}")
    return errors(found)[0]


@pytest.mark.parametrize(("existing", "taken"), [("Abort", False), ("Adopt", True), ("Overwrite", True)])
async def test_an_object_that_was_there_before(engine: Running, namespace: str, existing: str, taken: bool) -> None:
    """F64, P4: a plain server-side apply would merge into it and make it look ours."""
    await engine.kubectl("east", "create", "namespace", namespace)
    await engine.apply(config_map("a", namespace, theirs="1", shared="theirs"), cluster="east")
    await engine.apply(
        place(engine, namespace, conflict={"existing": existing}), config_map("a", namespace, shared="ours")
    )
    if taken:
        item = await engine.until("east", "configmap", "a", namespace, lambda o: o["data"]["shared"] == "ours", "taken")
        assert item["data"]["theirs"] == "1"
        return
    problem = await error(engine, namespace, "AlreadyExists")
    assert problem["object"] == f"v1/ConfigMap/{namespace}/a"
    item = await engine.get("east", "configmap", "a", namespace)
    assert item is not None
    assert item["data"] == {"theirs": "1", "shared": "theirs"}
    assert "annotations" not in item["metadata"] or "syncline.io/source" not in item["metadata"]["annotations"]


async def test_an_ignored_field_keeps_its_live_value_through_later_changes(engine: Running, namespace: str) -> None:
    """Omitting a field that we alone own would reset it to its default: it is ceded first."""
    drift = {"paths": [{"path": "/spec/replicas", "mode": "Ignore"}]}
    await engine.apply(place(engine, namespace, drift=drift), deployment("web", namespace, 3))
    await engine.until("east", "deployment", "web", namespace, lambda o: o["spec"]["replicas"] == 3, "created")
    await engine.apply(deployment("web", namespace, 3, image="nginx:1.28"))
    item = await engine.until("east", "deployment", "web", namespace, lambda o: image(o) == "nginx:1.28", "updated")
    assert item["spec"]["replicas"] == 3
    await engine.kubectl("east", "scale", "deploy/web", "--replicas=5", "-n", namespace)
    await engine.apply(deployment("web", namespace, 3, image="nginx:1.29"))
    item = await engine.until("east", "deployment", "web", namespace, lambda o: image(o) == "nginx:1.29", "updated")
    assert item["spec"]["replicas"] == 5


def image(item: Any) -> Any:
    return item["spec"]["template"]["spec"]["containers"][0]["image"]


async def test_replicas_belong_to_an_autoscaler_that_is_placed_too(engine: Running, namespace: str) -> None:
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 9},
    }
    kinds = [*DEPLOYMENTS, {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "names": ["*"]}]
    await engine.apply(scaler)
    await engine.apply(place(engine, namespace, kinds), deployment("web", namespace, 2))
    await engine.until("east", "hpa", "web", namespace, lambda o: o, "created")
    await engine.until("east", "deployment", "web", namespace, lambda o: o, "created")
    await quiet(engine)
    await engine.kubectl("east", "scale", "deploy/web", "--replicas=4", "-n", namespace)
    await engine.apply(deployment("web", namespace, 2, image="nginx:1.28"))
    item = await engine.until("east", "deployment", "web", namespace, lambda o: image(o) == "nginx:1.28", "updated")
    assert item["spec"]["replicas"] == 4


async def test_downstream_wins_where_the_placement_says_so(engine: Running, namespace: str) -> None:
    await engine.apply(place(engine, namespace, conflict={"fields": "DownstreamWins"}), deployment("web", namespace, 2))
    await engine.until("east", "deployment", "web", namespace, lambda o: o, "created")
    await engine.kubectl("east", "scale", "deploy/web", "--replicas=4", "-n", namespace)
    await engine.apply(deployment("web", namespace, 3, image="nginx:1.28"))
    item = await engine.until("east", "deployment", "web", namespace, lambda o: image(o) == "nginx:1.28", "updated")
    assert item["spec"]["replicas"] == 4
    problem = await error(engine, namespace, "FieldConflict")
    assert "/spec/replicas" in problem["message"]


@pytest.mark.parametrize("mode", ["Warn", "Ignore", "CreateOnly", "Pause"])
async def test_drift_is_left_alone_in_other_modes(engine: Running, namespace: str, mode: str) -> None:
    await engine.apply(place(engine, namespace, drift={"mode": mode}), config_map("a", namespace, k="1"))
    await engine.until("east", "configmap", "a", namespace, lambda o: o, "created")
    await engine.kubectl("east", "patch", "cm", "a", "-n", namespace, "--type=merge", "-p", '{"data":{"k":"x"}}')
    if mode == "Warn":
        assert "/data/k" in (await error(engine, namespace, "DriftDetected"))["message"]
    await quiet(engine)
    assert (await engine.get("east", "configmap", "a", namespace) or {})["data"] == {"k": "x"}
    await engine.apply(config_map("a", namespace, k="2"))
    if mode in ("Warn", "Ignore"):
        await engine.until("east", "configmap", "a", namespace, lambda o: o["data"] == {"k": "2"}, "followed")
        return
    await quiet(engine)
    assert (await engine.get("east", "configmap", "a", namespace) or {})["data"] == {"k": "x"}


@pytest.mark.parametrize("policy", ["Fail", "Recreate"])
async def test_an_immutable_field(engine: Running, namespace: str, policy: str) -> None:
    """B15."""
    await engine.apply(place(engine, namespace, conflict={"onImmutable": policy}), deployment("web", namespace, 1))
    before = await engine.until("east", "deployment", "web", namespace, lambda o: o, "created")
    patch = [
        {"op": "add", "path": "/spec/selector/matchLabels/tier", "value": "front"},
        {"op": "add", "path": "/spec/template/metadata/labels/tier", "value": "front"},
    ]
    await engine.apply(
        place(
            engine,
            namespace,
            conflict={"onImmutable": policy},
            transforms=[{"kinds": ["Deployment"], "jsonPatch": patch}],
        )
    )
    if policy == "Recreate":
        await engine.until(
            "east",
            "deployment",
            "web",
            namespace,
            lambda o: o["metadata"]["uid"] != before["metadata"]["uid"],
            "recreated",
        )
        return
    problem = (await error(engine, namespace, "ImmutableField"))["message"]
    assert "spec.selector" in problem


def crd(plural: str, **fields: str) -> dict[str, Any]:
    properties = {name: {"type": kind} for name, kind in fields.items()}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.test.example"},
        "spec": {
            "group": "test.example",
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": plural[:-1], "kind": plural[:-1].capitalize()},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


@pytest.fixture
def plural(namespace: str) -> str:
    return "gadget" + namespace.rpartition("-")[2].translate(str.maketrans("0123456789", "ghijklmnop")) + "s"


async def test_a_kind_that_is_installed_later_and_a_field_that_the_target_does_not_know(
    engine: Running, namespace: str, plural: str
) -> None:
    """B24, B25: APIMissing until the CRD is there, then FieldPruned with its path; other objects go on."""
    kind = plural[:-1].capitalize()
    resources = [*CONFIG_MAPS, {"apiVersion": "test.example/v1", "kind": kind, "names": ["*"]}]
    await engine.apply(place(engine, namespace, resources), config_map("a", namespace, k="1"))
    await engine.until(
        "upstream", "placement", "all", namespace, lambda o: o["status"]["reason"] == "APIMissing", "told"
    )
    await engine.apply(crd(plural, size="integer", color="string"))
    await engine.kubectl("upstream", "wait", "--for=condition=Established", f"crd/{plural}.test.example")
    thing = {"apiVersion": "test.example/v1", "kind": kind, "metadata": {"name": "x", "namespace": namespace}}
    await engine.apply({**thing, "spec": {"size": 3, "color": "red"}})
    try:
        await error(engine, namespace, "APIMissing")
        await engine.until("east", "configmap", "a", namespace, lambda o: o, "created")
        await engine.apply(crd(plural, size="integer"), cluster="east")
        item = await engine.until("east", f"{plural}.test.example", "x", namespace, lambda o: o, "created", seconds=60)
        assert item["spec"] == {"size": 3}
        assert "/spec/color" in (await error(engine, namespace, "FieldPruned"))["message"]
    finally:
        for cluster in ("upstream", "east"):
            await engine.kubectl(cluster, "delete", "crd", f"{plural}.test.example", "--wait=false", check=False)


async def test_a_kind_that_was_just_installed_is_not_called_missing(
    engine: Running, namespace: str, plural: str
) -> None:
    """B24: what a target serves is asked anew before anybody is told that it lacks a kind."""
    kind = plural[:-1].capitalize()
    thing = {"apiVersion": "test.example/v1", "kind": kind, "metadata": {"name": "x", "namespace": namespace}}
    try:
        for cluster in ("upstream", "east"):
            await engine.apply(crd(plural, size="integer"), cluster=cluster)
            await engine.kubectl(cluster, "wait", "--for=condition=Established", f"crd/{plural}.test.example")
        await engine.apply({**thing, "spec": {"size": 3}})
        await engine.apply(place(engine, namespace, [{"apiVersion": "test.example/v1", "kind": kind, "names": ["*"]}]))
        await engine.until("east", f"{plural}.test.example", "x", namespace, lambda o: o, "created")
        told = await engine.kubectl("upstream", "-n", namespace, "get", "events", "-o", "jsonpath={.items[*].reason}")
        assert "APIMissing" not in told
    finally:
        for cluster in ("upstream", "east"):
            await engine.kubectl(cluster, "delete", "crd", f"{plural}.test.example", "--wait=false", check=False)


async def test_a_variable_that_is_named_twice(engine: Running, namespace: str) -> None:
    """The upstream takes it, a typed apply does not: the last one counts, as in the kubelet."""
    web = deployment("web", namespace, 1)
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "A", "value": "3"}]
    web["spec"]["template"]["spec"]["containers"][0]["env"] = env
    await engine.kubectl("upstream", "create", "-f", "-", stdin=json.dumps(web))
    await engine.apply(place(engine, namespace))
    item = await engine.until("east", "deployment", "web", namespace, lambda o: o, "created")
    found = {e["name"]: e["value"] for e in item["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert found == {"A": "3", "B": "2"}
    await engine.until(
        "upstream", "placement", "all", namespace, lambda o: o["status"]["targetsSummary"] == "1/1", "synced"
    )


async def test_a_workload_is_told_what_it_lacks(engine: Running, namespace: str) -> None:
    web = deployment("web", namespace, 1)
    web["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": "regcred"}]
    await engine.apply(place(engine, namespace), web)
    problem = await error(engine, namespace, "MissingReference")
    assert f"v1/Secret/{namespace}/regcred" in problem["message"]
    events = await engine.kubectl(
        "upstream", "get", "events", "-n", namespace, "-o", "name", "--field-selector", "reason=MissingReference"
    )
    assert events.strip()


async def test_an_object_of_1400_kib_is_synced_and_a_larger_one_is_told(
    engine: Running, namespace: str, plural: str
) -> None:
    """B07: with our marks and field ownership the second one crosses the etcd limit of 1.5 MiB."""
    kind = plural[:-1].capitalize()
    for cluster in ("upstream", "east"):
        await engine.apply(crd(plural, blob="string"), cluster=cluster)
        await engine.kubectl(cluster, "wait", "--for=condition=Established", f"crd/{plural}.test.example")
    resources = [{"apiVersion": "test.example/v1", "kind": kind, "names": ["*"]}]
    await engine.apply(place(engine, namespace, resources))
    thing = {"apiVersion": "test.example/v1", "kind": kind}
    try:
        for name, size in (("big", 1400 * 1024), ("huge", 1535 * 1024)):
            item = {**thing, "metadata": {"name": name, "namespace": namespace}, "spec": {"blob": "x" * size}}
            await engine.kubectl("upstream", "create", "-f", "-", stdin=json.dumps(item))
        await engine.until(
            "east",
            f"{plural}.test.example",
            "big",
            namespace,
            lambda o: len(o["spec"]["blob"]) == 1400 * 1024,
            "synced",
            30,
        )
        assert (await error(engine, namespace, "ObjectTooLarge"))["object"].endswith("/huge")
    finally:
        for cluster in ("upstream", "east"):
            await engine.kubectl(cluster, "delete", "crd", f"{plural}.test.example", "--wait=false", check=False)


async def test_the_namespace_carries_pod_security_and_chosen_labels(engine: Running, namespace: str) -> None:
    labels = ["pod-security.kubernetes.io/enforce=baseline", "team=shop", "secret=no"]
    await engine.kubectl("upstream", "label", "namespace", namespace, *labels)
    await engine.apply(place(engine, namespace, namespaceLabels=["team"]), config_map("a", namespace, k="1"))
    item = await engine.until("east", "namespace", namespace, "", lambda o: o, "created")
    found = copy.deepcopy(item["metadata"]["labels"])
    assert found["pod-security.kubernetes.io/enforce"] == "baseline"
    assert found["team"] == "shop"
    assert "secret" not in found
    await engine.kubectl("upstream", "label", "namespace", namespace, "--overwrite", "team=market")
    await engine.until(
        "east", "namespace", namespace, "", lambda o: o["metadata"]["labels"]["team"] == "market", "followed"
    )
