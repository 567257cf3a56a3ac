"""helm installs, upgrades and uninstalls, on a real API server whose nodes are fake: no process runs in the Pods."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.helm.render import CHARTS
from deploy.helm.tool import run
from tests.deploy.helm.test_agent_chart import GIVEN
from tests.support.fleet import Kubectl, start_fleet, stop_fleet

pytestmark = pytest.mark.real
CLUSTER = "east"
NAMESPACE = "syncline-system"
CONFIGURATION = "validatingwebhookconfiguration"
TARGET = {
    "apiVersion": "syncline.io/v1alpha1",
    "kind": "SyncTarget",
    "metadata": {"name": "west"},
    "spec": {"connection": {"tunnel": {}}},
}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    fleet = start_fleet(tmp_path_factory.mktemp("release") / "fleet", targets=(CLUSTER,))
    yield Kubectl(fleet)
    stop_fleet(fleet)


def release(helm: Path, kubectl: Kubectl, *words: str, values: dict[str, str] | None = None) -> str:
    """A helm command on the cluster."""
    sets = [word for path, value in (values or {}).items() for word in ("--set", f"{path}={value}")]
    where = ("--kubeconfig", str(kubectl.fleet.clusters[CLUSTER].kubeconfig), "--namespace", NAMESPACE)
    return run(helm, [*words, *where, *sets], timeout_seconds=110)


def found(kubectl: Kubectl, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
    return kubectl.get(CLUSTER, kind, name, namespace)


def test_install_upgrade_and_uninstall_keep_what_is_not_the_release_s(helm: Path, kubectl: Kubectl) -> None:
    """Kinds, targets and what the operator wrote outlive an upgrade; kinds and targets an uninstallation too."""
    chart, host = str(CHARTS / "syncline"), {"upstream.mode": "host"}
    said = release(helm, kubectl, "install", "syncline", chart, "--create-namespace", "--wait", values=host)
    assert "UPSTREAM IS THIS CLUSTER" in said
    assert "Applied in the wrong context?" in said
    operator = found(kubectl, "deployment", "syncline-operator", NAMESPACE)
    assert operator is not None
    assert operator["status"]["readyReplicas"] == 2
    kubectl(CLUSTER, "wait", "--for=condition=Established", "crd/synctargets.syncline.io", "--timeout=30s")
    kubectl.apply(CLUSTER, TARGET)
    target = found(kubectl, "synctarget", "west")
    webhook = {  # as the operator would fill it in
        "name": "validate.webhooks.syncline.io", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"namespace": NAMESPACE, "name": "syncline-webhook", "path": "/validate"}},
        "failurePolicy": "Ignore",
    }  # fmt: skip
    kubectl(CLUSTER, "patch", CONFIGURATION, "syncline.io", "--type=merge", "-p", json.dumps({"webhooks": [webhook]}))

    more = {**host, "replicas": "3", "cleanup": "true"}
    release(helm, kubectl, "upgrade", "syncline", chart, "--wait", values=more)
    operator, kept = found(kubectl, "deployment", "syncline-operator", NAMESPACE), found(kubectl, "synctarget", "west")
    assert operator is not None
    assert operator["status"]["readyReplicas"] == 3
    assert kept is not None
    assert target is not None
    assert kept["metadata"]["uid"] == target["metadata"]["uid"]
    configuration = found(kubectl, CONFIGURATION, "syncline.io")
    assert configuration is not None
    assert [one["name"] for one in configuration["webhooks"]] == ["validate.webhooks.syncline.io"]

    release(helm, kubectl, "uninstall", "syncline", "--wait", "--timeout", "100s")  # its hook's Job completes
    for kind, name, namespace in (
        ("deployment", "syncline-operator", NAMESPACE),
        (CONFIGURATION, "syncline.io", ""),
        ("clusterrole", "syncline-operator", ""),
        ("clusterrole", "syncline-cleanup", ""),
        ("job", "syncline-cleanup", NAMESPACE),
        ("serviceaccount", "syncline-cleanup", NAMESPACE),
    ):
        assert found(kubectl, kind, name, namespace) is None, f"{kind}/{name}"
    assert found(kubectl, "synctarget", "west") is not None
    again = release(helm, kubectl, "install", "syncline", chart, "--wait", values=host)  # over the kinds that stayed
    assert "STATUS: deployed" in again
    release(helm, kubectl, "uninstall", "syncline", "--wait")


def test_the_agent_s_release_leaves_its_credentials_alone(helm: Path, kubectl: Kubectl) -> None:
    """What the agent wrote outlives upgrades, those without its used-up token too; the uninstallation takes it."""
    chart = str(CHARTS / "syncline-agent")
    said = release(helm, kubectl, "install", "agent", chart, "--create-namespace", "--wait", values=GIVEN)
    assert "syncline approve east" in said
    assert GIVEN["token"] not in said
    secret = "syncline-agent-credentials"
    kubectl(CLUSTER, "-n", NAMESPACE, "patch", "secret", secret, "--type=merge", "-p", '{"data":{"agent.pem":"eA=="}}')
    values = {path: value for path, value in GIVEN.items() if path != "token"}
    release(helm, kubectl, "upgrade", "agent", chart, "--wait", values=values)
    kept = found(kubectl, "secret", secret, NAMESPACE)
    assert kept is not None
    assert kept["data"] == {"agent.pem": "eA=="}
    assert found(kubectl, "secret", "syncline-agent-token", NAMESPACE) is None
    release(helm, kubectl, "uninstall", "agent", "--wait")
    assert found(kubectl, "secret", secret, NAMESPACE) is None
