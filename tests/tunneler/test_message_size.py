"""No message is longer than the peer takes, whatever was asked for in a turn, and every stream keeps its order."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.tunneler.support import Pair
from tunneler.config import MAX_MESSAGE_BYTES, TunnelConfig
from tunneler.core import SessionState
from tunneler.errors import StreamCode
from tunneler.frames import Hello
from tunneler.scheduler import SMALL_WRITE_BYTES
from tunneler.streams import Stream, StreamState

MANY = 10**6
GENEROUS = TunnelConfig(
    max_streams=MANY,
    open_rate_per_second=MANY,
    open_burst=MANY,
    late_rate_per_second=MANY,
    empty_rate_per_second=MANY,
    max_control_frames=MANY,
)
"""Nothing but the length of a message may end the session."""

Step = tuple[str, int, int]
"""(what, of how many streams or how often, how many bytes)"""


class Burst:
    """A hub whose link takes bytes or not, and what it wrote on each stream."""

    def __init__(self) -> None:
        self.pair = Pair(GENEROUS)
        self.streams: list[Stream] = []
        self.written: dict[int, bytes] = {}

    def step(self, what: str, count: int, size: int) -> None:
        hub = self.pair.hub.protocol
        if what == "open":
            for _ in range(min(count, Hello().max_streams - len(hub.streams))):
                stream = hub.open_stream("echo", {"pad": "x" * (size % 4000)})
                self.streams.append(stream)
                self.written[stream.id] = b""
        elif what == "write":
            for number, stream in enumerate(self.streams[-count:]):
                if stream.sends and not stream.ending:
                    payload = bytes([number % 256]) * size
                    hub.send_data(stream, payload)
                    self.written[stream.id] += payload
        elif what == "close":
            for stream in self.streams[-count:]:
                hub.send_eof(stream, closing=bool(size % 2))
        elif what == "reset":
            for stream in self.streams[-count:]:
                hub.reset_stream(stream, StreamCode.CANCELLED)
                self.written.pop(stream.id, None)
        elif what == "toggle":
            hub.link_writable = not hub.link_writable
        elif hub.link_writable:
            self.send()

    def send(self) -> bool:
        """One message each way."""
        pair = self.pair
        pair.now += 0.001
        message = pair.hub.protocol.data_to_send(pair.now)
        assert len(message) <= MAX_MESSAGE_BYTES
        pair.agent.take(pair.agent.protocol.receive_data(message, now=pair.now))
        for stream in pair.agent.protocol.streams.copy().values():
            if stream.state in (StreamState.ACCEPTING, StreamState.ACCEPTING_REMOTE_ENDED):
                pair.agent.protocol.accept_stream(stream)
        answer = pair.agent.protocol.data_to_send(pair.now)
        assert len(answer) <= MAX_MESSAGE_BYTES
        pair.hub.take(pair.hub.protocol.receive_data(answer, now=pair.now))
        return bool(message or answer)


steps = st.one_of(
    st.tuples(st.just("open"), st.integers(1, 300), st.integers(0, 4000)),
    st.tuples(st.just("write"), st.integers(1, 100), st.sampled_from([1, 700, SMALL_WRITE_BYTES, 20_000])),
    st.tuples(st.just("close"), st.integers(1, 300), st.integers(0, 1)),
    st.tuples(st.just("reset"), st.integers(1, 20), st.just(0)),
    st.tuples(st.sampled_from(["toggle", "send"]), st.just(1), st.just(0)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=25))
@example([("open", 14, 1000), ("write", 11, SMALL_WRITE_BYTES), ("write", 5, 700), ("write", 1, SMALL_WRITE_BYTES)])
@example([("toggle", 1, 0), *[("open", 300, 0), ("close", 300, 1)] * 13])
@example([("open", 1000, 0), *[("send", 1, 0)] * 3, ("write", 60, 700), ("write", 1, 20_000), ("close", 1000, 0)])
def test_every_message_is_short_enough_and_its_streams_arrive_whole(steps: list[Step]) -> None:
    burst = Burst()
    for step in steps:
        burst.step(*step)
    burst.pair.hub.protocol.link_writable = True
    while burst.send():
        pass
    assert burst.pair.hub.protocol.state is burst.pair.agent.protocol.state is SessionState.OPEN
    for id_, written in burst.written.items():
        assert burst.pair.agent.received.get(id_, b"") == written
