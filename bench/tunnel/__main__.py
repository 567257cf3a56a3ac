"""`python -m bench.tunnel`: measures the tunnel beside direct TCP and one plain proxy hop, and prints one table."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer
import uvloop
from rich.console import Console

from bench.figures import number
from bench.machine import LoadWatch, describe
from bench.table import header
from bench.tunnel import fleet, kube, lines, links
from bench.tunnel.bed import Bed, Settings, make_bed
from bench.tunnel.lines import Scenario
from bench.tunnel.report import Row, choose, render
from bench.tunnel_rig import LINKS
from deploy.local.errors import GroundError

SCENARIOS: Final[Mapping[str, Scenario]] = {
    **{name: functools.partial(lines.simple, scenario=name) for name in ("echo", "bulk", "connect", "beside")},
    "stalled": lines.stalled,
    "memory": lines.memory,
    "duplex": lines.duplex,
    "thin": links.thin,
    "kube": kube.requests,
    "dead": links.dead,
    "fleet": fleet.fleet,
}
SCENARIO_SECONDS: Final = 180.0


class Run:
    """One run: its rows, and what failed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rows: list[Row] = []
        self.failed: list[str] = []
        self.load = LoadWatch()
        self._console = Console(stderr=True, highlight=False)
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """One line of progress."""
        self._console.print(
            f"[{time.monotonic() - self._began:6.1f} s, load {os.getloadavg()[0]:4.1f}] {text}", markup=False
        )

    async def all(self, names: list[str]) -> None:
        """Measure; scenarios that fail are told and the others go on.

        Raises:
            GroundError: the load tool cannot be compiled.
        """
        watch = asyncio.create_task(self.load.run())
        try:
            async with make_bed(self.settings) as bed:
                for name in names:
                    await self._measure(name, bed)
        finally:
            watch.cancel()
        self.load.look()

    async def _measure(self, name: str, bed: Bed) -> None:
        self.say(f"── {name}")
        load = LoadWatch()
        watch = asyncio.create_task(load.run())
        try:
            async with asyncio.timeout(SCENARIO_SECONDS):
                rows = await SCENARIOS[name](bed)
        except Exception as error:
            self.failed.append(f"{name}: {type(error).__name__}: {error}")
            self.say(f"FAILED {self.failed[-1]}")
            return
        finally:
            watch.cancel()
        load.look()
        for row in rows:
            line = dataclasses.replace(row.line, load=(load.began, load.peak))
            self.rows.append(dataclasses.replace(row, line=line))
            self.say(f"{line.what}: {number(line.ours)} {line.unit}")

    def report(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {
            "machine": describe(),
            "quick": False,
            "load": {"began": self.load.began, "peak": self.load.peak},
            "settings": dataclasses.asdict(self.settings),
            "lines": [row.as_json() for row in self.rows],
            "failed": self.failed,
        }


def main(
    only: Annotated[str, typer.Option(help="Names with commas: " + ",".join(SCENARIOS))] = "",
    output: Annotated[
        str, typer.Option("--output", "-o", help="table or json (both go to standard output).")
    ] = "table",
    link: Annotated[str, typer.Option(help="websockets (our own transport) or aiohttp.")] = "websockets",
    tls: Annotated[bool, typer.Option("--tls", help="TLS 1.3 between hub and agent (fleet has it always).")] = False,
    seconds: Annotated[float, typer.Option(min=0.2, help="Measured time of each point.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often each point is measured; the median counts.")] = 3,
) -> None:
    """Measure, and print the table."""
    try:
        names = choose(only, list(SCENARIOS))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from None
    if output not in ("table", "json"):
        raise typer.BadParameter("table or json", param_hint="--output")
    kind = next((known for known in LINKS if known == link), None)
    if kind is None:
        raise typer.BadParameter(" or ".join(LINKS), param_hint="--link")
    run = Run(Settings(kind, tls, seconds, rounds))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run.all(names))
    except GroundError as error:
        typer.echo(f"error: {error}\nhint: {error.hint}", err=True)
        raise typer.Exit(1) from error
    report = run.report()
    if output == "json":
        sys.stdout.write(json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        console = Console(width=None if sys.stdout.isatty() else 220)
        console.print(header(report), highlight=False)
        console.print(render(run.rows))
        for failure in run.failed:
            console.print(f"failed: {failure}", markup=False, highlight=False)
    if run.failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
