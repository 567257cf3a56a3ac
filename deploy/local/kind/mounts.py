"""Mounts of this machine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_ESCAPE = re.compile(r"\\([0-7]{3})")


def mount_points() -> list[Path]:
    """All mount points that this process sees, in the order in which they were mounted."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [Path(_ESCAPE.sub(lambda found: chr(int(found[1], 8)), line.split(" ")[4])) for line in lines]


def unmount_below(folder: Path) -> list[Path]:
    """Unmount everything in a folder, the last mounted first; returns what was unmounted."""
    below = [point for point in reversed(mount_points()) if point.is_relative_to(folder)]
    for point in below:
        subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False)  # noqa: S603, S607
    return below
