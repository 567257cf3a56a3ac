"""RFC 6455 framing against itself and against the `websockets` library, cut at every byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from tunneler.errors import CloseCode, ProtocolError
from tunneler.websocket import PING, WebSocketCodec

messages_ = st.lists(st.one_of(st.binary(max_size=300), st.integers(60_000, 65_536).map(bytes)), max_size=5)


def joined(codec: WebSocketCodec, message: bytes) -> bytes:
    return b"".join(codec.encode(message))


@pytest.mark.parametrize("client", [True, False])
@settings(max_examples=50, deadline=None)
@given(messages=messages_, data=st.data())
def test_messages_come_back_however_the_bytes_are_cut(client: bool, messages: list[bytes], data: st.DataObject) -> None:
    sender, receiver = WebSocketCodec(client=client), WebSocketCodec(client=not client)
    raw = b"".join(joined(sender, message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    got = [m for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) for m in receiver.receive(raw[a:b])]
    assert got == messages


@pytest.mark.parametrize("client", [True, False])
def test_messages_come_back_cut_at_every_byte(client: bool) -> None:
    messages = [b"", b"a", b"b" * 125, b"c" * 126, b"d" * 300]
    sender, receiver = WebSocketCodec(client=client), WebSocketCodec(client=not client)
    raw = b"".join(joined(sender, message) for message in messages)
    assert [m for i in range(len(raw)) for m in receiver.receive(raw[i : i + 1])] == messages


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_frames_are_those_of_another_library(client: bool, size: int) -> None:
    theirs = Frame(Opcode.BINARY, bytes(range(256)) * (size // 256) + bytes(size % 256))
    receiver = WebSocketCodec(client=not client)
    assert receiver.receive(theirs.serialize(mask=client)) == [bytes(theirs.data)]
    mine = joined(WebSocketCodec(client=client, mask=lambda n: b"\x01\x02\x03\x04"), bytes(theirs.data))
    assert receiver.receive(mine) == [bytes(theirs.data)]
    assert len(mine) == len(theirs.serialize(mask=client))


def test_pieces_made_by_an_intermediary_are_joined_and_pings_answered_between() -> None:
    receiver = WebSocketCodec(client=True)
    assert receiver.receive(Frame(Opcode.BINARY, b"one ", fin=False).serialize(mask=False)) == []
    assert receiver.receive(Frame(Opcode.PING, b"?").serialize(mask=False)) == []
    assert WebSocketCodec(client=False).receive(receiver.replies[0]) == []  # a PONG, masked
    assert receiver.receive(Frame(Opcode.CONT, b"two").serialize(mask=False)) == [b"one two"]


def test_the_newest_of_many_pings_is_answered() -> None:
    """RFC 6455, 5.5.3: that suffices, and a peer that does not read cannot pile answers up."""
    receiver, sender = WebSocketCodec(client=False), WebSocketCodec(client=True)
    receiver.receive(b"".join(b"".join(sender.encode(b"%d" % i, PING)) for i in range(1000)))
    receiver.receive(sender.encode_close(4000, "bye"))
    assert receiver.replies == [b"\x8a\x03999", b"\x88\x02\x0f\xa0"]


def test_a_close_is_answered_and_nothing_is_read_behind_it() -> None:
    receiver = WebSocketCodec(client=False)
    closing = WebSocketCodec(client=True)
    assert receiver.receive(closing.encode_close(4000, "bye") + joined(closing, b"late")) == []
    assert receiver.closed == (4000, "bye")
    closing.receive(receiver.replies[0])
    assert closing.closed == (4000, "")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\x81\x80\x00\x00\x00\x00", CloseCode.PROTOCOL),  # text
        (b"\x82\x01abcde", CloseCode.PROTOCOL),  # not masked
        (b"\xc2\x80\x00\x00\x00\x00", CloseCode.PROTOCOL),  # compressed
        (b"\x80\x80\x00\x00\x00\x00", CloseCode.PROTOCOL),  # a continuation of nothing
        (b"\x09\x80\x00\x00\x00\x00", CloseCode.PROTOCOL),  # a ping in pieces
        (b"\x89\xfe\x00\x7e\x00\x00\x00\x00", CloseCode.PROTOCOL),  # a long ping
        (b"\x82\xff\x00\x00\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00", CloseCode.LIMIT),  # 65,537 bytes
        (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", CloseCode.LIMIT),
    ],
)
def test_what_does_not_belong_is_refused(raw: bytes, code: CloseCode) -> None:
    with pytest.raises(ProtocolError) as caught:
        WebSocketCodec(client=False).receive(raw)
    assert caught.value.code is code


@settings(max_examples=200)
@given(st.booleans(), st.lists(st.binary(max_size=30), max_size=6))
def test_any_bytes_are_read_or_refused(client: bool, chunks: list[bytes]) -> None:
    codec = WebSocketCodec(client=client)
    try:
        for chunk in chunks:
            codec.receive(chunk)
    except ProtocolError:
        pass
