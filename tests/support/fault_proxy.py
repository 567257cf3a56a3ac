"""A TCP proxy that does to connections what networks do, told at run time.

`FaultProxy` runs in the event loop of a test. `ProxyProcess` is one in a process of its own, for tests of real
processes; it ends with the test. UP is the direction from who dials, DOWN the one to them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from tests.support.commanded import Commanded, obey

UP, DOWN = "up", "down"
SEGMENT_BYTES = 1448
CHUNK_BYTES = 16 * 1024
ON_THE_WAY = 512  # chunks of one direction that may be on the way at once


@dataclass(frozen=True)
class Way:
    """What one direction does to all connections.

    Attributes:
        delay_seconds: how long a byte is on the way.
        bytes_per_second: what all connections together get through; 0: any amount.
        loss: share of segments that are lost. TCP sends them again, so it shows as a stall: what is lost and all behind
            it come ``repair_seconds`` later.
        silent: a black hole: what comes is kept, new connections are taken and lead nowhere, and nobody is told.
        cut_after: after so many more bytes the connection that carries the last of them ends; -1: never.
    """

    delay_seconds: float = 0.0
    bytes_per_second: float = 0.0
    loss: float = 0.0
    repair_seconds: float = 0.0
    silent: bool = False
    cut_after: int = -1


class _Direction:
    """A `Way`, and what came of it so far."""

    def __init__(self, chance: random.Random) -> None:
        self.way = Way()
        self._chance = chance
        self._free_at = 0.0
        self.carried = 0  # bytes, since the way was changed
        self.carrying = asyncio.Event()
        self.carrying.set()

    def change(self, way: Way) -> None:
        self.way, self.carried, self._free_at = way, 0, 0.0
        if way.silent:
            self.carrying.clear()
        else:
            self.carrying.set()

    @property
    def chunk_bytes(self) -> int:
        rate = self.way.bytes_per_second
        return min(CHUNK_BYTES, max(SEGMENT_BYTES, int(rate / 50))) if rate else CHUNK_BYTES

    def arrival(self, size: int, now: float) -> float:
        """When bytes that leave now have arrived, were nothing before them."""
        way = self.way
        segments = -(-size // SEGMENT_BYTES)
        lost = way.loss > 0 and self._chance.random() > (1 - way.loss) ** segments
        return now + way.delay_seconds + (way.repair_seconds if lost else 0.0)

    def pause(self, size: int, now: float) -> float:
        """Seconds until bytes that leave now are through the narrowest place."""
        rate = self.way.bytes_per_second
        if not rate:
            return 0.0
        self._free_at = max(self._free_at, now) + size / rate
        return self._free_at - now

    def let_through(self, size: int) -> int:
        """How many of so many bytes are not cut off."""
        limit = self.way.cut_after
        allowed = size if limit < 0 else min(size, limit - self.carried)
        self.carried += allowed
        if allowed < size:
            self.way = replace(self.way, cut_after=-1)
        return allowed


class FaultProxy:
    """Carries connections to one address.

    Attributes:
        target: where new connections lead.
        port: of 127.0.0.1, once it listens.
        accepted: connections so far.
    """

    def __init__(self, host: str, port: int, *, seed: int = 1) -> None:
        self.target = (host, port)
        self.port = 0
        self.accepted = 0
        self._directions = {name: _Direction(random.Random(f"{seed} {name}")) for name in (UP, DOWN)}
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._closed = False

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def change(self, *directions: str, **fields: Any) -> None:
        """Set fields of `Way`, in both directions unless one is named; the others stay."""
        for name in directions or (UP, DOWN):
            direction = self._directions[name]
            direction.change(replace(direction.way, **fields))

    def heal(self) -> None:
        """Carry everything at once again, what was held back as well."""
        for direction in self._directions.values():
            direction.change(Way())

    def lead(self, host: str, port: int) -> None:
        """New connections go there."""
        self.target = (host, port)

    @property
    def open(self) -> int:
        """Connections that were accepted and are not over at both ends."""
        return len(self._connections)

    def carried(self, direction: str) -> int:
        """Bytes in that direction since it was last changed."""
        return self._directions[direction].carried

    def reset(self) -> int:
        """RST at both ends of every connection. Returns how many there were."""
        connections = list(self._connections)
        for connection in connections:
            connection.reset()
        return len(connections)

    def vanish(self, direction: str) -> None:
        """RST for the sender of that direction; the receiver keeps a connection that says nothing any more."""
        for connection in self._connections:
            connection.vanish(direction)

    async def close(self) -> None:
        """Listen no more; all connections are reset."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        while self._connections:
            self.reset()
            await asyncio.wait(self._connections.values())

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:  # it was on its way
            _reset(writer)
            return
        self.accepted += 1
        connection = _Connection(self._directions, reader, writer)
        task = asyncio.get_running_loop().create_task(connection.run(self.target))
        self._connections[connection] = task
        task.add_done_callback(lambda _: self._connections.pop(connection))


class _Connection:
    """One accepted connection, and the one that it leads to."""

    def __init__(
        self, directions: dict[str, _Direction], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._directions = directions
        self._reader = reader
        self._writers = {DOWN: writer}  # by the direction that ends in it
        self._over = asyncio.Event()
        self._cut = False
        self._vanished = ""  # a direction whose sender is gone, which the other end was not told

    async def run(self, target: tuple[str, int]) -> None:
        carrying = asyncio.create_task(self._carry(target))
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({carrying, over}, return_when=asyncio.FIRST_COMPLETED)
            in_order = self._cut or (carrying.done() and carrying.exception() is None)
        finally:
            for task in (carrying, over):
                task.cancel()
            await asyncio.gather(carrying, over, return_exceptions=True)
        for writer in self._writers.values():
            if in_order:
                writer.close()
            else:
                _reset(writer)
        for writer in self._writers.values():
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def reset(self) -> None:
        self._over.set()

    def vanish(self, direction: str) -> None:
        """The sender of the direction is told that the connection is gone; the other end hears nothing more."""
        self._vanished = direction
        sender = self._writers.pop(DOWN if direction == UP else UP, None)
        if sender is not None:
            _reset(sender)

    async def _carry(self, target: tuple[str, int]) -> None:
        for direction in self._directions.values():
            await direction.carrying.wait()
        reader, self._writers[UP] = await asyncio.open_connection(*target)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pump(UP, self._reader, self._writers[UP]))
            group.create_task(self._pump(DOWN, reader, self._writers[DOWN]))

    async def _pump(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, to its end. Raises OSError: it broke."""
        direction, clock = self._directions[name], asyncio.get_running_loop().time
        queue: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(ON_THE_WAY)
        feeding = asyncio.create_task(_feed(direction, reader, queue))
        try:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - clock()))
                await direction.carrying.wait()
                if self._vanished:
                    if not data and name != self._vanished:
                        self._over.set()  # who was not told has given up
                    continue
                if not data:
                    break
                await asyncio.sleep(direction.pause(len(data), clock()))
                allowed = direction.let_through(len(data))
                writer.write(data[:allowed])
                await writer.drain()
                if allowed < len(data):
                    self._cut = True
                    self._over.set()
        except OSError:
            if self._vanished:
                await asyncio.Event().wait()
            raise
        finally:
            feeding.cancel()
        if data is None:
            raise ConnectionResetError("by the sender")
        writer.write_eof()


async def _feed(
    direction: _Direction, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes | None]]
) -> None:
    """Read, and note when each chunk will have arrived: b"" is the end, None a reset."""
    clock, due = asyncio.get_running_loop().time, 0.0
    while True:
        data: bytes | None
        try:
            data = await reader.read(direction.chunk_bytes)
        except OSError:
            data = None
        due = max(due, direction.arrival(len(data or b""), clock()))
        await queue.put((due, data))
        if not data:
            return


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST instead of FIN, unless its other end was faster."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def fault_proxy(host: str, port: int, *, seed: int = 1) -> AsyncIterator[FaultProxy]:
    """A proxy that listens."""
    proxy = FaultProxy(host, port, seed=seed)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


class ProxyProcess(Commanded):
    """A `FaultProxy` in its own process: `tell` calls its methods."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__("tests.support.fault_proxy", host, str(port))
        self.port = int(self.first)


async def _serve(host: str, port: int) -> None:
    async with fault_proxy(host, port) as proxy:
        await obey(proxy, proxy.port)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    given = parser.parse_args()
    asyncio.run(_serve(given.host, given.port))
