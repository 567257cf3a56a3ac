"""What one run of the benchmark stands on: a server, and three ways to it: direct, one plain hop, the tunnel."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import psutil

from bench.tunnel.load import Load, LoadFailed, Result, compiled
from bench.tunnel_rig import LinkKind, end, start_pair
from deploy.local import ports

MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class Settings:
    """What the command line says.

    Attributes:
        seconds: measured time of one point.
        rounds: how often each point is measured; the median counts.
    """

    link: LinkKind = "websockets"
    tls: bool = False
    seconds: float = 2.0
    rounds: int = 3


@dataclass(frozen=True)
class Way:
    """A port that leads to the server.

    Attributes:
        processes: what stands between, and is what the way costs; none for direct TCP.
    """

    name: str
    port: int
    processes: tuple[Process, ...] = ()

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        times = (psutil.Process(process.pid).cpu_times() for process in self.processes)
        return sum(time.user + time.system for time in times)

    def rss_bytes(self) -> int:
        """Resident memory of all its processes."""
        return sum(psutil.Process(process.pid).memory_info().rss for process in self.processes)


@dataclass(frozen=True)
class Measured:
    """One point of one round.

    Attributes:
        cpu_seconds: of the way, with the warm-up.
        rss_bytes: of the way, at the end.
    """

    result: Result
    cpu_seconds: float
    rss_bytes: int


class Bed:
    """Starts and ends processes; measures points."""

    def __init__(self, settings: Settings, load: Load, server_port: int) -> None:
        self.settings = settings
        self.load = load
        self.server_port = server_port

    @asynccontextmanager
    async def ways(self) -> AsyncIterator[tuple[Way, Way, Way]]:
        """Direct, hop and tunnel, in this order."""
        async with self.hop(self.server_port) as hop, self.tunnel() as tunnel:
            yield Way("direct", self.server_port), hop, tunnel

    @asynccontextmanager
    async def hop(self, port: int) -> AsyncIterator[Way]:
        """A plain asyncio TCP proxy in front of a port."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.tunnel.hop", str(port), stdout=PIPE, stdin=DEVNULL
        )
        assert process.stdout is not None
        try:
            words = (await process.stdout.readline()).split()
            if len(words) != 2:
                raise LoadFailed("the plain proxy did not start; its error is above")
            yield Way("hop", int(words[1]), (process,))
        finally:
            await end(process)

    @asynccontextmanager
    async def tunnel(self, through: Callable[[int], Awaitable[int]] | None = None) -> AsyncIterator[Way]:
        """A fresh rig in front of the server; ``through`` puts something into its link."""
        (port,) = ports.choose(1, rng=random.Random(os.urandom(8)))  # noqa: S311 - no secret
        words = ["-m", "bench.tunnel_rig", "--listen", f"127.0.0.1:{port}", "--link", self.settings.link]
        words += ["--target", f"127.0.0.1:{self.server_port}"]
        pair = await start_pair(words, tls=self.settings.tls, through=through)
        try:
            yield Way("tunnel", port, pair)
        finally:
            await end(*pair)

    @asynccontextmanager
    async def shaped(self, port: int, rate: int, delay_seconds: float) -> AsyncIterator[tuple[Process, int]]:
        """A link in front of a port: ``rate`` bytes per second (0: no bound) and the delay, each way."""
        process, shaped = await self.load.server("shape", str(port), str(rate), str(round(delay_seconds * 1e6)))
        try:
            yield process, shaped
        finally:
            await end(process)

    async def measure(self, way: Way, *kinds: str, seconds: float | None = None) -> Measured:
        """One point."""
        before = way.cpu_seconds()
        result = await self.load.run(way.port, seconds or self.settings.seconds, *kinds)
        return Measured(result, way.cpu_seconds() - before, way.rss_bytes())


@asynccontextmanager
async def make_bed(settings: Settings) -> AsyncIterator[Bed]:
    """A bed with its server; compiles the load tool if need be.

    Raises:
        GroundError: the load tool cannot be compiled.
    """
    load = Load(await compiled(os.environ))
    server, port = await load.server("serve")
    try:
        yield Bed(settings, load, port)
    finally:
        await end(server)
