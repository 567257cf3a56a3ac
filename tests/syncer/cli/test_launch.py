"""An agent's process begins again without what only its command line needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from syncer.agent.settings import AgentSettings, JoinSettings
from syncer.binds import Bind
from syncer.cli import launch

ROOT = Path(__file__).parents[3]
SETTINGS = AgentSettings(
    hubs=("https://hub.example",),
    credentials=Path("/c"),
    secret=("edge", "agent"),
    join=JoinSettings(Path("/t"), "sha256:0", "east"),
    policy=Path("/p"),
    proxy="",
    http_bind=Bind("::1", 1),
    drain_seconds=2.5,
)


class Replaced(Exception):
    """In place of the end of this process."""


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the process would have been replaced with; its variables are ours from then on."""
    told: dict[str, Any] = {}

    def execve(path: str, command: list[str], environment: dict[str, str]) -> None:
        told.update(path=path, command=command)
        monkeypatch.setenv(launch.VARIABLE, environment[launch.VARIABLE])
        raise Replaced

    monkeypatch.setattr(os, "execve", execve)
    return told


def test_the_second_start_knows_what_the_first_one_understood(replaced: dict[str, Any]) -> None:
    with pytest.raises(Replaced):
        launch.start(SETTINGS, anew=True)
    assert replaced["path"] == replaced["command"][0] == sys.executable
    assert replaced["command"][1:] == sys.orig_argv[1:]
    assert launch.handed_over() == SETTINGS
    assert launch.handed_over() is None  # told once, and not to those whom we start


def test_what_was_meant_for_another_process_counts_nothing(
    replaced: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Replaced):
        launch.start(SETTINGS, anew=True)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert launch.handed_over() is None


@pytest.mark.skipif(sys.platform == "win32", reason="no process is replaced there")
def test_errors_after_the_second_start_are_two_lines(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "syncer.cli", "agent", "--credentials", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    cause, hint = done.stderr.splitlines()
    assert "holds no credentials of an agent" in cause
    assert hint.startswith("hint: Join again")


def test_the_process_of_an_agent_holds_no_parser_and_no_models() -> None:
    """Its memory is what every target pays."""
    code = (
        "import sys, syncer.lean, syncer.cli.launch as launch\n"
        "from syncer.agent import joining, process\n"
        "from syncer.cli import main\n"
        "launch.handed_over = lambda: True\n"
        "process.run = lambda settings, *, version: print(*sys.modules) or 7\n"
        "assert main() == 7"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    heavy = {"typer", "pydantic", "pydantic_settings", "rich", "pygments", "kopf", "kubernetes", "prometheus_client"}
    assert not loaded & heavy
    assert "aiohttp" in loaded
