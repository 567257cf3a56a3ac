"""The faults that tests make are the faults that they name: else what withstands them withstands nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.fault_proxy import DOWN, UP, FaultProxy, ProxyProcess, fault_proxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Far:
    """A server that keeps the far ends of what is connected to it."""

    def __init__(self) -> None:
        self.ends: asyncio.Queue[Streams] = asyncio.Queue()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.ends.put_nowait((reader, writer))


@asynccontextmanager
async def network() -> AsyncIterator[tuple[FaultProxy, Far]]:
    far = Far()
    server = await asyncio.start_server(far.accept, "127.0.0.1", 0)
    async with fault_proxy(*server.sockets[0].getsockname()) as proxy:
        yield proxy, far
    server.close()
    while not far.ends.empty():
        far.ends.get_nowait()[1].transport.abort()
    await asyncio.sleep(0)


@asynccontextmanager
async def connected(proxy: FaultProxy, far: Far) -> AsyncIterator[tuple[Streams, Streams]]:
    near = await asyncio.open_connection("127.0.0.1", proxy.port)
    end = await asyncio.wait_for(far.ends.get(), 10)
    try:
        yield near, end
    finally:
        for _, writer in (near, end):
            writer.transport.abort()


async def test_bytes_and_ends_pass_unchanged() -> None:
    async with network() as (proxy, far), connected(proxy, far) as (near, end):
        data = bytes(range(256)) * 4000
        near[1].write(data)
        near[1].write_eof()
        assert await end[0].read(-1) == data
        end[1].write(b"answer")
        end[1].close()
        assert await near[0].read(-1) == b"answer"
    assert proxy.open == 0


async def test_delay_and_rate_take_their_time() -> None:
    async with network() as (proxy, far), connected(proxy, far) as (near, end):
        clock = asyncio.get_running_loop().time
        for fields in ({"delay_seconds": 0.2}, {"bytes_per_second": 50_000.0}):
            proxy.change(UP, **fields)
            began = clock()
            near[1].write(bytes(10_000))
            await end[0].readexactly(10_000)
            assert clock() - began >= 0.19
            proxy.heal()


async def test_what_is_lost_comes_later_and_all_behind_it_too() -> None:
    async with network() as (proxy, far), connected(proxy, far) as (near, end):
        proxy.change(UP, loss=1.0, repair_seconds=0.2)
        began = asyncio.get_running_loop().time()
        near[1].write(b"lost")
        await asyncio.sleep(0.05)
        proxy.change(UP, loss=0.0)
        near[1].write(b"behind")
        assert await end[0].readexactly(10) == b"lostbehind"
        assert asyncio.get_running_loop().time() - began >= 0.19


async def test_a_black_hole_keeps_what_comes_and_tells_nobody() -> None:
    async with network() as (proxy, far), connected(proxy, far) as (near, end):
        proxy.change(UP, silent=True)
        near[1].write(b"kept")
        near[1].write_eof()
        late = await asyncio.open_connection("127.0.0.1", proxy.port)  # taken, and leads nowhere
        end[1].write(b"down passes")
        assert await near[0].readexactly(11) == b"down passes"
        assert far.ends.empty()
        proxy.heal()
        assert await end[0].read(-1) == b"kept"
        reader, writer = await asyncio.wait_for(far.ends.get(), 10)
        late[1].close()
        assert await reader.read(-1) == b""
        writer.close()


async def test_a_connection_is_cut_after_so_many_bytes_and_the_next_is_not() -> None:
    async with network() as (proxy, far):
        async with connected(proxy, far) as (near, end):
            proxy.change(UP, cut_after=5)
            near[1].write(b"0123456789")
            assert await end[0].read(-1) == b"01234"
            assert await near[0].read(-1) == b""
        async with connected(proxy, far) as (near, end):
            near[1].write(b"0123456789")
            assert await end[0].readexactly(10) == b"0123456789"


async def test_a_reset_is_a_reset_at_both_ends() -> None:
    async with network() as (proxy, far), connected(proxy, far) as (near, end):
        assert proxy.reset() == 1
        for reader, _ in (near, end):
            with pytest.raises(ConnectionResetError):
                await reader.read(-1)


@pytest.mark.parametrize("sender", [UP, DOWN])
async def test_one_end_vanishes_and_the_other_is_not_told(sender: str) -> None:
    async with network() as (proxy, far), connected(proxy, far) as (near, end):
        gone, kept = (near, end) if sender == UP else (end, near)
        proxy.vanish(sender)
        with pytest.raises(ConnectionResetError):
            await gone[0].read(-1)
        kept[1].write(b"to nobody")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(kept[0].read(1), 0.2)
        assert proxy.open == 1
        kept[1].close()  # it gives up
        async with asyncio.timeout(10):
            while proxy.open:  # noqa: ASYNC110 - what is waited for makes no event
                await asyncio.sleep(0.01)


async def test_a_process_does_the_same() -> None:
    far = Far()
    server = await asyncio.start_server(far.accept, "127.0.0.1", 0)
    process = await asyncio.to_thread(ProxyProcess, *server.sockets[0].getsockname())
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
    end = await far.ends.get()
    assert await asyncio.to_thread(process.tell, "accepted") == 1
    assert await asyncio.to_thread(process.tell, "reset") == 1
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)
    await asyncio.to_thread(process.end)
    for one in (writer, end[1]):
        one.transport.abort()
    server.close()
    await asyncio.sleep(0)
