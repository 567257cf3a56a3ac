"""Jobs and Pods run to completion once, and never again: on real API servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.local.fleet import Fleet
from tests.support.engine import Running, placement, quiet, running_engine, writes

KINDS = [
    {"apiVersion": "batch/v1", "kind": "Job", "names": ["*"]},
    {"apiVersion": "v1", "kind": "Pod", "names": ["*"]},
]


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Running]:
    async with running_engine(fleet) as run:
        yield run


def pod_spec() -> dict[str, Any]:
    return {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox:1.36"}]}


def job(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"template": {"spec": pod_spec()}, **spec},
    }


def complete(item: Any) -> bool:
    conditions = {c["type"]: c["status"] for c in item["status"]["conditions"]}
    return conditions.get("Complete") == "True"


async def finished(engine: Running, namespace: str, name: str = "once", **spec: Any) -> dict[str, str]:
    """Place a Job and wait until it is complete upstream; uids by cluster."""
    await engine.apply(job(name, namespace, **spec), placement("all", namespace, engine.targets.values(), KINDS))
    await engine.kubectl(
        "upstream", "wait", "--for=condition=Complete", f"job/{name}", "-n", namespace, "--timeout=30s"
    )
    found = {}
    for cluster in engine.targets:
        item = await engine.until(cluster, "job", name, namespace, complete, "complete")
        found[cluster] = item["metadata"]["uid"]
    return found


async def remembered(engine: Running, namespace: str, runs: int) -> None:
    await engine.until(
        "upstream",
        "placement",
        "all",
        namespace,
        lambda o: len(o["status"].get("completedRuns") or ()) == runs,
        "remembering the runs",
    )


async def test_a_job_that_finished_and_vanished_never_runs_again(engine: Running, namespace: str) -> None:
    """F63, P7: not after its copy was collected, not after a restart, nor the next one, nor after a change of it."""
    await finished(engine, namespace)
    await remembered(engine, namespace, 2)
    await engine.kubectl("east", "delete", "job", "once", "-n", namespace)
    await quiet(engine)
    assert await engine.get("east", "job", "once", namespace) is None
    for _ in range(3):
        await engine.stop()
        await engine.kubectl("west", "delete", "job", "once", "-n", namespace, "--ignore-not-found")
        await engine.start()
        await quiet(engine, 0.7)
        await remembered(engine, namespace, 2)
    await engine.kubectl("upstream", "label", "job", "once", "-n", namespace, "changed=yes")
    await quiet(engine)
    for cluster in engine.targets:
        assert await engine.get(cluster, "job", "once", namespace) is None
    upstream = await engine.get("upstream", "job", "once", namespace)
    assert complete(upstream)


async def test_a_replaced_job_runs_although_the_one_before_is_done(engine: Running, namespace: str) -> None:
    """B15, P3: the same name with a new uid is another Job: the old copy is deleted, the new one created."""
    before = await finished(engine, namespace)
    await engine.stop()
    await engine.kubectl("upstream", "delete", "job", "once", "-n", namespace)
    await engine.apply(job("once", namespace, backoffLimit=3))
    await engine.start()
    for cluster in before:
        await engine.until(
            cluster, "job", "once", namespace, lambda o: o["metadata"]["uid"] not in before.values(), "another one"
        )
        await engine.until(cluster, "job", "once", namespace, complete, "complete")
    await engine.until("upstream", "job", "once", namespace, complete, "complete")


async def test_a_finished_job_is_removed_upstream_when_its_time_is_over(engine: Running, namespace: str) -> None:
    """F63: the time to live counts on the source; the copies follow it, and nothing removes them before."""
    started = time.monotonic()
    await engine.apply(
        job("short", namespace, ttlSecondsAfterFinished=3), placement("all", namespace, engine.targets.values(), KINDS)
    )
    item = await engine.until("east", "job", "short", namespace, lambda o: o is not None, "placed")
    assert "ttlSecondsAfterFinished" not in item["spec"]
    await engine.until("upstream", "job", "short", namespace, lambda o: o is None, "removed", seconds=30)
    assert time.monotonic() - started > 3
    for cluster in engine.targets:
        await engine.until(cluster, "job", "short", namespace, lambda o: o is None, "removed with it")
    await quiet(engine)
    assert await engine.get("upstream", "job", "short", namespace) is None


async def test_a_time_that_was_taken_back_removes_nothing(engine: Running, namespace: str) -> None:
    """P3: what counts is the Job as it is when its time is over."""
    await finished(engine, namespace, ttlSecondsAfterFinished=5)
    patch = '{"spec":{"ttlSecondsAfterFinished":null}}'
    await engine.kubectl("upstream", "patch", "job", "once", "-n", namespace, "--type=merge", "-p", patch)
    await asyncio.sleep(6.5)
    assert await engine.get("upstream", "job", "once", namespace) is not None
    assert await engine.get("east", "job", "once", namespace) is not None


async def test_a_bare_pod_runs_once_and_tells_its_end_upstream(engine: Running, namespace: str) -> None:
    """F63: as for Jobs; the pod upstream runs nowhere itself."""
    for cluster in ("upstream", "east", "west"):
        await engine.kubectl(cluster, "create", "namespace", namespace, check=False)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": namespace}, "spec": pod_spec()}
    east = engine.targets["east"]
    await engine.apply(pod, placement("all", namespace, [east], KINDS))
    await engine.until("east", "pod", "p", namespace, lambda o: o["status"]["phase"] == "Running", "running")
    await engine.until("upstream", "pod", "p", namespace, lambda o: o["status"]["phase"] == "Running", "told")
    patch = '{"status":{"phase":"Succeeded"}}'
    await engine.kubectl(
        "east", "patch", "pod", "p", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch
    )
    await engine.until("upstream", "pod", "p", namespace, lambda o: o["status"]["phase"] == "Succeeded", "its end told")
    await remembered(engine, namespace, 1)
    await engine.stop()
    await engine.kubectl("east", "delete", "pod", "p", "-n", namespace, "--grace-period=0", "--force")
    await engine.start()
    before = writes(engine, "downstream")
    await quiet(engine, 0.7)
    assert await engine.get("east", "pod", "p", namespace) is None
    assert writes(engine, "downstream") == before
    await engine.kubectl("upstream", "delete", "pod", "p", "-n", namespace)
    await engine.apply(pod)
    await engine.until("east", "pod", "p", namespace, lambda o: o["status"]["phase"] == "Running", "another one runs")
