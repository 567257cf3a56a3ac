"""What users of the tunnel build on: streams are asyncio transports.

The hub opens streams (`Opener`), the agent accepts them (`Service`, by name). Both ends hold a
`StreamTransport` and hand in an ordinary `asyncio.Protocol`; nothing here knows what the bytes mean.

How a stream behaves, on both ends:

- ``write`` never blocks. Above 64 KiB of unsent bytes the protocol gets ``pause_writing``, below 16 KiB
  ``resume_writing``. ``bytes`` and ``memoryview`` are kept, not copied: do not change what lies under them.
- ``pause_reading`` stops the credit of the peer; what it had been granted stays in memory until
  ``resume_reading``, so a slow reader costs at most one window and slows nobody else.
- ``write_eof`` ends this direction behind what was written; the other direction goes on. The peer's protocol
  gets ``eof_received``; a true answer keeps its writing side open, else its transport closes by itself.
- ``close`` sends what was written, then ends both directions; ``connection_lost(None)`` follows soon.
- ``abort(code)`` drops what is unsent and resets the stream; ``connection_lost`` gets `StreamReset`.
- ``connection_lost(exc)``: None after a clean end, `StreamReset` with the peer's code after a reset,
  `StreamRefused` when OPEN was refused, `LinkLost` when the session ended. It is called once, and never
  from inside ``write``, ``close`` or ``abort``.

``get_extra_info`` knows: ``"stream"`` (id, int), ``"service"`` (str), ``"metadata"`` (mapping), ``"session"``
(session id, str), ``"peer"`` (the name the session was authenticated as, str), ``"draining"`` (the session takes no
more streams, bool: what keeps a stream for later use should not); other names give the default.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from tunneler.errors import StreamCode

P = TypeVar("P", bound=asyncio.Protocol)


class StreamTransport(asyncio.Transport, ABC):
    """One stream. All of `asyncio.Transport`, and a code with ``abort``."""

    @abstractmethod
    def abort(self, code: StreamCode = StreamCode.CANCELLED, reason: str = "") -> None:
        """Reset the stream now; what is unsent is dropped.

        Args:
            code: what the peer's ``connection_lost`` will see in `StreamReset.code`.
            reason: for people, at most 256 bytes are sent.
        """


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What the opener asked for.

    Attributes:
        service: a name of the acceptor's registry, never an address.
        metadata: small words beside it (trace id, deadline); at most 4 KiB as JSON.
        stream_id: id on this session.
        session: id of the session.
        peer: the name the session was authenticated as.
    """

    service: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream_id: int = 0
    session: str = ""
    peer: str = ""


Service = Callable[[StreamRequest], asyncio.Protocol | Awaitable[asyncio.Protocol]]
"""Accepts one stream: gives the protocol that will own it, at once or after a dial.

The transport arrives with ``connection_made``. Raising `StreamRefused` answers OPEN_ERR with its code;
anything else raised answers ``INTERNAL``; longer than 10 s answers ``TIMEOUT`` and cancels the awaitable.
Bytes that the opener sent meanwhile wait, within its first window.
"""

Services = Mapping[str, Service]
"""{service name: how it accepts}. The agent's registry."""


class Opener(Protocol):
    """Opens streams: a live session, or a target of the connection manager."""

    def open_stream_nowait(
        self, protocol_factory: Callable[[], P], service: str, metadata: Mapping[str, str] | None = None
    ) -> tuple[StreamTransport, P]:
        """Open without waiting for the acceptor: ``connection_made`` was called, bytes may be written.

        Saves a round trip. A refusal arrives as ``connection_lost(StreamRefused)``; how long to wait for an answer is
        up to the caller.

        Raises:
            StreamRefused: ``BUSY``, the limits of this end are reached; nothing was sent.
            NoLink: no session is up.
        """
        ...

    async def open_stream(
        self, protocol_factory: Callable[[], P], service: str, metadata: Mapping[str, str] | None = None
    ) -> tuple[StreamTransport, P]:
        """Open and wait until the acceptor says yes; ``connection_made`` was called before this returns.

        Cancelling it resets the stream.

        Raises:
            StreamRefused: the acceptor said no, or nothing for 10 s (`StreamRefused.code` tells why);
                ``connection_made`` was not called.
            LinkLost: the session ended meanwhile.
            NoLink: no session is up, or none came within the time that dials wait.
        """
        ...
