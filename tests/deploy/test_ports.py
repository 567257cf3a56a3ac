"""Ports are free, different, and outside the range of outgoing connections."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import ports

ROOT = Path(__file__).parents[2]


def test_ports_are_different_and_in_the_range() -> None:
    chosen = ports.choose(100, rng=random.Random(1), free=lambda port: True)
    assert len(set(chosen)) == 100
    assert all(ports.FIRST_PORT <= port < ports.LAST_PORT for port in chosen)


def test_a_port_in_use_is_never_chosen() -> None:
    tried: list[int] = []

    def second_is_free(port: int) -> bool:
        tried.append(port)
        return len(tried) > 1

    assert ports.choose(1, rng=random.Random(2), free=second_is_free) == tried[1:]


def test_a_chosen_port_is_chosen_by_nobody_else_until_its_process_ends() -> None:
    """Some servers start long after their port was chosen, and other fleets choose theirs meanwhile."""
    mine = ports.choose(1, rng=random.Random(4))[0]
    assert ports.choose(1, rng=random.Random(4))[0] != mine
    program = "from deploy.local import ports; import sys; print([ports.claims().take(int(p)) for p in sys.argv[1:]])"
    other = ports.LAST_PORT  # no test chooses it

    def elsewhere() -> str:
        command = [sys.executable, "-c", program, str(mine), str(other)]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()

    assert elsewhere() == "[False, True]"
    assert elsewhere() == "[False, True]"


def test_a_listening_socket_makes_its_port_not_free() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert not ports.is_free(server.getsockname()[1])


def test_too_few_free_ports_are_an_error() -> None:
    with pytest.raises(OSError, match="fewer than 3 TCP ports are free"):
        ports.choose(3, rng=random.Random(3), free=lambda port: port < ports.FIRST_PORT + 2)
