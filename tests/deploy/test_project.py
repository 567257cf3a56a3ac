"""The project's own files agree with each other and with the contract."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONTRACT = [
    *("demo", "test", "up", "down", "env", "unit", "lint", "verify", "cover", "bench", "assets", "help", "docs"),
    *("bench-tunnel", "image", "sbom", "security-scan", "kind-image", "e2e"),
]
LOCKS = [
    *("requirements.txt", "requirements-dev.txt"),
    *("deploy/image/build-requirements.txt", "deploy/local/tools/go/requirements.txt"),
]


def locked(name: str) -> dict[str, str]:
    """{package: version} of a lock file."""
    lines = (ROOT / name).read_text().splitlines()
    pins = [match for line in lines if (match := re.match(r"([A-Za-z0-9._-]+)==(\S+)", line))]
    return {canonicalize_name(pin[1]): pin[2] for pin in pins}


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("requirements.txt", PROJECT["dependencies"]),
        ("requirements-dev.txt", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]),
    ],
)
def test_the_lock_holds_every_dependency_at_a_version_that_fits(lock: str, requirements: list[str]) -> None:
    pins = locked(lock)
    for requirement in map(Requirement, requirements):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("lock", ["requirements.txt", "deploy/image/build-requirements.txt"])
def test_the_locks_choose_the_same_versions(lock: str) -> None:
    development = locked("requirements-dev.txt")
    assert {name: development[name] for name in locked(lock)} == locked(lock)


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_carry_hashes_and_no_address_of_an_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert text.count("==") > 0
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=[a-z])", text)[1:])
    assert not re.search(r"https?://|--find-links|--index-url|--extra-index-url", text)


def test_make_help_lists_every_command_of_the_contract() -> None:
    said = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    listed = set(re.findall(r"^  make (\S+)", said.stdout, re.MULTILINE))
    assert set(CONTRACT) <= listed


def test_continuous_integration_runs_what_make_runs() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^make (\S+)$", text, re.MULTILINE) == ["lint", "verify", "test"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
