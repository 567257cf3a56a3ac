"""Reports on real API servers: what a new user does wrong is told with its cause, and goes away when it is mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from deploy.local.fleet import Fleet
from syncer.api.keys import GroupResource
from syncer.api.shapes import Explanation, Problem, TargetExplanation
from syncer.engine.needs import Needs
from syncer.engine.reports import Reports
from tests.support.engine import Running, deployment, placement, running_engine

DEPLOYMENTS = GroupResource("apps", "deployments")
WORKLOADS = [
    {"apiVersion": "apps/v1", "kind": "Deployment", "names": ["*"]},
    {"apiVersion": "v1", "kind": "Secret", "names": ["*"]},
]


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Running]:
    async with running_engine(fleet) as run:
        yield run


@pytest.fixture
def reports(engine: Running) -> Reports:
    world, upstream = engine.engine.world, engine.clients["upstream"]
    return Reports(world, engine.engine.sight, upstream, Needs(world), frozen=engine.engine.frozen)


async def problems(
    reports: Reports, namespace: str, holds: Callable[[list[Problem]], bool], seconds: float = 15.0
) -> list[Problem]:
    """The problems of the namespace, once they are as they should be."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not holds(found := reports.problems(namespace).items):
        assert asyncio.get_running_loop().time() < deadline, found
        await asyncio.sleep(0.05)
    return found


def reasons(*wanted: str) -> Callable[[list[Problem]], bool]:
    return lambda found: sorted(str(one.reason) for one in found) == sorted(wanted)


async def explained(reports: Reports, namespace: str, name: str = "web") -> Explanation:
    found = await reports.explain(DEPLOYMENTS, namespace, name)
    assert found is not None
    return found


def on(found: Explanation, target: str) -> TargetExplanation:
    return next(one for one in found.targets if one.name == target)


async def test_a_missing_secret_is_told_and_forgotten_once_it_is_there(
    engine: Running, reports: Reports, namespace: str
) -> None:
    """Done when 8."""
    web = deployment("web", namespace)
    web["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": "regcred"}]
    await engine.apply(placement("all", namespace, engine.targets.values(), WORKLOADS), web)
    found = await problems(reports, namespace, reasons("MissingReference", "MissingReference"))
    assert found[0].message.startswith(f"v1/Secret/{namespace}/regcred is not placed to")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "regcred", "namespace": namespace}}
    await engine.apply(secret)
    await problems(reports, namespace, reasons())
    await engine.kubectl("upstream", "delete", "secret", "regcred", "-n", namespace)
    await problems(reports, namespace, reasons("MissingReference", "MissingReference"))


async def test_a_typo_in_a_kind_and_in_a_target_is_told_with_what_was_meant(
    engine: Running, reports: Reports, namespace: str
) -> None:
    """Done when 8."""
    east = engine.targets["east"]
    resources = [{"apiVersion": "apps/v1", "kind": "Deploymnet", "names": ["*"]}]
    await engine.apply(placement("typo", namespace, [east, f"{east}x"], resources))
    found = await problems(reports, namespace, reasons("APIMissing", "TargetNotFound"))
    told = {str(one.reason): one.message for one in found}
    assert told["APIMissing"].endswith("did you mean {apiVersion: apps/v1, kind: Deployment}?")
    assert told["TargetNotFound"] == f"there is no SyncTarget {east}x; did you mean {east}?"


async def test_owners_transforms_and_generations_are_explained_from_the_target_itself(
    engine: Running, reports: Reports, namespace: str
) -> None:
    east, west = engine.targets["east"], engine.targets["west"]
    transforms = [{"targets": {"names": [west]}, "image": {"registry": "mirror.example"}}]
    spec = {"transforms": transforms, "drift": {"paths": [{"path": "/spec/replicas", "mode": "Ignore"}]}}
    await engine.apply(
        placement("all", namespace, engine.targets.values(), WORKLOADS, **spec), deployment("web", namespace)
    )
    await problems(reports, namespace, reasons())
    await engine.until("east", "deployment", "web", namespace, lambda item: item, "created")
    await engine.kubectl("east", "scale", "deploy/web", "--replicas=5", "-n", namespace)
    await engine.kubectl(
        "east", "patch", "deploy", "web", "-n", namespace, "--type=merge", "-p", '{"spec":{"minReadySeconds":1}}'
    )
    found = await explained(reports, namespace)
    assert on(found, west).transforms == ["[0] image registry=mirror.example"]
    assert (on(found, east).observed, on(found, east).applied_generation) == ("present", 1)
    owners = {one.field: one.manager for one in on(found, east).owners}
    assert owners["/spec/minReadySeconds"] == "kubectl-patch"
    assert "/spec/replicas" in owners
    assert "/spec/template/spec/containers/0/image" not in owners


async def test_an_object_that_nothing_selects_is_explained_and_one_that_is_not_there_is_none(
    engine: Running, reports: Reports, namespace: str
) -> None:
    labelled = [{"apiVersion": "apps/v1", "kind": "Deployment", "labelSelector": {"matchLabels": {"sync": "yes"}}}]
    await engine.apply(placement("some", namespace, engine.targets.values(), labelled), deployment("web", namespace))
    await problems(reports, namespace, reasons())
    (near,) = (await explained(reports, namespace)).placements
    assert (near.name, near.nearest) == (f"Placement/{namespace}/some", True)
    assert near.why_not == "label sync is missing, wanted yes"
    assert await reports.explain(DEPLOYMENTS, namespace, "nothing") is None
    config = await reports.explain(GroupResource("", "configmaps"), namespace, "kube-root-ca.crt")
    assert config is not None  # its kind is not even watched
    assert config.skip_reason == "every cluster writes its own"


async def test_status_and_pods_come_from_every_target(engine: Running, reports: Reports, namespace: str) -> None:
    await engine.apply(placement("all", namespace, engine.targets.values(), WORKLOADS), deployment("web", namespace, 2))
    for cluster in engine.targets:
        await engine.until(
            cluster, "deployment", "web", namespace, lambda item: item["status"]["readyReplicas"] == 2, "ready"
        )
    await problems(reports, namespace, reasons())
    pods = await reports.pods(DEPLOYMENTS, namespace, "web")
    assert pods is not None
    assert [one.target for one in pods.items] == sorted([*engine.targets.values()] * 2)
    assert {one.ready for one in pods.items} == {"1/1"}
    status = reports.object_status(DEPLOYMENTS, namespace, "web")
    assert status is not None
    assert [(one.health, one.counters["readyReplicas"], one.stale) for one in status.targets] == [
        ("Healthy", 2, False)
    ] * 2
    mine = [one for one in reports.targets().items if one.name in engine.targets.values()]
    assert [(one.ready, one.objects, one.synced) for one in mine] == [(True, 1, 1)] * 2


async def test_pods_of_a_cron_job_are_found_through_its_jobs(engine: Running, reports: Reports, namespace: str) -> None:
    """Pods of Jobs that others made are none of its."""
    template = deployment("x", namespace)["spec"]["template"]
    template["spec"]["restartPolicy"] = "Never"
    cron_job = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly", "namespace": namespace},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}},
    }
    kinds = [{"apiVersion": "batch/v1", "kind": "CronJob", "names": ["*"]}]
    await engine.apply(cron_job, placement("all", namespace, engine.targets.values(), kinds))
    await engine.until("east", "cronjob", "nightly", namespace, lambda item: item, "placed")
    await engine.kubectl("east", "create", "job", "mine", "--from=cronjob/nightly", "-n", namespace)
    await engine.kubectl("east", "create", "job", "other", "--image=nginx:1.27", "-n", namespace)
    deadline = asyncio.get_running_loop().time() + 20
    while True:
        found = await reports.pods(GroupResource("batch", "cronjobs"), namespace, "nightly")
        assert found is not None
        if found.items and not found.unreachable:
            break
        assert asyncio.get_running_loop().time() < deadline, found
        await asyncio.sleep(0.1)
    assert {(pod.target, pod.name.rpartition("-")[0]) for pod in found.items} == {(engine.targets["east"], "mine")}
