"""Failures of transforms, told in the words of the placement."""

from __future__ import annotations

from syncer.api.names import Reason
from syncer.errors import TerminalError


class OperationError(Exception):
    """One operation cannot be compiled or applied. Raised inside this package only.

    Attributes:
        at: JSON pointer relative to the operation (`/set/REGION`), "" for the operation itself.

    The message never carries a value of the object: it may be a Secret.
    """

    def __init__(self, message: str, *, at: str = "") -> None:
        super().__init__(message)
        self.at = at


class TransformFailed(TerminalError):
    """A transform is invalid or does not fit this object; nothing may be applied.

    Attributes:
        index: position in `spec.transforms`, or None where no single transform is at fault.
        pointer: JSON pointer into the placement (`/spec/transforms/1/env/set/REGION`), or None.
    """

    def __init__(self, message: str, *, index: int | None = None, pointer: str | None = None) -> None:
        super().__init__(Reason.TRANSFORM_FAILED, message, pointer=pointer)
        self.index = index
