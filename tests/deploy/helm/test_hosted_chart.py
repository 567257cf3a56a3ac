"""The chart's hosted upstream: its commands with real etcd and Kubernetes binaries, its objects on a real API server.

Here are no containers: paths and ports of the Pod become those of this machine, nothing else of a command is changed.
"""

from __future__ import annotations

import base64
import json
import os
import random
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from deploy.helm.render import NAMESPACE, template
from deploy.local import ports
from deploy.local.assets import find
from deploy.local.components import UPSTREAM_CONTROLLERS
from deploy.local.fleet import Fleet
from syncer.cli.upstream import ADMIN_SECRET, redirected
from syncer.hub.hosted import ADMIN, CONTROLLERS, NAMES, OPERATOR, SERVER, secrets, service_name
from tests.deploy.helm.conftest import Render
from tests.support.fleet import wait_until
from tests.support.operator import ROOT

HOSTED = {"upstream.mode": "hosted"}
STARTED_SECONDS = 60.0


def test_the_pod_waits_for_secrets_that_the_job_may_write(render: Render) -> None:
    """S73: by name; nobody else's Secret can be read."""
    objects = render("syncline", HOSTED)
    rules = objects["Role", "syncline-upstream-certificates"]["rules"]
    named = [rule for rule in rules if "resourceNames" in rule]
    assert [(rule["verbs"], set(rule["resourceNames"])) for rule in named] == [(["get", "update"], set(NAMES))]
    assert [rule["verbs"] for rule in rules if rule not in named] == [["create"]]
    pod = objects["StatefulSet", "syncline-upstream"]["spec"]["template"]["spec"]
    mounted = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert mounted == {SERVER, CONTROLLERS}
    install = objects["Job", "syncline-upstream-install-1"]["spec"]["template"]["spec"]
    assert [v["secret"]["secretName"] for v in install["volumes"] if "secret" in v] == [ADMIN] == [ADMIN_SECRET]


def test_what_is_renewed_is_what_was_made(render: Render) -> None:
    objects = render("syncline", {**HOSTED, "upstream.hosted.names[0]": "up.example"})
    job = objects["Job", "syncline-upstream-certificates-1"]["spec"]["template"]
    assert objects["CronJob", "syncline-upstream-certificates"]["spec"]["jobTemplate"]["spec"]["template"] == job
    (container,) = job["spec"]["containers"]
    assert container["args"] == ["upstream", "certificates", f"--namespace={NAMESPACE}", "--name=up.example"]


def test_no_controller_of_workloads_runs(render: Render) -> None:
    """The same few as upstream on one machine."""
    (argument,) = [a for a in _commands(render("syncline", HOSTED))["controllers"] if a.startswith("--controllers=")]
    assert argument.removeprefix("--controllers=").split(",") == list(UPSTREAM_CONTROLLERS)


def test_other_modes_host_nothing(render: Render) -> None:
    assert not [
        name for _, name in render("syncline", {"upstream.mode": "host"}) if name.startswith("syncline-upstream")
    ]


def _commands(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[str, list[str]]:
    """In the order in which they start."""
    pod = objects["StatefulSet", "syncline-upstream"]["spec"]["template"]["spec"]
    return {container["name"]: container["command"] for container in pod["initContainers"] + pod["containers"]}


@dataclass
class Hosted:
    """A hosted upstream at work.

    Attributes:
        folder: of each Secret the files, as they are mounted.
    """

    folder: Path
    port: int
    data: dict[str, dict[str, bytes]]
    binaries: Path

    def write(self, name: str, data: dict[str, bytes]) -> None:
        """Bring the mounted files of a Secret to its content."""
        where = self.folder / name
        where.mkdir(mode=0o700, exist_ok=True)
        for file, content in data.items():
            (where / file).write_bytes(content.replace(b":6443", f":{self.port}".encode()))

    def kubectl(self, kubeconfig: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(self.binaries / "kubectl"), "--kubeconfig", str(kubeconfig), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30, check=False)

    def kubeconfig(self, name: str) -> Path:
        """The kubeconfig of a Secret for this machine's address, as `kubeconfig --upstream --server` makes it."""
        secret = {"data": {"kubeconfig": base64.b64encode(self.data[name]["kubeconfig"]).decode()}}
        path = self.folder / name / "redirected"
        path.write_text(yaml.safe_dump(redirected(secret, f"https://127.0.0.1:{self.port}")))
        return path


def _works(made: Hosted, kubeconfig: Path, *arguments: str) -> bool:
    return made.kubectl(kubeconfig, *arguments).returncode == 0


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory, render: Render) -> Iterator[Hosted]:
    assets = find(os.environ, note=print)
    assert assets is not None, "no control-plane binaries: make assets"
    binaries = assets.folder
    folder = tmp_path_factory.mktemp("hosted")
    pods = ("2379", "2380", "2381", "6443", "10257")
    chosen = dict(zip(pods, map(str, ports.choose(len(pods), rng=random.Random())), strict=True))
    data = secrets({}, namespace=NAMESPACE, now=datetime.now(UTC))
    made = Hosted(folder, int(chosen["6443"]), data, binaries)
    for name, content in data.items():
        made.write(name, content)
    places = {
        "/etc/syncline/server": str(folder / SERVER),
        "/etc/syncline/controllers": str(folder / CONTROLLERS),
        "/var/lib/etcd": str(folder / "etcd"),
        "--cert-dir=/tmp": f"--cert-dir={folder}/certs",
        "=0.0.0.0": "=127.0.0.1",
        "//0.0.0.0": "//127.0.0.1",
        "$(POD_IP)": "127.0.0.1",
    }
    places |= {f"127.0.0.1:{port}": f"127.0.0.1:{new}" for port, new in chosen.items()}
    places |= {f"-port={port}": f"-port={new}" for port, new in chosen.items()}
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, command in _commands(render("syncline", HOSTED)).items():
            words = []
            for word in command[1:]:
                if "service-account-issuer" not in word:
                    for place, here in places.items():
                        word = word.replace(place, here)
                words.append(word)
            with (folder / f"{name}.log").open("wb") as log:
                running.append(subprocess.Popen([str(binaries / command[0]), *words], stdout=log, stderr=log))
            if name == "apiserver":  # what comes after it gives up at once here, and is started again in a Pod
                admin = made.kubeconfig(ADMIN)
                ready = ("get", "--raw", "/readyz")
                wait_until(partial(_works, made, admin, *ready), timeout_seconds=STARTED_SECONDS)
        yield made
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)


@pytest.mark.real
def test_it_takes_kinds_and_rights_and_runs_no_workloads(hosted: Hosted, cli_install: Any) -> None:
    admin = hosted.kubeconfig(ADMIN)
    for _ in range(2):
        done = cli_install(admin)
        assert done.returncode == 0, done.stderr
    assert hosted.kubectl(admin, "create", "namespace", "shop").returncode == 0
    wait_until(lambda: hosted.kubectl(admin, "-n", "shop", "get", "sa", "default").returncode == 0, timeout_seconds=30)
    created = hosted.kubectl(admin, "-n", "shop", "create", "deployment", "web", "--image=web", "--replicas=1")
    assert created.returncode == 0, created.stderr
    time.sleep(2.0)  # nothing may happen; the ServiceAccount above shows that controllers are at work
    found = hosted.kubectl(admin, "-n", "shop", "get", "replicasets,pods", "-o", "name")
    assert (found.returncode, found.stdout) == (0, "")
    assert hosted.kubectl(admin, "delete", "namespace", "shop", "--timeout=20s").returncode == 0


@pytest.mark.real
def test_the_operator_is_no_administrator_there(hosted: Hosted, cli_install: Any) -> None:
    """S73: it has the rights of deploy/rbac, by its own certificate and files that are read again."""
    assert cli_install(hosted.kubeconfig(ADMIN)).returncode == 0
    operator = hosted.folder / OPERATOR / "kubeconfig"
    config = yaml.safe_load(operator.read_text())
    assert config["users"][0]["user"] == {"client-certificate": "tls.crt", "client-key": "tls.key"}
    config["clusters"][0]["cluster"]["tls-server-name"] = service_name(NAMESPACE)
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{hosted.port}"
    operator.write_text(yaml.safe_dump(config))
    asked = {
        "list placements.syncline.io -A": "yes",
        "create clusterrolebindings.rbac.authorization.k8s.io": "no",
        "create nodes": "no",
        "* *": "no",
    }
    for question, answer in asked.items():
        done = hosted.kubectl(operator, "auth", "can-i", *question.split())
        assert done.stdout.strip() == answer, f"{question}: {done.stdout}{done.stderr}"


@pytest.mark.real
def test_a_renewed_certificate_is_served_without_a_restart(hosted: Hosted) -> None:
    renewed = secrets(hosted.data, namespace=NAMESPACE, now=datetime.now(UTC), names=["renewed.example"])
    assert renewed[SERVER]["tls.crt"] != hosted.data[SERVER]["tls.crt"]
    hosted.write(SERVER, renewed[SERVER])

    def served() -> bool:
        shown = ssl.get_server_certificate(("127.0.0.1", hosted.port))
        return x509.load_pem_x509_certificate(shown.encode()) == x509.load_pem_x509_certificate(
            renewed[SERVER]["tls.crt"]
        )

    wait_until(served, timeout_seconds=90, every_seconds=1)
    assert hosted.kubectl(hosted.kubeconfig(ADMIN), "get", "--raw", "/readyz").returncode == 0


@pytest.fixture
def cli_install(hosted: Hosted) -> Any:
    """Run what the chart's Job runs."""

    def run(kubeconfig: Path) -> subprocess.CompletedProcess[str]:
        words = [
            "upstream",
            "install",
            "--kubeconfig",
            str(kubeconfig),
            "--manifests",
            "deploy/rbac",
            "--timeout",
            "30",
        ]
        command = [sys.executable, "-m", "syncer.cli", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.mark.real
def test_a_cluster_takes_every_object_as_restricted(helm: Path, fleet: Fleet, namespace: str) -> None:
    """S71: Pod Security Standard restricted has nothing to say."""
    fleet.kubectl("east", "create", "namespace", namespace)
    fleet.kubectl("east", "label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted")
    text = template(helm, "syncline", HOSTED).replace(f"namespace: {NAMESPACE}", f"namespace: {namespace}")
    done = fleet.kubectl("east", "apply", "--dry-run=server", "-o", "json", "-f", "-", stdin=text)
    kinds = [item["kind"] for item in json.loads(done.stdout)["items"]]
    assert {"StatefulSet", "Job", "CronJob", "Role", "NetworkPolicy"} <= set(kinds)
    assert "Warning" not in done.stderr, done.stderr
