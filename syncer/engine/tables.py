"""Two tables of the world that must shrink again: finished runs, and what pairs wait for. Values only."""

from __future__ import annotations

from collections.abc import Iterable

from syncer.api.keys import ObjectKey, SyncKey


class FinishedRuns:
    """Jobs and Pods that reached their end on a target: (source uid, target uid). They never run there again.

    A mark is as old as its source: it goes once the source or the target is proven gone, because neither uid comes
    back.
    """

    def __init__(self) -> None:
        self._targets: dict[str, set[str]] = {}  # {source uid: target uids}, no empty sets

    def __contains__(self, run: tuple[str, str]) -> bool:
        return run[1] in self._targets.get(run[0], ())

    def __len__(self) -> int:
        return sum(len(targets) for targets in self._targets.values())

    def add(self, run: tuple[str, str]) -> None:
        """Remember a run."""
        self._targets.setdefault(run[0], set()).add(run[1])

    def forget_source(self, uid: str) -> None:
        """The source is proven gone."""
        self._targets.pop(uid, None)

    def forget_target(self, uid: str) -> None:
        """The SyncTarget is gone."""
        for source, targets in list(self._targets.items()):
            targets.discard(uid)
            if not targets:
                del self._targets[source]


class Wanting:
    """Which pairs refer to objects that are not placed beside them, so that placing one later clears their warnings."""

    def __init__(self) -> None:
        self._waiting: dict[ObjectKey, set[SyncKey]] = {}  # {missing object: pairs}, no empty sets
        self._missing: dict[SyncKey, tuple[ObjectKey, ...]] = {}  # the same the other way round

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, key: SyncKey, missing: Iterable[ObjectKey]) -> None:
        """Say what a pair lacks now; replaces what was said before, nothing lacking is fine."""
        self.forget(key)
        found = tuple(dict.fromkeys(missing))
        if not found:
            return
        self._missing[key] = found
        for one in found:
            self._waiting.setdefault(one, set()).add(key)

    def take(self, found: ObjectKey) -> list[SyncKey]:
        """The pairs that lack the object, in a stable order; each says again what it lacks when it is looked at."""
        keys = sorted(self._waiting.get(found, ()))
        for key in keys:
            self.forget(key)
        return keys

    def forget(self, key: SyncKey) -> None:
        """The pair lacks nothing, or is gone."""
        for one in self._missing.pop(key, ()):
            waiting = self._waiting[one]
            waiting.discard(key)
            if not waiting:
                del self._waiting[one]
