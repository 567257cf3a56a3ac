"""The interface of everything that can give a fleet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from deploy.local.fleet import Fleet
from deploy.local.plan import FleetRequest

Report = Callable[[str], None]  # told one line of progress at a time


@dataclass(frozen=True)
class Row:
    """One line of `status`: a cluster, one of its parts (`api` where we run no processes), and how it is."""

    cluster: str
    component: str
    pid: int | None
    state: str


class Provider(Protocol):
    """Gives a fleet below one folder, and takes it away."""

    def up(self, request: FleetRequest, report: Report) -> Fleet:
        """Return a fleet that is ready; a second call with the same request changes nothing.

        Raises:
            GroundError: it cannot be had; the hint says what to do.
        """

    def down(self, report: Report) -> None:
        """End what `up` and others started below the folder; a folder without a fleet is fine."""

    def status(self) -> list[Row]:
        """How each part of the fleet is now.

        Raises:
            GroundError: no fleet is up.
        """
