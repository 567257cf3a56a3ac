"""Tables that must shrink again: finished runs, what pairs wait for, what is in a namespace. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from syncer.api.keys import GroupResource, ObjectKey, SyncKey
from syncer.kube.informer import Informer
from syncer.kube.objects import KubeObject


class FinishedRuns:
    """Jobs and Pods that reached their end on a target: (source uid, target uid). They never run there again.

    Also objects of other kinds that somebody deleted on a target while the drift mode was Pause.

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

    def discard(self, run: tuple[str, str]) -> None:
        """It is there again after all; one that is not known is fine."""
        targets = self._targets.get(run[0], set())
        targets.discard(run[1])
        if not targets:
            self._targets.pop(run[0], None)

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


class Names:
    """Which objects are in which upstream namespace: a list per kind, made when first asked for, kept by its events.

    Args:
        informers: those that run now, by kind; of any other kind nothing is kept.
    """

    def __init__(self, informers: Mapping[GroupResource, Informer]) -> None:
        self._informers = informers
        self._known: dict[GroupResource, tuple[Informer, dict[str, set[str]]]] = {}  # {kind: {namespace: names}}

    def saw(self, resource: GroupResource, item: KubeObject, *, gone: bool) -> None:
        """An event of the kind's informer."""
        if resource not in self._known:
            return
        names = self._known[resource][1]
        if not gone:
            names.setdefault(item.namespace, set()).add(item.name)
        elif item.namespace in names:
            names[item.namespace].discard(item.name)
            if not names[item.namespace]:
                del names[item.namespace]

    def items(self, resource: GroupResource, namespace: str) -> list[KubeObject]:
        """The objects of a watched kind in one namespace; "" is all of them, wherever they are."""
        informer = self._informers[resource]
        if not namespace:
            return list(informer.cache.values())
        for stopped in self._known.keys() - self._informers.keys():
            del self._known[stopped]  # and with it the cache of its informer
        known = self._known.get(resource)
        if known is None or known[0] is not informer:
            known = self._known[resource] = (informer, {})
            for place, name in informer.cache:
                known[1].setdefault(place, set()).add(name)
        found = (informer.cache.get((namespace, name)) for name in known[1].get(namespace, ()))
        return [item for item in found if item is not None]
