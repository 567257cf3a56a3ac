"""What the machine is, and how busy it was meanwhile."""

from __future__ import annotations

import asyncio
import os
import platform
from pathlib import Path
from typing import Any

import psutil


def describe() -> dict[str, Any]:
    """Processor, cores, memory, kernel and Python."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].strip() if names else model
    return {
        "processor": model,
        "cores": os.cpu_count() or 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


class LoadWatch:
    """Looks at the load average over one minute now and then.

    Attributes:
        began: when `run` began.
        peak: the highest value since.
    """

    def __init__(self) -> None:
        self.began = self.peak = os.getloadavg()[0]

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(2)

    def look(self) -> None:
        """Take the value of now into account."""
        self.peak = max(self.peak, os.getloadavg()[0])
