"""The command line of the ground: one cause line and one hint line, exit 1."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.local.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_what_kind_does_not_take_is_refused_in_two_lines(tmp_path: Path) -> None:
    said = run("up", "--provider", "kind", "--light", "--dir", tmp_path)
    assert said.exit_code == 1
    cause, hint = said.stderr.splitlines()
    assert cause == "error: provider kind does not take LIGHT=1"
    assert "PROVIDER=local" in hint


def test_a_provider_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    said = run("up", "--provider", "minikube", "--dir", tmp_path)
    assert said.exit_code == 1
    assert "choose local, existing or kind" in said.stderr


@pytest.mark.parametrize("command", ["status", "env", "user alice"])
def test_a_command_without_a_fleet_says_how_to_get_one(tmp_path: Path, command: str) -> None:
    said = run(*command.split(), "--dir", tmp_path)
    assert said.exit_code == 1
    assert said.stderr.splitlines()[1] == "hint: start one with `make up`"


def test_down_without_a_fleet_is_fine(tmp_path: Path) -> None:
    assert run("down", "--dir", tmp_path / "missing").exit_code == 0
    assert not (tmp_path / "missing").exists()


def test_existing_clusters_need_a_kubeconfig_each(tmp_path: Path) -> None:
    said = run("up", "--provider", "existing", "--targets", "east", "--dir", tmp_path)
    assert said.exit_code == 1
    assert "no kubeconfig is given for upstream, east" in said.stderr


def test_a_wrong_option_is_wrong_use() -> None:
    assert run("up", "--nodes", "-1").exit_code == 2
