"""What a fleet leaves on a machine: pictures of it before and after, and what differs.

Only what our engine and its nodes could have made is compared, so that other people's work does not count: network
devices and namespaces, mounts, cgroups, kernel settings, and processes in another network namespace than ours.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from deploy.local.files import write_json
from deploy.local.kind.mounts import mount_points

# Counters and names that change by themselves.
_VOLATILE = (
    "abi/",
    "dev/cdrom/",
    "fs/aio-nr",
    "fs/dentry-state",
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inode-state",
    "fs/quota/",
    "kernel/ns_last_pid",
    "kernel/pty/nr",
    "kernel/random/",
    "kernel/perf_event_max_sample_rate",
    "kernel/sched_domain/",
    "net/netfilter/nf_conntrack_count",
)

Picture = Mapping[str, list[str]]


def picture() -> Picture:
    """Look at the machine now."""
    return {
        "network device": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "network namespace": sorted(path.name for path in Path("/run/netns").glob("*")),
        "mount": sorted({str(path) for path in mount_points()}),
        "cgroup": sorted(folder for folder, _, _ in os.walk("/sys/fs/cgroup")),
        "kernel setting": _settings(),
        "process in another network": _foreign_processes(),
    }


def _settings() -> list[str]:
    found = []
    for folder, _, names in os.walk("/proc/sys"):
        for path in (Path(folder, name) for name in names):
            name = str(path.relative_to("/proc/sys"))
            if not name.startswith(_VOLATILE):
                with contextlib.suppress(OSError, UnicodeDecodeError):
                    found.append(f"{name.replace('/', '.')} = {path.read_text().strip()}")
    return sorted(found)


def _foreign_processes() -> list[str]:
    ours = Path("/proc/self/ns/net").stat().st_ino
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "ns" / "net").stat().st_ino != ours:
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(f"{process.name} {words[:120]}".strip())
    return sorted(found)


def differences(before: Picture, after: Picture) -> list[str]:
    """One line for each thing that came or went, in the words of the pictures."""
    lines = []
    for kind in sorted({*before, *after}):
        then, now = set(before.get(kind, ())), set(after.get(kind, ()))
        lines += [f"{kind} came: {item}" for item in sorted(now - then)]
        lines += [f"{kind} went: {item}" for item in sorted(then - now)]
    return lines


def save(path: Path) -> None:
    """Write a picture of now."""
    write_json(path, picture(), mode=0o644)


def compare(path: Path) -> list[str]:
    """Compare a picture that was saved with the machine of now.

    Raises:
        OSError: the file cannot be read.
    """
    return differences(json.loads(path.read_text()), picture())
