"""What the charts render, on real API servers: every object is taken, and operator and agent work with those rights.

Both run as the ServiceAccounts of the charts, by tokens of theirs; containers they have none here.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.render import MANIFESTS, template
from deploy.local import kubeconfigs
from tests.deploy.helm.conftest import Render
from tests.deploy.helm.test_agent_chart import GIVEN
from tests.deploy.helm.test_operator_chart import HOST
from tests.support.fleet import Kubectl, start_fleet, stop_fleet, wait_until
from tests.support.process import ROOT, OperatorProcess, free_port, get

pytestmark = pytest.mark.real
NAMESPACE = "syncline-system"
NOT_SERVED = {"ServiceMonitor"}  # of the Prometheus operator


@dataclass
class Ground:
    """A light upstream with the operator's chart (mode host), and a light cluster to be a target."""

    kubectl: Kubectl
    folder: Path

    def install(self, cluster: str, manifests: str) -> None:
        """As `helm install` does, but for what would need nodes."""
        documents = [
            one for one in yaml.safe_load_all(manifests) if one["kind"] not in NOT_SERVED | {"Deployment", "Job"}
        ]
        crds = [one for one in documents if one["kind"] == "CustomResourceDefinition"]
        for part in (crds, [one for one in documents if one not in crds]):
            if part:
                self.kubectl(
                    cluster, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(part)
                )

    def service_account(self, cluster: str, name: str) -> Path:
        """A kubeconfig with a token of it and no other right."""
        found = self.kubectl.fleet.clusters[cluster]
        token = self.kubectl(cluster, "-n", NAMESPACE, "create", "token", name).strip()
        config = kubeconfigs.load(found.kubeconfig)
        config["users"][0]["user"] = {"token": token}
        path = self.folder / f"{cluster}-{name}.yaml"
        path.write_text(kubeconfigs.as_text(config))
        path.chmod(0o600)
        return path

    def syncline(self, *arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        config = kubeconfig or self.kubectl.fleet.upstream.kubeconfig
        command = [sys.executable, "-m", "syncer.cli", *arguments, "--kubeconfig", str(config)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, helm: Path) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("charts")
    fleet = start_fleet(folder / "fleet", targets=("east",), light=True)
    made = Ground(Kubectl(fleet), folder)
    restricted = "pod-security.kubernetes.io/"
    for cluster in ("upstream", "east"):
        made.kubectl(cluster, "create", "namespace", NAMESPACE)
        for mode in ("enforce", "warn"):
            made.kubectl(cluster, "label", "namespace", NAMESPACE, f"{restricted}{mode}=restricted")
    made.install("upstream", template(helm, "syncline", {**HOST, "cleanup": "true"}))
    made.install("east", template(helm, "syncline-agent", GIVEN))
    yield made
    stop_fleet(fleet)


@pytest.fixture(scope="module")
def operator(ground: Ground) -> Iterator[OperatorProcess]:
    """With the rights of the chart, and none more."""
    identity = ground.service_account("upstream", "syncline-operator")
    started = OperatorProcess(ground.folder / "operator", identity)
    started.until_ready()
    yield started
    started.end()
    assert "Traceback" not in started.log
    assert "orbidden" not in started.log


def golden() -> list[Path]:
    more = [path for path in (Path(__file__).parent / "golden").glob("*.yaml") if ".values" not in path.suffixes]
    return sorted([*MANIFESTS.glob("*.yaml"), *more])


@pytest.mark.parametrize("path", golden(), ids=lambda path: path.stem)
def test_a_real_api_server_takes_every_rendered_object(ground: Ground, path: Path) -> None:
    """S71: its own schemas, strictly, so an unknown field is an error; and its Pod Security admission, restricted."""
    documents = [one for one in yaml.safe_load_all(path.read_text()) if one["kind"] not in NOT_SERVED]
    command = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
    answer = ground.kubectl.attempt("upstream", *command, stdin=yaml.safe_dump_all(documents))
    assert answer.returncode == 0, answer.stderr
    assert "PodSecurity" not in answer.stderr
    assert len(answer.stdout.splitlines()) == len(documents)


def test_pod_security_would_tell(ground: Ground, render: Render) -> None:
    """The test above can fail: a Deployment that is not restricted is warned of."""
    deployment = render("syncline", HOST)["Deployment", "syncline-operator"]
    deployment["spec"]["template"]["spec"]["securityContext"] = {}
    command = ("apply", "--dry-run=server", "-f", "-")
    assert "PodSecurity" in ground.kubectl.attempt("upstream", *command, stdin=json.dumps(deployment)).stderr


def test_the_operator_works_with_the_rights_of_the_chart(ground: Ground, operator: OperatorProcess) -> None:
    """S73: it fills the webhook configurations that the release made, and would not be allowed to make one."""
    found = ground.kubectl.get("upstream", "validatingwebhookconfiguration", "syncline.io")
    assert found is not None
    assert [one["name"] for one in found["webhooks"]] == ["validate.webhooks.syncline.io"]
    assert found["metadata"]["labels"]["app.kubernetes.io/name"] == "syncline"
    asked = ("auth", "can-i", "create", "validatingwebhookconfigurations")
    identity = f"--as=system:serviceaccount:{NAMESPACE}:syncline-operator"
    assert ground.kubectl.attempt("upstream", *asked, identity).stdout.strip() == "no"
    placement = {
        "apiVersion": "syncline.io/v1alpha1", "kind": "Placement", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"resources": [{"apiVersion": "v1", "kind": "ConfigMap", "names": ["a"]}], "targets": {"names": ["x"]}},
    }  # fmt: skip
    placed = ground.kubectl.attempt("upstream", "apply", "-f", "-", stdin=json.dumps(placement))
    assert "TargetNotFound" in placed.stderr  # the webhook's warning: it was asked, and answered


class AgentProcess:
    """`syncline agent` as the chart starts it, in a folder of its own as a Pod has."""

    def __init__(self, ground: Ground, pod: str, *options: str) -> None:
        self.port = free_port()
        self.log_file = ground.folder / f"{pod}.log"
        identity = ground.service_account("east", "syncline-agent")
        secret = f"{NAMESPACE}/syncline-agent-credentials"
        command = [
            sys.executable, "-m", "syncer.cli", "agent", "--credentials", str(ground.folder / pod / "agent"),
            "--credentials-secret", secret, "--http-bind", f"127.0.0.1:{self.port}", "--kubeconfig", str(identity),
            *options,
        ]  # fmt: skip
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, cwd=ROOT)

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log_file.read_text()[-3000:]
        try:
            return get(f"http://127.0.0.1:{self.port}/readyz").status == 200
        except OSError:
            return False

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def start(ground: Ground) -> Iterator[Callable[..., AgentProcess]]:
    started: list[AgentProcess] = []

    def make(pod: str, *options: str) -> AgentProcess:
        started.append(AgentProcess(ground, pod, *options))
        return started[-1]

    yield make
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(10)


def test_an_agent_joins_by_itself_and_is_itself_again_in_another_pod(
    ground: Ground, operator: OperatorProcess, start: Callable[..., AgentProcess], tmp_path: Path
) -> None:
    """S73: with the rights of the chart. The token is used once; the next Pod has neither folder nor token."""
    told: dict[str, Any] = json.loads(ground.syncline("token", "create", "east", "-o", "json").stdout)
    token = tmp_path / "token"
    token.write_text(told["token"])
    joining = ("--token-file", str(token), "--hub", told["hub"], "--ca-hash", told["caHash"], "--target", "east")
    first = start("first", *joining)
    wait_until(lambda: "waits for: syncline approve east" in first.log_file.read_text(), timeout_seconds=60)
    waiting = get(f"http://127.0.0.1:{first.port}/readyz")
    assert waiting.status == 503
    assert "waits for: syncline approve east" in waiting.text
    assert get(f"http://127.0.0.1:{first.port}/healthz").status == 200
    assert first.end() == 0  # ended while somebody thinks about it: the next one asks with the same key
    second = start("second", *joining)
    wait_until(lambda: ground.syncline("approve", "east").returncode == 0, timeout_seconds=60)
    wait_until(second.ready, timeout_seconds=60)
    assert second.end() == 0
    token.unlink()
    third = start("third", *joining)
    wait_until(third.ready, timeout_seconds=60)

    def connected() -> bool:
        target = ground.kubectl.get("upstream", "synctarget", "east") or {}
        conditions = target.get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    wait_until(connected, timeout_seconds=60)
    clean_up(ground)
    logs = "".join(one.log_file.read_text() for one in (first, second, third))
    assert told["token"].partition(".")[2] not in logs
    assert "Traceback" not in logs
    assert third.end() == 0


def clean_up(ground: Ground) -> None:
    """As the Job before an uninstallation with cleanup=true: with its own rights, and again when nothing is left."""
    ground.kubectl("upstream", "create", "configmap", "placed", "--from-literal=a=b")
    spec = {
        "resources": [{"apiVersion": "v1", "kind": "ConfigMap", "names": ["placed"]}],
        "targets": {"names": ["east"]},
    }
    placement = {
        "apiVersion": "syncline.io/v1alpha1",
        "kind": "Placement",
        "metadata": {"name": "placed"},
        "spec": spec,
    }
    ground.kubectl("upstream", "apply", "-f", "-", stdin=json.dumps(placement))
    wait_until(lambda: ground.kubectl.get("east", "configmap", "placed", "default"), timeout_seconds=30)
    identity = ground.service_account("upstream", "syncline-cleanup")
    done = ground.syncline("target", "remove", "--all", kubeconfig=identity)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Targets removed: east."
    assert ground.kubectl.get("east", "configmap", "placed", "default") is None
    assert ground.kubectl.get("upstream", "synctarget", "east") is None
    again = ground.syncline("target", "remove", "--all", kubeconfig=identity)
    assert (again.returncode, again.stdout.strip()) == (0, "There are no targets.")


def test_an_agent_says_why_it_does_not_join(
    ground: Ground, operator: OperatorProcess, start: Callable[..., AgentProcess], tmp_path: Path
) -> None:
    """Wrong hash, used token, no hub: the last words name the cause and the way out, and hold no secret."""
    told: dict[str, Any] = json.loads(ground.syncline("token", "create", "west", "-o", "json").stdout)
    ground.kubectl("east", "-n", NAMESPACE, "patch", "secret", "syncline-agent-credentials", "--type=json", "-p",
                   '[{"op": "remove", "path": "/data"}]')  # fmt: skip
    token = tmp_path / "token"
    token.write_text(told["token"])
    unused = f"{'0' * 12}.{'A' * 43}"
    cases = {
        "hash": ("sha256:" + "0" * 64, told["hub"], told["token"], "--ca-hash names another"),
        "expired": (told["caHash"], told["hub"], unused, "the bootstrap token is not accepted"),
        "nohub": (told["caHash"], f"https://127.0.0.1:{free_port()}", told["token"], "cannot be reached"),
    }
    for case, (ca_hash, hub, text, said) in cases.items():
        token.write_text(text)
        failing = start(case, "--token-file", str(token), "--hub", hub, "--ca-hash", ca_hash, "--target", "west")
        assert failing.process.wait(60) == 1
        log = failing.log_file.read_text()
        assert said in log, log
        assert text.partition(".")[2] not in log
        assert "Traceback" not in log


def test_after_an_uninstall_no_webhook_comes_back(ground: Ground, operator: OperatorProcess) -> None:
    """A webhook that nobody answers would refuse every placement; last, since it takes the webhooks away."""
    ground.kubectl("upstream", "delete", "validatingwebhookconfiguration,mutatingwebhookconfiguration", "syncline.io")
    operator.send(signal.SIGTERM)
    assert operator.wait() == 0
    again = OperatorProcess(ground.folder / "again", ground.service_account("upstream", "syncline-operator"))
    try:
        wait_until(lambda: "webhook configurations not written" in again.log, timeout_seconds=60)
        assert ground.kubectl.get("upstream", "validatingwebhookconfiguration", "syncline.io") is None
    finally:
        again.end()
