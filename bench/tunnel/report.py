"""Rows of the table: a line, what the same load reached on the two other ways, and what it cost. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bench.figures import Line, number


@dataclass(frozen=True)
class Row:
    """One measured number.

    Attributes:
        line: ours, with direct TCP as its raw limit.
        hop: through one plain asyncio TCP proxy; None where that means nothing.
        peers: best of the peers on the same kind of machine, with the unit of the line; "" if none was measured.
        rounds: ours, round by round.
        cpu: CPU of hub and agent together, in ``cpu_unit``; NaN if it was not measured.
        hop_cpu: of the plain proxy.
        rss_mib: hub and agent together, afterwards; NaN if it was not looked at.
    """

    line: Line
    hop: float | None = None
    peers: str = ""
    rounds: tuple[float, ...] = ()
    cpu: float = math.nan
    hop_cpu: float = math.nan
    cpu_unit: str = ""
    rss_mib: float = math.nan

    def as_json(self) -> dict[str, Any]:
        """For files; what was not measured is None there."""
        return self.line.as_json() | {
            "hop": self.hop,
            "peers": self.peers,
            "rounds": list(self.rounds),
            "cpu": _known(self.cpu),
            "hop_cpu": _known(self.hop_cpu),
            "cpu_unit": self.cpu_unit,
            "rss_mib": _known(self.rss_mib),
        }


def choose(only: str, names: Sequence[str]) -> list[str]:
    """The names in ``--only``, in the order of the run; all of them for "".

    Raises:
        ValueError: a name that is none.
    """
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in names]:
        raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(names)}")
    return [name for name in names if not wanted or name in wanted]


def render(rows: Sequence[Row]) -> Table:
    """One row per line."""
    names = ("measured", "unit", "ours", "goal", "reached", "direct", "hop", "peers", "CPU (hop)", "RSS", "load", "how")
    table = Table(*names)
    for row in rows:
        line = row.line
        rounds = " ".join(number(value) for value in row.rounds) if len(row.rounds) > 1 else ""
        table.add_row(
            line.what,
            line.unit,
            number(line.ours),
            str(line.goal or "-").replace("raw", "direct"),
            {True: "yes", False: "no", None: "-"}[line.reached],
            _cell(line.raw, line.ours),
            _cell(row.hop, line.ours),
            row.peers or "-",
            _cpu(row),
            "-" if math.isnan(row.rss_mib) else f"{number(row.rss_mib)} MiB",
            f"{line.load[0]:.1f}-{line.load[1]:.1f}",
            "; ".join(text for text in (line.note, rounds and f"rounds {rounds}") if text),
        )
    return table


def _cell(other: float | None, ours: float) -> str:
    """The figure of another way, and ours as a multiple of it."""
    if other is None or math.isnan(other):
        return "-"
    return f"{number(other)} (x{ours / other:.2f})" if other else number(other)


def _cpu(row: Row) -> str:
    if math.isnan(row.cpu):
        return "-"
    hop = "" if math.isnan(row.hop_cpu) else f" ({number(row.hop_cpu)})"
    return f"{number(row.cpu)}{hop} {row.cpu_unit}"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
