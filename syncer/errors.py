"""Errors of the syncer, sorted by who acts next.

The class says whether a key is tried again by itself (`TransientError`), after reading again
(`ConflictError`), or only after somebody changed something (`TerminalError`).
"""

from __future__ import annotations


class SyncError(Exception):
    """Root of everything the syncer raises on purpose."""


class TransientError(SyncError):
    """The same request may succeed later: 429, most 5xx, timeout, lost connection.

    Attributes:
        retry_after_seconds: floor for the next try as told by the server, or None.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ConflictError(SyncError):
    """The world moved, or somebody else owns a field: read again, decide again."""


class TerminalError(SyncError):
    """Nothing changes until a person edits the object, the placement or the target.

    Attributes:
        reason: one of `syncer.api.names.Reason`.
        pointer: JSON pointer of the field at fault, or None.
    """

    def __init__(self, reason: str, message: str, *, pointer: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.pointer = pointer


class NotLeadingError(SyncError):
    """A write was about to leave a replica whose lease is no longer valid; it was not sent."""


class StartError(SyncError):
    """The process cannot start; a person has to change something.

    Attributes:
        cause: one line, what is wrong.
        hint: one line, what to do about it.
        exit_code: 2 when the command line or the settings are wrong, else 1.
    """

    def __init__(self, cause: str, hint: str, *, exit_code: int = 1) -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint
        self.exit_code = exit_code
