"""The one error of the ground: what went wrong, and what to do about it."""

from __future__ import annotations


class GroundError(Exception):
    """A fleet cannot be started, found or used as asked.

    Attributes:
        hint: what the person at the keyboard can do next; empty only when the cause says it.
    """

    def __init__(self, cause: str, *, hint: str = "") -> None:
        super().__init__(cause)
        self.hint = hint
