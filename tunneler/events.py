"""What a session's protocol tells its shell. Past tense, in the order it happened."""

from __future__ import annotations

from dataclasses import dataclass

from tunneler.errors import CloseCode, StreamReset
from tunneler.frames import GoAway, Hello, HelloOk
from tunneler.streams import Stream

DataReceived = tuple[Stream, bytes]
"""Bytes within the granted window. The shell returns their credit by `TunnelProtocol.consume`.

A plain tuple, the only one among the events: there is one for every DATA frame, and to make a class costs as much as
the rest of reading the frame.
"""


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """At the hub: answer with `TunnelProtocol.welcome`, or close."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class Welcomed:
    """At the agent: the handshake is complete."""

    answer: HelloOk


@dataclass(frozen=True, slots=True)
class StreamOffered:
    """At the acceptor: answer with `accept_stream` or `refuse_stream`; data may come before."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class StreamAccepted:
    """At the opener."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class EofReceived:
    """The peer ended its direction in order."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The stream is over and left the table; ``error`` None after a clean end."""

    stream: Stream
    error: StreamReset | None


@dataclass(frozen=True, slots=True)
class StreamDrained:
    """Unsent bytes of a watched stream fell under the low mark."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class WentAway:
    """The peer sent GOAWAY; no stream may be opened any more."""

    goaway: GoAway


@dataclass(frozen=True, slots=True)
class TokenReceived:
    """At the hub: the agent renewed its credential."""

    token: str


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Send what waits (GOAWAY), close the link, reset every stream with LINK_LOST."""

    code: CloseCode
    reason: str


Event = (
    DataReceived
    | HelloReceived
    | Welcomed
    | StreamOffered
    | StreamAccepted
    | EofReceived
    | StreamEnded
    | StreamDrained
    | WentAway
    | TokenReceived
    | SessionEnded
)
