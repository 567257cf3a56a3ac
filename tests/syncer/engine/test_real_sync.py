"""The engine on real API servers: apply, follow, repair, remove."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.local.fleet import Fleet
from tests.support.engine import Running, config_map, deployment, placement, quiet, running_engine


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Running]:
    async with running_engine(fleet) as run:
        yield run


KINDS = [
    {"apiVersion": "v1", "kind": "ConfigMap", "names": ["*"]},
    {"apiVersion": "apps/v1", "kind": "Deployment", "names": ["*"]},
]


async def test_an_object_is_applied_on_every_target_and_followed(engine: Running, namespace: str) -> None:
    await engine.apply(placement("all", namespace, engine.targets.values(), KINDS), config_map("a", namespace, k="1"))
    for cluster in engine.targets:
        await engine.until(cluster, "configmap", "a", namespace, lambda o: o["data"] == {"k": "1"}, "created")
    await engine.apply(config_map("a", namespace, k="2"))
    for cluster in engine.targets:
        await engine.until(cluster, "configmap", "a", namespace, lambda o: o["data"] == {"k": "2"}, "followed")
    await engine.kubectl("upstream", "delete", "configmap", "a", "-n", namespace)
    for cluster in engine.targets:
        await engine.until(cluster, "configmap", "a", namespace, lambda o: o is None, "deleted")


async def test_a_deployment_runs_on_both_targets_and_its_status_is_the_sum(engine: Running, namespace: str) -> None:
    await engine.apply(placement("all", namespace, engine.targets.values(), KINDS), deployment("web", namespace, 2))
    await engine.until("upstream", "deployment", "web", namespace, lambda o: o["status"]["readyReplicas"] == 4, "ready")
    await engine.kubectl(
        "upstream", "wait", "--for=condition=Available", "deploy/web", "-n", namespace, "--timeout=10s"
    )
    await engine.kubectl("upstream", "rollout", "status", "deploy/web", "-n", namespace, "--timeout=10s")
    await engine.kubectl("upstream", "scale", "deploy/web", "--replicas=3", "-n", namespace)
    await engine.until(
        "upstream", "deployment", "web", namespace, lambda o: o["status"]["readyReplicas"] == 6, "scaled"
    )
    await engine.kubectl(
        "upstream", "wait", "--for=condition=Synced", "placement/all", "-n", namespace, "--timeout=10s"
    )


async def test_hand_edits_are_repaired_and_foreign_fields_are_kept(engine: Running, namespace: str) -> None:
    """F45."""
    await engine.apply(placement("all", namespace, engine.targets.values(), KINDS), config_map("a", namespace, k="1"))
    await engine.until("east", "configmap", "a", namespace, lambda o: o, "created")
    await engine.kubectl(
        "east", "patch", "configmap", "a", "-n", namespace, "--type=merge", "-p", '{"data":{"k":"x","other":"kept"}}'
    )
    await engine.until(
        "east", "configmap", "a", namespace, lambda o: o["data"] == {"k": "1", "other": "kept"}, "repaired"
    )
    await engine.kubectl("east", "label", "configmap", "a", "-n", namespace, "syncline.io/managed-by-")
    await engine.until(
        "east",
        "configmap",
        "a",
        namespace,
        lambda o: "syncline.io/managed-by" in o["metadata"]["labels"],
        "marked again",
    )
    await engine.kubectl("east", "delete", "configmap", "a", "-n", namespace)
    await engine.until("east", "configmap", "a", namespace, lambda o: o and o["data"] == {"k": "1"}, "created again")


async def test_no_write_follows_once_everything_is_in_place(engine: Running, namespace: str) -> None:
    """P5."""
    await engine.apply(
        placement("all", namespace, engine.targets.values(), KINDS),
        *(config_map(f"c{i}", namespace, k=str(i)) for i in range(20)),
    )
    for cluster in engine.targets:
        await engine.until(cluster, "configmap", "c19", namespace, lambda o: o, "created")
    await engine.kubectl("upstream", "wait", "--for=condition=Ready", "placement/all", "-n", namespace, "--timeout=10s")
    await quiet(engine)
    before, versions = writes(engine), await engine.kubectl("upstream", *VERSIONS, "-n", namespace)
    await asyncio.sleep(2)
    assert writes(engine) == before
    assert await engine.kubectl("upstream", *VERSIONS, "-n", namespace) == versions
    assert before <= 20 * 2 + 2  # the objects, and one namespace on each target


VERSIONS = ("get", "configmap,placement", "-o", "custom-columns=:.metadata.name,:.metadata.resourceVersion")


def writes(engine: Running) -> float:
    """Writes to targets so far. Upstream an engine also serves the placements of other tests."""
    samples = [sample for metric in engine.metrics.api_writes_total.collect() for sample in metric.samples]
    return sum(s.value for s in samples if s.name.endswith("_total") and s.labels["side"] == "downstream")


async def test_labels_decide_at_once_and_both_ways(engine: Running, namespace: str) -> None:
    selector = [{"apiVersion": "v1", "kind": "ConfigMap", "labelSelector": {"matchLabels": {"sync": "yes"}}}]
    await engine.apply(
        placement("some", namespace, engine.targets.values(), selector), config_map("a", namespace, k="1")
    )
    await engine.kubectl("upstream", "label", "configmap", "a", "-n", namespace, "sync=yes")
    await engine.until("west", "configmap", "a", namespace, lambda o: o, "created")
    await engine.kubectl("upstream", "label", "configmap", "a", "-n", namespace, "sync-")
    await engine.until("west", "configmap", "a", namespace, lambda o: o is None, "removed")


async def test_deleting_a_placement_removes_what_it_placed_and_orphan_leaves_it(
    engine: Running, namespace: str
) -> None:
    await engine.apply(
        placement("gone", namespace, engine.targets.values(), [{**KINDS[0], "names": ["a"]}]),
        placement(
            "left", namespace, engine.targets.values(), [{**KINDS[0], "names": ["b"]}], deletion={"policy": "Orphan"}
        ),
        config_map("a", namespace, k="1"),
        config_map("b", namespace, k="1"),
    )
    for name in ("a", "b"):
        await engine.until("east", "configmap", name, namespace, lambda o: o, "created")
    await engine.kubectl("upstream", "delete", "placement", "gone", "left", "-n", namespace)
    await engine.until("east", "configmap", "a", namespace, lambda o: o is None, "removed")
    await quiet(engine)
    assert await engine.get("east", "configmap", "b", namespace) is not None


async def test_a_namespace_that_we_made_goes_with_the_upstream_one(engine: Running, namespace: str) -> None:
    await engine.apply(placement("all", namespace, engine.targets.values(), KINDS), config_map("a", namespace, k="1"))
    await engine.until("east", "configmap", "a", namespace, lambda o: o, "created")
    await engine.kubectl("upstream", "delete", "namespace", namespace)
    await engine.until("east", "namespace", namespace, "", lambda o: o is None, "removed", seconds=30)
