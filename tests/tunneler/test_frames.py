"""The wire format: what is encoded is decoded, and nothing else is taken."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tunneler.support import Frame, decode
from tunneler import frames
from tunneler.errors import CloseCode, ProtocolError, StreamCode
from tunneler.frames import FrameType, GoAway, Hello, HelloOk, Open

texts = st.text(st.characters(codec="utf-8"), max_size=60)
ids = st.integers(0, 2**32 - 1)
any_frame = st.builds(Frame, st.integers(0, 255), ids, st.binary(max_size=300), st.integers(0, 255))


@given(st.lists(any_frame, max_size=8))
def test_frames_come_back_in_order(given_frames: list[Frame]) -> None:
    message = b"".join(frames.encode(f.type, f.stream_id, f.payload, f.flags) for f in given_frames)
    assert decode(message) == given_frames


@given(texts, texts, st.lists(texts, max_size=3), st.integers(0, 2**20), st.floats(0, 1e12))
def test_hello_comes_back(agent: str, uid: str, features: list[str], streams: int, clock: float) -> None:
    hello = Hello(agent, "i", "0.1", tuple(features), streams, uid, clock)
    (frame,) = decode(frames.encode_hello(hello))
    assert frame.type == FrameType.HELLO
    assert frames.decode_hello(frame.payload) == hello
    answer = HelloOk(agent, uid, "0.1", tuple(features), (), clock)
    assert frames.decode_hello_ok(decode(frames.encode_hello(answer))[0].payload) == answer


@given(st.integers(0, 2**32 - 1), st.text("abc-", min_size=1, max_size=40), st.dictionaries(texts, texts, max_size=4))
def test_open_comes_back(window: int, service: str, metadata: dict[str, str]) -> None:
    (frame,) = decode(frames.encode_open(2, Open(window, service, metadata)))
    assert frames.decode_open(frame.payload) == Open(window, service, metadata)


@given(st.sampled_from(StreamCode), texts)
def test_codes_come_back_with_their_reason(code: StreamCode, reason: str) -> None:
    (frame,) = decode(frames.encode_code(FrameType.RST, 2, code, reason))
    assert frames.decode_code(frame.payload) == (code, reason[:256])


@given(st.sampled_from(CloseCode), st.integers(0, 2**32 - 1), st.integers(0, 10**6), texts)
def test_goaway_comes_back(code: CloseCode, last: int, milliseconds: int, reason: str) -> None:
    goaway = GoAway(code, last, milliseconds / 1000, reason)
    assert frames.decode_goaway(decode(frames.encode_goaway(goaway))[0].payload) == goaway


def test_a_long_reason_is_cut_between_characters() -> None:
    (frame,) = decode(frames.encode_code(FrameType.RST, 2, StreamCode.INTERNAL, "é" * 300))
    assert frames.decode_code(frame.payload)[1] == "é" * 128


def test_codes_of_a_newer_peer_read_as_internal() -> None:
    assert frames.decode_code(b"\xff\xff") == (StreamCode.INTERNAL, "")
    assert frames.decode_goaway(b"\xff\xff" + bytes(8)).code is CloseCode.INTERNAL


@given(st.binary(max_size=200))
def test_decoders_take_any_bytes_or_raise_a_protocol_error(raw: bytes) -> None:
    decoders = (
        frames.decode_hello, frames.decode_hello_ok, frames.decode_open, frames.decode_open_ok,
        frames.decode_code, frames.decode_number, frames.decode_goaway,
    )  # fmt: skip
    for decoder in decoders:
        with contextlib.suppress(ProtocolError):
            decoder(raw)


@pytest.mark.parametrize(
    "words", ['{"agent": 1}', '{"features": "a"}', '{"clock": true}', '{"clock": 1e400}', "[]", "nul", '{"clock": NaN}']
)
def test_a_hello_of_wrong_types_is_refused(words: str) -> None:
    with pytest.raises(ProtocolError):
        frames.decode_hello(words.encode())


def test_what_does_not_fit_is_not_sent() -> None:
    with pytest.raises(ValueError, match="at most 65528"):
        frames.encode(FrameType.DATA, 2, bytes(65529))
    with pytest.raises(ValueError, match="service name"):
        frames.encode_open(2, Open(1, ""))
    with pytest.raises(ValueError, match="metadata of"):
        frames.encode_open(2, Open(1, "echo", {"a": "x" * 5000}))
    with pytest.raises(ValueError, match="HELLO of"):
        frames.encode_hello(Hello(agent="x" * 9000))
