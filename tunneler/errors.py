"""Errors of the tunnel, sorted by who acts next, and the codes that travel with them.

`ProtocolError` ends the whole session, `StreamReset` and `StreamRefused` end one stream, `LinkLost`
and `NoLink` mean: later, on another link.
"""

from __future__ import annotations

from enum import IntEnum


class StreamCode(IntEnum):
    """Why one stream ended early; on the wire in RST and OPEN_ERR. Codes not listed read as ``INTERNAL``."""

    DONE = 0
    """The sender finished writing and will read nothing more; what it wrote before is complete."""
    CANCELLED = 1
    """The application aborted the stream."""
    INTERNAL = 2
    """A fault in the application or in the peer."""
    FLOW = 3
    """More bytes than the receiver had granted."""
    TIMEOUT = 4
    """The service took longer to answer OPEN than the acceptor allows."""
    UNKNOWN_SERVICE = 5
    """No service of that name."""
    DIAL_FAILED = 6
    """The service exists; what lies behind it could not be reached."""
    DENIED = 7
    """The acceptor does not serve this opener, or not this request."""
    BUSY = 8
    """Too many streams, pending dials or bytes; try again later."""
    LINK_LOST = 9
    """The session ended. Said locally to each stream, never sent."""


class CloseCode(IntEnum):
    """Why a session ends; in GOAWAY and, plus 4000, as the WebSocket close code."""

    DRAIN = 0
    """A planned end: open a new link first, streams may finish."""
    REPLACED = 1
    """A newer session of the same instance took over."""
    PROTOCOL = 2
    """Bytes that the wire format does not allow."""
    LIMIT = 3
    """A limit against abuse was passed."""
    FLOW = 4
    """A peer ignored credit more than once."""
    AUTH = 5
    """The credential ended or was revoked."""
    TIMEOUT = 6
    """Nothing was heard for too long, or HELLO did not come in time."""
    VERSION = 7
    """The two ends are too far apart to understand each other."""
    INTERNAL = 8
    """A fault on the sender's side."""
    GONE = 9
    """The process ends now."""


class TunnelError(Exception):
    """Root of everything the tunnel raises on purpose."""


class ProtocolError(TunnelError):
    """The peer broke a rule of the wire: the session ends with ``code``.

    Attributes:
        code: what GOAWAY and the close frame say.
    """

    def __init__(self, code: CloseCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class StreamReset(TunnelError):
    """One stream ended early; others never notice. Given to ``connection_lost``.

    Attributes:
        stream_id: on which stream.
        code: why.
        remote: the peer said it (True), or this end did.
    """

    def __init__(self, stream_id: int, code: StreamCode, message: str = "", *, remote: bool = True) -> None:
        super().__init__(f"stream {stream_id}: {code.name}{': ' + message if message else ''}")
        self.stream_id = stream_id
        self.code = code
        self.remote = remote


class StreamRefused(StreamReset):
    """OPEN was not accepted: no byte reached the service. A service raises it to refuse.

    Attributes:
        reason: for people, at most 256 bytes on the wire.
    """

    def __init__(self, code: StreamCode, reason: str = "", *, stream_id: int = 0, remote: bool = True) -> None:
        super().__init__(stream_id, code, reason, remote=remote)
        self.reason = reason


class LinkLost(StreamReset):
    """The session under a stream ended; what was in flight is in doubt. There is no resume."""

    def __init__(self, stream_id: int, message: str = "") -> None:
        super().__init__(stream_id, StreamCode.LINK_LOST, message, remote=False)


class NoLink(TunnelError):
    """No link to the target is up, and none came up while the caller waited.

    Attributes:
        target: the name that was asked for.
        retry_after_seconds: floor for the next try.
    """

    def __init__(self, target: str, message: str, *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(f"no link to {target}: {message}")
        self.target = target
        self.retry_after_seconds = retry_after_seconds


class HandshakeRefused(TunnelError):
    """The hub answered the WebSocket handshake with something else than 101.

    Attributes:
        status: HTTP status, 0 when there was none (refused, TLS, proxy).
        retry_after_seconds: as told by the server, or None.
    """

    def __init__(self, status: int, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds
