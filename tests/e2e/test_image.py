"""Operator and agent from the image, as a Pod would run them, on real control planes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.image.build import Made
from deploy.image.docker import docker
from deploy.local.errors import GroundError
from tests.e2e.manifests import config_map, placement
from tests.support.agent import join
from tests.support.fleet import start_fleet, stop_fleet, wait_until
from tests.support.image import BARE, image, shares_loopback
from tests.support.operator import Installation
from tests.support.process import free_port, get

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
TARGET = "far"
USER = 65532
OPERATOR_MIB, AGENT_MIB = 90, 60


@pytest.fixture(scope="module")
def built() -> Made:
    made = image()
    if not shares_loopback(made):
        pytest.skip("docker runs in another network than this test: what listens on 127.0.0.1 is out of its reach")
    return made


@pytest.fixture(scope="module")
def ground(built: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    fleet = start_fleet(tmp_path_factory.mktemp("image"), targets=(TARGET,))
    installed = Installation(fleet)
    installed.prepare()
    yield installed
    installed.close()
    stop_fleet(fleet)


@contextlib.contextmanager
def container(built: Made, name: str, mounts: dict[Path, str], *arguments: str) -> Iterator[str]:
    """A container that runs until the end of the block, and must then end well."""
    name = f"syncline-test-{name}-{os.getpid()}"
    user = [] if os.getuid() == 0 else [f"--user={os.getuid()}:{os.getgid()}"]
    volumes = [f"--volume={path}:{place}" for path, place in mounts.items()]
    docker(
        "run",
        "--detach",
        "--network=host",
        f"--name={name}",
        *BARE,
        *user,
        *volumes,
        built.source.reference,
        *arguments,
    )
    try:
        yield name
        docker("stop", "--time=30", name)
        assert inspect(name)["State"]["ExitCode"] == 0
    finally:
        with contextlib.suppress(GroundError):
            docker("rm", "--force", name)


def inspect(name: str) -> dict[str, Any]:
    (told,) = json.loads(docker("inspect", name))
    return dict(told)


def given(path: Path) -> Path:
    """A file or folder that the image's user may read and write."""
    if os.getuid() == 0:
        for each in (path, *path.rglob("*")):
            os.chown(each, USER, USER)
    return path


def check_process(name: str, limit_mib: int) -> float:
    """S71: a number that is not root, no capability, and the memory that was promised. Gives MiB."""
    process = psutil.Process(inspect(name)["State"]["Pid"])
    assert process.uids().real == (USER if os.getuid() == 0 else os.getuid())
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "CapPrm:\t0000000000000000" in status
    rss = process.memory_info().rss / 2**20
    assert rss < limit_mib
    return rss


def test_operator_and_agent_work_read_only_and_without_rights(
    built: Made, ground: Installation, measured: Callable[[str, float, str], None], tmp_path: Path
) -> None:
    """S71: an object travels through both; they fit into the memory that they are given, and end when they are told."""
    files = tmp_path / "files"
    files.mkdir()
    for name, kubeconfig in (("up", ground.operator.kubeconfig), ("down", ground.fleet.targets[TARGET].kubeconfig)):
        shutil.copyfile(kubeconfig, files / name)
    port = free_port()
    binds = [
        "--http-bind",
        f"127.0.0.1:{ground.operator.http_port}",
        "--hub-bind",
        f"127.0.0.1:{ground.operator.hub_port}",
    ]
    operator = ("operator", "--kubeconfig", "/files/up", *binds)
    with container(built, "operator", {given(files): "/files:ro"}, *operator) as running:

        def ready() -> bool:
            with contextlib.suppress(OSError):
                return ground.operator.ask("/readyz")[0] == 200
            return False

        wait_until(ready, timeout_seconds=60)
        credentials = given(join(ground, TARGET, TARGET, tmp_path / "credentials"))
        mounts = {files: "/files:ro", credentials: "/credentials"}
        agent = (
            "agent",
            "--credentials",
            "/credentials",
            "--kubeconfig",
            "/files/down",
            "--http-bind",
            f"127.0.0.1:{port}",
        )
        with container(built, "agent", mounts, *agent) as agent_running:
            wait_until(lambda: ground.target_ready(TARGET), timeout_seconds=60)
            assert get(f"http://127.0.0.1:{port}/readyz").status == 200
            measured("RSS of the operator in its container, one target", check_process(running, OPERATOR_MIB), "MiB")
            measured("RSS of the agent in its container", check_process(agent_running, AGENT_MIB), "MiB")
            ground.kubectl("upstream", "create", "namespace", "shop")
            ground.kubectl.apply("upstream", config_map("shop", "c", value="1"), placement("shop", "all", [TARGET]))
            wait_until(lambda: ground.api[TARGET].get("configmap", "shop", "c"), timeout_seconds=30)
            with pytest.raises(GroundError, match="executable file not found"):
                docker("exec", running, "sh", "-c", "true")
