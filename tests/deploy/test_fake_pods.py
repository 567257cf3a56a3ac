"""A fleet of real control planes as people use it: fake Pods that answer, plain users, kubectl in a shell."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request

import pytest

from deploy.local.errors import GroundError
from deploy.local.fleet import Fleet
from tests.support.fleet import Kubectl, wait_until

CLI = [sys.executable, "-m", "deploy.local"]


@pytest.fixture
def pod(kubectl: Kubectl, namespace: str) -> tuple[str, str]:
    """A running fake Pod on east, as (namespace, name)."""
    kubectl("east", "create", "namespace", namespace)
    kubectl("east", "-n", namespace, "create", "deployment", "web", "--image=nginx:1.27")
    kubectl("east", "-n", namespace, "wait", "deployment/web", "--for=condition=Available", "--timeout=20s")
    return namespace, kubectl.items("east", "pods", namespace)[0]["metadata"]["name"]


def test_a_deployment_runs_on_a_target_and_its_pods_answer_logs_and_exec(
    kubectl: Kubectl, pod: tuple[str, str]
) -> None:
    namespace, name = pod
    assert "fake Pods all say this line" in kubectl("east", "-n", namespace, "logs", name, timeout_seconds=10)
    assert kubectl("east", "-n", namespace, "exec", name, "--", "echo", "hi", timeout_seconds=10) == "hi\n"


def test_a_port_of_a_fake_pod_can_be_forwarded(kubectl: Kubectl, pod: tuple[str, str]) -> None:
    namespace, name = pod
    east = kubectl.fleet.targets["east"]
    command = [str(kubectl.fleet.assets / "kubectl"), f"--kubeconfig={east.kubeconfig}", "-n", namespace]
    with subprocess.Popen(
        [*command, "port-forward", name, ":80"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as forward:
        try:
            assert forward.stdout is not None
            port = int(forward.stdout.readline().split("->")[0].rpartition(":")[2])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
                assert answer.read() == b"ok"
        finally:
            forward.kill()


def test_upstream_starts_no_pods(kubectl: Kubectl, namespace: str) -> None:
    kubectl("upstream", "-n", namespace, "create", "deployment", "web", "--image=nginx:1.27")
    kubectl("upstream", "-n", namespace, "create", "configmap", "later")
    assert kubectl.items("upstream", "replicasets", namespace) == []
    assert kubectl.items("upstream", "serviceaccounts", namespace)[0]["metadata"]["name"] == "default"


def test_a_plain_user_may_do_nothing_until_rbac_says_so(kubectl: Kubectl, namespace: str) -> None:
    alice = kubectl.fleet.upstream.user("alice")
    look = ("-n", namespace, "get", "configmaps")
    refused = kubectl.attempt("upstream", *look, kubeconfig=alice)
    assert refused.returncode == 1
    assert 'User "alice" cannot list resource "configmaps"' in refused.stderr
    kubectl("upstream", "-n", namespace, "create", "rolebinding", "alice", "--clusterrole=view", "--user=alice")
    wait_until(lambda: kubectl.attempt("upstream", *look, kubeconfig=alice).returncode == 0)


def test_a_user_of_one_cluster_is_nobody_on_another(kubectl: Kubectl) -> None:
    fleet = kubectl.fleet
    config = json.loads(fleet.upstream.user("alice").read_text())
    config["clusters"] = json.loads(fleet.targets["east"].kubeconfig.read_text())["clusters"]
    config["contexts"][0]["context"]["cluster"] = "east"
    stranger = fleet.folder / "stranger.kubeconfig"
    stranger.write_text(json.dumps(config))
    said = kubectl.attempt("east", "get", "namespaces", kubeconfig=stranger)
    stranger.unlink()
    assert said.returncode == 1
    assert "Unauthorized" in said.stderr or "provide credentials" in said.stderr


def test_kubectl_that_does_not_end_is_ended(kubectl: Kubectl) -> None:
    with pytest.raises(GroundError, match=r"did not end within 0\.5 s"):
        kubectl("east", "get", "namespaces", "--watch", timeout_seconds=0.5)


def test_make_env_gives_a_shell_that_reaches_every_cluster(fleet: Fleet) -> None:
    lines = subprocess.run(
        [*CLI, "env", "--dir", str(fleet.folder)], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    script = f"{lines}\nfor name in upstream east west; do kubectl --context $name get --raw=/readyz; echo; done"
    said = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.split() == ["ok", "ok", "ok"]
