"""Kernel settings that an engine, kubelets and their nodes change for the whole machine, saved and put back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from deploy.local.files import write_json

ROOT = Path("/proc/sys")
CHANGED = (
    # systemd of a node
    "fs/file-max",
    "fs/nr_open",
    "fs/protected_fifos",
    "fs/protected_hardlinks",
    "fs/protected_regular",
    "fs/protected_symlinks",
    "kernel/core_pattern",
    "kernel/core_uses_pid",
    "kernel/pid_max",
    "kernel/sysrq",
    # kubelet, the engine, and we
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "vm/max_map_count",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
# Three nodes with systemd, kubelet and containerd each take more watches than most systems allow one user.
WANTED = {"fs/inotify/max_user_instances": 1024, "fs/inotify/max_user_watches": 524288}


def read(root: Path = ROOT) -> dict[str, str]:
    """{name: value} of the settings that this kernel has among those that may be changed."""
    found = {}
    for name in CHANGED:
        with contextlib.suppress(OSError):
            found[name] = (root / name).read_text().strip()
    return found


def save(path: Path, root: Path = ROOT) -> None:
    """Keep the settings of now in a file; one that is there already holds older, truer values and stays."""
    if not path.exists():
        write_json(path, read(root))


def raise_limits(root: Path = ROOT) -> None:
    """Raise the limits that are lower than the nodes need."""
    now = read(root)
    for name, wanted in WANTED.items():
        if name in now and int(now[name]) < wanted:
            (root / name).write_text(str(wanted))


def restore(path: Path, root: Path = ROOT) -> list[str]:
    """Put back what a file says; returns what was changed meanwhile, as `name: now -> before`."""
    if not path.exists():
        return []
    before: Mapping[str, str] = json.loads(path.read_text())
    now = read(root)
    changed = []
    for name, value in before.items():
        if now.get(name) != value:
            (root / name).write_text(value)
            changed.append(f"{name.replace('/', '.')}: {now.get(name)} -> {value}")
    return changed
