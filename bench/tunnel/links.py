"""Lines about the link between agent and hub itself: a thin one, and one that is dead and does not say so."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from typing import Final

from bench.figures import Goal, Line, median
from bench.tunnel.bed import Bed, Measured, Way
from bench.tunnel.lines import MB
from bench.tunnel.report import Row

BYTES_PER_SECOND: Final = 100_000_000 // 8
DELAY_SECONDS: Final = 0.010  # each way
THIN_SECONDS: Final = 3.0
DEAD_LIMIT_SECONDS: Final = 40.0


async def thin(bed: Bed) -> list[Row]:
    """4 pings, alone and beside 4 downloads, over a link of 100 Mbit/s and 20 ms."""
    idle: list[list[Measured]] = [[], [], []]
    busy: list[list[Measured]] = [[], [], []]
    async with AsyncExitStack() as stack:

        async def link(port: int) -> int:
            """A link of its own in front of a port."""
            return (await stack.enter_async_context(bed.shaped(port, BYTES_PER_SECOND, DELAY_SECONDS)))[1]

        # The link lies where the tunnel's would: behind the first process for hop and tunnel.
        hop = await stack.enter_async_context(bed.hop(await link(bed.server_port)))
        tunnel = await stack.enter_async_context(bed.tunnel(link))
        ways = (Way("direct", await link(bed.server_port)), hop, tunnel)
        for _ in range(bed.settings.rounds):
            for number, way in enumerate(ways):
                idle[number].append(await bed.measure(way, "echo=4", seconds=1.0))
                busy[number].append(await bed.measure(way, "down=4", "echo=4", seconds=THIN_SECONDS))
    waits = [[one.result.groups["echo"].p50_ms for one in way] for way in busy]
    alone = [[one.result.groups["echo"].p50_ms for one in way] for way in idle]
    rates = [[one.result.groups["down"].into / one.result.seconds / MB for one in way] for way in busy]
    share = [rate * MB / BYTES_PER_SECOND for rate in rates[2]]

    def rows_of(what: str, unit: str, values: list[list[float]], goal: Goal | None, peers: str = "") -> Row:
        direct, other, ours = (median(rounds) for rounds in values)
        line = Line("thin", f"100 Mbit/s, 20 ms: {what}", unit, ours, direct, goal)
        return Row(line, hop=other, peers=peers, rounds=tuple(values[2]))

    return [
        rows_of("p50 of 4 pings beside 4 downloads", "ms", waits, Goal(36), "108 (windows alone)"),
        rows_of("the same: bulk", "MB/s", rates, Goal(0.9, of="ratio", at_least=True)),
        Row(Line("thin", "the same: bulk by what the link carries", "share", median(share)), rounds=tuple(share)),
        rows_of("p50 of 4 pings alone", "ms", alone, None),
    ]


async def dead(bed: Bed) -> list[Row]:
    """A link through a process that is stopped: the kernel still takes bytes, nobody reads them."""
    async with AsyncExitStack() as stack:
        stopped = []

        async def through(port: int) -> int:
            process, shaped = await stack.enter_async_context(bed.shaped(port, 0, 0.0))
            stopped.append(process)
            return shaped

        way = await stack.enter_async_context(bed.tunnel(through))
        await bed.measure(way, "echo=1", seconds=0.5)
        stopped[0].send_signal(signal.SIGSTOP)
        began = time.monotonic()
        try:
            async with asyncio.timeout(DEAD_LIMIT_SECONDS):
                await asyncio.gather(*(process.wait() for process in way.processes))  # each ends with its session
            seconds = time.monotonic() - began
        except TimeoutError:
            seconds = float("nan")
        finally:
            stopped[0].send_signal(signal.SIGCONT)
    line = Line(
        "dead", "black-holed link noticed by both ends", "s", seconds, None, Goal(20),
        "no byte passes, nothing is reset; the later of the two",
    )  # fmt: skip
    return [Row(line, peers="63")]
