"""Which replica each of an agent's links dials. Pure.

An agent wants links to two replicas. The addresses it was given (`--hub`) may be replicas or one balancer before all of
them; a replica that answered tells its own id and the addresses of the others. Links are dialled one at a time, so the
replicas of the others are known at each dial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tunneler.rendezvous import ranked

LINKS: Final = 2


@dataclass(slots=True)
class _Slot:
    """One link. `replica` is "" until it is up."""

    url: str = ""
    replica: str = ""
    others: tuple[str, ...] = ()  # addresses of the other replicas, as this link's hub told them


class HubChoice:
    """The memory of all links of one agent."""

    def __init__(self, target: str, seeds: Sequence[str], links: int = LINKS) -> None:
        """Args: seeds: at least one https URL. links: how many are wanted."""
        self._target = target
        self._seeds = tuple(seeds)
        self._slots = [_Slot() for _ in range(links)]
        self._failures: dict[str, int] = {}  # {address: since it last worked}
        self._remembered: tuple[str, ...] = ()  # all addresses told last, for when no link is up

    def choose(self, slot: int) -> str | None:
        """The address to dial now; None: there is no replica that the other links do not reach.

        The slot's link before this is over; its address is tried again after those that failed less.
        """
        mine = self._slots[slot]
        if mine.url:
            self._failures[mine.url] = self._failures.get(mine.url, 0) + 1
        self._slots[slot] = _Slot()
        up = [other for other in self._slots if other.replica]
        told = {url for other in up for url in other.others} if up else set(self._remembered)
        known = told.union(self._seeds, self._remembered)
        self._failures = {url: count for url, count in self._failures.items() if url in known}
        in_use = {other.url for other in up}
        free = [url for url in self._seeds if url not in in_use]
        if up and told:
            # A balancer's address is in use and may lead to another replica nevertheless.
            candidates = [*(url for url in told if url not in in_use), *free, *in_use.intersection(self._seeds)]
        else:
            candidates = [*told, *free]
        if not candidates:
            return None
        best = ranked(self._target, candidates)
        chosen = min(best, key=lambda url: (self._failures.get(url, 0), url not in told, best.index(url)))
        self._slots[slot].url = chosen
        return chosen

    def linked(self, slot: int) -> tuple[str, ...]:
        """Ids of the replicas that the other links reach."""
        return tuple(other.replica for number, other in enumerate(self._slots) if number != slot and other.replica)

    def connected(self, slot: int, replica: str, others: Sequence[str]) -> None:
        """The link is up; `others` are the addresses that its hub told."""
        mine = self._slots[slot]
        mine.replica = replica or mine.url  # a hub of before knows no ids
        self._failures.pop(mine.url, None)
        mine.others = tuple(others)
        self._remembered = (mine.url, *others)

    def told(self, slot: int, others: Sequence[str]) -> None:
        """The hub of a link tells anew the addresses of the other replicas; one that is new has never failed."""
        mine = self._slots[slot]
        for url in set(others).difference(mine.others):
            self._failures.pop(url, None)
        mine.others = tuple(others)
        self._remembered = (mine.url, *others)

    def lost(self, slot: int) -> None:
        """The link is over; it is dialled again with `choose`."""
        self._slots[slot].replica = ""

    def misplaced(self) -> int | None:
        """A link whose replica is not among the best for this target, while one of these has none; None: all is well.

        What a hub tells is everybody but itself, so an address that leads to one and is told of others is a balancer's,
        and belongs to nobody. An address that failed attracts nobody.
        """
        if not all(slot.replica for slot in self._slots):
            return None
        balancers = {slot.url for slot in self._slots if slot.url in slot.others}
        everybody = {url for slot in self._slots for url in slot.others} - balancers
        best = set(ranked(self._target, everybody)[: len(self._slots)])
        held = [everybody.difference(slot.others) for slot in self._slots]
        if best.difference(*held) <= self._failures.keys():
            return None
        return next((number for number, own in enumerate(held) if not own & best), None)

    def addresses(self) -> list[str]:
        """Where a replica may answer: those of links that are up first; at least one."""
        up = [slot.url for slot in self._slots if slot.replica]
        return list(dict.fromkeys([*up, *self._remembered, *self._seeds]))

    def address(self, slot: int) -> str:
        """What the link dialled last; "" if there is nothing to dial."""
        return self._slots[slot].url
