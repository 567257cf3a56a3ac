"""What commands print: aligned columns for people, JSON or YAML for programs, progress on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from syncer.cli.errors import printable


class Output(StrEnum):
    """Values of `-o`; without it, columns."""

    JSON = "json"
    YAML = "yaml"
    WIDE = "wide"


def emit(text: str) -> None:
    """Write to stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def emit_data(data: Any, output: Output | None) -> bool:
    """Print `data` (plain JSON values) if JSON or YAML was asked for; False where columns are wanted."""
    if output is Output.JSON:
        import json

        emit(json.dumps(data, indent=2, ensure_ascii=False))
        return True
    if output is Output.YAML:
        import yaml

        emit(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=False))
        return True
    return False


def columns(header: Sequence[str], rows: Sequence[Sequence[object]], *, indent: str = "") -> str:
    """Aligned columns, three blanks apart as kubectl does; the last column is never padded or cut."""
    table = [list(header)] if header else []
    table += [[printable(str(cell)) if cell not in (None, "") else "-" for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))] if table else []
    return "\n".join(
        indent + "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def age(seconds: float | None) -> str:
    """`45s`, `12m`, `3h`, `5d`: one unit, rounded down; `-` where unknown."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if whole >= 2 * size or (whole >= size and whole % size == 0):
            return f"{whole // size}{unit}"
    return f"{whole}s"


def since(timestamp: str, now: float | None = None) -> str:
    """Age of an RFC 3339 time."""
    from datetime import datetime

    try:
        then = datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
    except (ValueError, AttributeError):
        return "-"
    return age((time.time() if now is None else now) - then)


class Progress:
    """Tells on stderr what is being done: a spinner on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._status: Any = None
        self._started = time.monotonic()
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console

            self._status = Console(stderr=True).status("")

    def __enter__(self) -> Progress:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def doing(self, text: str) -> None:
        """What is under way; shown on terminals only."""
        if self._status is not None:
            from rich.markup import escape

            self._status.update(escape(printable(text)))

    def done(self, text: str) -> None:
        """What is finished, with the seconds since the start."""
        line = f"  ✓ {printable(text)}  ({time.monotonic() - self._started:.1f} s)\n"
        if self._status is not None:
            self._status.console.print(line, end="", markup=False, highlight=False)
        else:
            sys.stderr.write(line)
            sys.stderr.flush()
