"""A download on a link whose rate drops, in virtual time: what is on the way is suddenly far above its bound."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from functools import partial

import pytest

from tests.tunneler.support import End
from tunneler.config import TunnelConfig
from tunneler.core import Role
from tunneler.frames import Hello

RATE = 4_000_000  # bytes per second
SLOW_RATE = 200_000
DELAY_SECONDS = 0.05
OPEN_AT = 0.5
LAST_AT = 16.0
CHUNK_BYTES = 64 * 1024


class Download:
    """An agent that always has bulk to send, and when the hub got DATA of it."""

    def __init__(self, drop_at: float) -> None:
        self.now = 0.0
        self.drop_at = drop_at
        self.hub = End(Role.HUB, TunnelConfig())
        self.agent = End(Role.AGENT, TunnelConfig(), Hello(agent="east"))
        self.arrivals: list[float] = []
        self._free_at = 0.0  # when the last byte that the agent sent has left its end of the link
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def run(self) -> None:
        self._tick(self.agent)
        self._tick(self.hub)
        self._at(OPEN_AT, self._open)
        while self._due[0][0] <= LAST_AT:
            self.now, _, call = heapq.heappop(self._due)
            call()

    def _at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), call))

    def _open(self) -> None:
        stream = self.hub.protocol.open_stream("echo", {})
        self._flush(self.hub)
        self._at(self.now + 2 * DELAY_SECONDS, lambda: self._accept(stream.id))

    def _accept(self, id_: int) -> None:
        self.agent.protocol.accept_stream(self.agent.streams[id_])
        self._flush(self.agent)

    def _tick(self, end: End) -> None:
        end.take(end.protocol.tick(self.now))
        self._flush(end)
        deadline = end.protocol.next_deadline()
        assert deadline is not None
        self._at(max(deadline, self.now), lambda: self._tick(end))

    def _flush(self, end: End) -> None:
        """As a session does: while there is something to send."""
        while end.protocol.wants_to_send:
            self._supply()
            message = end.protocol.data_to_send(self.now)
            end.take(end.protocol.take_events())
            if not message:
                return
            if end is self.agent:
                begin = max(self.now, self._free_at)
                self._free_at = begin + len(message) / (RATE if begin < self.drop_at else SLOW_RATE)
                self._at(self._free_at + DELAY_SECONDS, partial(self._arrive, self.hub, message))
            else:
                self._at(self.now + DELAY_SECONDS, partial(self._arrive, self.agent, message))

    def _supply(self) -> None:
        for stream in self.agent.streams.values():
            while stream.queued < CHUNK_BYTES:
                self.agent.protocol.send_data(stream, bytes(CHUNK_BYTES))

    def _arrive(self, end: End, message: bytes) -> None:
        before = self.hub.protocol.received_bytes
        end.take(end.protocol.receive_data(message, now=self.now))
        if self.hub.protocol.received_bytes > before:
            self.arrivals.append(self.now)
            self.hub.received.clear()
            self.hub.events.clear()
        self._flush(end)


@pytest.mark.parametrize("drop_at", [6.0, 6.37, 6.71])
def test_a_download_goes_on_when_its_link_becomes_slower(drop_at: float) -> None:
    """The bound shrinks below what is on the way: without an acknowledgement to wait for, one is asked for at once."""
    download = Download(drop_at)
    download.run()
    gaps = [later - earlier for earlier, later in itertools.pairwise(download.arrivals)]
    assert max(gaps) < 1.0
    assert download.arrivals[-1] > LAST_AT - 1.0
