"""Settings of the tunnel, read once and handed down. Bytes and seconds, as the names say."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * 1024

SUBPROTOCOL = "syncline.v1"
PATH = "/tunnel/v1"

MAX_MESSAGE_BYTES = 64 * KIB
"""Largest WebSocket message, enforced by the receiver. Both ends know it; it is not negotiated."""

FIRST_WINDOW_BYTES = 16 * KIB
"""Bytes that an opener may send before OPEN was answered, and the least window a stream gets."""


@dataclass(frozen=True, slots=True)
class TunnelConfig:
    """Limits and times of one session; the defaults are those of docs/tunnel.md.

    Attributes:
        window_bytes: what a stream's sender may have unread at the receiver, at first.
        max_window_bytes: up to where a stream's window grows while its reader keeps up.
        budget_bytes: bound of the sum of all windows that this end granted on one link.
        max_streams: streams at once on one link; one more is refused with ``BUSY``.
        open_rate_per_second: streams opened per second, beyond a burst of ``open_burst``, before ``BUSY``.
        empty_rate_per_second: frames that move nothing (empty DATA, old WINDOW, unknown optional types).
        late_rate_per_second: frames for streams that are over; a reset crosses what was on the way, so some come.
        ping_rate_per_second: PINGs answered per second; more close the session.
        max_control_frames: frames waiting while the peer does not read; more close the session.
        max_links: of one peer to a listener, from the 101 to the end of the connection; one more is told 429.
        hello_timeout_seconds: from the start to the end of the handshake.
        ping_interval_seconds: PING after so long without sending, ± 20 % so that many links do not beat together.
        dead_after_seconds: the link is lost after so long without any byte.
        service_timeout_seconds: for an acceptor's dial; the opener waits as long for the answer to OPEN.
        max_pending_accepts: dials of an acceptor at once.
        write_high_bytes: unsent bytes of a stream from which its protocol is paused.
        write_low_bytes: and under which it goes on.
        drain_seconds: how long streams may go on after GOAWAY(DRAIN).
    """

    window_bytes: int = 256 * KIB
    max_window_bytes: int = 4 * MIB
    budget_bytes: int = 32 * MIB
    max_streams: int = 1024
    open_rate_per_second: float = 200
    open_burst: int = 400
    empty_rate_per_second: float = 1000
    late_rate_per_second: float = 10_000
    ping_rate_per_second: float = 10
    max_control_frames: int = 4096
    max_links: int = 12
    hello_timeout_seconds: float = 5.0
    ping_interval_seconds: float = 5.0
    dead_after_seconds: float = 15.0
    service_timeout_seconds: float = 10.0
    max_pending_accepts: int = 128
    write_high_bytes: int = 64 * KIB
    write_low_bytes: int = 16 * KIB
    drain_seconds: float = 30.0
