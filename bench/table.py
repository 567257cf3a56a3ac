"""The table that a run ends with. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from bench.figures import Line, number


def header(report: Mapping[str, Any]) -> str:
    """The machine and how busy it was, one line each."""
    machine, load = report["machine"], report["load"]
    text = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}, "
        f"Python {machine['python']}\nload average (1 min) {load['began']:.1f} at the start, at most {load['peak']:.1f}"
    )
    return f"{text}\nquick run: a tenth of everything, goals mean nothing" if report["quick"] else text


def render(lines: Sequence[Line]) -> Table:
    """One row per line."""
    table = Table("measured", "unit", "ours", "raw", "ratio", "goal", "reached", "load", "how")
    for line in lines:
        table.add_row(
            line.what,
            line.unit,
            number(line.ours),
            "-" if line.raw is None else number(line.raw),
            "-" if line.ratio is None else number(line.ratio),
            str(line.goal or "-"),
            {True: "yes", False: "no", None: "-"}[line.reached],
            f"{line.load[0]:.1f}-{line.load[1]:.1f}",
            line.note,
        )
    return table
