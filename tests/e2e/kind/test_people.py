"""kubectl of an ordinary user on targets that nobody can dial: everything goes through the hub and the tunnel."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.fleet import Cluster
from deploy.local.kind import engine
from deploy.local.kind.provider import kind_name
from deploy.local.kind.site import node_of
from tests.e2e.kind.manifests import job, web
from tests.support.fleet import wait_until
from tests.support.incluster import InCluster, Measured, Person

MIB = 1 << 20


@pytest.fixture(scope="module")
def shop(installed: InCluster) -> Iterator[str]:
    """A namespace with a web server on both targets."""
    name = f"shop-{uuid.uuid4().hex[:6]}"
    installed.kubectl("upstream", "create", "namespace", name)
    installed.place(name, "web", web())
    installed.until_placed(name, "web")
    yield name
    installed.kubectl("upstream", "delete", "namespace", name, "--wait=false")


def pod_of(alice: Person, target: str, room: str, app: str = "web") -> str:
    """Name of the Pod of a Deployment on a target."""
    return alice(target, "-n", room, "get", "pods", "-l", f"app={app}", "-o", "name").split()[0]


@pytest.mark.parametrize("target", ["east", "west"])
def test_a_web_server_on_each_target_answers_through_port_forward(shop: str, alice: Person, target: str) -> None:
    """A Deployment that is placed once answers from both, each with a Pod of its own."""
    command = alice.command(target, "-n", shop, "port-forward", "deployment/web", ":8080")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forward:
        try:
            assert forward.stdout is not None
            said = forward.stdout.readline()
            port = re.search(r"127\.0\.0\.1:(\d+)", said)
            assert port, said
            for _ in range(3):
                with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/", timeout=20) as answer:
                    assert answer.read().decode() == f"hello from {pod_of(alice, target, shop)[4:]}\n"
        finally:
            forward.terminate()


def test_exec_gives_exit_codes_and_takes_stdin(shop: str, alice: Person) -> None:
    """What a command in a container says, reads and ends with is what kubectl says, reads and ends with."""
    pod = pod_of(alice, "east", shop)
    for code in (0, 7, 137):
        assert alice.attempt("east", "-n", shop, "exec", pod, "--", "sh", "-c", f"exit {code}").returncode == code
    assert alice("east", "-n", shop, "exec", "-i", pod, "--", "cat", stdin="through\n") == "through\n"
    both = alice.attempt("east", "-n", shop, "exec", pod, "--", "sh", "-c", "echo out; echo err >&2")
    assert (both.stdout, both.stderr) == ("out\n", "err\n")


def test_followed_logs_end_with_the_container(installed: InCluster, room: str, alice: Person) -> None:
    """`logs -f` of a Job shows every line, and ends by itself."""
    installed.place(room, "count", job("count", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 1; done"))
    # Until its container runs there is nothing to follow.
    wait_until(
        lambda: alice.attempt("west", "-n", room, "logs", "job/count").stdout, timeout_seconds=60, every_seconds=0.5
    )
    said = alice("west", "-n", room, "logs", "-f", "job/count", timeout_seconds=60)
    assert said.splitlines() == [f"line {number}" for number in range(1, 6)]


FILE = "/tmp/file"


def test_50_mib_are_copied_to_a_pod(shop: str, alice: Person, tmp_path: Path, measured: Measured) -> None:
    """`kubectl cp`: the same bytes."""
    here = tmp_path / "here"
    here.write_bytes(os.urandom(50 * MIB))
    pod = pod_of(alice, "east", shop)[4:]
    began = time.monotonic()
    alice("east", "cp", str(here), f"{shop}/{pod}:{FILE}", timeout_seconds=120)
    measured("kubectl cp of 50 MiB to a Pod", 50 / (time.monotonic() - began), "MiB/s")
    assert alice("east", "-n", shop, "exec", pod, "--", "sha256sum", FILE).split()[0] == digest(here)


def test_50_mib_are_copied_from_a_pod(shop: str, alice: Person, tmp_path: Path, measured: Measured) -> None:
    """`kubectl cp`, the other way: the same bytes, up to the last."""
    there = tmp_path / "there"
    pod = pod_of(alice, "west", shop)[4:]
    alice("west", "-n", shop, "exec", pod, "--", "sh", "-c", f"head -c {50 * MIB} /dev/urandom > {FILE}")
    began = time.monotonic()
    alice("west", "cp", f"{shop}/{pod}:{FILE}", str(there), timeout_seconds=120)
    measured("kubectl cp of 50 MiB from a Pod", 50 / (time.monotonic() - began), "MiB/s")
    assert alice("west", "-n", shop, "exec", pod, "--", "sha256sum", FILE).split()[0] == digest(there)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_hub_cannot_dial_a_target(installed: InCluster) -> None:
    """No route: all of this came through tunnels that targets dialled. Upstream's own server answers the same call."""

    def answers(called: Cluster) -> bool:
        asked = ("curl", "--insecure", "--silent", "--max-time", "3", f"https://{called.address}:6443/version")
        return "gitVersion" in engine.docker("exec", node_of(kind_name("upstream")), *asked, check=False)

    assert answers(installed.fleet.upstream)
    assert not any(answers(target) for target in installed.fleet.targets.values())
