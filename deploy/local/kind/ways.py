"""Which of the two ways a machine can go, and what stands in the way."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.assets import cache_root
from deploy.local.errors import GroundError
from deploy.local.kind import runtime
from deploy.local.kind.commands import run
from deploy.local.kind.site import BUILT, STOCK
from deploy.local.provider import Report

WAY_VARIABLE = "SYNCLINE_KIND_WAY"
IMAGE_VARIABLE = "SYNCLINE_KIND_IMAGE"
# The default of the pinned kind; older ones run it too.
STOCK_IMAGE = "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5"

# {command: Debian package}
COMMANDS = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "runc": "runc",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "umount": "mount",
    "tar": "tar",
}
_NEEDED_CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_CHROOT", "MKNOD", "SYS_PTRACE", "DAC_OVERRIDE", "NET_RAW")
_CONTROLLERS = ("cpu", "cpuset", "devices", "freezer", "memory", "pids")  # cgroup v1
_GIB = 1 << 30
_DISK_BYTES = 12 * _GIB  # scratch of a build, the engine's images, and the writable layers of three nodes
_MEMORY_BYTES = 3 * _GIB


@dataclass(frozen=True)
class Check:
    """One precondition of the self-built way.

    Attributes:
        name: what is needed.
        problem: why it does not hold; empty when it does.
        hint: what to do about it.
    """

    name: str
    problem: str = ""
    hint: str = ""

    @property
    def holds(self) -> bool:
        """Whether the machine has it."""
        return not self.problem


def checks(environ: Mapping[str, str]) -> list[Check]:
    """Look at this machine: everything that the self-built way needs, whether it holds or not."""
    status = Path("/proc/self/status")
    return [
        check_system(platform.system(), platform.machine()),
        check_root(os.geteuid(), status.read_text() if status.exists() else ""),
        check_commands(lambda command: shutil.which(command, path=environ.get("PATH", "")) is not None),
        check_cgroups(Path("/sys/fs/cgroup")),
        check_overlay(Path("/proc/filesystems")),
        check_room("disk", _free_disk(cache_root(environ)), _DISK_BYTES, f"below {cache_root(environ)}"),
        check_room("memory", _free_memory(Path("/proc/meminfo")), _MEMORY_BYTES, "available"),
    ]


def check_system(system: str, machine: str) -> Check:
    """Linux, on a processor for which kind has nodes."""
    name = "Linux on x86_64 or aarch64"
    if system == "Linux" and machine in ("x86_64", "aarch64"):
        return Check(name)
    return Check(name, f"this is {system} on {machine}", "use PROVIDER=local, or kind with Docker and a registry")


def check_root(uid: int, status: str) -> Check:
    """Root, with the capabilities that an engine needs; nodes do without the others."""
    if uid != 0:
        return Check("root", f"the user id is {uid}", "run it as root, or use PROVIDER=local, which needs no root")
    lacking = sorted({f"CAP_{name}" for name in _NEEDED_CAPABILITIES} & runtime.missing(status))
    return Check("root", f"root lacks {', '.join(lacking)}" if lacking else "", "run it outside of this container")


def check_commands(has: Callable[[str], bool]) -> Check:
    """The programs of Debian that the build and the engine call."""
    lacking = [command for command in COMMANDS if not has(command)]
    packages = sorted({COMMANDS[command] for command in lacking})
    problem = f"missing: {', '.join(lacking)}" if lacking else ""
    return Check("packages", problem, f"apt-get install --no-install-recommends {' '.join(packages)}")


def check_cgroups(root: Path) -> Check:
    """cgroup v2, or the hierarchies of v1 that nodes use."""
    if (root / "cgroup.controllers").exists():
        return Check("cgroups")
    lacking = [controller for controller in _CONTROLLERS if not (root / controller).is_dir()]
    problem = f"neither cgroup v2 nor v1 with {', '.join(lacking)} at {root}" if lacking else ""
    return Check("cgroups", problem, "mount them, or use a machine that has them")


def check_overlay(filesystems: Path) -> Check:
    """overlayfs, for the engine and for the nodes in it."""
    known = filesystems.read_text().split() if filesystems.exists() else []
    return Check("overlayfs", "" if "overlay" in known else "the kernel has no overlayfs", "modprobe overlay")


def check_room(name: str, free: int, needed: int, where: str) -> Check:
    """Enough disk or memory."""
    problem = f"{free / _GIB:.1f} GiB {where}, {needed / _GIB:.0f} GiB are needed" if free < needed else ""
    return Check(name, problem, "free some, or set XDG_CACHE_HOME to another disk" if name == "disk" else "free some")


def _free_disk(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def _free_memory(meminfo: Path) -> int:
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)


def require(found: list[Check]) -> None:
    """Refuse the self-built way when a precondition does not hold.

    Raises:
        GroundError: names each, with its way out.
    """
    failed = [check for check in found if not check.holds]
    if failed:
        raise GroundError(
            "kind clusters cannot be built here: " + "; ".join(f"{check.name}: {check.problem}" for check in failed),
            hint="; ".join(check.hint for check in failed),
        )


def choose(environ: Mapping[str, str], report: Report) -> str:
    """Choose `stock` when a container engine answers and has kind's node image or can pull it, else `built`.

    Raises:
        GroundError: SYNCLINE_KIND_WAY names no way, or names `stock` where that cannot be.
    """
    asked = environ.get(WAY_VARIABLE, "")
    if asked not in ("", STOCK, BUILT):
        raise GroundError(f"{WAY_VARIABLE}={asked!r} is no way", hint=f"choose {STOCK} or {BUILT}, or unset it")
    if asked == BUILT:
        return BUILT
    problem = stock_problem(environ, report)
    if not problem:
        return STOCK
    if asked == STOCK:
        raise GroundError(
            f"kind cannot be used with stock node images: {problem}",
            hint=f"start Docker, and pull {stock_image(environ)} or set {IMAGE_VARIABLE} to a node image that it has",
        )
    report(f"no stock kind here: {problem}; node image and engine are built from packages and Go modules")
    return BUILT


def stock_image(environ: Mapping[str, str]) -> str:
    """The node image of the stock way."""
    return environ.get(IMAGE_VARIABLE) or STOCK_IMAGE


def stock_problem(environ: Mapping[str, str], report: Report) -> str:
    """Why stock node images cannot be used here; empty when they can. Pulls the image when it is missing."""
    if shutil.which("docker", path=environ.get("PATH", "")) is None:
        return "docker is not on PATH"
    asked = run(["docker", "version", "--format={{.Server.Version}}"], timeout_seconds=20, environ=environ, check=False)
    if asked.returncode != 0:
        return "no container engine answers"
    image = stock_image(environ)
    held = run(["docker", "image", "inspect", image], timeout_seconds=20, environ=environ, check=False)
    if held.returncode == 0:
        return ""
    report(f"pulling {image}")
    pulled = run(["docker", "pull", "--quiet", image], timeout_seconds=900, environ=environ, check=False)
    return "" if pulled.returncode == 0 else f"{image} is not loaded and cannot be pulled"
