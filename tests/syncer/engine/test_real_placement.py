"""Where objects go and when they leave: targets that come, change, are cordoned, tainted, drained or silent."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from deploy.local.fleet import Fleet
from tests.support.engine import (
    Running,
    attach,
    config_map,
    deployment,
    placement,
    quiet,
    running_engine,
    until,
    writes,
)

CONFIG_MAPS = [{"apiVersion": "v1", "kind": "ConfigMap", "names": ["*"]}]
DEPLOYMENTS = [{"apiVersion": "apps/v1", "kind": "Deployment", "names": ["*"]}]
JOBS = [{"apiVersion": "batch/v1", "kind": "Job", "names": ["*"]}]


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Running]:
    async with running_engine(fleet) as run:
        yield run


async def patch_target(engine: Running, cluster: str, **spec: Any) -> None:
    patch = json.dumps({"spec": spec})
    await engine.kubectl("upstream", "patch", "synctarget", engine.targets[cluster], "--type=merge", "-p", patch)


async def relabel(engine: Running, cluster: str, *labels: str) -> None:
    await engine.kubectl("upstream", "label", "--overwrite", "synctarget", engine.targets[cluster], *labels)


async def where(engine: Running, namespace: str, name: str = "a") -> set[str]:
    """Clusters that hold the ConfigMap."""
    return {c for c in engine.targets if await engine.get(c, "configmap", name, namespace) is not None}


async def until_at(engine: Running, namespace: str, clusters: set[str], name: str = "a") -> None:
    deadline = asyncio.get_running_loop().time() + 15
    while (found := await where(engine, namespace, name)) != clusters:
        assert asyncio.get_running_loop().time() < deadline, f"{name} is on {found}, not on {clusters}"
        await asyncio.sleep(0.1)


def mine(engine: Running, **more: Any) -> dict[str, Any]:
    """Selects all targets of this test, by label."""
    run = engine.targets["east"].removeprefix("east-")
    return {"labelSelector": {"matchLabels": {"run": run}}, **more}


async def test_labels_of_targets_decide_both_ways(engine: Running, namespace: str) -> None:
    """F55: one label of a target may take everything away, so the breaker counts it; nine objects are not too many."""
    targets = {
        "labelSelector": {"matchLabels": {"run": mine(engine)["labelSelector"]["matchLabels"]["run"], "eu": "yes"}}
    }
    await engine.apply(placement("all", namespace, targets, CONFIG_MAPS), config_map("a", namespace, k="1"))
    await engine.until(
        "upstream", "placement", "all", namespace, lambda o: o["status"]["reason"] == "NoTargets", "nowhere yet"
    )
    await relabel(engine, "east", "eu=yes")
    await until_at(engine, namespace, {"east"})
    await relabel(engine, "west", "eu=yes")
    await until_at(engine, namespace, {"east", "west"})
    await relabel(engine, "east", "eu=no")
    await until_at(engine, namespace, {"west"})


async def test_a_cordoned_target_keeps_what_it_has_and_gets_nothing_new(engine: Running, namespace: str) -> None:
    await engine.apply(placement("all", namespace, mine(engine), CONFIG_MAPS), config_map("a", namespace, k="1"))
    await until_at(engine, namespace, {"east", "west"})
    await patch_target(engine, "east", unschedulable=True)
    await asyncio.sleep(0.3)
    await engine.apply(config_map("a", namespace, k="2"), config_map("b", namespace, k="1"))
    await engine.until("east", "configmap", "a", namespace, lambda o: o["data"]["k"] == "2", "kept in step")
    await until_at(engine, namespace, {"west"}, "b")
    await quiet(engine)
    assert await where(engine, namespace, "b") == {"west"}
    status = await engine.until(
        "upstream", "placement", "all", namespace, lambda o: o["status"]["reason"] == "TargetUnschedulable", "told"
    )
    entry = next(t for t in status["status"]["selectedTargets"] if t["name"] == engine.targets["east"])
    assert (entry["objects"], entry["synced"]) == (2, 1)
    await patch_target(engine, "east", unschedulable=False)
    await until_at(engine, namespace, {"east", "west"}, "b")


async def test_taints_keep_away_or_take_away_unless_tolerated(engine: Running, namespace: str) -> None:
    tolerant = mine(engine, tolerations=[{"key": "gpu", "operator": "Exists"}])
    await engine.apply(
        placement("plain", namespace, mine(engine), [{**CONFIG_MAPS[0], "names": ["a", "b"]}]),
        placement("tolerant", namespace, tolerant, [{**CONFIG_MAPS[0], "names": ["t"]}]),
        config_map("a", namespace, k="1"),
        config_map("t", namespace, k="1"),
    )
    for name in ("a", "t"):
        await until_at(engine, namespace, {"east", "west"}, name)
    await patch_target(engine, "east", taints=[{"key": "gpu", "effect": "NoSchedule"}])
    await quiet(engine)
    assert await where(engine, namespace, "a") == {"east", "west"}
    await patch_target(engine, "east", taints=[{"key": "gpu", "effect": "NoExecute"}])
    await until_at(engine, namespace, {"west"}, "a")
    assert await where(engine, namespace, "t") == {"east", "west"}
    await patch_target(engine, "east", taints=[{"key": "gpu", "effect": "NoSchedule"}])
    await quiet(engine)
    assert await where(engine, namespace, "a") == {"west"}
    await patch_target(engine, "east", taints=[])
    await until_at(engine, namespace, {"east", "west"}, "a")


async def test_a_limit_of_targets_is_sticky_through_restarts_and_a_move_lands_before_it_leaves(
    engine: Running, namespace: str
) -> None:
    """P7: neither a restart nor a return moves anything; the old copy goes when the new one is ready."""
    await engine.apply(
        placement("one", namespace, mine(engine, maxTargets=1), CONFIG_MAPS + DEPLOYMENTS),
        config_map("a", namespace, k="1"),
        deployment("web", namespace, 2),
    )
    await engine.until("upstream", "deployment", "web", namespace, lambda o: o["status"]["readyReplicas"] == 2, "ready")
    (first,) = await where(engine, namespace)
    (second,) = engine.targets.keys() - {first}
    await patch_target(engine, first, taints=[{"key": "off", "effect": "NoExecute"}])
    async with asyncio.timeout(15):
        while await engine.get(first, "deployment", "web", namespace) is not None:
            there = await engine.get(second, "deployment", "web", namespace)
            ready_before = (there or {}).get("status", {}).get("readyReplicas", 0)
            await asyncio.sleep(0.05)
    there = await engine.get(second, "deployment", "web", namespace)
    assert there is not None
    assert there["status"]["readyReplicas"] == 2, ready_before
    await until_at(engine, namespace, {second})

    await patch_target(engine, first, taints=[])
    await quiet(engine)
    before = writes(engine, "downstream")
    await engine.stop()
    await engine.start()
    await quiet(engine, 1.0)
    assert await where(engine, namespace) == {second}
    assert writes(engine, "downstream") == before


def shares(engine: Running, namespace: str, kind: str, name: str, *path: str) -> Any:
    async def read() -> list[int]:
        found = []
        for cluster in engine.targets:
            item: Any = await engine.get(cluster, kind, name, namespace)
            for step in path:
                item = (item or {}).get(step)
            found.append(item or 0)
        return found

    return read()


async def test_divided_replicas_add_up_whatever_happens(engine: Running, namespace: str) -> None:
    """Sums equal spec.replicas: after scaling, and when a target is cordoned for newcomers or tainted."""
    weights = {engine.targets["east"]: 2, engine.targets["west"]: 1}
    divide = {"mode": "Divide", "weights": {"static": weights}}

    async def added_up(name: str, expected: list[int]) -> None:
        deadline = asyncio.get_running_loop().time() + 15
        while (found := await shares(engine, namespace, "deployment", name, "spec", "replicas")) != expected:
            assert asyncio.get_running_loop().time() < deadline, f"{name}: {found}, not {expected}"
            await asyncio.sleep(0.1)

    await engine.apply(
        placement("all", namespace, mine(engine), DEPLOYMENTS, replicas=divide), deployment("web", namespace, 5)
    )
    await added_up("web", [3, 2])
    await engine.until("upstream", "deployment", "web", namespace, lambda o: o["status"]["readyReplicas"] == 5, "sum")
    await engine.kubectl("upstream", "scale", "deploy/web", "--replicas=7", "-n", namespace)
    await added_up("web", [5, 2])
    await patch_target(engine, "west", unschedulable=True)
    await asyncio.sleep(0.3)
    await engine.apply(deployment("new", namespace, 5))
    await added_up("new", [5, 0])
    await added_up("web", [5, 2])
    await patch_target(engine, "west", unschedulable=False)
    await added_up("new", [4, 1])  # the fewest replicas move
    await patch_target(engine, "west", taints=[{"key": "off", "effect": "NoExecute"}])
    await added_up("web", [7, 0])


def job(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox:1.36"}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"template": template, **spec},
    }


async def test_divided_jobs_add_up_and_one_that_cannot_be_divided_hinders_no_other(
    engine: Running, namespace: str
) -> None:
    weights = {engine.targets["east"]: 2, engine.targets["west"]: 1}
    divide = {"mode": "Divide", "weights": {"static": weights}}
    await engine.apply(
        placement("all", namespace, mine(engine), JOBS, replicas=divide),
        job("indexed", namespace, completionMode="Indexed", completions=3, parallelism=3),
        job("plain", namespace, completions=7, parallelism=4),
    )
    for cluster in engine.targets:
        await engine.until(cluster, "job", "plain", namespace, lambda o: o is not None, "there")
    assert sum(await shares(engine, namespace, "job", "plain", "spec", "completions")) == 7
    assert sum(await shares(engine, namespace, "job", "plain", "spec", "parallelism")) == 4
    status = await engine.until(
        "upstream", "placement", "all", namespace, lambda o: o["status"]["reason"] == "Invalid", "told"
    )
    problem = status["status"]["selectedTargets"][0]["errors"][0]
    assert problem["object"] == f"batch/v1/Job/{namespace}/indexed"
    assert "/spec/completionMode" in problem["message"]
    assert await engine.get("east", "job", "indexed", namespace) is None


async def test_of_two_placements_the_one_of_higher_priority_decides_then_the_older_and_both_tell(
    engine: Running, namespace: str
) -> None:
    """P4: one owner at a time; the object passes from one to the other without being deleted."""

    def labelled(name: str, priority: int) -> dict[str, Any]:
        transforms = [{"labels": {"set": {"by": name}}}]
        conflict = {"priority": priority}
        return placement(name, namespace, mine(engine), CONFIG_MAPS, transforms=transforms, conflict=conflict)

    async def by(name: str) -> str:
        item = await engine.until(
            "east", "configmap", "a", namespace, lambda o: o["metadata"]["labels"]["by"] == name, f"placed by {name}"
        )
        return str(item["metadata"]["uid"])

    await engine.apply(labelled("older", 0), config_map("a", namespace, k="1"))
    uid = await by("older")
    await asyncio.sleep(1.1)  # creation times have whole seconds
    await engine.apply(labelled("younger", 0))
    for name in ("older", "younger"):
        item = await engine.until(
            "upstream",
            "placement",
            name,
            namespace,
            lambda o: [c for c in o["status"]["conditions"] if c["type"] == "Conflict"],
            "told of the other",
        )
        condition = next(c for c in item["status"]["conditions"] if c["type"] == "Conflict")
        assert (condition["status"], condition["reason"]) == ("True", "ClaimedByPlacement")
        assert f"v1/ConfigMap/{namespace}/a" in condition["message"]
    assert await by("older") == uid
    await engine.apply(labelled("younger", 5))
    assert await by("younger") == uid
    await engine.kubectl("upstream", "delete", "placement", "younger", "-n", namespace)
    assert await by("older") == uid
    await engine.until(
        "upstream",
        "placement",
        "older",
        namespace,
        lambda o: all(c["type"] != "Conflict" for c in o["status"]["conditions"]),
        "no other any more",
    )


async def doomed(engine: Running, cluster: str) -> None:
    """Delete a SyncTarget that its finalizer still holds, as the operator's does."""
    name = engine.targets[cluster]
    finalizers = json.dumps({"metadata": {"finalizers": ["syncline.io/target"]}})
    await engine.kubectl("upstream", "patch", "synctarget", name, "--type=merge", "-p", finalizers)
    await engine.kubectl("upstream", "delete", "synctarget", name, "--wait=false")


async def let_go(engine: Running, cluster: str) -> None:
    name = engine.targets[cluster]
    await engine.kubectl(
        "upstream", "patch", "synctarget", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
    )


@pytest.mark.parametrize("policy", ["Drain", "Orphan"])
async def test_a_target_that_is_deleted_is_drained_or_left_alone(engine: Running, namespace: str, policy: str) -> None:
    """P3: draining is one wish and not limited; the other target notices nothing."""
    await patch_target(engine, "east", deletion=policy)
    names = [f"c{i:02}" for i in range(15)]
    orphans = {"deletion": {"policy": "Orphan"}}
    await engine.apply(
        placement("all", namespace, mine(engine), [{**CONFIG_MAPS[0], "names": ["c*"]}]),
        placement("kept", namespace, mine(engine), [{**CONFIG_MAPS[0], "names": ["orphan"]}], **orphans),
        config_map("orphan", namespace, k="1"),
        *(config_map(name, namespace, k="1") for name in names),
    )
    for name in ("orphan", "c14"):
        await until_at(engine, namespace, {"east", "west"}, name)
    await quiet(engine)
    east = engine.targets["east"]
    await doomed(engine, "east")
    if policy == "Drain":
        await until(lambda: engine.engine.drained(east), "drained")
        left = {"orphan"}
    else:
        await quiet(engine)
        left = {"orphan", *names}
    found = {name for name in ["orphan", *names] if await engine.get("east", "configmap", name, namespace)}
    assert found == left
    await let_go(engine, "east")
    await until(lambda: east not in engine.engine.world.targets, "gone")
    await quiet(engine)
    assert {name for name in ["orphan", *names] if await engine.get("east", "configmap", name, namespace)} == left
    assert all([await engine.get("west", "configmap", name, namespace) for name in ["orphan", *names]])


async def test_a_target_is_not_drained_before_everything_on_it_was_read(engine: Running, namespace: str) -> None:
    """P3: neither right after a restart nor while it cannot be reached."""
    await engine.apply(placement("all", namespace, mine(engine), CONFIG_MAPS), config_map("a", namespace, k="1"))
    await until_at(engine, namespace, {"east", "west"})
    east = engine.targets["east"]
    engine.engine.detach_target(east, "the cable was cut")
    await doomed(engine, "east")
    await asyncio.sleep(0.5)
    assert not engine.engine.drained(east)
    await engine.stop()
    await engine.start(attached=False)
    await until(lambda: east in engine.engine.world.targets, "seen")
    assert not engine.engine.drained(east)
    await attach(engine, "east", east)
    await until(lambda: engine.engine.drained(east), "drained")
    assert await engine.get("east", "configmap", "a", namespace) is None
    await let_go(engine, "east")


async def test_a_target_whose_api_server_stands_still_hinders_no_other(own_fleet: Callable[..., Fleet]) -> None:
    """P13, P8, F25, F62: the other target is served at full speed; nothing is evicted, and CONT catches up."""
    fleet = await asyncio.to_thread(own_fleet, targets=("east", "west"), light=True)
    async with running_engine(fleet) as engine:
        await engine.kubectl("upstream", "create", "namespace", "shop")
        engine_world = engine.engine.world
        names = [f"c{i:02}" for i in range(40)]
        await engine.apply(
            placement("all", "shop", mine(engine), CONFIG_MAPS + DEPLOYMENTS),
            deployment("web", "shop", 2),
            *(config_map(name, "shop", k="1") for name in names),
        )
        for cluster in engine.targets:
            await engine.until(cluster, "configmap", names[-1], "shop", lambda o: o, "placed")
            status = {"status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "observedGeneration": 1}}
            await engine.until(cluster, "deployment", "web", "shop", lambda o: o, "placed")
            await engine.kubectl(
                cluster,
                "patch",
                "deploy",
                "web",
                "-n",
                "shop",
                "--subresource=status",
                "--type=merge",
                "-p",
                json.dumps(status),
            )
        await engine.until("upstream", "deployment", "web", "shop", lambda o: o["status"]["readyReplicas"] == 4, "sum")
        await quiet(engine)
        deletes = writes(engine, "downstream", "delete")
        east = engine.targets["east"]
        fleet.targets["east"].stop("apiserver")
        try:
            engine.engine.target_reachable(east, False, time.time(), "no answer for 5 s")
            started = time.monotonic()
            await engine.apply(*(config_map(name, "shop", k="2") for name in names))
            applied = time.monotonic()
            for name in names:
                await engine.until("west", "configmap", name, "shop", lambda o: o["data"]["k"] == "2", "followed")
            lag = time.monotonic() - applied
            assert lag < max(3.0, applied - started), "the silent target slowed the other one down"
            item = await engine.until(
                "upstream",
                "placement",
                "all",
                "shop",
                lambda o: [e for t in o["status"]["selectedTargets"] if t["name"] == east for e in t["errors"]],
                "told",
            )
            entry = next(t for t in item["status"]["selectedTargets"] if t["name"] == east)
            assert "TargetNotReady" in [e["reason"] for e in entry["errors"]]
            web = await engine.get("upstream", "deployment", "web", "shop")
            assert web is not None
            assert web["status"]["readyReplicas"] == 4, "stale is not zero"
        finally:
            fleet.targets["east"].cont("apiserver")
        engine.engine.target_reachable(east, True, time.time(), "")
        for name in names:
            await engine.until(
                "east", "configmap", name, "shop", lambda o: o["data"]["k"] == "2", "caught up", seconds=40
            )
        assert writes(engine, "downstream", "delete") == deletes
        assert engine_world.targets[east].ready
