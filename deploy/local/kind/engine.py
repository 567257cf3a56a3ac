"""A container engine of our own in a network namespace without uplink, and its complete end.

Nothing in it can leave the machine: addresses of Services that kube-proxy has not programmed yet follow the default
route, and here there is none. One engine runs on a machine at a time; `/run/syncline-kind` says whose it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.local.errors import GroundError
from deploy.local.files import write_json
from deploy.local.kind import cgroups, runtime, sysctls
from deploy.local.kind.commands import run
from deploy.local.kind.mounts import unmount_below
from deploy.local.processes import ProcessTable
from deploy.local.provider import Report

RUN = Path("/run/syncline-kind")
CGROUP = "syncline-kind"
INSIDE = ("nsenter", f"--net={RUN}/net", "--")
DOCKERD = "engine.dockerd"
DNS = "engine.dns"

_GATEWAY = "10.201.0.1"
_SOCKET = f"unix://{RUN}/docker.sock"
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.1
# The name server of the nodes knows no name and says so at once; without one, each unknown name costs 20 s.
_COREFILE = f". {{\n  bind {_GATEWAY}\n  template ANY ANY {{\n    rcode NXDOMAIN\n  }}\n}}\n"


@dataclass(frozen=True)
class Owner:
    """Whose engine it is.

    Attributes:
        folder: of the process table with its processes.
        data_root: where it keeps images and containers.
    """

    folder: Path
    data_root: Path


def owner() -> Owner | None:
    """Whose engine is on this machine, running or left over; None when we see none: we may not be root."""
    try:
        data = json.loads((RUN / "owner.json").read_text())
    except (FileNotFoundError, PermissionError):
        return None
    return Owner(Path(data["folder"]), Path(data["data_root"]))


def runs() -> bool:
    """Whether the engine of this machine's owner runs."""
    found = owner()
    record = ProcessTable(found.folder).read(DOCKERD) if found else None
    return record is not None and record.alive


def environment() -> dict[str, str]:
    """Variables that lead Docker's client to our engine, without the user's own settings and credentials."""
    return {"DOCKER_HOST": _SOCKET, "DOCKER_CONFIG": str(RUN / "client")}


def docker(*arguments: str, timeout_seconds: float = 60, check: bool = True) -> str:
    """Run Docker's client against our engine and return what it prints.

    Raises:
        GroundError: it failed.
    """
    done = run(
        ["docker", *arguments], timeout_seconds=timeout_seconds, environ={**os.environ, **environment()}, check=check
    )
    return done.stdout


def start(table: ProcessTable, data_root: Path, tools: Path, report: Report, *, owner_pid: int | None = None) -> None:
    """Make the namespace and start the engine in it; what an earlier one left is removed first.

    Args:
        table: its supervisor will live in the namespace too, with everything that it starts.
        data_root: of the engine, kept when it ends.
        tools: folder with coredns.
        owner_pid: the engine's processes end once this process is gone.

    Raises:
        GroundError: somebody else's engine runs here, or this one does not start.
    """
    found = owner()
    if found:
        if found.folder != table.folder and runs():
            raise GroundError(
                f"a kind fleet or build of {found.folder} uses this machine; there can be one at a time",
                hint=f"end it with `make down DIR={found.folder}`",
            )
        stop(found.folder, report)
    _claim(Owner(table.folder, data_root))
    sysctls.save(RUN / "sysctls.json")
    sysctls.raise_limits()
    (RUN / "net").touch()
    run(["unshare", f"--net={RUN}/net", "true"], timeout_seconds=10)  # mounts the new namespace there
    run([*INSIDE, "ip", "link", "set", "lo", "up"], timeout_seconds=10)
    data_root.mkdir(parents=True, exist_ok=True, mode=0o711)
    write_json(RUN / "daemon.json", _configuration(data_root))
    table.ensure_supervisor(owner_pid=owner_pid, inside=INSIDE)
    dockerd = shutil.which("dockerd") or "dockerd"
    table.start(DOCKERD, [dockerd, f"--config-file={RUN}/daemon.json"], env={**os.environ, **environment()})
    _wait_for(table, DOCKERD, lambda: bool(docker("version", "--format={{.Server.Version}}", check=False).strip()))
    _empty()  # of what a fleet whose engine was killed left in the data root
    (RUN / "Corefile").write_text(_COREFILE)
    table.start(DNS, [str(tools / "coredns"), f"-conf={RUN}/Corefile"])


def _claim(claimant: Owner) -> None:
    """Make the folder that says whose engine it is, complete in one step: of two who start at once, one gets it."""
    made = Path(tempfile.mkdtemp(dir=RUN.parent, prefix=f"{RUN.name}."))
    (made / "client").mkdir()
    write_json(made / "owner.json", {"folder": str(claimant.folder), "data_root": str(claimant.data_root)})
    try:
        made.rename(RUN)
    except OSError as error:
        shutil.rmtree(made)
        raise GroundError("another kind fleet or build is starting on this machine", hint="wait for it") from error


def _configuration(data_root: Path) -> dict[str, object]:
    configuration: dict[str, object] = {
        "data-root": str(data_root),
        "exec-root": str(RUN / "exec"),
        "pidfile": str(RUN / "dockerd.pid"),
        "hosts": [_SOCKET],
        "cgroup-parent": f"/{CGROUP}",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "bip": f"{_GATEWAY}/24",
        "default-address-pools": [{"base": "10.203.0.0/16", "size": 24}],
        "dns": [_GATEWAY],
        "storage-driver": "overlay2",
        "log-driver": "json-file",
        "iptables": True,
        "ip6tables": False,
    }
    if runtime.missing(Path("/proc/self/status").read_text()):
        script = RUN / "runtime"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -I {Path(runtime.__file__).resolve()} "$@"\n')
        script.chmod(0o755)
        configuration |= {"runtimes": {"syncline": {"path": str(script)}}, "default-runtime": "syncline"}
    return configuration


def _wait_for(table: ProcessTable, name: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not ready():
        record = table.read(name)
        if not record or not record.alive or time.monotonic() > deadline:
            told = table.log_path(name).read_text(errors="replace").splitlines()[-2:]
            raise GroundError(f"{name} did not start: {' | '.join(told)[:400]}", hint=f"see {table.log_path(name)}")
        time.sleep(_POLL_SECONDS)


def stop(folder: Path, report: Report) -> None:
    """End the engine and everything in it, and put the machine back: mounts, cgroups, namespace, kernel settings.

    Safe at any time, after a killed start too; images stay in the data root.

    Args:
        folder: whose engine; somebody else's is left alone.

    Raises:
        GroundError: something is left that cannot be removed.
    """
    found = owner()
    if found is None or found.folder != folder:
        return
    table = ProcessTable(folder)
    if runs():
        with contextlib.suppress(GroundError):  # an engine that hangs is killed below, with all that is in it
            _empty()
    _end_dockerd(table)
    table.end_everything()
    cgroups_gone = cgroups.remove(CGROUP)
    _kill_shims()
    unmount_below(RUN)
    unmount_below(found.data_root)
    for line in sysctls.restore(RUN / "sysctls.json"):
        report(f"kernel setting put back: {line}")
    if not cgroups_gone:
        raise GroundError(f"cgroups named {CGROUP} are still in use", hint=f"processes: {sorted(cgroups.pids(CGROUP))}")
    shutil.rmtree(RUN)


def _empty() -> None:
    """Remove all containers, their volumes, and all networks but the engine's own."""
    if containers := docker("ps", "--all", "--quiet").split():
        docker("rm", "--force", "--volumes", *containers)
    docker("network", "prune", "--force")


def _end_dockerd(table: ProcessTable) -> None:
    """Ask dockerd alone first: it ends its containerd itself, and says goodbye to it only while that lives."""
    record = table.read(DOCKERD)
    if not record or not record.alive:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(record.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while record.alive and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _kill_shims() -> None:
    """Kill what a killed engine left: its shims name our folder on their command line."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words and "containerd" in words[0] and any(word.startswith(str(RUN)) for word in words[1:]):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
