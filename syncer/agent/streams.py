"""The streams of a service that are open, and the end of those that nobody uses and whose link drains.

A hub keeps streams for further requests, another replica those of its hops, and a link is drained once none is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

LOOK_SECONDS: Final = 1.0  # between two looks; what rests at both ends


class Resting(Protocol):
    """A stream that can be told to go."""

    @property
    def rests(self) -> bool:
        """Nothing is asked on it, and its link drains."""
        ...

    def leave(self) -> None:
        """End it."""
        ...


S = TypeVar("S", bound=Resting)


class Streams(Generic[S]):
    """The open ones of one service, on all links."""

    def __init__(self) -> None:
        self._open: set[S] = set()
        self._rested: set[S] = set()  # at the last look
        self._looking: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[S]:
        """As they are now; they may end meanwhile."""
        return iter(list(self._open))

    def add(self, stream: S) -> None:
        """One more is open."""
        self._open.add(stream)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def discard(self, stream: S) -> None:
        """It is over."""
        self._open.discard(stream)
        self._rested.discard(stream)

    def _look(self) -> None:
        """Not at once: a request may be on its way from a hub that has not heard of the drain."""
        resting = {stream for stream in self._open if stream.rests}
        for stream in resting & self._rested:
            stream.leave()
        self._rested = resting & self._open
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(LOOK_SECONDS, self._look) if self._open else None
