"""What `helm install` gives: Pods that are Ready, restricted, small, and targets that joined by themselves."""

from __future__ import annotations

import re

import pytest

from deploy.local.kind import engine
from deploy.local.kind.provider import kind_name
from deploy.local.kind.site import node_of
from tests.support.fleet import wait_until
from tests.support.incluster import AGENT, NAMESPACE, OPERATOR, InCluster, Measured


def rss_mib(cluster: str, component: str) -> list[float]:
    """Resident memory of each of our processes on a cluster's node, shared pages included."""
    asked = f"for pid in $(pgrep -f '[s]yncline {component} '); do grep VmRSS /proc/$pid/status; done"
    said = engine.docker("exec", node_of(kind_name(cluster)), "sh", "-c", asked)
    return [int(found) / 1024 for found in re.findall(r"VmRSS:\s+(\d+) kB", said)]


def test_operator_is_ready_and_told_how_long_it_took(installed: InCluster, measured: Measured) -> None:
    """Two replicas, one of which leads; the hub is told under the address that targets dial."""
    if installed.install_seconds:  # else an earlier run installed it
        measured("helm install to Ready operator Pods", installed.install_seconds, "s")
    assert len(installed.pods("upstream", "operator")) == 2
    told = installed.kubectl.get("upstream", "configmap", "syncline-hub", NAMESPACE)
    assert told is not None
    assert told["data"]["url"].startswith(f"https://{installed.fleet.upstream.address}:")
    lease = installed.kubectl.get("upstream", "lease", "syncline-operator", NAMESPACE)
    assert lease is not None
    holders = [pod["metadata"]["name"] for pod in installed.pods("upstream", "operator")]
    assert any(name in lease["spec"]["holderIdentity"] for name in holders)


def test_targets_joined_with_nothing_but_a_token(installed: InCluster) -> None:
    """Tunnelled and Ready; the credentials lie in a Secret of the target, and `syncline doctor` finds nothing wrong."""

    def links(name: str) -> int:
        found = installed.kubectl.get("upstream", "synctarget", name)
        return int(found["status"]["tunnel"]["links"]) if found is not None else 0

    for name in installed.fleet.targets:  # one to each replica, though a Service chooses for them
        wait_until(lambda name=name: links(name) == 2, timeout_seconds=60, every_seconds=0.5)  # type: ignore[misc]
    for name in installed.fleet.targets:
        target = installed.kubectl.get("upstream", "synctarget", name)
        assert target is not None
        assert target["spec"]["connection"] == {"tunnel": {}}
        secret = installed.kubectl.get(name, "secret", "syncline-agent-credentials", NAMESPACE)
        assert secret is not None
        assert secret["data"]
    done = installed.syncline("doctor")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("cluster", "workload"), [("upstream", OPERATOR), ("east", AGENT), ("west", AGENT)])
def test_pods_pass_restricted_and_cannot_write_their_image(installed: InCluster, cluster: str, workload: str) -> None:
    """S71: seen on running containers, in a namespace that enforces the profile; no shell in them."""
    component = "operator" if workload == OPERATOR else "agent"
    for pod in installed.pods(cluster, component):
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (state,) = pod["status"]["containerStatuses"]
        assert state["ready"]
        assert state["restartCount"] == 0
    shell = installed.kubectl.attempt(cluster, "-n", NAMESPACE, "exec", workload, "--", "sh", "-c", "true")
    assert shell.returncode != 0
    assert "executable file not found" in shell.stderr or "no such file" in shell.stderr


def test_pods_do_what_their_roles_allow_and_nothing_else(installed: InCluster) -> None:
    """S73: neither operator nor agent was refused anything, and neither met an error that it had not been taught."""
    for cluster, workload in (("upstream", OPERATOR), *((name, AGENT) for name in installed.fleet.targets)):
        said = installed.kubectl(cluster, "-n", NAMESPACE, "logs", workload, "--all-pods=true", "--tail=-1")
        assert said
        strange = [line for line in said.splitlines() if "Traceback" in line or "orbidden" in line]
        assert not strange, f"{cluster}: {strange[:5]}"


def test_pods_fit_into_the_memory_that_they_are_given(installed: InCluster, measured: Measured) -> None:
    """No more than the charts request, so that a full node does not evict them."""
    for cluster, component, requested in (("upstream", "operator", 128), ("east", "agent", 96)):

        def found(cluster: str = cluster, component: str = component) -> list[float]:
            sizes = rss_mib(cluster, component)
            assert len(sizes) == len(installed.pods(cluster, component))  # those of tests before have ended
            return sizes

        for mib in wait_until(found, timeout_seconds=60, every_seconds=1):
            measured(f"RSS of a Pod: {component}", mib, "MiB")
            assert mib < requested
