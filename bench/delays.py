"""How long changes take from one place to another: many changes at a fixed rate, each recognised where it arrives.

Two counts, which err to opposite sides when this process has to wait for a CPU. From the sending is never too small:
an arrival can only be read late. From the reply is: reply and arrival wait in their sockets and are read in one turn
of the loop, which looks like no delay at all. Goals are therefore held against the first, and the second is only given
while few replies were read together with their arrival.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping
from typing import Final

from bench.api import until
from bench.figures import Goal, Line, percentile

# No two requests and two watch events take less; closer together, reply and arrival were read in one turn.
ONE_TURN_SECONDS: Final = 0.0005
# Raw is hardly ever blurred: there this process itself must run between the two.
BLURRED_LIMIT: Final = 0.1  # share of such replies above which delays from the reply mean nothing
ARRIVAL_SECONDS: Final = 10.0  # a change that takes longer counts as lost, and the scenario fails


class Delays:
    """Pairs what was sent with what arrived; all times are monotonic seconds of one process.

    Attributes:
        from_sending, from_reply: seconds of every arrival, counted from either end of the request that caused it.
        blurred: share of changes whose reply was read together with their arrival, or after it.
    """

    def __init__(self) -> None:
        self._sent: dict[Hashable, float] = {}
        self._replied: dict[Hashable, float] = {}
        self._arrived: dict[Hashable, float] = {}

    async def send(self, changes: Iterable[Hashable], request: Callable[[], Awaitable[object]]) -> None:
        """Send one request, which causes all of these changes."""
        changes = list(changes)
        began = time.monotonic()
        self._sent.update(dict.fromkeys(changes, began))
        await request()
        self._replied.update(dict.fromkeys(changes, time.monotonic()))

    def arrived(self, change: Hashable, at: float) -> None:
        """A change was seen where it had to go; what was never sent, or arrived before, is no news."""
        if change in self._sent:
            self._arrived.setdefault(change, at)

    async def complete(self) -> None:
        """Wait for the last arrival.

        Raises:
            TimeoutError: some change was lost.
        """
        await until(lambda: len(self._arrived) == len(self._sent), "every change arrives", ARRIVAL_SECONDS)

    @property
    def from_sending(self) -> list[float]:
        return [at - self._sent[change] for change, at in self._arrived.items()]

    @property
    def from_reply(self) -> list[float]:
        return [at - self._replied[change] for change, at in self._arrived.items()]

    @property
    def blurred(self) -> float:
        delays = self.from_reply
        return sum(delay < ONE_TURN_SECONDS for delay in delays) / len(delays) if delays else 0.0


def milliseconds(delays: Iterable[float], percent: float) -> float:
    """A percentile in ms."""
    return percentile(delays, percent) * 1000


def lines(
    scenario: str, what: str, ours: Delays, raw: Delays, limits: Mapping[float, float], how: str
) -> Iterator[Line]:
    """Two lines for each percentile: from the sending with its goal, and from the reply.

    Args:
        limits: {percentile: goal in ms}.
    """
    for percent, limit in limits.items():
        yield Line(
            scenario,
            f"{what}, p{percent:g} from the sending",
            "ms",
            milliseconds(ours.from_sending, percent),
            milliseconds(raw.from_sending, percent),
            Goal(limit),
            how,
        )
        blurred = f"{ours.blurred:.0%} of the replies were read together with the arrival, raw {raw.blurred:.0%}"
        clear = max(ours.blurred, raw.blurred) <= BLURRED_LIMIT
        yield Line(
            scenario,
            f"{what}, p{percent:g} from the reply",
            "ms",
            milliseconds(ours.from_reply, percent) if clear else math.nan,
            milliseconds(raw.from_reply, percent) if clear else math.nan,
            None,
            blurred if clear else f"not measurable: {blurred}",
        )
