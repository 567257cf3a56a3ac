"""Free TCP ports on loopback, each promised to one process."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

# Below Linux's own range for outgoing connections (32768 and up): a port stays free while its server is restarted.
FIRST_PORT = 20_000
LAST_PORT = 32_000


def is_free(port: int) -> bool:
    """Tell whether nobody listens on the port of 127.0.0.1 now; it may be taken a moment later."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ports in TIME_WAIT are free to a server
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Claims:
    """Ports that processes of this user have chosen, and whose servers may start much later.

    A claim is a lock on the port's byte of one file, by fcntl(2): it ends with the process that holds it.
    """

    def __init__(self, path: Path) -> None:
        # Never closed: closing any descriptor of the file drops the locks of the process.
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._mine: set[int] = set()

    def take(self, port: int) -> bool:
        """Claim the port; False if this process or another one has it already."""
        if port in self._mine:
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        self._mine.add(port)
        return True


@cache
def claims() -> Claims:
    """The claims of this user on this machine."""
    return Claims(Path(tempfile.gettempdir()) / f"syncline-ports-{os.getuid()}")


def choose(count: int, *, rng: random.Random, free: Callable[[int], bool] = is_free) -> list[int]:
    """Choose different ports that are free now, and that this process and others have not chosen before.

    Args:
        count: how many.
        rng: decides the order of trying, so that two fleets starting at once rarely meet.
        free: the probe.

    Raises:
        OSError: fewer than `count` ports of the range are free.
    """
    chosen: list[int] = []
    for port in rng.sample(range(FIRST_PORT, LAST_PORT), LAST_PORT - FIRST_PORT):
        if len(chosen) == count:
            return chosen
        if free(port) and claims().take(port):
            chosen.append(port)
    raise OSError(f"fewer than {count} TCP ports are free between {FIRST_PORT} and {LAST_PORT}")
