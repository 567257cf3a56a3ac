"""What a session asks of a link, and a link of a session."""

from __future__ import annotations

from typing import Any, Protocol


class LinkUser(Protocol):
    """The session above a link. Nothing here may wait."""

    def message_received(self, message: bytes) -> None:
        """One whole message."""
        ...

    def bytes_received(self) -> None:
        """A part of a message: the peer lives. A thin link takes long for a whole one."""
        ...

    def pause_writing(self) -> None:
        """The link holds enough; messages sent nevertheless are kept."""
        ...

    def resume_writing(self) -> None: ...

    def link_lost(self, reason: str) -> None:
        """The link is over; called once, whoever ended it."""
        ...


class Link(Protocol):
    """One WebSocket."""

    def send_message(self, message: bytes) -> None:
        """Queue one message; never waits."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Send what is queued and a close frame, then end; at most a second later it is cut."""
        ...

    def get_extra_info(self, name: str) -> Any: ...
