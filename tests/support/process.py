"""One operator process with its log, and plain HTTP beside it, for tests of the process itself."""

from __future__ import annotations

import json
import os
import random
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from deploy.local import ports
from syncer.api.crds import render_crds
from tests.support.fleet import Kubectl, wait_until

ROOT = Path(__file__).parents[2]


class Got(NamedTuple):
    """One HTTP answer."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def install_crds(kubectl: Kubectl) -> None:
    """Our CRDs upstream, served."""
    kubectl("upstream", "apply", "--server-side", "-f", "-", stdin="---\n".join(render_crds().values()))
    # Right after a CRD was made it has no conditions, which `kubectl wait` takes for an error.
    wait_until(lambda: kubectl("upstream", "wait", "--for=condition=Established", "crd", "--all", "--timeout=5s"))


def free_port() -> int:
    """A port that nobody listens on, and that no other test will choose."""
    return ports.choose(1, rng=random.Random())[0]


def get(
    url: str,
    *,
    headers: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    method: str = "GET",
    timeout_seconds: float = 5,
) -> Got:
    """One request; answers of 400 and above are answers too. Raises OSError if there is none."""
    request = urllib.request.Request(url, headers=headers or {}, method=method)
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls)]
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout_seconds) as answer:
            return Got(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Got(error.code, error.read().decode())


class OperatorProcess:
    """`syncline operator` with free ports; its log goes to `folder`."""

    def __init__(self, folder: Path, kubeconfig: Path, *flags: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.http = free_port()
        self.hub = free_port()
        self.log_file = folder / f"operator-{self.http}.log"
        binds = ["--http-bind", f"127.0.0.1:{self.http}", "--hub-bind", f"127.0.0.1:{self.hub}"]
        command = [sys.executable, "-m", "syncer.cli", "operator", "--kubeconfig", str(kubeconfig), *binds, *flags]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, cwd=ROOT, env=environ)

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def health(self, path: str = "/readyz") -> Got:
        """The plain HTTP listener's answer; status 0 while it does not listen."""
        try:
            return get(f"http://127.0.0.1:{self.http}{path}")
        except OSError:
            return Got(0, "")

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log[-2000:]
        found = self.health()
        assert found.status == 200, found
        return True

    def until_ready(self) -> None:
        """Two seconds on an idle machine; a busy one takes its time to start a process."""
        wait_until(self.ready, timeout_seconds=60)

    def leads(self) -> bool:
        return "syncline_leader 1.0" in self.health("/metrics").text

    def listeners(self) -> list[tuple[str, int]]:
        """Every (address, port) that the process listens on."""
        connections = psutil.Process(self.process.pid).net_connections(kind="inet")
        return sorted({(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN})

    def send(self, number: signal.Signals) -> float:
        """Send a signal; returns when."""
        os.kill(self.process.pid, number)
        return time.monotonic()

    def wait(self, timeout_seconds: float = 20) -> int:
        """Exit code."""
        return self.process.wait(timeout_seconds)

    def end(self) -> None:
        """KILL it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
