"""Free TCP ports on loopback."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable

# Below the kernel's range for outgoing connections (32768 and up): a port stays free while its server is restarted.
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


def choose(count: int, *, rng: random.Random, free: Callable[[int], bool] = is_free) -> list[int]:
    """Choose different ports that are free now.

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
        if free(port):
            chosen.append(port)
    raise OSError(f"fewer than {count} TCP ports are free between {FIRST_PORT} and {LAST_PORT}")
