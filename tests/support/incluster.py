"""Syncline as Pods: the charts installed by helm on a kind fleet, and people who go through its hub.

`make e2e PROVIDER=kind` makes the fleet, and runs these tests in its network; elsewhere they are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deploy.local.fleet import Fleet
from tests.support.fleet import REUSE_VARIABLE, Kubectl, wait_until
from tests.support.operator import ROOT, condition

ARCHIVE_VARIABLE = "SYNCLINE_TEST_ARCHIVE"  # for `python -m tests.e2e kind`: an archive of the image, already built
IMAGE_VARIABLE = "SYNCLINE_TEST_IMAGE"
HELM_VARIABLE = "SYNCLINE_TEST_HELM"
NEEDED = (REUSE_VARIABLE, IMAGE_VARIABLE, HELM_VARIABLE)
REASON = "" if all(os.environ.get(name) for name in NEEDED) else "real containers: make e2e PROVIDER=kind runs it"

NAMESPACE = "syncline-system"
HUB_PORT = 30443
CHARTS = ROOT / "deploy" / "helm"
OPERATOR, AGENT = "deployment/syncline-operator", "deployment/syncline-agent"
INSTALL_SECONDS = 180.0


class InCluster:
    """The operator on the upstream cluster (mode `host`), an agent on each target.

    Attributes:
        image: values of the charts that say which one.
        install_seconds: from `helm install` to Ready operator Pods.
    """

    def __init__(self, folder: Path, image: str, helm: str, scratch: Path) -> None:
        self.fleet = Fleet.load(folder)
        self.kubectl = Kubectl(self.fleet)
        self.scratch = scratch
        self.install_seconds = 0.0
        self._helm = helm
        repository, _, tag = image.rpartition(":")
        self.image = ("image.registry=docker.io", f"image.repository=library/{repository}", f"image.tag={tag}")

    def run(
        self, *command: str, timeout_seconds: float = 120, stdin: str | None = None, kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; the caller looks at what came of it. The default is upstream's admin."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
        environ |= {
            "KUBECONFIG": str(kubeconfig or self.fleet.upstream.kubeconfig),
            "HELM_CACHE_HOME": str(self.scratch / "helm"),
            "HELM_CONFIG_HOME": str(self.scratch / "helm"),
            "HELM_DATA_HOME": str(self.scratch / "helm"),
        }
        return subprocess.run(
            command, cwd=ROOT, env=environ, input=stdin, capture_output=True, text=True, timeout=timeout_seconds,
            check=False,
        )  # fmt: skip

    def syncline(self, *arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        """The CLI against upstream."""
        return self.run(sys.executable, "-m", "syncer.cli", *arguments, kubeconfig=kubeconfig)

    def must(self, *arguments: str, kubeconfig: Path | None = None) -> str:
        """Output of a CLI command that has to succeed."""
        done = self.syncline(*arguments, kubeconfig=kubeconfig)
        assert done.returncode == 0, f"syncline {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def helm(self, cluster: str, *arguments: str, namespace: str = NAMESPACE) -> str:
        """Output of a helm command that has to succeed, on the namespace of a release."""
        done = self.run(
            self._helm, *arguments, "-n", namespace, timeout_seconds=INSTALL_SECONDS + 60,
            kubeconfig=self.fleet.clusters[cluster].kubeconfig,
        )  # fmt: skip
        why = self.why(cluster, namespace) if done.returncode else ""
        assert done.returncode == 0, f"helm {' '.join(arguments[:2])}: {done.stdout}{done.stderr}\n{why}"
        return done.stdout

    def why(self, cluster: str, namespace: str) -> str:
        """What the cluster says of our Pods, for a failure's message."""
        said = [
            self.kubectl.attempt(cluster, "-n", namespace, *arguments).stdout[-3000:]
            for arguments in (
                ("get", "pods", "-o", "wide"),
                ("get", "events", "--sort-by=.lastTimestamp"),
                ("logs", "--tail=20", "--prefix", "-l", "app.kubernetes.io/part-of=syncline"),
            )
        ]
        return "\n".join(said)

    def prepare(self, cluster: str, namespace: str = NAMESPACE) -> None:
        """The namespace of a release, in which Pods must pass the profile *restricted*."""
        self.kubectl(cluster, "create", "namespace", namespace)
        label = "pod-security.kubernetes.io/enforce=restricted"
        self.kubectl(cluster, "label", "namespace", namespace, label)

    def install_operator(self) -> None:
        """`helm install`, until its Pods are Ready."""
        values = (
            *self.image, "upstream.mode=host", "hub.service.type=NodePort", f"hub.service.nodePort={HUB_PORT}",
            f"hub.externalURL=https://{self.fleet.upstream.address}:{HUB_PORT}",
        )  # fmt: skip
        began = time.monotonic()
        self.helm("upstream", "install", "syncline", str(CHARTS / "syncline"), *as_flags(values), *WAIT)
        self.install_seconds = time.monotonic() - began

    def install_agent(self, target: str, *, namespace: str = NAMESPACE, upstream: Path | None = None) -> None:
        """Token, `helm install` on the target, approval by a person.

        Args:
            upstream: kubeconfig of another upstream than that of this installation.
        """
        told = json.loads(self.must("token", "create", target, "-o", "json", kubeconfig=upstream))
        values = (
            *self.image, f"hub.url={told['hub']}", f"hub.caHash={told['caHash']}", f"target={target}",
            f"token={told['token']}",
        )  # fmt: skip
        chart = ("syncline-agent", str(CHARTS / "syncline-agent"))
        self.helm(target, "install", *chart, *as_flags(values), namespace=namespace)
        wait_until(
            lambda: self.syncline("approve", target, kubeconfig=upstream).returncode == 0,
            timeout_seconds=90,
            every_seconds=0.5,
        )

    def target(self, name: str, kind: str = "Ready") -> dict[str, Any]:
        """A condition of a SyncTarget."""
        return condition(self.kubectl.get("upstream", "synctarget", name), kind)

    def until_targets_are_ready(self, *, timeout_seconds: float = 90) -> None:
        """All targets of the fleet."""

        def ready() -> bool:
            states = {name: self.target(name) for name in self.fleet.targets}
            assert all(state.get("status") == "True" for state in states.values()), states
            return True

        wait_until(ready, timeout_seconds=timeout_seconds, every_seconds=0.5)

    def pods(self, cluster: str, component: str) -> list[dict[str, Any]]:
        """Our own Pods that are not ending: `operator` or `agent`."""
        found = self.kubectl.items(cluster, "pods", NAMESPACE, f"app.kubernetes.io/component={component}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def place(self, room: str, name: str, *manifests: Mapping[str, Any], **spec: Any) -> None:
        """A placement on all targets that holds these objects."""
        self.kubectl.apply(
            "upstream",
            {
                "apiVersion": "syncline.io/v1alpha1",
                "kind": "Placement",
                "metadata": {"name": name, "namespace": room},
                "spec": {"targets": {"names": [*self.fleet.targets]}, "manifests": list(manifests), **spec},
            },
        )

    def placement(self, room: str, name: str) -> dict[str, Any]:
        """A placement as it is."""
        found = self.kubectl.get("upstream", "placement", name, room)
        assert found is not None
        return found

    def told(self, room: str, name: str) -> dict[str, Any]:
        """{target: its entry in the placement's status}"""
        entries = self.placement(room, name).get("status", {}).get("selectedTargets", [])
        return {entry["name"]: entry for entry in entries}

    def until_placed(self, room: str, name: str, kind: str = "Ready", *, timeout_seconds: float = 90) -> None:
        """`kubectl wait` for a condition of a placement."""
        self.kubectl(
            "upstream", "-n", room, "wait", f"placement/{name}", f"--for=condition={kind}",
            f"--timeout={timeout_seconds:g}s", timeout_seconds=timeout_seconds + 10,
        )  # fmt: skip

    def uids(self, room: str, kinds: str = "deployments,configmaps,pods") -> dict[str, str]:
        """{target/kind/name: uid} of what stands in a namespace on the targets."""
        return {
            f"{target}/{item['kind']}/{item['metadata']['name']}": item["metadata"]["uid"]
            for target in self.fleet.targets
            for item in self.kubectl.items(target, kinds, room)
        }


WAIT = ("--wait", f"--timeout={INSTALL_SECONDS:g}s")


def as_flags(values: tuple[str, ...]) -> list[str]:
    """Values of a chart for helm's command line."""
    return [f"--set={value}" for value in values]


class Person:
    """Somebody with rights of their own, who reaches targets through the hub with a kubeconfig that the CLI printed."""

    def __init__(self, installed: InCluster, name: str) -> None:
        self.installed, self.upstream = installed, installed.fleet.upstream.user(name)
        self._files: dict[str, Path] = {}
        self._name = name

    def command(self, target: str, *arguments: str) -> list[str]:
        """The command line of kubectl on a target."""
        if target not in self._files:
            path = self.installed.scratch / f"{self._name}-{target}.kubeconfig"
            path.write_text(self.installed.must("kubeconfig", target, kubeconfig=self.upstream))
            self._files[target] = path
        kubectl = str(self.installed.fleet.assets / "kubectl")
        return [kubectl, f"--kubeconfig={self._files[target]}", *arguments]

    def attempt(
        self, target: str, *arguments: str, stdin: str | None = None, timeout_seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl on a target through the hub; it may fail."""
        command = self.command(target, *arguments)
        return self.installed.run(*command, stdin=stdin, timeout_seconds=timeout_seconds)

    def __call__(self, target: str, *arguments: str, stdin: str | None = None, timeout_seconds: float = 60) -> str:
        """What kubectl prints on a target; it has to succeed."""
        done = self.attempt(target, *arguments, stdin=stdin, timeout_seconds=timeout_seconds)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout


Measured = Callable[[str, float, str], None]
