"""Edits of a placement that reach what is already on a target, and shares over a restart. On real API servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from deploy.local.fleet import Fleet
from tests.support.engine import Running, config_map, deployment, placement, quiet, running_engine, writes


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Running]:
    async with running_engine(fleet) as run:
        yield run


async def test_an_edit_of_namespace_labels_reaches_the_namespaces_that_are_there(
    engine: Running, namespace: str
) -> None:
    """The label comes to the namespace on the target when the placement asks for it, and goes when it does not."""
    await engine.kubectl("upstream", "label", "namespace", namespace, "team=shop")
    rules = [{"apiVersion": "v1", "kind": "ConfigMap", "names": ["*"]}]
    place = ("all", namespace, engine.targets.values(), rules)
    await engine.apply(placement(*place), config_map("a", namespace, k="1"))
    await engine.until("east", "configmap", "a", namespace, lambda o: o, "placed")
    there = await engine.get("east", "namespace", namespace)
    assert there is not None
    assert "team" not in there["metadata"]["labels"]
    await engine.apply(placement(*place, namespaceLabels=["team"]))
    for target in ("east", "west"):
        await engine.until(
            target, "namespace", namespace, "", lambda o: o["metadata"]["labels"].get("team") == "shop", "labelled"
        )
    await engine.apply(placement(*place, namespaceLabels=["other"]))
    await engine.until(
        "east", "namespace", namespace, "", lambda o: "team" not in o["metadata"]["labels"], "without the label"
    )


async def test_a_restart_keeps_every_share(engine: Running, namespace: str) -> None:
    """L15: who had been rounded up before stays so, although a fresh division would choose the other one."""
    rules = [{"apiVersion": "apps/v1", "kind": "Deployment", "names": ["*"]}]
    place = placement("all", namespace, engine.targets.values(), rules, replicas={"mode": "Divide"})
    first, second = sorted(engine.targets, key=lambda cluster: engine.targets[cluster])
    await engine.apply(place, deployment("web", namespace, replicas=3))
    await engine.until(first, "deployment", "web", namespace, lambda o: o["spec"]["replicas"] == 2, "rounded up")
    await quiet(engine)
    await engine.stop()
    for cluster, replicas in ((first, 1), (second, 2)):  # as an earlier history would have left it
        await engine.kubectl(cluster, "scale", "deployment", "web", "-n", namespace, f"--replicas={replicas}")
    before = writes(engine, "downstream")
    await engine.start()
    await quiet(engine, 1.0)
    for cluster, replicas in ((first, 1), (second, 2)):
        found = await engine.get(cluster, "deployment", "web", namespace)
        assert found is not None
        assert found["spec"]["replicas"] == replicas
    assert writes(engine, "downstream") - before <= 2  # our ownership of the number that was scaled by hand
