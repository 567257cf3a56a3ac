"""Errors of the tunnel carry their code and say it to people."""

from tunneler.errors import LinkLost, NoLink, StreamCode, StreamRefused, StreamReset, TunnelError


def test_every_end_of_a_stream_is_a_reset_with_a_code() -> None:
    refused = StreamRefused(StreamCode.DENIED, "not you", stream_id=4)
    lost = LinkLost(6, "silent for 15 s")
    assert isinstance(refused, StreamReset)
    assert isinstance(lost, StreamReset)
    assert (refused.code, refused.reason, refused.stream_id) == (StreamCode.DENIED, "not you", 4)
    assert (lost.code, lost.remote) == (StreamCode.LINK_LOST, False)
    assert str(refused) == "stream 4: DENIED: not you"


def test_no_link_says_when_to_come_back() -> None:
    error = NoLink("east", "none came up within 10 s")
    assert isinstance(error, TunnelError)
    assert error.retry_after_seconds == 1.0
    assert str(error) == "no link to east: none came up within 10 s"
