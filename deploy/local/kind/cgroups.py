"""The cgroups of the engine's containers: what still runs in them, and their removal."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_WAIT_SECONDS = 10.0


def folders(name: str, root: Path = ROOT) -> list[Path]:
    """Every cgroup folder of this name, in each hierarchy, and what lies below; the deepest first."""
    tops = [path for path in (root / name, *root.glob(f"*/{name}")) if path.is_dir()]
    found = {Path(folder) for top in tops for folder, _, _ in os.walk(top)}
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def pids(name: str, root: Path = ROOT) -> set[int]:
    """Processes in these cgroups."""
    found: set[int] = set()
    for folder in folders(name, root):
        with contextlib.suppress(OSError):
            found |= {int(line) for line in (folder / "cgroup.procs").read_text().split()}
    return found


def remove(name: str, root: Path = ROOT) -> bool:
    """Kill what runs in these cgroups and remove their folders; False when some stay."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while left := folders(name, root):
        for pid in pids(name, root) - {0}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for folder in left:
            with contextlib.suppress(OSError):  # busy for a moment after its last process
                folder.rmdir()
        if time.monotonic() > deadline:
            return not folders(name, root)
        time.sleep(0.05)
    return True
