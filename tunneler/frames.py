"""The wire format of ``syncline.v1``: frames of an 8-byte header and at most 65,528 bytes. Pure.

Header, big-endian: ``u8 type | u8 flags | u16 length | u32 stream``. A WebSocket message holds whole frames only.
Stream 0 is the session itself. What each payload holds is said at its encoder; docs/tunnel.md has the table.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from tunneler.config import MAX_MESSAGE_BYTES
from tunneler.errors import CloseCode, ProtocolError, StreamCode

HEADER = struct.Struct("!BBHI")
HEADER_BYTES = HEADER.size
MAX_PAYLOAD_BYTES = MAX_MESSAGE_BYTES - HEADER_BYTES
MAX_HELLO_BYTES = 8 * 1024
MAX_METADATA_BYTES = 4 * 1024
MAX_SERVICE_BYTES = 255
MAX_REASON_BYTES = 256
MAX_STREAM_ID = 2**31 - 2

FLAG_ACK = 0x01
"""Say at once, by WINDOW on stream 0, how many DATA bytes have arrived."""
FLAG_OPTIONAL = 0x80
"""A receiver that does not know this type skips the frame."""


class FrameType(IntEnum):
    """First byte of a frame."""

    HELLO = 1
    HELLO_OK = 2
    OPEN = 3
    OPEN_OK = 4
    OPEN_ERR = 5
    DATA = 6
    FIN = 7
    RST = 8
    WINDOW = 9
    PING = 10
    PONG = 11
    GOAWAY = 12
    AUTH = 13


def encode(type_: int, stream_id: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """Header and payload.

    Raises:
        ValueError: the payload is above `MAX_PAYLOAD_BYTES`.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"payload of {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} fit in a frame")
    return HEADER.pack(type_, flags, len(payload), stream_id) + payload


@dataclass(frozen=True, slots=True)
class Hello:
    """First frame of the agent. Claims only: identity comes from the credential of the handshake.

    Attributes:
        agent: name the agent goes by, for people.
        instance: id of this process, new at each start; tells a reconnect from a second agent.
        software: version.
        features: what it can beyond the base, a set.
        max_streams: streams at once it accepts.
        cluster_uid: UID of the cluster behind it, or empty.
        clock: its UTC time in seconds; for the diagnosis of skew.
        links: ids of the replicas that this instance has other links to; they need not take a second one.
    """

    agent: str = ""
    instance: str = ""
    software: str = ""
    features: tuple[str, ...] = ()
    max_streams: int = 1024
    cluster_uid: str = ""
    clock: float = 0.0
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HelloOk:
    """The hub's answer.

    Attributes:
        session: id of this session.
        replica: id of the hub replica.
        software: version of the hub.
        features: those of HELLO that the hub has too.
        replicas: addresses of the other replicas, the best for this agent first.
        token_lifetime_seconds: until the credential ends; 0 if it does not.
    """

    session: str = ""
    replica: str = ""
    software: str = ""
    features: tuple[str, ...] = ()
    replicas: tuple[str, ...] = ()
    token_lifetime_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Open:
    """What OPEN says: window in bytes for the acceptor's data, service, metadata."""

    window_bytes: int
    service: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GoAway:
    """What GOAWAY says.

    Attributes:
        code: why.
        last_stream_id: streams above were never looked at.
        retry_after_seconds: the peer should come back after a random time up to this.
        reason: for people.
    """

    code: CloseCode
    last_stream_id: int = 0
    retry_after_seconds: float = 0.0
    reason: str = ""


def encode_hello(hello: Hello | HelloOk) -> bytes:
    """JSON object of the fields, at most 8 KiB."""
    words = {name: getattr(hello, name) for name in hello.__dataclass_fields__}
    payload = json.dumps(words, separators=(",", ":")).encode()
    if len(payload) > MAX_HELLO_BYTES:
        raise ValueError(f"HELLO of {len(payload)} bytes; at most {MAX_HELLO_BYTES}")
    return encode(FrameType.HELLO if isinstance(hello, Hello) else FrameType.HELLO_OK, 0, payload)


def decode_hello(payload: bytes) -> Hello:
    """Raises `ProtocolError`; unknown fields are skipped."""
    return Hello(**_hello_words(payload, Hello))


def decode_hello_ok(payload: bytes) -> HelloOk:
    """Raises `ProtocolError`; unknown fields are skipped."""
    return HelloOk(**_hello_words(payload, HelloOk))


def _hello_words(payload: bytes, kind: type[Hello] | type[HelloOk]) -> dict[str, Any]:
    if len(payload) > MAX_HELLO_BYTES:
        raise ProtocolError(CloseCode.LIMIT, "HELLO above 8 KiB")
    defaults = kind()
    words: dict[str, Any] = {}
    for name, value in _json_object(payload).items():
        if name not in kind.__dataclass_fields__:
            continue
        default = getattr(defaults, name)
        if isinstance(default, tuple):
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise ProtocolError(CloseCode.PROTOCOL, f"{name} of HELLO is no list of words")
            words[name] = tuple(value)
        elif isinstance(default, str):
            if not isinstance(value, str):
                raise ProtocolError(CloseCode.PROTOCOL, f"{name} of HELLO is no text")
            words[name] = value
        else:
            # bool is a number to isinstance, and NaN and infinity are none to anybody
            if isinstance(value, bool) or not isinstance(value, int | float) or not -1e18 < value < 1e18:
                raise ProtocolError(CloseCode.PROTOCOL, f"{name} of HELLO is no number")
            words[name] = int(value) if isinstance(default, int) else float(value)
    return words


def encode_open(stream_id: int, open_: Open) -> bytes:
    """``u32 window | u8 length | service | JSON metadata``.

    Raises:
        ValueError: service or metadata are too long.
    """
    service = open_.service.encode()
    metadata = json.dumps(dict(open_.metadata), separators=(",", ":")).encode() if open_.metadata else b""
    if not 0 < len(service) <= MAX_SERVICE_BYTES:
        raise ValueError(f"service name of {len(service)} bytes; 1 to {MAX_SERVICE_BYTES} are allowed")
    if len(metadata) > MAX_METADATA_BYTES:
        raise ValueError(f"metadata of {len(metadata)} bytes; at most {MAX_METADATA_BYTES}")
    return encode(FrameType.OPEN, stream_id, struct.pack("!IB", open_.window_bytes, len(service)) + service + metadata)


def decode_open(payload: bytes) -> Open:
    """Raises `ProtocolError`."""
    if len(payload) < 5 or len(payload) < 5 + payload[4]:
        raise ProtocolError(CloseCode.PROTOCOL, "OPEN is too short")
    (window,) = struct.unpack_from("!I", payload)
    service = _text(payload[5 : 5 + payload[4]])
    rest = payload[5 + payload[4] :]
    if not service or len(rest) > MAX_METADATA_BYTES:
        raise ProtocolError(CloseCode.LIMIT, "OPEN without a service, or with metadata above 4 KiB")
    metadata = _json_object(rest) if rest else {}
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ProtocolError(CloseCode.PROTOCOL, "metadata of OPEN holds more than texts")
    return Open(window, service, metadata)


def encode_open_ok(stream_id: int, window_bytes: int) -> bytes:
    """``u32 window`` for the opener's data, counted from the stream's first byte."""
    return encode(FrameType.OPEN_OK, stream_id, struct.pack("!I", window_bytes))


def decode_open_ok(payload: bytes) -> int:
    """Raises `ProtocolError`."""
    if len(payload) != 4:
        raise ProtocolError(CloseCode.PROTOCOL, "OPEN_OK is not 4 bytes")
    return int.from_bytes(payload, "big")


def encode_code(type_: FrameType, stream_id: int, code: StreamCode, reason: str = "") -> bytes:
    """RST and OPEN_ERR: ``u16 code | reason``."""
    return encode(type_, stream_id, struct.pack("!H", code) + _cut(reason))


def decode_code(payload: bytes) -> tuple[StreamCode, str]:
    """Raises `ProtocolError`; a code that is not known reads as ``INTERNAL``."""
    if not 2 <= len(payload) <= 2 + MAX_REASON_BYTES:
        raise ProtocolError(CloseCode.PROTOCOL, "RST or OPEN_ERR of a wrong length")
    number = int.from_bytes(payload[:2], "big")
    code = StreamCode(number) if number in StreamCode._value2member_map_ else StreamCode.INTERNAL
    return code, payload[2:].decode(errors="replace")


def encode_window(stream_id: int, offset: int, flags: int = 0) -> bytes:
    """``u64 offset``: up to where the peer may send on this stream; on stream 0: DATA bytes that arrived in all."""
    return HEADER.pack(FrameType.WINDOW, flags, 8, stream_id) + offset.to_bytes(8, "big")


def decode_number(payload: bytes) -> int:
    """WINDOW, PING, PONG: ``u64``. Raises `ProtocolError`."""
    if len(payload) != 8:
        raise ProtocolError(CloseCode.PROTOCOL, "WINDOW, PING or PONG is not 8 bytes")
    return int.from_bytes(payload, "big")


def encode_goaway(goaway: GoAway) -> bytes:
    """``u16 code | u32 last stream | u32 retry after, ms | reason``."""
    fixed = struct.pack(
        "!HII", goaway.code, goaway.last_stream_id, min(int(goaway.retry_after_seconds * 1000), 2**32 - 1)
    )
    return encode(FrameType.GOAWAY, 0, fixed + _cut(goaway.reason))


def decode_goaway(payload: bytes) -> GoAway:
    """Raises `ProtocolError`; a code that is not known reads as ``INTERNAL``."""
    if not 10 <= len(payload) <= 10 + MAX_REASON_BYTES:
        raise ProtocolError(CloseCode.PROTOCOL, "GOAWAY of a wrong length")
    number, last, milliseconds = struct.unpack_from("!HII", payload)
    code = CloseCode(number) if number in CloseCode._value2member_map_ else CloseCode.INTERNAL
    return GoAway(code, last, milliseconds / 1000, payload[10:].decode(errors="replace"))


def _cut(reason: str) -> bytes:
    """UTF-8, at most 256 bytes, never cut inside a character."""
    return reason.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore").encode()


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(CloseCode.PROTOCOL, "text that is no UTF-8") from error


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(CloseCode.PROTOCOL, "no JSON where JSON belongs") from error
    if not isinstance(value, dict):
        raise ProtocolError(CloseCode.PROTOCOL, "no JSON object where one belongs")
    return value
