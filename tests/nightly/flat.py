"""Whether a process holds what it held before: samples taken at rest, compared. Pure but for `take`."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil

WARM = 2  # samples of the beginning that count for nothing: pools fill, modules are imported
FEW = 6  # fewer samples than that tell nothing
LIMITS = {  # {field: (part, and amount, by which the last third may be above the first)}
    "tasks": (0.0, 0),
    "descriptors": (0.0, 0),
    "objects": (0.05, 500),
    "rss_bytes": (0.05, 2 * 2**20),
}

_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Sample:
    """One process at rest.

    Attributes:
        sessions, streams: that are open; what stays is known: see `faults`.
        objects: that the garbage collector follows.
    """

    rss_bytes: int
    objects: int
    tasks: int
    descriptors: int
    sessions: int
    streams: int

    def json(self) -> dict[str, Any]:
        return asdict(self)


def take(sessions: int, streams: int) -> Sample:
    """This process now. glibc gives back first what it keeps for later: what counts is what is held."""
    gc.collect()
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
    process = psutil.Process()
    objects, tasks = len(gc.get_objects()), len(asyncio.all_tasks())
    return Sample(process.memory_info().rss, objects, tasks, process.num_fds(), sessions, streams)


def faults(name: str, samples: Sequence[Sample], *, sessions: int) -> list[str]:
    """Why a process is not flat, one line each.

    Args:
        samples: of its whole life, oldest first.
        sessions: that are to be open at rest.
    """
    found = []
    later = samples[WARM:]
    for number, sample in enumerate(samples):
        if (sample.sessions, sample.streams) != (sessions, 0):
            found.append(f"{name}, sample {number}: {sample.sessions} sessions, {sample.streams} streams at rest")
    if len(later) >= FEW:
        third = len(later) // 3
        for what, (growth, slack) in LIMITS.items():
            values = [getattr(sample, what) for sample in later]
            before, after = statistics.median(values[:third]), statistics.median(values[-third:])
            if after > before * (1 + growth) + slack:
                found.append(f"{name}: {what} grew from {before:.0f} to {after:.0f}: {values}")
    return found
