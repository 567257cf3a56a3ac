"""Real `syncline agent` processes, and what they need to be let in."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from deploy.local.processes import end, kill
from tests.support.fleet import wait_until
from tests.support.operator import ROOT, Installation
from tests.support.process import free_port, get


class Agent:
    """One agent process of a fleet.

    Args:
        cluster: whose API server it serves.
        credentials: folder of `join`.
    """

    def __init__(self, installed: Installation, name: str, cluster: str, credentials: Path, *options: str) -> None:
        self.table, self.name, self.options = installed.fleet.table, name, options
        self.port = free_port()
        self.command = [
            "agent", "--credentials", str(credentials), "--http-bind", f"127.0.0.1:{self.port}",
            "--kubeconfig", str(installed.fleet.targets[cluster].kubeconfig), *options,
        ]  # fmt: skip

    def start(self) -> None:
        self.table.start(self.name, [sys.executable, "-m", "syncer.cli", *self.command], cwd=ROOT)

    def send(self, number: signal.Signals) -> None:
        record = self.table.read(self.name)
        assert record is not None
        assert record.send(number), f"{self.name} does not run"

    def kill(self) -> None:
        record = self.table.read(self.name)
        assert record is not None
        kill([record])

    def end(self) -> None:
        """SIGTERM; returns when it is gone."""
        record = self.table.read(self.name)
        if record is not None:
            end([record])

    @property
    def alive(self) -> bool:
        record = self.table.read(self.name)
        return record is not None and record.alive

    def ready(self) -> bool:
        assert self.alive, self.log()[-3000:]
        try:
            return get(f"http://127.0.0.1:{self.port}/readyz").status == 200
        except OSError:
            return False

    def log(self) -> str:
        path = self.table.log_path(self.name)
        return path.read_text(errors="replace") if path.exists() else ""


def new_token(installed: Installation, target: str) -> dict[str, str]:
    """What `syncline token create` tells of a token."""
    found: dict[str, str] = json.loads(installed.must("token", "create", target, "-o", "json"))
    return found


def join_command(installed: Installation, token: dict[str, str], cluster: str, folder: Path) -> list[str]:
    """The command line of a join."""
    return [
        sys.executable, "-m", "syncer.cli", "join", "--hub", token["hub"], "--token", token["token"],
        "--ca-hash", token["caHash"], "--target", token["target"], "--credentials", str(folder),
        "--kubeconfig", str(installed.fleet.targets[cluster].kubeconfig), "--wait", "60",
    ]  # fmt: skip


def join(installed: Installation, target: str, cluster: str, folder: Path, token: dict[str, str] | None = None) -> Path:
    """Token, join, approval by a person: the folder of an agent that is let in."""
    command = join_command(installed, token or new_token(installed, target), cluster, folder)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as joining:
        try:

            def approved() -> bool:
                """An earlier registration may be approved already while this one is not yet made."""
                return installed.syncline("approve", target).returncode == 0 and joining.poll() is not None

            wait_until(approved, timeout_seconds=60)
            said, _ = joining.communicate(timeout=60)
        finally:
            joining.kill()
    assert joining.returncode == 0, said
    return folder
