"""Namespaces on targets: whose they are, and when they go. On real API servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.local.fleet import Fleet
from tests.support.engine import Running, config_map, placement, quiet, running_engine, writes

CONFIG_MAPS = [{"apiVersion": "v1", "kind": "ConfigMap", "names": ["*"]}]
OWNER = "syncline.io/managed-by"


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Running]:
    async with running_engine(fleet, ("east",)) as run:
        yield run


def place(engine: Running, namespace: str) -> list[dict[str, Any]]:
    return [placement("all", namespace, engine.targets.values(), CONFIG_MAPS), config_map("a", namespace, k="1")]


async def remove_upstream(engine: Running, namespace: str) -> None:
    await engine.kubectl("upstream", "delete", "namespace", namespace)
    await engine.until("east", "configmap", "a", namespace, lambda o: o is None, "our object is gone")
    await quiet(engine, 0.3)
    await asyncio.sleep(3.0)  # the keeper looks again within 2 s


async def test_a_namespace_that_was_there_is_used_but_never_marked_or_deleted(engine: Running, namespace: str) -> None:
    """P4."""
    await engine.kubectl("east", "create", "namespace", namespace)
    await engine.kubectl("east", "label", "namespace", namespace, "theirs=yes")
    await engine.apply(*place(engine, namespace))
    await engine.until("east", "configmap", "a", namespace, lambda o: o, "placed")
    there = await engine.get("east", "namespace", namespace)
    assert there is not None
    assert OWNER not in there["metadata"]["labels"]
    assert "annotations" not in there["metadata"]
    await remove_upstream(engine, namespace)
    left = await engine.get("east", "namespace", namespace)
    assert left is not None
    assert left["metadata"]["uid"] == there["metadata"]["uid"]
    assert left["status"]["phase"] == "Active"


async def test_a_namespace_of_another_hub_is_left_alone(engine: Running, namespace: str) -> None:
    """P4: `NamespaceNotOurs`, and nothing is written into it until the label goes."""
    await engine.kubectl("east", "create", "namespace", namespace)
    await engine.kubectl("east", "label", "namespace", namespace, f"{OWNER}=another-hub")
    await engine.apply(*place(engine, namespace))
    item = await engine.until(
        "upstream", "placement", "all", namespace, lambda o: o["status"]["reason"] == "NamespaceNotOurs", "told"
    )
    assert "another-hub" in str(item["status"]["selectedTargets"][0]["errors"])
    assert await engine.get("east", "configmap", "a", namespace) is None


@pytest.mark.parametrize("protected", ["kube-public", "syncline-system"])
async def test_nothing_goes_into_or_out_of_protected_namespaces(engine: Running, protected: str) -> None:
    """B20."""
    name = f"only-{engine.targets['east']}"
    before = writes(engine, "downstream")
    await engine.apply(
        config_map(name, protected, k="1"), placement(name, protected, engine.targets.values(), CONFIG_MAPS)
    )
    try:
        await engine.until(
            "upstream", "placement", name, protected, lambda o: o["status"]["reason"] == "ProtectedNamespace", "refused"
        )
        await quiet(engine)
        assert await engine.get("east", "configmap", name, protected) is None
        assert writes(engine, "downstream") == before
    finally:
        await engine.kubectl("upstream", "delete", "placement,configmap", name, "-n", protected)


@pytest.mark.parametrize("owned", [False, True])
async def test_a_namespace_of_ours_stays_while_something_foreign_is_in_it(
    engine: Running, namespace: str, owned: bool
) -> None:
    """P4: also something that belongs to an object of the whole cluster."""
    await engine.apply(*place(engine, namespace))
    await engine.until("east", "configmap", "a", namespace, lambda o: o, "placed")
    there = await engine.get("east", "namespace", namespace)
    assert there is not None
    assert there["metadata"]["labels"][OWNER] == engine.hub_id
    foreign = config_map("theirs", namespace, k="1")
    if owned:
        crd = await engine.eyes("east").get_json("/apis/rbac.authorization.k8s.io/v1/clusterroles/view")
        foreign["metadata"]["ownerReferences"] = [
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "name": "view",
                "uid": crd["metadata"]["uid"],
            }
        ]
    await engine.apply(foreign, cluster="east")
    await remove_upstream(engine, namespace)
    left = await engine.get("east", "namespace", namespace)
    assert left is not None
    assert left["status"]["phase"] == "Active"
    assert await engine.get("east", "configmap", "theirs", namespace) is not None


async def test_a_namespace_that_is_deleted_on_the_target_comes_back_with_its_objects(
    engine: Running, namespace: str
) -> None:
    """F45: while it terminates nothing is written, afterwards all of it is there again."""
    await engine.apply(*place(engine, namespace))
    await engine.until("east", "configmap", "a", namespace, lambda o: o, "placed")
    before = await engine.get("east", "namespace", namespace)
    assert before is not None
    await engine.kubectl("east", "delete", "namespace", namespace)
    await engine.until("east", "configmap", "a", namespace, lambda o: o["data"] == {"k": "1"}, "back", seconds=20)
    after = await engine.get("east", "namespace", namespace)
    assert after is not None
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["metadata"]["labels"][OWNER] == engine.hub_id


async def test_a_namespace_goes_although_the_engine_was_down_when_the_upstream_one_went(
    engine: Running, namespace: str
) -> None:
    """P7."""
    await engine.apply(*place(engine, namespace))
    await engine.until("east", "configmap", "a", namespace, lambda o: o, "placed")
    await quiet(engine, 0.3)
    await engine.stop()
    await engine.kubectl("upstream", "delete", "namespace", namespace)
    await engine.start()
    await engine.until("east", "namespace", namespace, "", lambda o: o is None, "removed", seconds=20)
