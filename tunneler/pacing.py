"""How many DATA bytes may be on the way at once, so that a thin link stays usable. Pure.

Windows alone let a queue of all windows together build up on a thin link, and a key stroke waits behind it. So
bytes sent minus bytes known to have arrived stay under 1.5 times rate × round trip; both are measured from
acknowledgements that the sender asks for by a flag. Only bulk frames obey; all are counted.
Source: BBR (rate samples, minimum filter, probing); measured in the project's research: p50 108 → 34 ms.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

GAIN = 1.5
SLACK_BYTES = 32 * 1024
FIRST_CAP_BYTES = 256 * 1024
LEAST_CAP_BYTES = 32 * 1024
LEAST_RTT_SECONDS = 0.0005
"""Round trips below are event-loop turns, not distance."""
RATE_WINDOW_SECONDS = 1.0
RTT_WINDOW_SECONDS = 10.0
"""Then a round trip may be another one: routes change, and a bound by one that was shorter starves the link."""
TURN_SECONDS = 0.002
"""A message holds what the link carries in this time."""
LEAST_TURN_BYTES = 4 * 1024


@dataclass(frozen=True, slots=True)
class _Mark:
    offset: int  # bytes sent when the acknowledgement was asked for
    at: float
    acked: int  # bytes known to have arrived then, since when, and when the last of them had left
    acked_at: float
    acked_sent_at: float
    limited: bool


class LinkPacer:
    """Bytes in flight on one link and their bound.

    Attributes:
        sent: DATA bytes sent on the link.
        acked: of these, how many are known to have arrived.
        cap: bound of ``sent - acked`` for bulk.
        mark_at: the frame that brings ``sent`` here asks for an acknowledgement: each quarter or half of the bound.
        turn_bytes: how much bulk one message should carry.
        now: time of the message that is being built.
    """

    __slots__ = (
        "_acked_at", "_acked_sent_at", "_best", "_best_before", "_limited", "_marked", "_marks", "_probe_from", "_rtt",
        "_rtt_at", "_spacing", "_window_from", "acked", "cap", "mark_at", "now", "sent", "turn_bytes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.sent = 0
        self.acked = 0
        self.cap = FIRST_CAP_BYTES
        self.mark_at = self._spacing = FIRST_CAP_BYTES // 4
        self.turn_bytes = 64 * 1024
        self.now = 0.0
        self._marked = 0
        self._marks: deque[_Mark] = deque()
        self._acked_at = self._acked_sent_at = 0.0
        self._best = 0.0  # bytes per second: best of this window, and of the one before
        self._best_before = 0.0
        self._window_from = 0.0
        self._limited = False
        self._rtt: float | None = None
        self._rtt_at = 0.0
        self._probe_from: int | None = None

    @property
    def room(self) -> int:
        """Bulk bytes that may leave now."""
        return max(0, self.cap - self.sent + self.acked)

    @property
    def rate_bytes_per_second(self) -> float:
        """What the link was seen to carry; 0 before the first sample."""
        return max(self._best, self._best_before)

    @property
    def rtt_seconds(self) -> float | None:
        return self._rtt

    @property
    def awaits_answer(self) -> bool:
        """An acknowledgement was asked for and has not come."""
        return bool(self._marks)

    def mark(self) -> None:
        """Such a frame was built; ``sent`` counts it already."""
        now = self.now
        if not self._marks and self.acked == self._marked:
            self._acked_at = self._acked_sent_at = now  # nothing was on the way that could be timed
        self._marks.append(_Mark(self.sent, now, self.acked, self._acked_at, self._acked_sent_at, self._limited))
        self._marked = self.sent
        self.mark_at = self.sent + self._spacing
        self._limited = False

    def blocked(self) -> bool:
        """Bulk waits for room. True when no acknowledgement is on the way, and so one has to be asked for."""
        self._limited = True
        return not self.awaits_answer

    def acknowledge(self, offset: int, now: float) -> bool:
        """The peer counted so many DATA bytes; False when that cannot be."""
        if offset > self.sent or offset < self.acked:
            return False
        self.acked = offset
        last: _Mark | None = None
        while self._marks and self._marks[0].offset <= offset:
            last = self._marks.popleft()
        if last is not None:
            self._sample(last, offset, now)
            self._acked_sent_at = last.at
        self._acked_at = now
        return True

    def sample_rtt(self, rtt_seconds: float, now: float) -> None:
        """A round trip was measured. The shortest counts: longer ones are queues."""
        if self._rtt is None or rtt_seconds <= self._rtt:
            self._rtt, self._rtt_at, self._probe_from = rtt_seconds, now, None

    def sample_ping(self, rtt_seconds: float, now: float) -> None:
        """The same by PING. An end that sends no bulk cannot probe, and makes no queue: it believes a longer one."""
        if not self._marks and now - self._rtt_at > RTT_WINDOW_SECONDS:
            self._rtt = None
        self.sample_rtt(rtt_seconds, now)

    def _sample(self, mark: _Mark, offset: int, now: float) -> None:
        self.sample_rtt(now - mark.at, now)
        # the longer of the two: an acknowledgement that was held up makes the next one look early
        elapsed = max(now - mark.acked_at, mark.at - mark.acked_sent_at)
        if elapsed > 0:
            rate = (offset - mark.acked) / elapsed
            # what nobody wanted to send says little about the link: it may raise the estimate only
            if mark.limited and now - self._window_from > max(RATE_WINDOW_SECONDS, 4 * (self._rtt or 0.0)):
                self._best_before, self._best, self._window_from = self._best, rate, now
            elif mark.limited or rate > self.rate_bytes_per_second:
                self._best = max(self._best, rate)
        if self._probe_from is not None and mark.offset - mark.acked <= self.cap and mark.acked >= self._probe_from:
            self._rtt, self._rtt_at, self._probe_from = now - mark.at, now, None
        elif mark.limited and self._probe_from is None and now - self._rtt_at > RTT_WINDOW_SECONDS:
            self._probe_from = self.sent  # drain the queue once, to see the path's own round trip
        self._set_cap()

    def _set_cap(self) -> None:
        rate = self.rate_bytes_per_second
        bdp = rate * max(self._rtt or 0.0, LEAST_RTT_SECONDS)
        gain = GAIN if self._probe_from is None else 0.5
        self.cap = max(LEAST_CAP_BYTES, int(gain * bdp) + (SLACK_BYTES if gain == GAIN else 0))
        # where the floor counts, the answer is back before the second half has left
        self._spacing = self.cap // (4 if (self._rtt or 0.0) > LEAST_RTT_SECONDS else 2)
        self.mark_at = self._marked + self._spacing
        self.turn_bytes = min(64 * 1024, max(LEAST_TURN_BYTES, int(rate * TURN_SECONDS)))
