"""Objects that placements hold themselves, on real API servers: placed, kept, changed, taken over and taken away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.local.fleet import Fleet
from tests.support.engine import Running, config_map, deployment, placement, quiet, running_engine, writes

CONFIG_MAPS = [{"apiVersion": "v1", "kind": "ConfigMap", "names": ["*"]}]


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Running]:
    async with running_engine(fleet) as run:
        yield run


def holding(
    engine: Running, namespace: str, *manifests: dict[str, Any], name: str = "held", **spec: Any
) -> dict[str, Any]:
    """A Placement of nothing but what it holds, on all targets of the test."""
    made = placement(name, namespace, spec.pop("targets", engine.targets.values()), **spec)
    made["spec"]["manifests"] = list(manifests)
    del made["spec"]["resources"]
    return made


async def k_is(engine: Running, cluster: str, namespace: str, value: str | None, name: str = "a") -> Any:
    """Wait for the ConfigMap's value; None: for it to be gone."""
    holds = (lambda o: o is None) if value is None else (lambda o: o["data"]["k"] == value)
    return await engine.until(cluster, "configmap", name, namespace, holds, f"{value}")


async def in_sync(engine: Running, namespace: str, name: str = "held") -> Any:
    def holds(item: Any) -> bool:
        conditions = {c["type"]: c for c in item["status"]["conditions"]}
        good = all(conditions[kind]["status"] == "True" for kind in ("Scheduled", "Synced", "Ready"))
        return good and item["status"]["observedGeneration"] == item["metadata"]["generation"]

    return await engine.until("upstream", "placement", name, namespace, holds, "in sync and ready", seconds=30)


async def test_held_objects_run_on_the_targets_and_not_upstream(engine: Running, namespace: str) -> None:
    """Counts, health and errors of each target are in the placement's status; drift is repaired as for any object."""
    web = deployment("web", namespace, 2)
    del web["metadata"]["namespace"]
    await engine.apply(holding(engine, namespace, web, config_map("a", namespace, k="1")))
    for cluster in engine.targets:
        await k_is(engine, cluster, namespace, "1")
    status = (await in_sync(engine, namespace))["status"]
    assert status["objects"] == 2
    assert [(t["objects"], t["synced"], t["ready"], t["failed"]) for t in status["selectedTargets"]] == [
        (2, 2, 2, 0)
    ] * 2
    assert await engine.get("upstream", "deployment", "web", namespace) is None
    assert await engine.get("upstream", "configmap", "a", namespace) is None
    await engine.kubectl("east", "patch", "configmap", "a", "-n", namespace, "--type=merge", "-p", '{"data":{"k":"x"}}')
    await k_is(engine, "east", namespace, "1")
    await engine.kubectl("west", "delete", "configmap", "a", "-n", namespace)
    await k_is(engine, "west", namespace, "1")


async def test_a_workload_that_does_not_run_is_told_of(engine: Running, namespace: str) -> None:
    web = deployment("web", namespace, 1)
    web["spec"]["template"]["spec"]["nodeSelector"] = {"no": "such-node"}
    await engine.apply(holding(engine, namespace, web))

    def holds(item: Any) -> bool:
        ready = next(c for c in item["status"]["conditions"] if c["type"] == "Ready")
        counts = [(t["synced"], t["ready"]) for t in item["status"]["selectedTargets"]]
        return ready["status"] == "False" and counts == [(1, 0), (1, 0)]

    await engine.until("upstream", "placement", "held", namespace, holds, "applied and not ready")


async def test_entries_change_come_and_go(engine: Running, namespace: str) -> None:
    a, b = config_map("a", namespace, k="1"), config_map("b", namespace, k="1")
    await engine.apply(holding(engine, namespace, a, b))
    first = {cluster: await k_is(engine, cluster, namespace, "1") for cluster in engine.targets}
    await k_is(engine, "east", namespace, "1", "b")
    await engine.apply(holding(engine, namespace, config_map("a", namespace, k="2"), b))
    for cluster in engine.targets:
        changed = await k_is(engine, cluster, namespace, "2")
        assert changed["metadata"]["uid"] == first[cluster]["metadata"]["uid"]
    await engine.apply(holding(engine, namespace, b, config_map("c", namespace, k="1")))
    for cluster in engine.targets:
        await k_is(engine, cluster, namespace, None)
        await k_is(engine, cluster, namespace, "1", "c")
    await quiet(engine)
    assert writes(engine, "downstream", "delete") == 2
    assert (await in_sync(engine, namespace))["status"]["objects"] == 2


async def test_a_restart_finds_the_copies_again(engine: Running, namespace: str) -> None:
    """Nothing is written; what was removed while nobody looked goes, after a live check; the rest stays."""
    a, b = config_map("a", namespace, k="1"), config_map("b", namespace, k="1")
    web = deployment("web", namespace, 1)
    await engine.apply(holding(engine, namespace, a, b, web))
    await in_sync(engine, namespace)
    uid = (await engine.get("east", "configmap", "a", namespace) or {})["metadata"]["uid"]
    await engine.stop()
    before = writes(engine, "downstream")
    await engine.start()
    await quiet(engine, 1.0)
    assert writes(engine, "downstream") == before
    await engine.stop()
    await engine.apply(holding(engine, namespace, a, web))
    await engine.start()
    for cluster in engine.targets:
        await k_is(engine, cluster, namespace, None, "b")
    await quiet(engine)
    found = await engine.get("east", "configmap", "a", namespace)
    assert found is not None
    assert found["metadata"]["uid"] == uid
    assert (await in_sync(engine, namespace))["status"]["objects"] == 2


async def test_a_deleted_placement_takes_its_objects_along(engine: Running, namespace: str) -> None:
    await engine.apply(
        holding(engine, namespace, config_map("a", namespace, k="1")),
        holding(
            engine,
            namespace,
            config_map("kept", namespace, k="1"),
            name="orphaning",
            deletion={"policy": "Orphan"},
        ),
    )
    for cluster in engine.targets:
        await k_is(engine, cluster, namespace, "1")
        await k_is(engine, cluster, namespace, "1", "kept")
    await engine.kubectl("upstream", "delete", "placement", "held", "orphaning", "-n", namespace)
    for cluster in engine.targets:
        await k_is(engine, cluster, namespace, None)
    await quiet(engine)
    for cluster in engine.targets:
        await k_is(engine, cluster, namespace, "1", "kept")


async def test_a_placement_that_went_while_nobody_looked_takes_its_objects_along(
    engine: Running, namespace: str
) -> None:
    await engine.apply(holding(engine, namespace, config_map("a", namespace, k="1")))
    await k_is(engine, "east", namespace, "1")
    await engine.stop()
    await engine.kubectl("upstream", "delete", "placement", "held", "-n", namespace)
    await engine.start()
    for cluster in engine.targets:
        await k_is(engine, cluster, namespace, None)


async def test_a_placement_that_is_made_anew_keeps_its_copies(engine: Running, namespace: str) -> None:
    """Another uid is another owner of the same place: applied over, not deleted."""
    held = holding(engine, namespace, config_map("a", namespace, k="1"))
    await engine.apply(held)
    first = await k_is(engine, "east", namespace, "1")
    await engine.stop()
    await engine.kubectl("upstream", "delete", "placement", "held", "-n", namespace)
    await engine.apply(held)
    await engine.start()
    await in_sync(engine, namespace)
    await quiet(engine)
    found = await k_is(engine, "east", namespace, "1")
    assert found["metadata"]["uid"] == first["metadata"]["uid"]
    source = json.loads(found["metadata"]["annotations"]["syncline.io/source"])
    assert source["uid"] != json.loads(first["metadata"]["annotations"]["syncline.io/source"])["uid"]
    assert source["placement"] == f"Placement/{namespace}/held"
    assert writes(engine, "downstream", "delete") == 0


async def test_an_immutable_field_is_told_or_the_object_made_anew(engine: Running, namespace: str) -> None:
    def job(image: str) -> dict[str, Any]:
        template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": {"template": template}}

    east = [engine.targets["east"]]
    await engine.apply(holding(engine, namespace, job("busybox:1"), targets=east))
    first = await engine.until("east", "job", "once", namespace, lambda o: o["status"]["succeeded"] == 1, "done")
    await engine.apply(holding(engine, namespace, job("busybox:2"), targets=east))
    status = await engine.until(
        "upstream", "placement", "held", namespace, lambda o: o["status"]["reason"] == "ImmutableField", "refused"
    )
    (error,) = status["status"]["selectedTargets"][0]["errors"]
    assert error["object"] == f"batch/v1/Job/{namespace}/once"
    assert "spec.template" in error["message"]
    await quiet(engine)
    assert (await engine.get("east", "job", "once", namespace) or {})["metadata"]["uid"] == first["metadata"]["uid"]


async def test_a_held_job_runs_once(engine: Running, namespace: str) -> None:
    """Deleted on the target after its end, and over a restart: it is not run again; two Jobs of a placement are two."""
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox:1"}]}}
    jobs = [
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template}}
        for name in ("one", "two")
    ]
    await engine.apply(holding(engine, namespace, *jobs, targets=[engine.targets["east"]]))
    for name in ("one", "two"):
        await engine.until("east", "job", name, namespace, lambda o: o["status"]["succeeded"] == 1, "done")
    await engine.until(
        "upstream", "placement", "held", namespace, lambda o: len(o["status"]["completedRuns"]) == 2, "remembered"
    )
    await engine.kubectl("east", "delete", "job", "one", "-n", namespace)
    await engine.stop()
    await engine.start()
    await quiet(engine, 1.0)
    assert await engine.get("east", "job", "one", namespace) is None
    assert await engine.get("east", "job", "two", namespace) is not None


async def test_an_upstream_object_of_the_same_name_is_settled_by_priority_and_age(
    engine: Running, namespace: str
) -> None:
    """The place changes hands without a delete, both ways, and both placements say so."""
    await engine.apply(config_map("a", namespace, k="upstream"))
    await engine.apply(placement("all", namespace, engine.targets.values(), CONFIG_MAPS))
    first = await k_is(engine, "east", namespace, "upstream")
    await asyncio.sleep(1.1)  # an API server writes down ages in whole seconds, and the older one is to win
    east = [engine.targets["east"]]
    held = holding(engine, namespace, config_map("a", namespace, k="held"), targets=east)
    await engine.apply(held)

    def claimed(item: Any) -> bool:
        return any(
            c["type"] == "Conflict" and c["reason"] == "ClaimedByPlacement" for c in item["status"]["conditions"]
        )

    for name in ("held", "all"):
        await engine.until("upstream", "placement", name, namespace, claimed, "both say so")
    await k_is(engine, "east", namespace, "upstream")
    held["spec"]["conflict"] = {"priority": 5}
    await engine.apply(held)
    taken = await k_is(engine, "east", namespace, "held")
    assert taken["metadata"]["uid"] == first["metadata"]["uid"]
    await quiet(engine)
    await k_is(engine, "west", namespace, "upstream")
    await engine.kubectl("upstream", "delete", "placement", "held", "-n", namespace)
    back = await k_is(engine, "east", namespace, "upstream")
    assert back["metadata"]["uid"] == first["metadata"]["uid"]
    await quiet(engine)
    assert writes(engine, "downstream", "delete") == 0
    await engine.kubectl("upstream", "delete", "configmap", "a", "-n", namespace)
    for cluster in engine.targets:
        await k_is(engine, cluster, namespace, None)


async def test_somebody_elses_object_is_not_taken(engine: Running, namespace: str) -> None:
    await engine.kubectl("east", "create", "namespace", namespace)
    await engine.apply(config_map("a", namespace, k="theirs"), cluster="east")
    await engine.apply(holding(engine, namespace, config_map("a", namespace, k="ours")))
    await k_is(engine, "west", namespace, "ours")
    await engine.until(
        "upstream", "placement", "held", namespace, lambda o: o["status"]["reason"] == "AlreadyExists", "told"
    )
    await k_is(engine, "east", namespace, "theirs")


async def test_a_kind_that_only_targets_serve_can_be_held(engine: Running, namespace: str) -> None:
    """The upstream need not know the kind; until a target does, the placement says so."""
    plural = f"w{namespace.replace('-', '')}"
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"kind": plural.capitalize(), "plural": plural, "singular": plural[:-1] + "x"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }
    east = engine.targets["east"]
    allow = json.dumps({"spec": {"resources": {"allow": [f"{plural}.example.com"]}}})
    await engine.kubectl("upstream", "patch", "synctarget", east, "--type=merge", "-p", allow)
    widget = {"apiVersion": "example.com/v1", "kind": plural.capitalize(), "metadata": {"name": "a"}, "spec": {"k": 1}}
    await engine.apply(holding(engine, namespace, widget, targets=[east]))
    await engine.until(
        "upstream", "placement", "held", namespace, lambda o: o["status"]["reason"] == "APIMissing", "told"
    )
    await engine.apply(crd, cluster="east")
    try:
        await engine.until("east", f"{plural}.example.com", "a", namespace, lambda o: o["spec"]["k"] == 1, "placed", 30)
        await in_sync(engine, namespace)
        await engine.kubectl("upstream", "delete", "placement", "held", "-n", namespace)
        await engine.until("east", f"{plural}.example.com", "a", namespace, lambda o: o is None, "gone", 30)
    finally:
        await asyncio.shield(engine.kubectl("east", "delete", "crd", f"{plural}.example.com", "--wait=false"))
