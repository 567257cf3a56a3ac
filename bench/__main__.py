"""`python -m bench`: measures Syncline against the raw limit of the same API servers, and prints one table.

It starts a fleet of its own, runs `syncline operator` on it as a process of its own, and ends both. Limits of the
SyncTargets are raised (qps, burst), so that Syncline's own throttle is not what is measured.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uvloop
from rich.console import Console

from bench import burst, coldstart, drift, fanout, feedback, footprint, latency, writes
from bench.figures import Line
from bench.ground import Ground, OperatorEnded
from bench.machine import LoadWatch, describe
from bench.scenario import Scale, Scenario
from bench.table import header, render
from deploy.local.errors import GroundError
from deploy.local.fleet import Fleet
from deploy.local.plan import DEFAULT_TARGETS, FleetRequest
from deploy.local.providers import provider

SCENARIOS: Final = (
    burst.SCENARIO,
    latency.SCENARIO,
    drift.SCENARIO,
    feedback.SCENARIO,
    writes.SCENARIO,
    footprint.SCENARIO,
    coldstart.SCENARIO,
    fanout.SCENARIO,
)
DEFAULT_FOLDER: Final = Path(".local-bench")
SCENARIO_SECONDS: Final = 900.0  # none takes a third of it on two idle cores


class Bench:
    """One run."""

    def __init__(self, scale: Scale, folder: Path, fleet: Path | None) -> None:
        self.scale = scale
        self.folder = folder
        self.given = fleet
        self.lines: list[Line] = []
        self.failed: list[str] = []
        self.load = LoadWatch()
        self._console = Console(stderr=True, highlight=False)
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """One line of progress."""
        self._console.print(
            f"[{time.monotonic() - self._began:6.1f} s, load {os.getloadavg()[0]:4.1f}] {text}", markup=False
        )

    async def run(self, scenarios: list[Scenario]) -> None:
        """All scenarios; those that fail are told and the others go on."""
        watch = asyncio.create_task(self.load.run())
        try:
            for light in (False, True):
                if chosen := [scenario for scenario in scenarios if scenario.light is light]:
                    await self._on_fleet(chosen, light=light)
        finally:
            watch.cancel()

    async def _on_fleet(self, scenarios: list[Scenario], *, light: bool) -> None:
        fleet, mine = await self._fleet(light=light)
        ground = Ground(fleet, self.say)
        try:
            await ground.install(as_is=light)
            for scenario in scenarios:
                await self._measure(scenario, ground)
        except (GroundError, TimeoutError, RuntimeError) as error:
            self._fail(", ".join(scenario.name for scenario in scenarios), error)
        finally:
            await ground.close()
            if mine is not None:
                self.say("ending the fleet")
                await asyncio.to_thread(provider("local", mine).down, self.say)

    async def _fleet(self, *, light: bool) -> tuple[Fleet, Path | None]:
        """A fleet, and its folder if it is ours to end."""
        if self.given is not None and not light:
            return Fleet.load(self.given), None
        folder = self.folder.with_name(f"{self.folder.name}-light") if light else self.folder
        names = (
            tuple(f"t{number:02}" for number in range(1, self.scale.light_targets + 1)) if light else DEFAULT_TARGETS
        )
        self.say(f"starting a fleet with {len(names)} {'light ' if light else ''}targets in {folder}")
        up = provider("local", folder, owner_pid=os.getpid()).up
        return await asyncio.to_thread(up, FleetRequest(targets=names, light=light), self.say), folder

    async def _measure(self, scenario: Scenario, ground: Ground) -> None:
        self.say(f"── {scenario.name}")
        load = LoadWatch()
        watch = asyncio.create_task(load.run())
        try:
            await ground.revive()
            ground.crashed = False
            async with asyncio.timeout(SCENARIO_SECONDS):
                lines = await scenario.run(ground, self.scale)
        except Exception as error:
            self._fail(scenario.name, error)
            return
        finally:
            watch.cancel()
        load.look()
        for line in lines:
            self.lines.append(dataclasses.replace(line, load=(load.began, load.peak)))
            self.say(f"{line.what}: {line.ours:.4g} {line.unit}")
        if ground.crashed or not ground.operator.alive:
            self._fail(scenario.name, OperatorEnded("the operator ended by itself meanwhile; its log tells why"))

    def _fail(self, what: str, error: BaseException) -> None:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        self.failed.append(f"{what}: {type(error).__name__}: {error}")
        self.say(f"FAILED {self.failed[-1]}")

    def report(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {
            "machine": describe(),
            "quick": self.scale.quick,
            "load": {"began": self.load.began, "peak": self.load.peak},
            "lines": [line.as_json() for line in self.lines],
            "failed": self.failed,
        }


def main(
    only: Annotated[str, typer.Option(help="Names with commas: " + ",".join(s.name for s in SCENARIOS))] = "",
    output: Annotated[
        str, typer.Option("--output", "-o", help="table or json (both go to standard output).")
    ] = "table",
    fleet: Annotated[Path | None, typer.Option(help="Folder of a running fleet; it stays up.")] = None,
    folder: Annotated[Path, typer.Option("--dir", help="Folder of the fleets that are started.")] = DEFAULT_FOLDER,
    quick: Annotated[bool, typer.Option(help="A tenth of everything, for development.")] = False,
    light_targets: Annotated[int, typer.Option(min=1, max=60, help="Targets of `fanout`.")] = 50,
) -> None:
    """Measure, and print the table."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    names = [name.strip() for name in only.split(",") if name.strip()] or list(known)
    if unknown := [name for name in names if name not in known]:
        raise typer.BadParameter(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}", param_hint="--only")
    if output not in ("table", "json"):
        raise typer.BadParameter("table or json", param_hint="--output")
    bench = Bench(Scale(quick, light_targets), folder, fleet)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(bench.run([known[name] for name in names]))
    except GroundError as error:
        typer.echo(f"error: {error}\nhint: {error.hint}", err=True)
        raise typer.Exit(1) from error
    bench.load.look()
    report = bench.report()
    if output == "json":
        sys.stdout.write(json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(header(report), highlight=False)
        console.print(render(bench.lines))
        for failure in bench.failed:
            console.print(f"failed: {failure}", markup=False, highlight=False)
    if bench.failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
