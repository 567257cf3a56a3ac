"""Connections to targets that wait for their next exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from syncer.hub.proxy_exchange import IDLE_CONNECTIONS, IDLE_SECONDS, TargetConnection, TargetPool
from tests.support.http1 import Answering


class Dial:
    """Keeps what it opened."""

    def __init__(self) -> None:
        self.opened: list[Answering] = []

    async def open(self, target: str, factory: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        self.opened.append(Answering(factory()))
        return self.opened[-1]


async def used(pool: TargetPool, target: str) -> TargetConnection:
    """A connection after an exchange."""
    connection = await pool.open(target)
    connection.start("GET", b"GET / HTTP/1.1\r\n\r\n", lambda head: head.raw)
    while await connection.read():
        pass
    return connection


async def test_what_waits_too_long_ends_by_itself_and_nothing_stays_in_the_table() -> None:
    """P18: each is a stream, and a connection of an agent to its API server."""
    now, dial = [0.0], Dial()
    pool = TargetPool(dial, clock=lambda: now[0])
    pool.give_back("east", await used(pool, "east"))
    now[0] = IDLE_SECONDS / 2
    pool.give_back("east", await used(pool, "east"))
    pool.give_back("west", await used(pool, "west"))
    now[0] = IDLE_SECONDS
    pool._sweep()
    assert [far.closed for far in dial.opened] == [True, False, False]
    assert pool.kept("east") is dial.opened[1].protocol
    now[0] = 2 * IDLE_SECONDS
    pool._sweep()
    assert [far.closed for far in dial.opened] == [True, False, True]
    assert not pool._idle
    assert pool._sweeping is None


async def test_no_more_wait_than_a_target_may_keep() -> None:
    dial = Dial()
    pool = TargetPool(dial)
    connections = [await used(pool, "east") for _ in range(IDLE_CONNECTIONS + 3)]
    for connection in connections:
        pool.give_back("east", connection)
    assert sum(far.closed for far in dial.opened) == 3
    pool.close()
    assert all(far.closed for far in dial.opened)


async def test_what_waits_on_a_link_that_drains_is_not_used_again() -> None:
    """Else steady traffic holds the drain up to its end, and is cut there."""
    dial = Dial()
    pool = TargetPool(dial)
    pool.give_back("east", await used(pool, "east"))
    busy = await used(pool, "east")
    for far in dial.opened:
        far.drains = True
    pool.give_back("east", busy)
    assert pool.kept("east") is None
    assert all(far.closed for far in dial.opened)
