"""Two protocols joined by memory, with a clock that only moves by hand."""

from __future__ import annotations

from typing import NamedTuple

from tunneler.config import TunnelConfig
from tunneler.core import Role
from tunneler.errors import StreamReset
from tunneler.events import EofReceived, Event, HelloReceived, StreamEnded, StreamOffered
from tunneler.frames import HEADER, HEADER_BYTES, Hello, HelloOk
from tunneler.protocol import TunnelProtocol
from tunneler.streams import Stream


class Frame(NamedTuple):
    """One frame, decoded as far as the header."""

    type: int
    stream_id: int
    payload: bytes = b""
    flags: int = 0


def decode(message: bytes) -> list[Frame]:
    """All frames of one message, in order."""
    frames: list[Frame] = []
    while message:
        type_, flags, length, stream_id = HEADER.unpack_from(message)
        payload, message = message[HEADER_BYTES : HEADER_BYTES + length], message[HEADER_BYTES + length :]
        assert len(payload) == length
        frames.append(Frame(type_, stream_id, payload, flags))
    return frames


class End:
    """One protocol and what its application saw: {stream id: …}."""

    def __init__(self, role: Role, config: TunnelConfig, hello: Hello | None = None) -> None:
        self.protocol = TunnelProtocol(role, config, now=0.0, chance=lambda: 0.5, hello=hello)
        self.reads = True  # give credit back at once
        self.events: list[Event] = []
        self.streams: dict[int, Stream] = {}
        self.received: dict[int, bytes] = {}
        self.eof: set[int] = set()
        self.ended: dict[int, StreamReset | None] = {}

    def take(self, events: list[Event]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, HelloReceived):
                self.protocol.welcome(HelloOk(session="s-1"))
            elif isinstance(event, StreamOffered):
                self.streams[event.stream.id] = event.stream
            elif isinstance(event, tuple):
                stream, payload = event
                self.received[stream.id] = self.received.get(stream.id, b"") + payload
                if self.reads:
                    self.protocol.consume(stream, len(payload))
            elif isinstance(event, EofReceived):
                self.eof.add(event.stream.id)
            elif isinstance(event, StreamEnded):
                self.ended[event.stream.id] = event.error

    def seen(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


class Pair:
    """Hub and agent on one link; `move` carries one message each way, `settle` all of them."""

    def __init__(self, config: TunnelConfig | None = None, *, greet: bool = True) -> None:
        self.config = config or TunnelConfig()
        self.now = 0.0
        self.hub = End(Role.HUB, self.config)
        self.agent = End(Role.AGENT, self.config, Hello(agent="east", instance="i-1"))
        if greet:
            self.settle()

    def move(self) -> bool:
        moved = False
        for sender, receiver in ((self.hub, self.agent), (self.agent, self.hub)):
            message = sender.protocol.data_to_send(self.now)
            sender.take(sender.protocol.take_events())
            if message:
                moved = True
                receiver.take(receiver.protocol.receive_data(message, now=self.now))
        self.now += 0.0005
        return moved

    def settle(self) -> None:
        for _ in range(10_000):
            if not self.move():
                return
        raise AssertionError("the two ends never come to rest")

    def open(self, service: str = "echo", *, accept: bool = True) -> Stream:
        stream = self.hub.protocol.open_stream(service, {})
        self.hub.streams[stream.id] = stream
        self.settle()
        if accept:
            self.agent.protocol.accept_stream(self.agent.streams[stream.id])
            self.settle()
        return stream
