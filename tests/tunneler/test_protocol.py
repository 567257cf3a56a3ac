"""Sessions without sockets: handshake, streams, limits, liveness, and any bytes at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tunneler.support import End, Pair, decode
from tunneler import frames
from tunneler.config import FIRST_WINDOW_BYTES, MAX_MESSAGE_BYTES, TunnelConfig
from tunneler.core import Role, SessionState
from tunneler.errors import CloseCode, StreamCode, StreamRefused
from tunneler.events import SessionEnded, StreamAccepted, StreamOffered, TokenReceived, Welcomed, WentAway
from tunneler.frames import FrameType, GoAway, Hello, HelloOk
from tunneler.streams import StreamState, StreamStateError


def close_code(end: End) -> CloseCode | None:
    ended = end.seen(SessionEnded)
    return ended[0].code if ended else None  # type: ignore[union-attr]


def feed(end: End, message: bytes, now: float = 0.0) -> None:
    end.take(end.protocol.receive_data(message, now=now))


def test_hello_is_answered_and_both_ends_are_open() -> None:
    pair = Pair()
    assert pair.hub.protocol.peer_hello == Hello(agent="east", instance="i-1")
    assert pair.agent.seen(Welcomed) == [Welcomed(HelloOk(session="s-1"))]
    assert pair.hub.protocol.state is pair.agent.protocol.state is SessionState.OPEN


def test_bytes_flow_both_ways_and_each_direction_ends_by_itself() -> None:
    pair = Pair()
    stream = pair.open()
    far = pair.agent.streams[stream.id]
    pair.hub.protocol.send_data(stream, b"up")
    pair.hub.protocol.send_eof(stream)
    pair.settle()
    assert (pair.agent.received[stream.id], pair.agent.eof) == (b"up", {stream.id})
    pair.agent.protocol.send_data(far, b"down" * 50_000)
    pair.settle()
    pair.agent.protocol.send_eof(far)
    pair.settle()
    assert pair.hub.received[stream.id] == b"down" * 50_000
    assert pair.hub.ended == pair.agent.ended == {stream.id: None}
    assert not pair.hub.protocol.streams
    assert not pair.agent.protocol.streams
    assert pair.hub.protocol.budget.granted == pair.agent.protocol.budget.granted == 0


def test_what_is_sent_before_the_answer_stays_in_the_first_window() -> None:
    pair = Pair()
    stream = pair.hub.protocol.open_stream("echo", {"trace": "7"})
    pair.hub.protocol.send_data(stream, bytes(100_000))
    pair.hub.protocol.send_eof(stream)
    pair.settle()
    (offered,) = pair.agent.seen(StreamOffered)
    assert isinstance(offered, StreamOffered)
    assert offered.stream.metadata == {"trace": "7"}
    assert len(pair.agent.received[stream.id]) == FIRST_WINDOW_BYTES
    pair.agent.protocol.accept_stream(offered.stream)
    pair.settle()
    assert len(pair.agent.received[stream.id]) == 100_000
    assert pair.agent.eof == {stream.id}
    assert pair.hub.seen(StreamAccepted)


def test_a_refused_stream_ends_with_its_code_and_the_session_goes_on() -> None:
    pair = Pair()
    stream = pair.open("nothing", accept=False)
    pair.agent.protocol.refuse_stream(pair.agent.streams[stream.id], StreamCode.UNKNOWN_SERVICE, "no such service")
    pair.settle()
    error = pair.hub.ended[stream.id]
    assert isinstance(error, StreamRefused)
    assert (error.code, error.reason) == (StreamCode.UNKNOWN_SERVICE, "no such service")
    pair.open()


def test_a_reset_overtakes_what_waits_and_late_frames_are_dropped() -> None:
    pair = Pair()
    stream = pair.open()
    far = pair.agent.streams[stream.id]
    pair.agent.protocol.send_data(far, b"late")
    pair.hub.protocol.send_data(stream, bytes(1 << 20))
    pair.hub.protocol.reset_stream(stream, StreamCode.CANCELLED, "^C")
    pair.settle()
    error = pair.agent.ended[stream.id]
    assert error is not None
    assert (error.code, error.remote) == (StreamCode.CANCELLED, True)
    assert stream.id not in pair.agent.received
    assert pair.hub.protocol.state is pair.agent.protocol.state is SessionState.OPEN
    with pytest.raises(StreamStateError):
        pair.hub.protocol.send_data(stream, b"x")


def test_closing_sends_what_waits_and_ends_both_directions() -> None:
    pair = Pair()
    stream = pair.open()
    pair.hub.protocol.send_data(stream, bytes(700_000))
    pair.hub.protocol.send_eof(stream, closing=True)
    pair.settle()
    assert len(pair.agent.received[stream.id]) == 700_000
    assert pair.hub.ended == pair.agent.ended == {stream.id: None}


def test_an_unread_stream_costs_one_window_and_delays_nobody() -> None:
    pair = Pair()
    stalled, lively = pair.open(), pair.open()
    pair.hub.reads = False
    for stream in (stalled, lively):
        pair.agent.protocol.send_data(pair.agent.streams[stream.id], bytes(1 << 20))
    pair.settle()
    assert len(pair.hub.received[stalled.id]) == len(pair.hub.received[lively.id]) == pair.config.window_bytes
    for _ in range(1000):
        waiting = lively.incoming.received - lively.incoming.consumed
        pair.hub.protocol.consume(lively, waiting)
        if not pair.move():
            break
    assert len(pair.hub.received[lively.id]) == 1 << 20
    assert len(pair.hub.received[stalled.id]) == pair.config.window_bytes


def test_small_messages_pass_a_standing_bulk_transfer() -> None:
    """Each message that carries bulk carries the small write of that turn too, and a tenth stays for bulk."""
    pair = Pair()
    bulk, small = pair.open(), pair.open()
    pair.agent.protocol.send_data(pair.agent.streams[bulk.id], bytes(4 << 20))
    for turn in range(20):
        pair.agent.protocol.send_data(pair.agent.streams[small.id], b"key")
        before = len(pair.hub.received.get(bulk.id, b""))
        pair.move()
        assert len(pair.hub.received[small.id]) == 3 * (turn + 1)
        pair.move()
        if pair.agent.streams[bulk.id].queued:
            assert len(pair.hub.received[bulk.id]) > before


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(200_000, 2_000_000), min_size=2, max_size=5))
def test_bulk_streams_get_equal_shares(sizes: list[int]) -> None:
    pair = Pair()
    streams = [pair.open() for _ in sizes]
    for stream, size in zip(streams, sizes, strict=True):
        pair.agent.protocol.send_data(pair.agent.streams[stream.id], bytes(size))
    while all(pair.agent.streams[s.id].queued for s in streams):
        pair.move()
        got = [len(pair.hub.received.get(s.id, b"")) for s in streams]
        assert max(got) - min(got) <= 2 * MAX_MESSAGE_BYTES
    pair.settle()
    assert [len(pair.hub.received[s.id]) for s in streams] == sizes


def test_every_message_fits_whatever_waits() -> None:
    pair = Pair()
    streams = [pair.open() for _ in range(30)]
    for stream in streams:
        for _ in range(20):
            pair.hub.protocol.send_data(stream, bytes(4000))
        pair.hub.protocol.open_stream("echo", {"pad": "x" * 4000})
    longest = 0
    while message := pair.hub.protocol.data_to_send(pair.now):
        longest = max(longest, len(message))
        feed(pair.agent, message, pair.now)
        feed(pair.hub, pair.agent.protocol.data_to_send(pair.now), pair.now)
    assert 0 < longest <= MAX_MESSAGE_BYTES
    assert pair.agent.protocol.state is SessionState.OPEN


def test_an_overrun_resets_the_stream_and_a_second_one_ends_the_session() -> None:
    pair = Pair()
    pair.agent.reads = False
    for _ in range(2):
        id_ = pair.open().id
        for _ in range(5):
            feed(pair.agent, frames.encode(FrameType.DATA, id_, bytes(60_000)), pair.now)
        error = pair.agent.ended.get(id_)
        if close_code(pair.agent) is None:
            assert error is not None
            assert error.code is StreamCode.FLOW
    assert close_code(pair.agent) is CloseCode.FLOW


@pytest.mark.parametrize(
    ("frame", "count", "code"),
    [
        (frames.encode(FrameType.DATA, 2), 2100, CloseCode.LIMIT),
        (frames.encode_window(2, 1), 2100, CloseCode.LIMIT),
        (frames.encode(77, 0, b"", frames.FLAG_OPTIONAL), 2100, CloseCode.LIMIT),
        (frames.encode(FrameType.PING, 0, bytes(8)), 30, CloseCode.LIMIT),
        (frames.encode(77, 0), 1, CloseCode.PROTOCOL),
        (frames.encode(FrameType.DATA, 4, b"x"), 1, CloseCode.PROTOCOL),
        (frames.encode(FrameType.DATA, 0, b"x"), 1, CloseCode.PROTOCOL),
        (frames.encode(FrameType.HELLO, 0, b"{}"), 1, CloseCode.PROTOCOL),
        (frames.encode(FrameType.AUTH, 0, b"t"), 1, CloseCode.PROTOCOL),
        (frames.encode_open(3, frames.Open(0, "echo")), 1, CloseCode.PROTOCOL),
        (frames.encode_open(2, frames.Open(0, "echo")), 1, CloseCode.PROTOCOL),
        (frames.encode_open_ok(2, 5), 1, CloseCode.PROTOCOL),
        (frames.encode_window(0, 1 << 40), 1, CloseCode.PROTOCOL),
        (b"\x06\x00\x00", 1, CloseCode.PROTOCOL),
        (bytes(MAX_MESSAGE_BYTES + 1), 1, CloseCode.LIMIT),
    ],
)
def test_abuse_ends_the_session_with_a_code(frame: bytes, count: int, code: CloseCode) -> None:
    pair = Pair()
    pair.open()
    for _ in range(count):
        feed(pair.agent, frame, pair.now)
    assert close_code(pair.agent) is code
    goaway = decode(pair.agent.protocol.data_to_send(pair.now))[-1]
    assert frames.decode_goaway(goaway.payload).code is code
    feed(pair.agent, frame)  # what still arrives is ignored
    assert len(pair.agent.seen(SessionEnded)) == 1


optional_frame = st.builds(
    frames.encode, st.integers(77, 255), st.integers(0, 9), st.binary(max_size=20), st.just(frames.FLAG_OPTIONAL)
)


@settings(max_examples=30, deadline=None)
@given(st.lists(optional_frame, min_size=1, max_size=4))
def test_a_message_cut_anywhere_but_between_frames_ends_the_session(encoded: list[bytes]) -> None:
    message = b"".join(encoded)
    whole = {sum(map(len, encoded[:count])) for count in range(len(encoded))}
    for cut in range(len(message)):
        end = End(Role.HUB, TunnelConfig())
        feed(end, message[:cut])
        assert close_code(end) is (None if cut in whole else CloseCode.PROTOCOL)


def test_streams_beyond_the_limits_are_refused_and_again_and_again_ends_the_session() -> None:
    config = TunnelConfig(max_streams=4, open_burst=6, open_rate_per_second=1)
    pair = Pair(config)
    for id_ in range(2, 2 + 2 * 4, 2):
        feed(pair.agent, frames.encode_open(id_, frames.Open(1, "echo")))
    feed(pair.agent, frames.encode_open(10, frames.Open(1, "echo")))
    (frame,) = decode(pair.agent.protocol.data_to_send(0.0))
    assert (frame.type, frames.decode_code(frame.payload)[0]) == (FrameType.OPEN_ERR, StreamCode.BUSY)
    for id_ in range(12, 12 + 200, 2):
        feed(pair.agent, frames.encode_open(id_, frames.Open(1, "echo")))
    assert close_code(pair.agent) is CloseCode.LIMIT


def test_the_opener_keeps_to_the_limit_that_the_agent_told() -> None:
    pair = Pair(TunnelConfig(max_streams=2))
    pair.open()
    pair.open()
    with pytest.raises(StreamRefused, match="no more streams"):
        pair.hub.protocol.open_stream("echo", {})
    with pytest.raises(StreamStateError):
        pair.agent.protocol.open_stream("echo", {})


def test_an_agent_that_opens_a_stream_toward_the_hub_ends_its_session() -> None:
    """S13."""
    pair = Pair()
    feed(pair.hub, frames.encode_open(2, frames.Open(1, "echo")))
    assert close_code(pair.hub) is CloseCode.PROTOCOL


def test_nothing_but_hello_is_taken_before_hello_and_the_hub_does_not_wait_long() -> None:
    early = End(Role.HUB, TunnelConfig())
    feed(early, frames.encode_open(2, frames.Open(0, "echo")))
    assert close_code(early) is CloseCode.PROTOCOL
    late = End(Role.HUB, TunnelConfig())
    late.take(late.protocol.tick(4.9))
    assert close_code(late) is None
    late.take(late.protocol.tick(5.0))
    assert close_code(late) is CloseCode.TIMEOUT
    assert late.protocol.next_deadline() is None


def test_silence_is_pinged_and_ends_the_session_after_15_seconds() -> None:
    pair = Pair()
    hub, now = pair.hub.protocol, pair.now
    pings = 0
    while close_code(pair.hub) is None:
        deadline = hub.next_deadline()
        assert deadline is not None
        now = deadline
        pair.hub.take(hub.tick(now))
        pings += any(f.type == FrameType.PING for f in decode(hub.data_to_send(now)))
    assert 15 <= now <= 15.1
    assert pings >= 2
    assert close_code(pair.hub) is CloseCode.TIMEOUT


def test_both_ends_know_the_round_trip_before_the_first_byte() -> None:
    """Windows grow by it: an end that only receives would not know it for seconds."""
    pair = Pair(greet=False)
    hub, agent = pair.hub.protocol, pair.agent.protocol
    feed(pair.hub, agent.data_to_send(1.0), 1.1)
    feed(pair.agent, hub.data_to_send(1.1), 1.2)
    feed(pair.hub, agent.data_to_send(1.2), 1.3)
    feed(pair.agent, hub.data_to_send(1.3), 1.4)
    for core in (hub, agent):
        assert core.liveness.rtt_seconds == core.pacer.rtt_seconds == pytest.approx(0.2)


def test_a_pong_tells_the_round_trip() -> None:
    pair = Pair()
    hub, agent = pair.hub.protocol, pair.agent.protocol
    found = [hub.liveness.rtt_seconds]
    for now in (6.0, 12.0, 18.0, 24.0):
        pair.hub.take(hub.tick(now))
        feed(pair.agent, hub.data_to_send(now), now + 0.01)
        feed(pair.hub, agent.data_to_send(now + 0.01), now + 0.03)
        found.append(hub.liveness.rtt_seconds)
    assert found[:4] == [found[0]] * 4  # one long trip is a queue, four are the way
    assert [found[4], hub.pacer.rtt_seconds] == pytest.approx([0.03, 0.03])


def test_draining_lets_streams_finish_and_opens_no_more() -> None:
    pair = Pair()
    stream = pair.open()
    pair.hub.protocol.go_away(GoAway(CloseCode.DRAIN, retry_after_seconds=2.5, reason="rollout"))
    pair.settle()
    assert pair.agent.seen(WentAway) == [WentAway(GoAway(CloseCode.DRAIN, stream.id, 2.5, "rollout"))]
    with pytest.raises(StreamRefused):
        pair.hub.protocol.open_stream("echo", {})
    pair.hub.protocol.send_data(stream, b"still")
    pair.settle()
    assert pair.agent.received[stream.id] == b"still"
    pair.hub.protocol.go_away(GoAway(CloseCode.GONE, reason="now"))
    pair.settle()
    assert close_code(pair.agent) is CloseCode.GONE


@pytest.mark.parametrize("first", ["hub", "agent"])
def test_who_drains_may_be_told_so_again(first: str) -> None:
    """Each end leaves for reasons of its own, and a replica that ends drains what was replaced just now."""
    pair = Pair()
    stream = pair.open()
    end = pair.hub if first == "hub" else pair.agent
    end.protocol.go_away(GoAway(CloseCode.DRAIN))
    pair.settle()
    pair.hub.protocol.go_away(GoAway(CloseCode.REPLACED))
    pair.settle()
    pair.hub.protocol.send_data(stream, b"still")
    pair.settle()
    assert pair.agent.received[stream.id] == b"still"
    assert pair.hub.protocol.state is pair.agent.protocol.state is SessionState.DRAINING


def test_a_renewed_token_reaches_the_hub() -> None:
    pair = Pair()
    pair.agent.protocol.send_token("abc.def")
    pair.settle()
    assert pair.hub.seen(TokenReceived) == [TokenReceived("abc.def")]


def test_a_peer_that_never_reads_is_given_up() -> None:
    pair = Pair(TunnelConfig(max_control_frames=10, ping_rate_per_second=1000))
    for _ in range(20):
        feed(pair.agent, frames.encode(FrameType.PING, 0, bytes(8)))
    assert close_code(pair.agent) is CloseCode.LIMIT


frame_bytes = st.one_of(
    st.binary(max_size=40),
    st.builds(
        frames.encode, st.integers(0, 14), st.sampled_from([0, 2, 3, 4, 6]), st.binary(max_size=24), st.integers(0, 255)
    ),
    st.builds(frames.encode_window, st.sampled_from([0, 2, 4]), st.integers(0, 2**64 - 1)),
    st.builds(frames.encode_code, st.just(FrameType.RST), st.sampled_from([2, 4]), st.sampled_from(StreamCode)),
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["hub", "agent"]), st.booleans(), st.lists(frame_bytes, max_size=12))
def test_any_bytes_end_in_events_or_in_a_close_code_and_never_in_an_exception(
    who: str, greeted: bool, messages: list[bytes]
) -> None:
    """The fuzz target of the session: more examples by ``--hypothesis-seed`` and a larger profile."""
    pair = Pair(greet=greeted)
    if greeted:
        pair.open()
        pair.open()
    end = pair.hub if who == "hub" else pair.agent
    for message in messages:
        feed(end, message, pair.now)
        if end.protocol.state is not SessionState.CLOSED:
            assert len(end.protocol.data_to_send(pair.now)) <= MAX_MESSAGE_BYTES
    for stream in end.protocol.streams.values():
        assert stream.state is not StreamState.CLOSED
        assert stream.incoming.received <= stream.incoming.granted
