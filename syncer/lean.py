"""Imports libraries without what they would load on the side. Import this before anything else that imports them.

kopf loads every model of the `kubernetes` package when it finds that (20 MiB), for a way of logging in that we do not
use; structlog loads `rich` (3 MiB) for tracebacks with local variables, which could show secrets.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, cast


def import_without(name: str, absent: str) -> ModuleType:
    """Import a module while another one is "not installed"; does nothing special if either is there already."""
    if name in sys.modules or absent in sys.modules:
        return importlib.import_module(name)
    sys.modules[absent] = cast(Any, None)  # the import system's sign for "not to be found"
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[absent]


import_without("structlog", "rich")
import_without("kopf", "kubernetes")
