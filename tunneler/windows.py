"""Credit in bytes: what a sender may send, what a receiver granted, and the link's budget. Pure.

Offsets are absolute, counted from a stream's first byte, and only grow; repeating a grant changes nothing.
Source: the idea of RFC 9113 section 5.2, per stream; QUIC's absolute limits (RFC 9000 section 4.1).
"""

from __future__ import annotations

from tunneler.config import FIRST_WINDOW_BYTES


class SendWindow:
    """Credit that the peer granted on one stream.

    Attributes:
        sent: bytes sent so far.
        limit: offset up to which bytes may be sent; never below ``sent``.
    """

    __slots__ = ("limit", "sent")

    def __init__(self, limit: int) -> None:
        self.sent = 0
        self.limit = limit

    @property
    def available(self) -> int:
        """Bytes that may be sent now; never negative."""
        return self.limit - self.sent

    def raise_to(self, limit: int) -> bool:
        """Take a grant; False when it moves nothing."""
        if limit <= self.limit:
            return False
        self.limit = limit
        return True


class LinkBudget:
    """Bound of what all streams of a link may hold unread at this end.

    The first half may be spent on growing windows; the rest is kept for the windows of new streams, which get
    smaller as it runs out, down to `FIRST_WINDOW_BYTES`. That floor is always given: ``max_streams`` bounds it.
    """

    __slots__ = ("granted", "grown", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.granted = 0
        self.grown = 0

    def admit(self, wish: int) -> int:
        """Size of a new stream's window, at most ``wish``."""
        size = max(FIRST_WINDOW_BYTES, min(wish, (self.total - self.granted) // 8))
        self.granted += size
        return size

    def grow(self, by: int) -> bool:
        """Whether a window may grow by so much."""
        if self.grown + by > self.total // 2 or self.granted + by > self.total:
            return False
        self.granted += by
        self.grown += by
        return True

    def release(self, size: int, grown: int) -> None:
        """A stream is over and read to its end: ``size`` in all, ``grown`` of it by `grow`."""
        self.granted -= size
        self.grown -= grown


class ReceiveWindow:
    """Credit that this end granted on one stream.

    ``consumed <= received <= granted <= consumed + size`` holds at all times, so at most ``size`` bytes
    wait for the reader. Credit goes back when a quarter of the window was read.

    Attributes:
        size: bytes that may wait at most.
        received: bytes that arrived.
        consumed: bytes that the reader took.
        granted: offset up to which the peer may send.
        due_at: once so much is consumed, credit is due; and at once when the stream is over.
    """

    __slots__ = ("_grown", "_last_grant", "budget", "consumed", "due_at", "granted", "received", "size")

    def __init__(self, size: int, budget: LinkBudget) -> None:
        self.size = size
        self.budget: LinkBudget | None = budget
        self.received = 0
        self.consumed = 0
        self.granted = size
        self.due_at = size - size * 3 // 4
        self._grown = 0
        self._last_grant = -1.0

    def grant(self, *, now: float, rtt_seconds: float, max_size: int) -> int:
        """The new limit for the peer. Doubles the window first when a quarter of it went in under a round trip.

        A window that is read to a quarter in less than half a round trip holds its sender back: size / rtt
        is all it lets through. A reader that does not keep up never gets here, so its window stays.
        """
        quick = self._last_grant >= 0 and now - self._last_grant < rtt_seconds
        if quick and self.size < max_size and self.budget is not None:
            by = min(self.size, max_size - self.size)
            if self.budget.grow(by):
                self.size += by
                self._grown += by
        self._last_grant = now
        self.granted = max(self.granted, self.consumed + self.size)
        self.due_at = self.granted - self.size * 3 // 4
        return self.granted

    def release(self) -> None:
        """Give the budget back; again costs nothing."""
        if self.budget is not None:
            self.budget.release(self.size, self._grown)
            self.budget = None
