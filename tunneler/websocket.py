"""RFC 6455 framing of binary messages, bytes in and bytes out. Pure.

Handshakes are those of `websockets` and aiohttp; this is the part after the 101. Written here because a link moves
every byte of every stream: a general library copies each message five times, this once or twice. Masking is the C
routine of `websockets`. No extension, no compression, no text.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from websockets.speedups import apply_mask

from tunneler.config import MAX_MESSAGE_BYTES
from tunneler.errors import CloseCode, ProtocolError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MAX_CONTROL_BYTES = 125


class WebSocketCodec:
    """One end of one connection.

    Attributes:
        replies: frames to send as they are: a PONG to the newest PING, which answers all (RFC 6455, 5.5.3), and the
            answer to a close.
        closed: (code, reason) once the peer closed; nothing is read behind it.
    """

    __slots__ = ("_client", "_fragments", "_have", "_mask", "_max", "_need", "_parts", "closed", "replies")

    def __init__(
        self, *, client: bool, max_message: int = MAX_MESSAGE_BYTES, mask: Callable[[int], bytes] = os.urandom
    ) -> None:
        """A client masks what it sends, with bytes from ``mask``; a server refuses what is not masked."""
        self._client = client
        self._max = max_message
        self._mask = mask
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0
        self._fragments: list[bytes] | None = None
        self.replies: list[bytes] = []
        self.closed: tuple[int, str] | None = None

    def encode(self, message: bytes, opcode: int = BINARY) -> tuple[bytes, bytes]:
        """Header and body of one frame that is a whole message."""
        size = len(message)
        bit = 0x80 if self._client else 0
        if size < 126:
            head = bytes((0x80 | opcode, bit | size))
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, bit | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, bit | 127, size)
        if not self._client:
            return head, message
        mask = self._mask(4)
        return head + mask, apply_mask(message, mask) if size else message

    def encode_close(self, code: int, reason: str) -> bytes:
        """A close frame."""
        text = reason.encode(errors="replace")[: MAX_CONTROL_BYTES - 2].decode(errors="ignore").encode()
        return b"".join(self.encode(struct.pack("!H", code) + text, CLOSE))

    def receive(self, data: bytes) -> list[bytes]:
        """Whole messages among the bytes so far.

        Raises:
            ProtocolError: what no client or server of ours sends, or a message that is too long.
        """
        messages: list[bytes] = []
        offset = 0
        while self._parts:  # only what completes the frame that was cut is copied, not all that came behind it
            missing = self._need - self._have
            piece = data[offset : offset + missing]
            self._parts.append(piece)
            if len(piece) < missing:
                self._have += len(piece)
                return messages
            offset += missing
            whole = b"".join(self._parts)
            self._parts.clear()
            self._parse(whole, 0, messages)
        self._parse(data, offset, messages)
        return messages

    def _parse(self, data: bytes, offset: int, messages: list[bytes]) -> None:
        """Take whole frames; keep the rest, and how long it has to become."""
        view = memoryview(data)
        size = len(data)
        while self.closed is None and offset < size:
            left = size - offset
            need = self._head_bytes(data, offset, left)
            if left >= need:
                length, head = self._length(data, offset, need)
                need = head + length
            if left < need:
                self._parts.append(data[offset:] if offset else data)
                self._have, self._need = left, need
                return
            start = offset + head
            if self._client:
                payload = data[start : start + length]
            else:
                payload = apply_mask(view[start : start + length], data[start - 4 : start])
            self._frame(data[offset], payload, messages)
            offset += need

    def _head_bytes(self, data: bytes, offset: int, left: int) -> int:
        """Length of the header, as far as its first two bytes tell."""
        if left < 2:
            return 2
        short = data[offset + 1] & 127
        return (2 if short < 126 else 4 if short == 126 else 10) + (0 if self._client else 4)

    def _length(self, data: bytes, offset: int, head: int) -> tuple[int, int]:
        first, second = data[offset], data[offset + 1]
        length = second & 127
        if length == 126:
            length = data[offset + 2] << 8 | data[offset + 3]
        elif length == 127:
            length = int.from_bytes(data[offset + 2 : offset + 10], "big")
        if first & 0x70:
            raise ProtocolError(CloseCode.PROTOCOL, "WebSocket frame with an extension's bits")
        if bool(second & 0x80) is self._client:
            raise ProtocolError(CloseCode.PROTOCOL, "WebSocket frame masked by a server, or not masked by a client")
        if first & 0x08 and (length > MAX_CONTROL_BYTES or not first & 0x80):
            raise ProtocolError(CloseCode.PROTOCOL, "WebSocket control frame too long or in pieces")
        if length > self._max:
            raise ProtocolError(CloseCode.LIMIT, f"WebSocket message of {length} bytes")
        return length, head

    def _frame(self, first: int, payload: bytes, messages: list[bytes]) -> None:
        opcode, final = first & 15, first & 0x80
        if opcode == BINARY and self._fragments is None:
            if final:
                messages.append(payload)
            else:
                self._fragments = [payload]
        elif opcode == CONTINUATION and self._fragments is not None:
            self._fragments.append(payload)
            if sum(map(len, self._fragments)) > self._max or len(self._fragments) > 1024:
                raise ProtocolError(CloseCode.LIMIT, "WebSocket message too long, or in too many pieces")
            if final:
                messages.append(b"".join(self._fragments))
                self._fragments = None
        elif opcode == PING:
            self.replies = [b"".join(self.encode(payload, PONG))]
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            self.closed = (code, payload[2:].decode(errors="replace"))
            self.replies.append(b"".join(self.encode(payload[:2], CLOSE)))
        elif opcode != PONG:
            raise ProtocolError(CloseCode.PROTOCOL, f"WebSocket frame of opcode {opcode}")
