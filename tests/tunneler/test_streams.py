"""The table of stream states, all states × all inputs."""

from __future__ import annotations

import pytest

from tunneler.errors import ProtocolError
from tunneler.streams import TRANSITIONS, Stream, StreamInput, StreamState, StreamStateError
from tunneler.windows import LinkBudget, ReceiveWindow, SendWindow


def a_stream(state: StreamState) -> Stream:
    stream = Stream(2, "echo", {}, SendWindow(0), ReceiveWindow(0, LinkBudget(0)))
    stream.state = state
    return stream


@pytest.mark.parametrize("state", StreamState)
@pytest.mark.parametrize("input_", StreamInput)
def test_each_pair_moves_as_listed_or_is_an_error_of_who_caused_it(state: StreamState, input_: StreamInput) -> None:
    stream = a_stream(state)
    following = TRANSITIONS.get((state, input_))
    if following is None:
        with pytest.raises(ProtocolError if input_.name.startswith("RECV") else StreamStateError):
            stream.move(input_)
        assert stream.state is state
    else:
        assert stream.move(input_) is following
        assert stream.sends == ((following, StreamInput.SEND_DATA) in TRANSITIONS)
        assert stream.receives == ((following, StreamInput.RECV_DATA) in TRANSITIONS)


def test_closed_is_the_end_and_every_other_state_can_reach_it() -> None:
    assert not [pair for pair in TRANSITIONS if pair[0] is StreamState.CLOSED]
    reach = {StreamState.CLOSED}
    while more := {s for (s, _), to in TRANSITIONS.items() if to in reach} - reach:
        reach |= more
    assert reach == set(StreamState)


def test_what_one_end_may_send_the_other_may_receive_in_the_mirrored_state() -> None:
    mirror = {
        StreamState.IDLE: StreamState.IDLE,
        StreamState.OPENING: StreamState.ACCEPTING,
        StreamState.OPENING_LOCAL_ENDED: StreamState.ACCEPTING_REMOTE_ENDED,
        StreamState.OPEN: StreamState.OPEN,
        StreamState.LOCAL_ENDED: StreamState.REMOTE_ENDED,
        StreamState.REMOTE_ENDED: StreamState.LOCAL_ENDED,
        StreamState.ACCEPTING: StreamState.OPENING,
        StreamState.ACCEPTING_REMOTE_ENDED: StreamState.OPENING_LOCAL_ENDED,
        StreamState.CLOSED: StreamState.CLOSED,
    }
    for (state, input_), following in TRANSITIONS.items():
        if input_.name.startswith("SEND") and input_ is not StreamInput.SEND_WINDOW:
            answer = TRANSITIONS[(mirror[state], StreamInput(input_ + 1))]
            assert answer is mirror[following], (state, input_)
