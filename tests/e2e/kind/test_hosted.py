"""Mode `hosted`, the default: the chart brings the upstream too, and plain workloads are applied to it.

It is installed beside the other one, in a namespace of its own; the cluster that runs its Pods is its target.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.local.kind import engine
from deploy.local.kind.provider import kind_name
from deploy.local.kind.site import node_of
from tests.e2e.kind.manifests import web
from tests.e2e.manifests import config_map, namespace, placement
from tests.support.fleet import wait_until
from tests.support.incluster import CHARTS, WAIT, InCluster, Measured, as_flags
from tests.support.operator import condition
from tests.support.process import free_port

RELEASE = "hosted"  # namespace of the release
CLUSTER = "upstream"
SHOP = "hosted-shop"
PORT = 30444
FAR, FAR_SHOP = "west", "hosted-far"  # a second target, by an agent: its node may stop without the hub's


class Hosted:
    """A hosted upstream.

    Attributes:
        kubeconfig: of its administrator, as the CLI prints it.
        install_seconds: from `helm install` to Ready Pods, upstream included.
    """

    def __init__(self, installed: InCluster) -> None:
        self.installed = installed
        self.kubeconfig = installed.scratch / "hosted.kubeconfig"
        self.install_seconds = 0.0

    def install(self) -> None:
        """`helm install` with the address by which this test reaches it, and nothing else that is not the default."""
        address = self.installed.fleet.upstream.address
        values = (
            *self.installed.image, f"hub.externalURL=https://{address}:{PORT}", "hub.service.type=NodePort",
            f"hub.service.nodePort={PORT}", "upstream.hosted.service.type=NodePort",
            f"upstream.hosted.names={{{address}}}",
        )  # fmt: skip
        began = time.monotonic()
        self.helm("install", "syncline", str(CHARTS / "syncline"), *as_flags(values), *WAIT)
        self.install_seconds = time.monotonic() - began
        found = self.installed.kubectl.get(CLUSTER, "service", "syncline-upstream", RELEASE)
        assert found is not None
        port = found["spec"]["ports"][0]["nodePort"]
        said = self.installed.must("kubeconfig", "--upstream", "-n", RELEASE, "--server", f"https://{address}:{port}")
        self.kubeconfig.write_text(said)

    def helm(self, *arguments: str) -> str:
        return self.installed.helm(CLUSTER, *arguments, namespace=RELEASE)

    def attempt(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl at the hosted upstream."""
        kubectl = str(self.installed.fleet.assets / "kubectl")
        return self.installed.run(kubectl, *arguments, stdin=stdin, kubeconfig=self.kubeconfig)

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints; it has to succeed."""
        done = self.attempt(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def apply(self, *manifests: Mapping[str, Any]) -> str:
        return self("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))

    def ready(self) -> bool:
        return self.attempt("get", "--raw", "/readyz", "--request-timeout=2s").returncode == 0

    def copies(self) -> dict[str, str]:
        """{kind/name: uid} of what stands on the target."""
        found = self.installed.kubectl.items(CLUSTER, "deployments,configmaps,pods", SHOP)
        return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["uid"] for item in found}


@pytest.fixture(scope="module")
def hosted(installed: InCluster) -> Iterator[Hosted]:
    made = Hosted(installed)
    installed.prepare(CLUSTER, RELEASE)
    made.install()
    kubeconfig, address = str(installed.fleet.upstream.kubeconfig), installed.fleet.upstream.address
    target = ("--target-kubeconfig", kubeconfig, "--server", f"https://{address}:6443")
    installed.must("target", "add", "here", *target, kubeconfig=made.kubeconfig)
    placed = placement(SHOP, "shop", ["here"])
    made.apply(namespace(SHOP), with_namespace(web()), config_map(SHOP, "settings", color="blue"), placed)
    yield made
    installed.must("target", "remove", "here", kubeconfig=made.kubeconfig)
    made.helm("uninstall", "syncline", "--wait")
    installed.kubectl(CLUSTER, "delete", "namespace", RELEASE, SHOP, "--wait=false")


def with_namespace(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest | {"metadata": manifest["metadata"] | {"namespace": SHOP}}


def test_a_plain_deployment_applied_there_runs_and_reports(hosted: Hosted, measured: Measured) -> None:
    """Nothing upstream runs it: its Pods are on the target, and its status comes from there."""
    measured("helm install of a hosted upstream to Ready Pods", hosted.install_seconds, "s")
    hosted("-n", SHOP, "wait", "deployment/web", "--for=condition=Available", "--timeout=60s")
    found = json.loads(hosted("-n", SHOP, "get", "deployment", "web", "-o", "json"))
    assert found["status"]["readyReplicas"] == 1
    assert json.loads(hosted("get", "pods", "-A", "-o", "json"))["items"] == []
    for pod in hosted.installed.kubectl.items(CLUSTER, "pods", RELEASE):
        assert [state["restartCount"] for state in pod["status"]["containerStatuses"] if state["restartCount"]] == []
    assert {name.partition("-")[0] for name in hosted.copies()} >= {"Deployment/web", "Pod/web", "ConfigMap/settings"}


def test_doctor_finds_it_in_order(hosted: Hosted) -> None:
    done = hosted.installed.syncline("doctor", kubeconfig=hosted.kubeconfig)
    assert done.returncode == 0, done.stdout + done.stderr


def test_admission_of_the_hosted_upstream_is_the_operators(hosted: Hosted) -> None:
    """Its API server reaches the webhooks by the Service's name."""
    bad = placement(SHOP, "bad", ["here"]) | {"spec": {"resources": [], "targets": {"names": ["here"], "all": True}}}
    done = hosted.attempt("apply", "-f", "-", stdin=json.dumps(bad))
    assert done.returncode != 0
    assert "spec.targets" in done.stderr


def test_it_is_reached_through_a_port_forward(hosted: Hosted, tmp_path: Path) -> None:
    """As the docs say for a desk that no Service reaches."""
    installed, port = hosted.installed, free_port()
    forward = ["-n", RELEASE, "port-forward", "service/syncline-upstream", f"{port}:6443"]
    command = [str(installed.fleet.assets / "kubectl"), f"--kubeconfig={installed.fleet.upstream.kubeconfig}", *forward]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as forwarding:
        try:
            path = tmp_path / "kubeconfig"
            path.write_text(
                installed.must("kubeconfig", "--upstream", "-n", RELEASE, "--server", f"https://127.0.0.1:{port}")
            )
            kubectl = str(installed.fleet.assets / "kubectl")
            asked = (kubectl, "get", "placements", "-n", SHOP, "-o", "name")
            wait_until(lambda: "shop" in installed.run(*asked, kubeconfig=path).stdout, every_seconds=0.5)
        finally:
            forwarding.terminate()


def test_its_pod_may_go_and_come(hosted: Hosted) -> None:
    """While it is away nothing on the target changes; then it has its data, and changes are followed again."""
    hosted("-n", SHOP, "wait", "deployment/web", "--for=condition=Available", "--timeout=60s")
    before = hosted.copies()
    hosted.installed.kubectl(CLUSTER, "-n", RELEASE, "delete", "pod", "syncline-upstream-0", timeout_seconds=90)
    wait_until(hosted.ready, timeout_seconds=120, every_seconds=0.5)
    hosted.apply(config_map(SHOP, "settings", color="green"))
    wait_until(lambda: color(hosted) == "green", timeout_seconds=90, every_seconds=0.5)
    assert hosted.copies() == before


def test_certificates_made_anew_are_taken_up_without_a_restart(hosted: Hosted) -> None:
    """The CronJob's Pod, run by hand: what is good stays; a Secret that is lost is made again and works."""
    kubectl = hosted.installed.kubectl
    before = [pod["metadata"]["uid"] for pod in kubectl.items(CLUSTER, "pods", RELEASE)]
    kubectl(CLUSTER, "-n", RELEASE, "delete", "secret", "syncline-upstream-operator")
    kubectl(CLUSTER, "-n", RELEASE, "create", "job", "by-hand", "--from=cronjob/syncline-upstream-certificates")
    kubectl(CLUSTER, "-n", RELEASE, "wait", "job/by-hand", "--for=condition=Complete", "--timeout=60s")
    said = kubectl(CLUSTER, "-n", RELEASE, "logs", "job/by-hand")
    assert said.strip() == "written: syncline-upstream-operator"
    hosted.apply(config_map(SHOP, "settings", color="red"))
    wait_until(lambda: color(hosted) == "red", timeout_seconds=60, every_seconds=0.5)
    after = [pod["metadata"]["uid"] for pod in kubectl.items(CLUSTER, "pods", RELEASE)]
    assert set(before) <= set(after)


def far_condition(hosted: Hosted) -> dict[str, Any]:
    """`Available` of the Deployment that runs far away, as upstream tells it."""
    found = json.loads(hosted("-n", FAR_SHOP, "get", "deployment", "web", "-o", "json"))
    return condition(found, "Available")


def test_a_deployment_on_a_node_that_stopped_is_unknown_upstream(hosted: Hosted) -> None:
    """The agent is installed and uninstalled by helm, too. Nothing is deleted, and no Pod is made anew."""
    installed = hosted.installed
    installed.prepare(FAR, RELEASE)
    installed.install_agent(FAR, namespace=RELEASE, upstream=hosted.kubeconfig)
    shop = {"metadata": web()["metadata"] | {"namespace": FAR_SHOP}}
    hosted.apply(namespace(FAR_SHOP), web() | shop, placement(FAR_SHOP, "shop", [FAR]))
    wait_until(lambda: far_condition(hosted).get("status") == "True", timeout_seconds=90, every_seconds=0.5)
    uids = (FAR, "-n", FAR_SHOP, "get", "deployments,pods", "-o", "jsonpath={.items[*].metadata.uid}")
    before = installed.kubectl(*uids)
    engine.docker("pause", node_of(kind_name(FAR)))
    try:
        wait_until(lambda: far_condition(hosted).get("status") == "Unknown", timeout_seconds=90, every_seconds=1)
    finally:
        engine.docker("unpause", node_of(kind_name(FAR)))
    wait_until(lambda: far_condition(hosted).get("status") == "True", timeout_seconds=90, every_seconds=0.5)
    assert installed.kubectl(*uids) == before
    installed.must("target", "remove", FAR, kubeconfig=hosted.kubeconfig)
    assert installed.kubectl.get(FAR, "deployment", "web", FAR_SHOP) is None
    installed.helm(FAR, "uninstall", "syncline-agent", "--wait", namespace=RELEASE)
    found = installed.kubectl.items(FAR, "clusterroles,clusterrolebindings")
    assert [item for item in found if item["metadata"]["name"] == f"syncline-agent-{RELEASE}"] == []
    installed.kubectl(FAR, "delete", "namespace", RELEASE, "--wait=false")
    installed.until_targets_are_ready(timeout_seconds=120)  # the other installation's, of which this node is one


def test_a_release_that_comes_again_finds_its_upstream(hosted: Hosted) -> None:
    """`helm uninstall` keeps the claim and the Secrets; what runs on the target never noticed."""
    hosted("-n", SHOP, "wait", "deployment/web", "--for=condition=Available", "--timeout=60s")
    before = hosted.copies()
    hosted.helm("uninstall", "syncline", "--wait")
    assert hosted.copies() == before
    hosted.install()
    wait_until(hosted.ready, timeout_seconds=60, every_seconds=0.5)
    hosted.apply(config_map(SHOP, "settings", color="white"))
    wait_until(lambda: color(hosted) == "white", timeout_seconds=90, every_seconds=0.5)
    assert hosted.copies() == before


def color(hosted: Hosted) -> str:
    found = hosted.installed.kubectl.get(CLUSTER, "configmap", "settings", SHOP)
    return str(found["data"]["color"]) if found is not None else ""
