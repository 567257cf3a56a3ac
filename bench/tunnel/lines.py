"""Lines that are one load on three ways: echo, bulk, connections, small requests beside bulk, readers that stall."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.figures import Goal, Line, median, number
from bench.tunnel.bed import MIB, Bed, Measured, Way
from bench.tunnel.load import Result
from bench.tunnel.report import Row

Scenario = Callable[[Bed], Awaitable[list[Row]]]
STALLED: Final = 64
STALL_SECONDS: Final = 3.0
MB: Final = 1e6


@dataclass(frozen=True)
class Point:
    """A load and its figure.

    Attributes:
        kinds: for the load tool.
        work: what the way did in all, warm-up included; CPU is told for one of it.
        cpu_scale: seconds of CPU to ``cpu_unit``.
    """

    scenario: str
    what: str
    unit: str
    kinds: tuple[str, ...]
    value: Callable[[Result], float]
    work: Callable[[Result], float]
    cpu_unit: str
    cpu_scale: float
    goal: Goal
    peers: str = ""


POINTS: Final = (
    Point(
        "echo", "echo of 256 B on 64 connections", "ops/s", ("echo=64x256",),
        lambda r: r.groups["echo"].ops / r.seconds, lambda r: r.groups["echo"].all_ops, "µs/op", 1e6,
        Goal(50_000, at_least=True), "37,000",
    ),
    Point(
        "bulk", "one download", "MB/s", ("down=1",),
        lambda r: r.groups["down"].into / r.seconds / MB, lambda r: r.groups["down"].all_into / MB, "ms/MB", 1e3,
        Goal(600, at_least=True), "293",
    ),
    Point(
        "bulk", "one upload", "MB/s", ("up=1",),
        lambda r: r.groups["up"].out / r.seconds / MB, lambda r: r.groups["up"].all_out / MB, "ms/MB", 1e3,
        Goal(500, at_least=True), "250",
    ),
    Point(
        "connect", "connect, one byte out and back, close; 32 at a time", "/s", ("connect=32",),
        lambda r: r.groups["connect"].ops / r.seconds, lambda r: r.groups["connect"].all_ops, "µs each", 1e6,
        Goal(3_500, at_least=True),
    ),
    Point(
        "beside", "p99 of 8 pings beside 2 downloads", "ms", ("down=2", "echo=8"),
        lambda r: r.groups["echo"].p99_ms, lambda r: r.groups["down"].all_into / MB, "ms/MB", 1e3,
        Goal(5), "9-26",
    ),
)  # fmt: skip

CPU_GOAL: Final = Goal(16)
ACK_SHARE: Final = 8 / (64 * 1024)  # bytes that the server writes for each that it gets


def row(point: Point, measured: Sequence[Sequence[Measured]]) -> Row:
    """Of the rounds on each way: direct, hop, tunnel."""
    direct, hop, ours = ([point.value(one.result) for one in way] for way in measured)

    def cost(seconds: Callable[[Measured], float], way: Sequence[Measured]) -> float:
        done = ((seconds(one), point.work(one.result)) for one in way)
        return median(spent / work * point.cpu_scale for spent, work in done if work)

    cpu = [cost(lambda one: one.cpu_seconds, way) for way in measured]
    tool = cost(lambda one: one.result.cpu_seconds, measured[0])
    return Row(
        Line(
            point.scenario, point.what, point.unit, median(ours), median(direct), point.goal,
            f"load tool {number(tool)} {point.cpu_unit}",
        ),
        hop=median(hop),
        peers=point.peers,
        rounds=tuple(ours),
        cpu=cpu[2],
        hop_cpu=cpu[1],
        cpu_unit=point.cpu_unit,
        rss_mib=measured[2][-1].rss_bytes / MIB,
    )  # fmt: skip


async def in_turns(bed: Bed, ways: Sequence[Way], points: Sequence[Point]) -> list[list[list[Measured]]]:
    """All points on all ways, round after round: {point: {way: rounds}} as lists."""
    found: list[list[list[Measured]]] = [[[] for _ in ways] for _ in points]
    for _ in range(bed.settings.rounds):
        for point, by_way in zip(points, found, strict=True):
            for way, rounds in zip(ways, by_way, strict=True):
                rounds.append(await bed.measure(way, *point.kinds))
    return found


async def simple(bed: Bed, scenario: str) -> list[Row]:
    """The points of one scenario."""
    points = [point for point in POINTS if point.scenario == scenario]
    async with bed.ways() as ways:
        rows = [row(*pair) for pair in zip(points, await in_turns(bed, ways, points), strict=True)]
    if scenario == "echo":
        (echo,) = rows
        cpu = Line("echo", "the same: CPU of hub and agent", "µs/op", echo.cpu, None, CPU_GOAL)
        rows.append(Row(cpu, hop=echo.hop_cpu, peers="31"))
    return rows


async def stalled(bed: Bed) -> list[Row]:
    """8 pings beside one download that nobody reads, and without it."""
    names = ("without", "with")
    kinds = (("echo=8",), ("echo=8", "stall=1"))
    values: list[list[float]] = [[], [], []]
    last = [math.nan, math.nan]
    async with bed.ways() as ways:
        for _ in range(bed.settings.rounds):
            for way, ratios in zip(ways, values, strict=True):
                last = [(await bed.measure(way, *words)).result.groups["echo"].p99_ms for words in kinds]
                ratios.append(last[1] / last[0])
    direct, hop, ours = values
    note = ", ".join(f"{name} {value:.2f} ms" for name, value in zip(names, last, strict=True))
    line = Line(
        "stalled", "p99 of 8 pings beside one stalled reader, by that without", "ratio", median(ours), median(direct),
        Goal(1.5), f"last round: {note}",
    )  # fmt: skip
    return [Row(line, hop=median(hop), peers="hangs, or 2", rounds=tuple(ours))]


async def memory(bed: Bed) -> list[Row]:
    """Growth of fresh processes under downloads that nobody reads."""
    async with bed.ways() as (_, hop, ours):
        growth = [await _growth(bed, way) for way in (hop, ours)]
        rss = ours.rss_bytes() / MIB
    line = Line("memory", f"{STALLED} stalled readers: growth of hub and agent", "MiB", growth[1], None, Goal(40))
    return [Row(line, hop=growth[0], peers="248", rss_mib=rss)]


async def _growth(bed: Bed, way: Way) -> float:
    await bed.measure(way, "echo=8", "down=1", seconds=1.0)  # what any traffic takes is no growth of stalled readers
    before = peak = way.rss_bytes()
    run = asyncio.create_task(bed.measure(way, f"stall={STALLED}", seconds=STALL_SECONDS))
    while not run.done():
        peak = max(peak, way.rss_bytes())
        await asyncio.sleep(0.1)
    await run
    return (peak - before) / MIB


async def duplex(bed: Bed) -> list[Row]:
    """One upload while the server writes 8 bytes for each 64 KiB that it got."""
    shares: list[list[float]] = [[], [], []]
    rates: list[list[float]] = [[], [], []]
    async with bed.ways() as ways:
        for _ in range(bed.settings.rounds):
            for place, way in enumerate(ways):
                result = (await bed.measure(way, "ack=1")).result
                group = result.groups["ack"]
                shares[place].append(group.into / (group.out * ACK_SHARE) if group.out else 0.0)
                rates[place].append(group.out / result.seconds / MB)
    direct, hop, ours = (median(values) for values in shares)
    flows = Line(
        "duplex", "upload beside its answers: share of them that came back meanwhile", "share", ours, direct,
        Goal(0.9, at_least=True),
    )  # fmt: skip
    upload = Line("duplex", "the same: upload", "MB/s", median(rates[2]), median(rates[0]))
    return [
        Row(flows, hop=hop, peers="one: 0", rounds=tuple(shares[2])),
        Row(upload, hop=median(rates[1]), rounds=tuple(rates[2])),
    ]
