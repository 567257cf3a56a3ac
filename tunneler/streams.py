"""One stream: its states as a table, what waits to be sent, its credit both ways. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from tunneler.errors import CloseCode, ProtocolError, TunnelError
from tunneler.windows import ReceiveWindow, SendWindow


class StreamState(IntEnum):
    """Where a stream is, as this end sees it. ``ENDED``: that direction was closed in order by FIN."""

    IDLE = 0
    OPENING = 1
    OPENING_LOCAL_ENDED = 2
    ACCEPTING = 3
    ACCEPTING_REMOTE_ENDED = 4
    OPEN = 5
    LOCAL_ENDED = 6
    REMOTE_ENDED = 7
    CLOSED = 8


class StreamInput(IntEnum):
    """What happens to a stream: a frame leaves (even) or arrives (odd)."""

    SEND_OPEN = 0
    RECV_OPEN = 1
    SEND_ACCEPT = 2
    RECV_ACCEPT = 3
    SEND_REFUSE = 4
    RECV_REFUSE = 5
    SEND_DATA = 6
    RECV_DATA = 7
    SEND_FIN = 8
    RECV_FIN = 9
    SEND_RST = 10
    RECV_RST = 11
    SEND_WINDOW = 12
    RECV_WINDOW = 13


S, I = StreamState, StreamInput  # noqa: E741 - the table reads better so

TRANSITIONS: Mapping[tuple[StreamState, StreamInput], StreamState] = {
    (S.IDLE, I.SEND_OPEN): S.OPENING,
    (S.IDLE, I.RECV_OPEN): S.ACCEPTING,
    # the opener may send before the answer, within the first window
    (S.OPENING, I.SEND_DATA): S.OPENING,
    (S.OPENING, I.SEND_FIN): S.OPENING_LOCAL_ENDED,
    (S.OPENING, I.RECV_ACCEPT): S.OPEN,
    (S.OPENING, I.RECV_REFUSE): S.CLOSED,
    (S.OPENING, I.SEND_RST): S.CLOSED,
    (S.OPENING, I.RECV_RST): S.CLOSED,
    (S.OPENING_LOCAL_ENDED, I.RECV_ACCEPT): S.LOCAL_ENDED,
    (S.OPENING_LOCAL_ENDED, I.RECV_REFUSE): S.CLOSED,
    (S.OPENING_LOCAL_ENDED, I.SEND_RST): S.CLOSED,
    (S.OPENING_LOCAL_ENDED, I.RECV_RST): S.CLOSED,
    (S.ACCEPTING, I.RECV_DATA): S.ACCEPTING,
    (S.ACCEPTING, I.RECV_FIN): S.ACCEPTING_REMOTE_ENDED,
    (S.ACCEPTING, I.SEND_ACCEPT): S.OPEN,
    (S.ACCEPTING, I.SEND_REFUSE): S.CLOSED,
    (S.ACCEPTING, I.SEND_RST): S.CLOSED,
    (S.ACCEPTING, I.RECV_RST): S.CLOSED,
    (S.ACCEPTING_REMOTE_ENDED, I.SEND_ACCEPT): S.REMOTE_ENDED,
    (S.ACCEPTING_REMOTE_ENDED, I.SEND_REFUSE): S.CLOSED,
    (S.ACCEPTING_REMOTE_ENDED, I.SEND_RST): S.CLOSED,
    (S.ACCEPTING_REMOTE_ENDED, I.RECV_RST): S.CLOSED,
    (S.OPEN, I.SEND_DATA): S.OPEN,
    (S.OPEN, I.RECV_DATA): S.OPEN,
    (S.OPEN, I.SEND_WINDOW): S.OPEN,
    (S.OPEN, I.RECV_WINDOW): S.OPEN,
    (S.OPEN, I.SEND_FIN): S.LOCAL_ENDED,
    (S.OPEN, I.RECV_FIN): S.REMOTE_ENDED,
    (S.OPEN, I.SEND_RST): S.CLOSED,
    (S.OPEN, I.RECV_RST): S.CLOSED,
    (S.LOCAL_ENDED, I.RECV_DATA): S.LOCAL_ENDED,
    (S.LOCAL_ENDED, I.SEND_WINDOW): S.LOCAL_ENDED,
    (S.LOCAL_ENDED, I.RECV_WINDOW): S.LOCAL_ENDED,  # for what was sent before FIN
    (S.LOCAL_ENDED, I.RECV_FIN): S.CLOSED,
    (S.LOCAL_ENDED, I.SEND_RST): S.CLOSED,
    (S.LOCAL_ENDED, I.RECV_RST): S.CLOSED,
    (S.REMOTE_ENDED, I.SEND_DATA): S.REMOTE_ENDED,
    (S.REMOTE_ENDED, I.RECV_WINDOW): S.REMOTE_ENDED,
    (S.REMOTE_ENDED, I.SEND_FIN): S.CLOSED,
    (S.REMOTE_ENDED, I.SEND_RST): S.CLOSED,
    (S.REMOTE_ENDED, I.RECV_RST): S.CLOSED,
}
"""A pair that is not listed is an error: of the peer if it is a RECV, of the caller if it is a SEND.

Frames for a CLOSED stream never get here: it left the session's table, and what crossed its end is dropped there.
"""

_MAY_SEND_DATA = frozenset(state for state in S if (state, I.SEND_DATA) in TRANSITIONS)
_MAY_RECV_DATA = frozenset(state for state in S if (state, I.RECV_DATA) in TRANSITIONS)


class StreamStateError(TunnelError):
    """This end asked for something that the stream's state does not allow."""


class Stream:
    """Data of one stream. The protocol moves it; the shell reads it and keeps its transport in ``owner``.

    Attributes:
        queue: chunks to send, oldest first; ``head`` bytes of the first are gone already.
        queued: bytes in ``queue`` that wait.
        ending: FIN follows the queue. ``closing``: and then nothing more is read.
        listed: it stands in one of the scheduler's lines.
        bulk: its class, by behaviour. ``heat``, ``epoch``: see `Scheduler.charge`.
        sends, receives: whether DATA may leave or arrive in this state.
    """

    __slots__ = (
        "bulk", "closing", "ending", "epoch", "head", "heat", "id", "incoming", "listed", "metadata", "outgoing",
        "owner", "queue", "queued", "receives", "sends", "service", "state",
    )  # fmt: skip

    def __init__(
        self, id_: int, service: str, metadata: Mapping[str, str], outgoing: SendWindow, incoming: ReceiveWindow
    ) -> None:
        self.id = id_
        self.service = service
        self.metadata = metadata
        self.state = S.IDLE
        self.outgoing = outgoing
        self.incoming = incoming
        self.queue: deque[bytes] = deque()
        self.head = 0
        self.queued = 0
        self.ending = False
        self.closing = False
        self.listed = False
        self.bulk = False
        self.heat = 0
        self.epoch = 0
        self.sends = False
        self.receives = False
        self.owner: Any = None

    def move(self, input_: StreamInput) -> StreamState:
        """Go on in the table.

        Raises:
            ProtocolError: the peer sent what it may not send in this state.
            StreamStateError: this end tried so.
        """
        state = TRANSITIONS.get((self.state, input_))
        if state is None:
            text = f"stream {self.id}: {input_.name} while {self.state.name}"
            raise ProtocolError(CloseCode.PROTOCOL, text) if input_ % 2 else StreamStateError(text)
        self.state = state
        self.sends = state in _MAY_SEND_DATA
        self.receives = state in _MAY_RECV_DATA
        return state

    def drop_queue(self) -> None:
        """Forget what waits; its credit was not spent yet."""
        self.queue.clear()
        self.head = self.queued = 0
        self.ending = False
