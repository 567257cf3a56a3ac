"""Which session serves which target: decisions only, the manager carries them out. Pure.

An instance is one agent process. Its newest session wins; two instances may serve a target side by side, as during a
rollout. Instances that keep pushing each other out are two agents under one name, and are told so.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

MAX_INSTANCES = 2
MAX_REPLACED = 4
"""Sessions of a target that may finish what they have after they were replaced: a rollout of both its agents, twice."""
TAKEOVERS_PER_MINUTE = 5
REFUSED_SECONDS = 60.0
DEGRADED_SILENCE_SECONDS = 7.5


class LinkState(Enum):
    """Of a target's links together."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    DEGRADED = "degraded"
    RECONNECTING = "reconnecting"
    DRAINING = "draining"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Health:
    """Of one session, measured when somebody asks.

    Attributes:
        open: streams can be opened; draining: it was told to go, and streams may still end on it.
        silent_seconds: since the last byte.
        rtt_seconds: None before the first measurement.
        streams: open ones.
    """

    open: bool
    draining: bool = False
    silent_seconds: float = 0.0
    rtt_seconds: float | None = None
    streams: int = 0


@dataclass(slots=True)
class Entry:
    """One session in the table."""

    session: str
    instance: str
    since: float


@dataclass(slots=True)
class _Target:
    entries: list[Entry] = field(default_factory=list)  # oldest first
    replaced: list[str] = field(default_factory=list)  # ids of sessions that are not over yet, first replaced first
    takeovers: deque[float] = field(default_factory=deque)
    refused_until: float = 0.0
    ever: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """What follows from a new session.

    Attributes:
        accepted: False: close the new one with REPLACED.
        replaced: ids of sessions to close with REPLACED.
        ended: ids of sessions that were replaced earlier and have to end now.
        duplicate: two agents fight for the target: report ``DuplicateAgent``.
    """

    accepted: bool
    replaced: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    duplicate: bool = False


class ConnectionTable:
    """{target: its sessions}."""

    def __init__(self) -> None:
        self._targets: dict[str, _Target] = {}

    def add(self, target: str, session: str, instance: str, now: float) -> Admission:
        """A session completed its handshake. Newest wins, unless two instances flap."""
        known = self._targets.setdefault(target, _Target())
        same = [entry for entry in known.entries if entry.instance == instance]
        others = [entry for entry in known.entries if entry.instance != instance]
        if not same and others and now < known.refused_until:
            return Admission(False, duplicate=True)
        replaced = [entry.session for entry in same]
        pushed = others[: max(0, len(others) + 1 - MAX_INSTANCES)]
        duplicate = False
        if pushed:
            replaced += [entry.session for entry in pushed]
            known.takeovers.append(now)
            while known.takeovers and now - known.takeovers[0] > 60:
                known.takeovers.popleft()
            if len(known.takeovers) > TAKEOVERS_PER_MINUTE:
                known.refused_until = now + REFUSED_SECONDS
                duplicate = True
        known.entries = [entry for entry in known.entries if entry.session not in replaced]
        known.entries.append(Entry(session, instance, now))
        known.ever = True
        known.replaced += replaced
        ended = tuple(known.replaced[:-MAX_REPLACED])
        del known.replaced[:-MAX_REPLACED]
        return Admission(True, tuple(replaced), ended, duplicate)

    def remove(self, target: str, session: str) -> None:
        """A session is over; again is harmless."""
        known = self._targets.get(target)
        if known is not None:
            known.entries = [entry for entry in known.entries if entry.session != session]
            known.replaced = [id_ for id_ in known.replaced if id_ != session]

    def forget(self, target: str) -> tuple[str, ...]:
        """The target is gone: ids of the sessions to close, those that were replaced and go on included."""
        known = self._targets.pop(target, None)
        return (*(entry.session for entry in known.entries), *known.replaced) if known is not None else ()

    def sessions(self, target: str) -> tuple[Entry, ...]:
        """Oldest first."""
        known = self._targets.get(target)
        return tuple(known.entries) if known is not None else ()

    def choose(self, target: str, health: dict[str, Health]) -> str | None:
        """The healthiest session: open, heard lately, then fewer streams per round trip, then newest."""
        best: tuple[bool, float, float] | None = None
        chosen: str | None = None
        for entry in self.sessions(target):
            state = health.get(entry.session)
            if state is None or not state.open:
                continue
            lively = state.silent_seconds < DEGRADED_SILENCE_SECONDS
            cost = (1 + state.streams) * max(0.001, state.rtt_seconds or 0.001)
            rank = (not lively, cost, -entry.since)
            if best is None or rank < best:
                best, chosen = rank, entry.session
        return chosen

    def state(self, target: str, health: dict[str, Health]) -> LinkState:
        """All sessions of the target in one word."""
        known = self._targets.get(target)
        if known is None:
            return LinkState.CONNECTING
        states = [health[entry.session] for entry in known.entries if entry.session in health]
        if any(s.open and s.silent_seconds < DEGRADED_SILENCE_SECONDS for s in states):
            return LinkState.CONNECTED
        if any(s.open for s in states):
            return LinkState.DEGRADED
        if any(s.draining for s in states):
            return LinkState.DRAINING
        return LinkState.RECONNECTING if known.ever else LinkState.CONNECTING
