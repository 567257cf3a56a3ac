"""The tunnel over a network that fails, with real sockets: what is noticed, what is left behind, what comes back."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.support.fault_proxy import DOWN, UP, fault_proxy
from tests.tunneler.faulty import Place, faulty, held, until
from tests.tunneler.test_session import Recorder
from tunneler.config import KIB, MIB, TunnelConfig
from tunneler.connections import LinkState
from tunneler.errors import HandshakeRefused, LinkLost, NoLink, StreamCode, StreamRefused
from tunneler.links import dial as dial_module
from tunneler.links.dial import DialTarget, dial
from tunneler.links.proxies import Proxy
from tunneler.ports import StreamRequest


async def test_a_black_hole_is_noticed_by_both_ends_and_left_when_it_heals() -> None:
    """F25: calls end with the link, later ones with their wait for one; nothing is left open."""
    async with faulty() as place:
        hub = await place.keep()
        _, protocol = await place.opener.open_stream(Recorder, "echo")
        place.proxy.change(silent=True)
        calls = [asyncio.create_task(place.opener.open_stream(Recorder, "echo")) for _ in range(20)]
        async with asyncio.timeout(10):
            assert isinstance(await protocol.lost, LinkLost)
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(answer) for answer in answers} == {LinkLost}
            assert "nothing heard for 1 s" in await hub.closed
            assert "nothing heard for 1 s" in await place.agents[0].closed
        with pytest.raises(NoLink):
            await place.manager.wait_session("east", 0.05)
        assert place.states == [LinkState.CONNECTED, LinkState.RECONNECTING]
        place.proxy.heal()
        await place.echoes()
        assert place.states[-1] is LinkState.CONNECTED
        await until(lambda: place.proxy.open == 1)


@pytest.mark.parametrize("silent", [UP, DOWN])
async def test_a_link_that_carries_one_way_only_is_given_up_by_both_ends(silent: str) -> None:
    """F25, half-open: who still hears the other one is told."""
    async with faulty() as place:
        hub = await place.keep()
        place.proxy.change(silent, silent=True)
        async with asyncio.timeout(10):
            told = [await hub.closed, await place.agents[0].closed]
        assert all("nothing heard for 1 s" in reason for reason in told)
        place.proxy.heal()
        await place.echoes()


@pytest.mark.parametrize("sender", [UP, DOWN])
async def test_an_end_that_vanished_without_a_word_is_given_up_by_the_other(sender: str) -> None:
    """Half-open: the next link of the same agent serves at once, whatever the hub still believes of the old one."""
    async with faulty() as place:
        hub = await place.keep()
        place.proxy.vanish(sender)
        if sender == DOWN:
            await asyncio.wait_for(asyncio.shield(hub.closed), 5)
        else:
            await until(lambda: not hub.is_open)
            assert not hub.closed.done()
        await place.echoes()
        kept = place.agents[0] if sender == DOWN else hub
        assert "nothing heard for 1 s" in await asyncio.wait_for(kept.closed, 10)
        assert place.manager.session("east") is not hub


async def call(place: Place, data: bytes) -> bool:
    """Whether an echo was answered; whatever came is the beginning of what was sent."""
    try:
        transport, protocol = await place.opener.open_stream(Recorder, "echo")
    except (LinkLost, NoLink, StreamRefused):
        return False
    transport.write(data)
    reading = asyncio.create_task(protocol.read(len(data)))
    either: list[asyncio.Future[Any]] = [reading, protocol.lost]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    answered = reading.done()
    if answered:
        assert reading.result() == data
        transport.close()
    else:
        reading.cancel()
        assert data.startswith(bytes(protocol.data))
    await protocol.lost
    return answered


async def test_a_link_cut_after_any_byte_is_made_anew() -> None:
    """In the handshake, in HELLO, in heads and frames; what had arrived is the beginning of what was sent."""
    data = random.Random(1).randbytes(3000)
    async with faulty() as place:
        await place.keep()
        dialled = place.proxy.accepted
        for cut in range(0, 2400, 97):
            for direction in (UP, DOWN):
                place.proxy.reset()
                place.proxy.change(direction, cut_after=cut)
                async with asyncio.timeout(20):
                    while not await call(place, data):
                        continue
                dialled += 2  # the one that was cut, and the next
        await until(lambda: place.proxy.accepted >= dialled)


class Caller:
    """Calls an echo again and again, and counts how that went."""

    def __init__(self, place: Place, seed: int) -> None:
        self._place, self._chance = place, random.Random(seed)
        self.answered = self.lost = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if await call(self._place, self._chance.randbytes(self._chance.randrange(1, 200 * KIB))):
                self.answered += 1
            else:
                self.lost += 1


async def test_resets_again_and_again_leave_nothing_behind() -> None:
    """F26 in short, P18: between the resets calls are answered byte for byte, after them all is as before."""
    async with faulty() as place:
        await place.keep()
        await place.echoes()
        before = held()
        stop = asyncio.Event()
        callers = [Caller(place, seed) for seed in range(8)]
        calling = [asyncio.create_task(caller.run(stop)) for caller in callers]
        resets = 0
        async with asyncio.timeout(90):
            while resets < 25 or not all(caller.answered and caller.lost for caller in callers):
                await asyncio.sleep(0.1 * (1 + resets // 25))  # a slow machine gets longer between two
                resets += bool(place.proxy.reset())
        stop.set()
        await asyncio.gather(*calling)
        await place.echoes()
        await until(lambda: held() == before)
        session = place.manager.session("east")
        assert session is not None
        for core in (session.protocol, place.agents[-1].protocol):
            await until(lambda core=core: not core.streams)  # type: ignore[misc]
            assert (core.budget.granted, core.budget.grown) == (0, 0)
        assert len(place.manager.statistics("east")) == 1


async def test_a_thousand_calls_that_the_agent_never_answers_all_fail_in_time() -> None:
    """F29: neither end remembers any of them, and the link goes on."""
    dials: set[asyncio.Event] = set()

    async def never() -> asyncio.Protocol:
        waits = asyncio.Event()
        dials.add(waits)
        try:
            await waits.wait()
        finally:
            dials.discard(waits)
        raise AssertionError

    hub_config = TunnelConfig(service_timeout_seconds=1.0)
    mute = TunnelConfig(service_timeout_seconds=600, max_pending_accepts=2000, open_burst=2000)
    async with faulty(hub_config) as place:
        hub = await place.keep({"never": lambda request: never()}, config=mute)
        calls = [asyncio.create_task(hub.open_stream(Recorder, "never")) for _ in range(1000)]
        await until(lambda: len(dials) == 1000)
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer in answers:
            assert isinstance(answer, StreamRefused)
            assert answer.code is StreamCode.TIMEOUT
        assert not hub.protocol.streams
        assert hub.protocol.budget.granted == 0
        await until(lambda: not place.agents[0].protocol.streams and not dials)
        await place.echoes()
        assert LinkState.RECONNECTING not in place.states


async def test_a_thin_link_is_no_dead_link() -> None:
    """Every byte counts as life: the whole message takes longer than the silence that ends a link."""
    async with faulty() as place:
        hub = await place.keep()
        place.proxy.change(UP, bytes_per_second=12 * KIB)
        transport, protocol = await place.opener.open_stream(Recorder, "echo")
        transport.write(bytes(48 * KIB))
        await asyncio.wait_for(protocol.read(48 * KIB), 20)
        transport.abort()
        assert LinkState.RECONNECTING not in place.states
        assert not hub.closed.done()


class Source(Recorder):
    """Sends so many bytes, as fast as they are taken."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._left = size

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.out = transport
        self.resume_writing()

    def resume_writing(self) -> None:
        self.pauses.clear()
        while self._left and not self.pauses:
            size = min(self._left, 16 * KIB)
            self._left -= size
            self.out.write(bytes(size))


async def seconds_to_read(protocol: Recorder, size: int) -> float:
    began = asyncio.get_running_loop().time()
    await asyncio.wait_for(protocol.read(size), 60)
    return asyncio.get_running_loop().time() - began


class Sink(Recorder):
    """A `Recorder` of a socket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.out = transport


async def test_a_long_and_lossy_way_is_used_as_a_plain_connection_uses_it() -> None:
    """F31: 300 ms there and back and 1 % loss; the same bytes over TCP without a tunnel, in the same weather."""
    size = 3 * MIB // 2
    weather = {"delay_seconds": 0.15, "loss": 0.01, "repair_seconds": 0.3, "bytes_per_second": 400 * KIB}
    patient = TunnelConfig(ping_interval_seconds=0.5, dead_after_seconds=3.0)
    loop = asyncio.get_running_loop()
    plain = await loop.create_server(lambda: Source(size), "127.0.0.1", 0)
    async with faulty(patient) as place, fault_proxy(*plain.sockets[0].getsockname()) as beside:
        hub = await place.keep({"source": lambda request: Source(size)})
        for proxy in (place.proxy, beside):
            proxy.change(**weather)
        transport, tunnelled = hub.open_stream_nowait(Recorder, "source")
        socket, direct = await loop.create_connection(Sink, "127.0.0.1", beside.port)
        seconds, reference = await asyncio.gather(seconds_to_read(tunnelled, size), seconds_to_read(direct, size))
        transport.abort()
        socket.abort()
        assert seconds < 1.5 * reference + 1.0
        assert LinkState.RECONNECTING not in place.states
        assert not hub.closed.done()
    plain.close()


class Talker(Recorder):
    """Says ``words`` piece by piece and then ends its direction, before or after the other end did."""

    def __init__(self, words: bytes, pieces: list[int], *, first: bool) -> None:
        super().__init__()
        self.said = asyncio.Event()
        self._words, self._pieces, self._first = words, iter(pieces), first
        self._at = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._task = asyncio.get_running_loop().create_task(self._say())

    async def _say(self) -> None:
        self._free = asyncio.Event()
        self._free.set()
        for size in self._pieces:
            self.transport.write(self._words[self._at : self._at + size])
            self._at += size
            if not self._free.is_set():
                await self._free.wait()
        self.transport.write(self._words[self._at :])
        if not self._first:
            await self.eof.wait()
        self.transport.write_eof()
        self.said.set()

    def pause_writing(self) -> None:
        self._free.clear()

    def resume_writing(self) -> None:
        self._free.set()


@pytest.mark.parametrize("own_transport", [True, False])
@pytest.mark.parametrize("hub_ends_first", [True, False])
async def test_large_bodies_and_tiny_writes_arrive_whole_whoever_ends_first(
    own_transport: bool, hub_ends_first: bool
) -> None:
    """F32: 3 MiB each way at the same time, in tiny writes; each side goes on reading after it ended its own."""
    chance = random.Random(32)
    up, down = chance.randbytes(3 * MIB), chance.randbytes(3 * MIB)
    pieces = [chance.randrange(1, 400) for _ in range(5000)]
    accepted: list[Talker] = []

    def talk(request: StreamRequest) -> asyncio.Protocol:
        accepted.append(Talker(up, pieces, first=not hub_ends_first))
        return accepted[-1]

    async with faulty(TunnelConfig(), own_transport=own_transport) as place:
        hub = await place.keep({"talk": talk})
        _, ours = await hub.open_stream(lambda: Talker(down, pieces, first=hub_ends_first), "talk")
        async with asyncio.timeout(60):
            await asyncio.gather(ours.said.wait(), accepted[0].said.wait())
            assert await ours.lost is None
            assert await accepted[0].lost is None
        assert bytes(ours.data) == up
        assert bytes(accepted[0].data) == down
        assert not hub.protocol.streams


async def test_a_proxy_that_never_answers_holds_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dial that is given up gives up its socket: each try would hold one more."""
    monkeypatch.setattr(dial_module, "DIAL_TIMEOUT_SECONDS", 0.1)
    async with fault_proxy("127.0.0.1", 1) as hole:
        hole.change(silent=True)
        before = held()
        for target in (
            DialTarget("https://hub.example", proxy=Proxy("127.0.0.1", hole.port)),
            DialTarget(f"https://127.0.0.1:{hole.port}"),
            DialTarget(f"http://127.0.0.1:{hole.port}"),
        ):
            with pytest.raises(HandshakeRefused, match="did not answer within"):
                await dial(target, lambda: pytest.fail("there is no session"))
        hole.reset()
        await until(lambda: held() == before)
