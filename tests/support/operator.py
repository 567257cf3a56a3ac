"""Real `syncline operator` processes on a fleet, and the CLI beside them, as an administrator would run them."""

from __future__ import annotations

import http.client
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from deploy.local import ports
from deploy.local.errors import GroundError
from deploy.local.fleet import Fleet
from deploy.local.processes import end, kill
from tests.support.api import Api
from tests.support.fleet import Kubectl, wait_until

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0
_SAMPLE = re.compile(r"^(\w+)(\{[^}]*\})? (\S+)$", re.MULTILINE)


class Operator:
    """One operator process.

    Args:
        name: in the fleet's process table, and of its log.
        options: more of its command line.
        kubeconfig: of the upstream; the admin's by default.
    """

    def __init__(self, fleet: Fleet, name: str = "operator", *options: str, kubeconfig: Path | None = None) -> None:
        self.fleet, self.name, self.options = fleet, name, options
        self.kubeconfig = kubeconfig or fleet.upstream.kubeconfig
        self.http_port, self.hub_port = ports.choose(2, rng=random.Random())

    def start(self, *, ready: bool = True) -> float:
        """Start it. Returns seconds until it was ready, or until it had a pid with `ready=False`."""
        began = time.monotonic()
        binds = ["--http-bind", f"127.0.0.1:{self.http_port}", "--hub-bind", f"127.0.0.1:{self.hub_port}"]
        command = ["operator", *binds, "--kubeconfig", str(self.kubeconfig), *self.options]
        self.fleet.table.start(self.name, [sys.executable, "-m", "syncer.cli", *command], cwd=ROOT)
        if ready:
            try:
                wait_until(self.ready, timeout_seconds=READY_SECONDS)
            except AssertionError as error:
                raise GroundError(f"{self.name} is not ready: {self.log()[-3000:]}") from error
        return time.monotonic() - began

    @property
    def pid(self) -> int:
        record = self.fleet.table.read(self.name)
        assert record is not None
        return record.pid

    @property
    def alive(self) -> bool:
        record = self.fleet.table.read(self.name)
        return record is not None and record.alive

    def send(self, number: signal.Signals) -> None:
        """Signal it; STOP and CONT as well."""
        record = self.fleet.table.read(self.name)
        assert record is not None
        assert record.send(number), f"{self.name} does not run"

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        record = self.fleet.table.read(self.name)
        assert record is not None
        kill([record])

    def end(self) -> float:
        """SIGTERM, SIGKILL after the grace; returns seconds until it was gone."""
        began = time.monotonic()
        record = self.fleet.table.read(self.name)
        if record is not None:
            end([record])
        return time.monotonic() - began

    def ask(self, path: str) -> tuple[int, str]:
        """(status, text) of its HTTP listener; raises OSError when it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def ready(self) -> bool:
        try:
            return self.alive and self.ask("/readyz")[0] == 200
        except OSError:
            return False

    def metric(self, name: str, *labels: str) -> float:
        """Sum of a metric's samples whose labels contain all the given texts, like `side="downstream"`."""
        return sum(
            float(value)
            for found, have, value in _SAMPLE.findall(self.ask("/metrics")[1])
            if found == name and all(label in have for label in labels)
        )

    def rss_mib(self) -> float:
        return float(psutil.Process(self.pid).memory_info().rss) / 2**20

    def log(self) -> str:
        """Everything that processes of this name wrote."""
        path = self.fleet.table.log_path(self.name)
        return path.read_text(errors="replace") if path.exists() else ""


class Installation:
    """A fleet with Syncline on it: CRDs, one operator, targets.

    Attributes:
        kubectl: on the clusters.
        api: quick clients by cluster.
    """

    def __init__(self, fleet: Fleet, *options: str) -> None:
        """The operator is user `syncline-operator` upstream: what it may do, deploy/rbac says. Call `prepare` first."""
        self.fleet = fleet
        self.kubectl = Kubectl(fleet)
        self.api = {name: Api(cluster) for name, cluster in fleet.clusters.items()}
        kubeconfig = fleet.upstream.user("syncline-operator")
        self.operator = Operator(fleet, "operator", *options, kubeconfig=kubeconfig)

    def syncline(
        self, *arguments: str, kubeconfig: Path | None = None, timeout_seconds: float = 90
    ) -> subprocess.CompletedProcess[str]:
        """Run the CLI against the upstream; the caller looks at exit status, stdout and stderr."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
        environment["KUBECONFIG"] = str(kubeconfig or self.fleet.upstream.kubeconfig)
        return subprocess.run(
            [sys.executable, "-m", "syncer.cli", *arguments],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    def must(self, *arguments: str) -> str:
        """Output of a CLI command that has to succeed."""
        done = self.syncline(*arguments)
        assert done.returncode == 0, f"syncline {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def prepare(self) -> None:
        """`syncline crds | kubectl apply --server-side -f -`, and the roles, until the API is served and they count."""
        self.kubectl("upstream", "apply", "--server-side", "-f", "-", stdin=self.must("crds"))
        self.kubectl(
            "upstream", "wait", "--for=condition=Established", "--timeout=30s",
            "crd/synctargets.syncline.io", "crd/placements.syncline.io", "crd/clusterplacements.syncline.io",
        )  # fmt: skip
        self.kubectl("upstream", "apply", "-f", str(ROOT / "deploy" / "rbac"))
        allowed = ("auth", "can-i", "create", "clusterregistrations", "--as=syncline-operator")
        wait_until(lambda: self.kubectl("upstream", *allowed), timeout_seconds=60)  # the role is aggregated

    def add_target(self, name: str, *options: str, cluster: str = "") -> None:
        """`syncline target add`, by the admin of the cluster of that name."""
        config = self.fleet.targets[cluster or name].kubeconfig
        self.must("target", "add", name, "--target-kubeconfig", str(config), *options)

    def add_light_target(self, name: str) -> None:
        """As `add_target`, where no controller makes tokens: with a client certificate of user `syncline`."""
        config = self.fleet.targets[name].user("syncline", groups=["system:masters"])
        self.must("target", "add", name, "--target-kubeconfig", str(config), "--use-kubeconfig-as-is")

    def target_condition(self, name: str, kind: str = "Ready") -> dict[str, Any]:
        """One condition of a SyncTarget; empty if it is not there."""
        return condition(self.api["upstream"].get("synctarget", "", name), kind)

    def target_ready(self, name: str) -> bool:
        return self.target_condition(name).get("status") == "True"

    def events(self, namespace: str, reason: str = "") -> list[dict[str, Any]]:
        """Events of a namespace upstream."""
        found = self.api["upstream"].items("event", namespace).values()
        return [event for event in found if reason in ("", event.get("reason"))]

    def close(self) -> None:
        for api in self.api.values():
            api.close()


def condition(item: dict[str, Any] | None, kind: str) -> dict[str, Any]:
    """One condition of an object; empty if it is not there."""
    found: Sequence[dict[str, Any]] = ((item or {}).get("status") or {}).get("conditions") or ()
    return next((entry for entry in found if entry["type"] == kind), {})
