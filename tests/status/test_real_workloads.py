"""Workloads that run on two real targets: plain kubectl reads the merged status truthfully upstream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from status.aggregator import Aggregator
from status.collector import collect, waiting_reason
from status.report import Expected, Report, missing
from tests.status.builders import conditions
from tests.status.upstream import Api, Source
from tests.support.fleet import Kubectl, wait_until

TARGETS = ("east", "west")


def workload(kind: str, namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            **({"serviceName": "web"} if kind == "StatefulSet" else {}),
            **({} if kind == "DaemonSet" else {"replicas": 2}),
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            },
            **spec,
        },
    }


class Line:
    """A source upstream, its copies on both targets, and the aggregator between; the engine's part done by hand."""

    def __init__(self, upstream: Api, kubectl: Kubectl, namespace: str, manifest: Mapping[str, Any]) -> None:
        self.kubectl, self.namespace = kubectl, namespace
        self.manifest = manifest
        self.kind = ("apps", manifest["kind"])
        self.source = Source(upstream, manifest)
        self.made = Aggregator(self.kind, self.source.uid)
        self.carried: dict[str, int] = {}  # {target: source generation}
        self.expect()

    def expect(self) -> None:
        self.made.expect({target: Expected(self.source.generation, 2) for target in TARGETS})

    def sync(self, target: str, **spec: Any) -> None:
        if not self.carried.get(target):
            self.kubectl.attempt(target, "create", "namespace", self.namespace)
        self.kubectl.apply(target, {**self.manifest, "spec": {**self.manifest["spec"], **spec}})
        self.carried[target] = self.source.generation

    def collect(self) -> bool:
        """Collect from all targets and write; True if something was written."""
        for target in TARGETS:
            found = self.kubectl.get(target, self.kind[1].lower(), "web", self.namespace)
            if found is None:
                self.made.put(missing(target, target_uid=target, source_uid=self.source.uid, now=0.0))
                continue
            report = collect(
                found,
                group_kind=self.kind,
                target=target,
                target_uid=target,
                source_uid=self.source.uid,
                source_generation=self.carried[target],
                now=datetime.now(UTC).timestamp(),
            )
            assert isinstance(report, Report), report
            self.made.put(report)
        return self.source.write(self.made)

    def collected(self, name: str, value: int) -> bool:
        self.collect()
        return self.source.status.get(name) == value

    def rollout(self) -> str:
        """What `kubectl rollout status` says without waiting."""
        said = self.kubectl.attempt("upstream", "rollout", "status", *self.scope, "--watch=false")
        return said.stdout + said.stderr

    def waits(self, condition: str) -> bool:
        """Whether `kubectl wait` returns at once."""
        said = self.kubectl.attempt("upstream", "wait", *self.scope, f"--for=condition={condition}", "--timeout=0")
        return said.returncode == 0

    @property
    def scope(self) -> tuple[str, ...]:
        return (f"{self.kind[1].lower()}/web", "-n", self.namespace)


def test_a_deployment_is_available_and_rolled_out_only_when_it_is_on_all_targets(
    upstream: Api, kubectl: Kubectl, namespace: str
) -> None:
    """P8: with plain sums one target at 2/2 would already read as rolled out."""
    line = Line(upstream, kubectl, namespace, workload("Deployment", namespace))
    line.sync("east")
    wait_until(lambda: line.collected("readyReplicas", 2))
    assert "Waiting for deployment spec update to be observed" in line.rollout()
    assert not line.waits("Available")
    line.sync("west")
    wait_until(lambda: line.collected("readyReplicas", 4))
    assert "successfully rolled out" in line.rollout()
    assert line.waits("Available")
    assert line.source.status["observedGeneration"] == line.source.generation == 1

    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:2"}]}}
    line.source.patch_spec({"template": template})
    line.expect()
    assert "Waiting for deployment spec update to be observed" in line.rollout()
    line.sync("east", template=template)
    wait_until(lambda: line.made.summary("east")[0] or (line.collect() and False))
    assert "Waiting for deployment spec update to be observed" in line.rollout()
    assert not line.waits("Available")
    line.sync("west", template=template)
    wait_until(lambda: line.collected("observedGeneration", 2))
    assert "successfully rolled out" in line.rollout()
    assert line.waits("Available")
    wait_until(lambda: not line.collect())

    line.made.stale("west", 1_790_000_000.0)
    line.source.write(line.made)
    available = conditions(line.source.status)["Available"]
    assert (available["status"], available["reason"]) == ("Unknown", "Unreachable")
    assert available["message"] == "west: no contact since 2026-09-21T14:13:20Z"
    assert line.source.status["readyReplicas"] == 4
    assert not line.waits("Available")
    assert not line.made.foreign_writer(line.source.present)


def test_why_a_pod_does_not_run_is_told_in_the_condition(upstream: Api, kubectl: Kubectl, namespace: str) -> None:
    line = Line(upstream, kubectl, namespace, workload("Deployment", namespace))
    template = json.loads(json.dumps(line.manifest["spec"]["template"]))
    line.sync("east")
    line.sync("west", template={**template, "spec": {**template["spec"], "nodeSelector": {"disk": "none"}}})
    wait_until(lambda: line.collected("readyReplicas", 2))
    reason = wait_until(lambda: waiting_reason(kubectl.items("west", "pods", namespace, "app=web")))
    assert reason is not None
    assert reason[0] == "Unschedulable"
    # West's own controller has said by then that nothing is available.
    wait_until(lambda: (line.collect(), conditions(line.source.status)["Available"]["status"])[1] == "False")
    assert line.made.note("west", *reason)
    line.source.write(line.made)
    available = conditions(line.source.status)["Available"]
    assert (available["status"], available["reason"]) == ("False", "Unschedulable")
    assert available["message"].startswith("west: Unschedulable: web-")
    assert "nodes are available" in available["message"]
    pods = kubectl.items("west", "pods", namespace, "app=web")
    for pod in pods:
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "web:nope"'}}
        said = {"name": "web", "image": "web:nope", "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
        kubectl(
            *("west", "patch", "pod", pod["metadata"]["name"], "-n", namespace, "--subresource=status"),
            *("--type=merge", "-p", json.dumps({"status": {"containerStatuses": [said]}})),
        )
    reason = waiting_reason(kubectl.items("west", "pods", namespace, "app=web"))
    assert reason is not None
    first = min(pod["metadata"]["name"] for pod in pods)
    assert reason == ("ImagePullBackOff", f'{first}: Back-off pulling image "web:nope"')
    line.made.note("west", *reason)
    line.source.write(line.made)
    assert conditions(line.source.status)["Available"]["reason"] == "ImagePullBackOff"


@pytest.mark.parametrize(
    ("kind", "ready", "wanted"), [("StatefulSet", "readyReplicas", 4), ("DaemonSet", "numberReady", 6)]
)
def test_other_workloads_are_rolled_out_only_on_all_targets(
    kind: str, ready: str, wanted: int, upstream: Api, kubectl: Kubectl, namespace: str
) -> None:
    """P8."""
    line = Line(upstream, kubectl, namespace, workload(kind, namespace))
    line.sync("east")
    wait_until(lambda: line.collected(ready, wanted // 2))
    assert "update to be observed" in line.rollout()
    assert not line.waits("Available")
    line.sync("west")
    wait_until(lambda: line.collected(ready, wanted))
    wait_until(lambda: line.collected("observedGeneration", 1))
    assert "complete" in line.rollout() or "successfully rolled out" in line.rollout()
    assert line.waits("Available")


def test_a_paused_deployment_counts_as_observed(upstream: Api, kubectl: Kubectl, namespace: str) -> None:
    line = Line(upstream, kubectl, namespace, workload("Deployment", namespace, paused=True))
    for target in TARGETS:
        line.sync(target)
    wait_until(lambda: line.collected("observedGeneration", 1))
    assert [line.made.summary(target)[1] for target in TARGETS] == ["Suspended", "Suspended"]


def test_an_upstream_controller_that_writes_the_status_too_is_noticed(
    upstream: Api, kubectl: Kubectl, namespace: str
) -> None:
    """The status of another manager is told from ours by managedFields and, without them, by its content."""
    line = Line(upstream, kubectl, namespace, workload("Deployment", namespace))
    for target in TARGETS:
        line.sync(target)
    wait_until(lambda: line.collected("readyReplicas", 4))
    line.source.reread()
    assert not line.made.foreign_writer(line.source.present)
    body = json.dumps({"status": {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1, "updatedReplicas": 1}})
    line.source.patch_status(body.encode(), "application/merge-patch+json", "kube-controller-manager")
    line.source.reread()
    managed = line.source.present["metadata"].pop("managedFields")
    writers = {entry["manager"] for entry in managed if entry.get("subresource") == "status"}
    assert writers == {"syncline-status", "kube-controller-manager"}
    assert line.made.foreign_writer(line.source.present)
    assert line.source.write(line.made), "and it is put right"
