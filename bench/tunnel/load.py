"""The load tool: `bench/load/load.c`, compiled at first use; what it is asked and what it answers.

In C, because a load tool in Python costs as much CPU as the tunnel, on the same two cores, and one in Go two to three
times as much as this one; a C compiler is the only thing it needs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from deploy.local.assets import cache_root
from deploy.local.errors import GroundError

SOURCE: Final = Path(__file__).parent.parent / "load" / "load.c"
FLAGS: Final = ("-O2",)
WARMUP_SECONDS: Final = 0.3


class LoadFailed(Exception):
    """The load tool could not do what it was asked, so there is no figure."""


@dataclass(frozen=True)
class Group:
    """What the connections of one kind did; without `all_`: in the measured time, after the warm-up.

    Attributes:
        ops: round trips.
        into, out: bytes read and written.
        p50_ms, p99_ms: of the round trips, nearest rank; -1 without any.
    """

    ops: int
    all_ops: int
    into: int
    all_into: int
    out: int
    all_out: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Result:
    """One run.

    Attributes:
        seconds: measured time.
        cpu_seconds: of the load tool, with the warm-up.
        groups: {kind: what it did}.
    """

    seconds: float
    cpu_seconds: float
    groups: Mapping[str, Group]


def parse_result(text: str) -> Result:
    """Read the last line of `load run`.

    Raises:
        LoadFailed: it is not that line, or connections failed.
    """
    try:
        words = json.loads(text)
        seconds, cpu = float(words.pop("seconds")), float(words.pop("cpu_seconds"))
        failed = {kind: group["failed"] for kind, group in words.items() if group["failed"]}
        names = {"into": "in", "all_into": "all_in"}
        groups = {
            kind: Group(**{field.name: group[names.get(field.name, field.name)] for field in fields(Group)})
            for kind, group in words.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadFailed(f"the load tool answered {text[:200]!r}") from error
    if failed:
        raise LoadFailed(f"connections ended or were refused: {failed}")
    return Result(seconds, cpu, groups)


def binary(environ: Mapping[str, str]) -> Path:
    """Where the tool of today's source lies once it is compiled."""
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()
    return cache_root(environ) / f"load-{digest[:16]}"


async def compiled(environ: Mapping[str, str]) -> Path:
    """The tool, compiled if it is not there.

    Raises:
        GroundError: no compiler, or it refuses.
    """
    path = binary(environ)
    if os.access(path, os.X_OK):
        return path
    words = environ.get("CC", "cc").split()
    compiler = shutil.which(words[0], path=environ.get("PATH", "")) if words else None
    if compiler is None:
        raise GroundError(
            f"no C compiler: {environ.get('CC', 'cc')!r} is not on PATH, and the load tool is written in C",
            hint="install one (Debian and Ubuntu: apt install gcc libc6-dev), or name it in CC",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")  # two runs may compile at the same time
    process = await asyncio.create_subprocess_exec(
        compiler, *words[1:], *FLAGS, "-o", str(draft), str(SOURCE), stdout=PIPE, stderr=PIPE
    )
    _, said = await process.communicate()
    if process.returncode:
        draft.unlink(missing_ok=True)
        raise GroundError(
            f"{compiler} does not compile {SOURCE.name}: {said.decode(errors='replace')[:500].strip()}",
            hint="it needs Linux and the headers of the C library",
        )
    draft.replace(path)
    return path


class Load:
    """The compiled tool."""

    def __init__(self, tool: Path) -> None:
        self._tool = str(tool)

    async def server(self, *arguments: str) -> tuple[Process, int]:
        """Start ``serve`` or ``shape``; the process and its port.

        Raises:
            LoadFailed: it did not start.
        """
        process = await asyncio.create_subprocess_exec(self._tool, *arguments, stdout=PIPE)
        assert process.stdout is not None
        words = (await process.stdout.readline()).split()
        if len(words) != 2:
            raise LoadFailed(f"load {arguments[0]} did not start; its error is above")
        return process, int(words[1])

    async def run(self, port: int, seconds: float, *kinds: str) -> Result:
        """Put load on a port.

        Args:
            seconds: measured time, after the warm-up.
            kinds: such as ``echo=64x256``, all at once; see the head of the source.
        Raises:
            LoadFailed: connections failed, or it took far too long.
        """
        process = await asyncio.create_subprocess_exec(
            self._tool, "run", str(port), str(WARMUP_SECONDS), str(seconds), *kinds, stdout=PIPE
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(), seconds + 20)
        except TimeoutError:
            raise LoadFailed(f"{' '.join(kinds)}: no answer after {seconds + 20:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return parse_result((said.decode().splitlines() or [""])[-1])
