"""Ports are free, different, and outside the range of outgoing connections."""

from __future__ import annotations

import random
import socket

import pytest

from deploy.local import ports


def test_ports_are_different_and_in_the_range() -> None:
    chosen = ports.choose(100, rng=random.Random(1), free=lambda port: True)
    assert len(set(chosen)) == 100
    assert all(ports.FIRST_PORT <= port < ports.LAST_PORT for port in chosen)


def test_a_port_in_use_is_never_chosen() -> None:
    taken = ports.choose(1, rng=random.Random(2), free=lambda port: True)[0]
    chosen = ports.choose(1, rng=random.Random(2), free=lambda port: port != taken)
    assert chosen != [taken]


def test_a_listening_socket_makes_its_port_not_free() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert not ports.is_free(server.getsockname()[1])


def test_too_few_free_ports_are_an_error() -> None:
    with pytest.raises(OSError, match="fewer than 3 TCP ports are free"):
        ports.choose(3, rng=random.Random(3), free=lambda port: port < ports.FIRST_PORT + 2)
