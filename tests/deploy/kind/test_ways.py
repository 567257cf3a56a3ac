"""Which way a machine goes, and what it is told when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local.errors import GroundError
from deploy.local.kind import ways

HELD = "CapEff:\t000001fffeffffff"


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def docker(folder: Path, script: str) -> dict[str, str]:
    """An environment in which this script is Docker's client."""
    (folder / "docker").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "docker").chmod(0o755)
    return {"PATH": str(folder)}


def test_without_docker_the_machine_builds_its_own(commands: Path) -> None:
    said: list[str] = []
    assert ways.choose({"PATH": str(commands)}, said.append) == "built"
    assert said == [
        "no stock kind here: docker is not on PATH; node image and engine are built from packages and Go modules"
    ]


def test_an_engine_that_holds_the_node_image_is_stock_and_asks_no_registry(commands: Path) -> None:
    environ = docker(commands, 'case "$1" in pull) exit 1;; esac')
    assert ways.choose(environ, pytest.fail) == "stock"


def test_an_engine_that_can_pull_the_node_image_is_stock(commands: Path) -> None:
    said: list[str] = []
    environ = docker(commands, 'case "$1" in image) exit 1;; esac')
    assert ways.choose(environ, said.append) == "stock"
    assert said == [f"pulling {ways.STOCK_IMAGE}"]


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("exit 1", "no container engine answers"),
        ('case "$1" in version) ;; *) exit 1;; esac', f"{ways.STOCK_IMAGE} is not loaded and cannot be pulled"),
    ],
)
def test_an_engine_without_images_is_not_stock(commands: Path, script: str, problem: str) -> None:
    environ = docker(commands, script)
    assert ways.choose(environ, lambda line: None) == "built"
    with pytest.raises(GroundError, match=problem) as caught:
        ways.choose({**environ, ways.WAY_VARIABLE: "stock"}, lambda line: None)
    assert ways.IMAGE_VARIABLE in caught.value.hint


def test_a_way_can_be_named(commands: Path) -> None:
    assert ways.choose({**docker(commands, ""), ways.WAY_VARIABLE: "built"}, pytest.fail) == "built"


def test_a_way_that_does_not_exist_is_refused() -> None:
    with pytest.raises(GroundError, match="SYNCLINE_KIND_WAY='podman' is no way") as caught:
        ways.choose({ways.WAY_VARIABLE: "podman"}, pytest.fail)
    assert caught.value.hint == "choose stock or built, or unset it"


def test_another_system_is_sent_to_another_provider() -> None:
    assert ways.check_system("Linux", "aarch64").holds
    refused = ways.check_system("Darwin", "arm64")
    assert refused.problem == "this is Darwin on arm64"
    assert "PROVIDER=local" in refused.hint


def test_root_is_needed_and_may_lack_what_nodes_do_without() -> None:
    assert ways.check_root(0, HELD).holds
    assert ways.check_root(1000, HELD).problem == "the user id is 1000"
    assert "CAP_SYS_ADMIN" in ways.check_root(0, "CapEff:\t00000000a80425fb").problem


def test_missing_programs_come_with_the_packages_that_have_them() -> None:
    assert ways.check_commands(lambda command: True).holds
    refused = ways.check_commands(lambda command: command not in ("dockerd", "docker", "debootstrap"))
    assert refused.problem == "missing: dockerd, docker, debootstrap"
    assert refused.hint == "apt-get install --no-install-recommends debootstrap docker.io"


def test_either_version_of_cgroups_will_do(tmp_path: Path) -> None:
    assert "cpuset" in ways.check_cgroups(tmp_path).problem
    for controller in ("cpu", "cpuset", "devices", "freezer", "memory", "pids"):
        (tmp_path / controller).mkdir()
    assert ways.check_cgroups(tmp_path).holds
    second = tmp_path / "second"
    second.mkdir()
    (second / "cgroup.controllers").touch()
    assert ways.check_cgroups(second).holds


def test_overlayfs_is_needed(tmp_path: Path) -> None:
    filesystems = tmp_path / "filesystems"
    assert not ways.check_overlay(filesystems).holds
    filesystems.write_text("nodev\tproc\nnodev\toverlay\n\text4\n")
    assert ways.check_overlay(filesystems).holds


def test_too_little_room_says_how_much_there_is() -> None:
    assert ways.check_room("disk", 12 << 30, 12 << 30, "here").holds
    refused = ways.check_room("disk", 3 << 29, 12 << 30, "here")
    assert refused.problem == "1.5 GiB here, 12 GiB are needed"
    assert "XDG_CACHE_HOME" in refused.hint


def test_all_that_is_missing_is_told_at_once() -> None:
    found = [
        ways.Check("root", "the user id is 1", "be root"),
        ways.Check("disk"),
        ways.Check("cgroups", "no", "mount"),
    ]
    with pytest.raises(GroundError, match="root: the user id is 1; cgroups: no") as caught:
        ways.require(found)
    assert caught.value.hint == "be root; mount"
    ways.require([ways.Check("disk")])
