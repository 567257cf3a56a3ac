"""Whose bytes go next: interactive before bulk, round robin inside. Pure.

A stream's class follows from what it does, so nobody has to declare it: who sends more than about 128 KiB/s in
large or piled-up writes is bulk until that stops. A tenth of each message stays for bulk.
"""

from __future__ import annotations

from collections import deque

from tunneler.config import MAX_MESSAGE_BYTES
from tunneler.frames import FLAG_ACK, HEADER, HEADER_BYTES, FrameType
from tunneler.pacing import LinkPacer
from tunneler.streams import Stream

QUANTUM_BYTES = 16 * 1024
EPOCH_SECONDS = 0.5
BULK_HEAT = 128 * 1024
COOL_HEAT = 64 * 1024
SMALL_WRITE_BYTES = 4 * 1024


class Scheduler:
    """Lines of streams that have something to send and credit for it."""

    __slots__ = ("_bulk", "_epoch", "_epoch_from", "_interactive", "_pacer")

    def __init__(self, pacer: LinkPacer) -> None:
        self._pacer = pacer
        self._interactive: deque[Stream] = deque()
        self._bulk: deque[Stream] = deque()
        self._epoch = 0
        self._epoch_from = 0.0

    def __bool__(self) -> bool:
        """Whether anything could leave now, be it the question how much has arrived: nothing else makes room for bulk.

        The bound may shrink below what is on the way, while nothing on the way asks for an acknowledgement.
        """
        pacer = self._pacer
        return bool(self._interactive) or (bool(self._bulk) and (pacer.room > 0 or not pacer.awaits_answer))

    def turn(self, now: float) -> None:
        """Let heat cool with time; at each message."""
        if now - self._epoch_from >= EPOCH_SECONDS:
            self._epoch += int(min(64, (now - self._epoch_from) / EPOCH_SECONDS))
            self._epoch_from = now

    def charge(self, stream: Stream, size: int) -> None:
        """Book bytes for the class. Heat halves each half second, so at a steady rate it is the bytes of a second."""
        if stream.epoch != self._epoch:
            stream.heat >>= self._epoch - stream.epoch
            stream.epoch = self._epoch
            if stream.bulk and stream.heat < COOL_HEAT:
                stream.bulk = False
        stream.heat += size
        if stream.heat > BULK_HEAT:
            stream.bulk = True

    def ready(self, stream: Stream) -> None:
        """Put a stream in line if it can send; harmless if it stands there already."""
        if not stream.listed and _can_send(stream):
            stream.listed = True
            (self._bulk if stream.bulk else self._interactive).append(stream)

    def fill(self, parts: list[bytes], room: int, ended: list[Stream]) -> int:
        """Append frames for at most ``room`` bytes, headers included.

        Args:
            parts: where headers and payloads go.
            room: bytes left in the message.
            ended: gets the streams whose FIN is due; the caller sends it.
        Returns:
            payload bytes taken.
        """
        taken = 0
        pacer = self._pacer
        reserve = min(MAX_MESSAGE_BYTES // 10, room // 2) if self._bulk and pacer.room > 0 else 0
        line = self._interactive
        while line and room > reserve + HEADER_BYTES:
            stream = line.popleft()
            size = _take(stream, min(QUANTUM_BYTES, room - reserve - HEADER_BYTES), parts, pacer)
            room, taken = self._after(stream, size, room, ended), taken + size
        line = self._bulk
        turn = pacer.turn_bytes
        while line and room > HEADER_BYTES:
            allowed = min(room - HEADER_BYTES, turn, pacer.room)
            if allowed <= 0 and line[0].queue:
                break
            stream = line.popleft()
            size = _take(stream, min(allowed, QUANTUM_BYTES) if line else allowed, parts, pacer)
            room, taken, turn = self._after(stream, size, room, ended), taken + size, turn - size
        return taken

    def bulk_waits(self) -> bool:
        """Bulk is in line and the bound of bytes in flight holds it."""
        return bool(self._bulk) and self._pacer.room <= 0

    def _after(self, stream: Stream, size: int, room: int, ended: list[Stream]) -> int:
        stream.listed = False
        self.charge(stream, size)
        if not stream.queue and stream.ending:
            ended.append(stream)
        else:
            self.ready(stream)
        return room - size - HEADER_BYTES if size else room


def _can_send(stream: Stream) -> bool:
    if stream.queue:
        return stream.sends and stream.outgoing.available > 0
    return stream.ending and stream.sends


def _take(stream: Stream, limit: int, parts: list[bytes], pacer: LinkPacer) -> int:
    """One DATA frame of what waits, within credit; several chunks become one payload."""
    window = stream.outgoing
    limit = min(limit, window.limit - window.sent, stream.queued)
    if limit <= 0 or not stream.sends:
        return 0
    pacer.sent += limit
    window.sent += limit
    flags = 0
    if pacer.sent >= pacer.mark_at:
        flags = FLAG_ACK
        pacer.mark()
    parts.append(HEADER.pack(FrameType.DATA, flags, limit, stream.id))
    left = limit
    queue = stream.queue
    while left:
        chunk = queue[0]
        rest = len(chunk) - stream.head
        if rest <= left:
            parts.append(chunk if not stream.head else chunk[stream.head :])
            queue.popleft()
            stream.head = 0
            left -= rest
        else:
            parts.append(chunk[stream.head : stream.head + left])
            stream.head += left
            left = 0
    stream.queued -= limit
    return limit
