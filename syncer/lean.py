"""Keeps the memory of operator and agent small. Import this before anything else: it decides what other imports load.

structlog loads `rich` (4 MiB) for tracebacks with local variables, which could show secrets.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from types import ModuleType
from typing import Any, Final, cast


def import_without(name: str, absent: str) -> ModuleType:
    """Import a module while another one is "not installed"; does nothing special if either is there already."""
    if name in sys.modules or absent in sys.modules:
        return importlib.import_module(name)
    sys.modules[absent] = cast(Any, None)  # the import system's sign for "not to be found"
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[absent]


def share_heap() -> None:
    """Let all threads allocate from one heap: each thread's own (glibc) keeps megabytes that nobody uses any more.

    Large blocks stay outside of it, whatever was freed before: a TLS connection has a read buffer of 256 KiB, of which
    it touches a few, and lists of many objects come and go.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and no such heaps
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, 1)
            mallopt(_M_MMAP_THRESHOLD, 128 * 1024)  # the default, but now it stays


_M_ARENA_MAX: Final = -8  # <malloc.h>
_M_MMAP_THRESHOLD: Final = -3
share_heap()
import_without("structlog", "rich")
