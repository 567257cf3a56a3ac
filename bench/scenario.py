"""What every scenario gets and gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from bench.figures import Line
from bench.ground import Ground


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Attributes:
        quick: a tenth of everything, for development; goals mean nothing then.
        light_targets: how many API servers `fanout` starts.
    """

    quick: bool = False
    light_targets: int = 50

    def count(self, full: int) -> int:
        """So many objects, changes or seconds."""
        return max(1, full // 10) if self.quick else full


class Scenario(NamedTuple):
    """One group of lines.

    Attributes:
        light: runs on a fleet of light targets of its own.
    """

    name: str
    run: Callable[[Ground, Scale], Awaitable[list[Line]]]
    light: bool = False
