"""The engine's whole knowledge in one place, with the questions that several parts ask of it. No I/O.

Writers: `catalog` (sources, plans, placements), `engine` (targets), `passes` and `downstream` (pairs). Everybody else
reads.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from syncer.api.keys import GroupResource, ObjectKey, SyncKey
from syncer.api.names import SYNCED_FINALIZER
from syncer.engine.budget import DeletionBudget
from syncer.engine.lanes import BreakerState
from syncer.engine.pair import State
from syncer.engine.state import Pair, PlacementRecord, Source
from syncer.engine.tables import FinishedRuns, Wanting
from syncer.engine.workqueue import CATCH_UP, DRIFT, USER_CHANGE, KeyedQueue
from syncer.kube.objects import KubeObject
from syncer.placement.compiled import CompiledPlacement
from syncer.placement.index import PlacementIndex
from syncer.transform.mark import read_mark

if TYPE_CHECKING:
    from syncer.engine.targets import TargetRuntime

AUDIT_SECONDS = 300.0


class World:
    """Sources, placements and targets of one workspace, and the queue of pairs that may need work.

    Attributes:
        hub_id, workspace: UID of the upstream `kube-system` namespace, twice until there are several workspaces.
        sources: by key; only objects that a placement selects, or that stand on a target with our mark.
        placements: by uid.
        targets: by name.
        namespaces: upstream Namespace objects by name.
        scaled: (namespace, kind, name) of objects whose replicas an upstream HPA sets, to the HPA's key.
        wanting: pairs that refer to objects which are not placed beside them.
        frozen: why nothing may be written anywhere; "" in ordinary times.
        acting: why workloads of the upstream are refused: its own controllers act on them; "" where they do not.
        left_behind: our CRDs were installed anew: synced objects that nothing selects may come from before, and stay.
        acknowledged: targets whose left-behind objects a person gave up.
        finished: (source uid, target uid) of Jobs and Pods that reached their end: never created there again.
    """

    def __init__(
        self,
        hub_id: str,
        workspace: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.hub_id = hub_id
        self.workspace = workspace
        self.clock = clock
        self.wall = wall
        self.rng = rng or random.Random()  # noqa: S311  # jitter and tokens against mistakes, not secrets
        self.sources: dict[ObjectKey, Source] = {}
        self._inline: dict[ObjectKey, set[ObjectKey]] = {}  # {place: keys of inline sources there}, no empty sets
        self.placements: dict[str, PlacementRecord] = {}
        self.index = PlacementIndex()
        self.targets: dict[str, TargetRuntime] = {}
        self.namespaces: dict[str, KubeObject] = {}
        self.scaled: dict[tuple[str, str, str], ObjectKey] = {}
        self.wanting = Wanting()
        # Written by `pair` and `drop_pair` alone, and empty where there are no pairs.
        self._placed: dict[str, dict[GroupResource, dict[ObjectKey, Source]]] = {}  # {target: {kind: {key: source}}}
        self._used: Counter[tuple[str, str]] = Counter()  # pairs by (target, namespace)
        self._kinds: dict[str, set[GroupResource]] = {}  # by kind name
        self.budget = DeletionBudget(self.rng)
        self.queue: KeyedQueue[SyncKey] = KeyedQueue(lambda key: key.target, lane_limit=32)
        self.frozen = ""
        self.acting = ""
        self.left_behind = False
        self.acknowledged: set[str] = set()
        self.finished = FinishedRuns()
        # Looks again for kinds of inline objects that nobody served; True while some are unknown. Set by the catalog.
        self.look_up: Callable[[], bool] = lambda: False
        self.inline_changed: Callable[[Source], None] = lambda source: None  # an inline object came, changed or went
        self.wake: Callable[[], None] = lambda: None  # tells the dispatcher that something is due
        self.object_changed: Callable[[Source], None] = lambda source: None  # status or outcome of a source may differ
        self.placement_changed: Callable[[str], None] = lambda uid: None  # by uid
        self.target_changed: Callable[[str], None] = lambda name: None  # frozen or not
        # A placement was compiled, compiled anew (before, after) or deleted.
        self.placement_compiled: Callable[[CompiledPlacement | None, CompiledPlacement | None], None] = (
            lambda before, after: None
        )

    def key(self, resource: GroupResource, item: KubeObject) -> ObjectKey:
        """Key of a source; under mapping `Same` also of its synced objects."""
        return ObjectKey(self.workspace, resource, item.namespace, item.name)

    def copied(self, target: str, resource: GroupResource, item: KubeObject) -> ObjectKey:
        """Key of the source whose copy an object on a target is: of who has the place there, else as its mark says."""
        place = self.key(resource, item)
        family = self.family(place)
        for source in family:
            if target in source.pairs:
                return source.key
        for source in family:
            if target in source.plan.assignments:
                return source.key
        mark = read_mark(item)
        return place._replace(origin=mark.uid) if mark is not None and mark.placement else place

    def add(self, source: Source) -> Source:
        """A source that was not known yet."""
        self.sources[source.key] = source
        if source.key.origin:
            self._inline.setdefault(source.key.place, set()).add(source.key)
        return source

    def remove(self, key: ObjectKey) -> None:
        """Nobody needs the source any more."""
        self.sources.pop(key, None)
        inline = self._inline.get(key.place)
        if inline is not None:
            inline.discard(key)
            if not inline:
                del self._inline[key.place]

    def family(self, key: ObjectKey) -> list[Source]:
        """The sources that would stand at one place of a target: the upstream object, and what placements hold."""
        keys = (key.place, *sorted(self._inline.get(key.place, ())))
        return [self.sources[one] for one in keys if one in self.sources]

    def rivals(self, source: Source) -> list[Source]:
        """The others of its family."""
        if not source.key.origin and source.key not in self._inline:
            return []
        return [one for one in self.family(source.key) if one is not source]

    def heir(self, source: Source, target: str) -> Source | None:
        """The rival to which the place on a target belongs, if one does."""
        for one in self.rivals(source):
            if target in one.plan.assignments or target in one.plan.refusals:
                return one
        return None

    def take_over(self, source: Source, target: str) -> None:
        """What is known of a place on a target goes to the source that has it now: a place has one pair."""
        for rival in self.rivals(source):
            pair = rival.pairs.get(target)
            if pair is not None:
                self.drop_pair(rival, target)
                self.pair(source, target)
                source.pairs[target] = pair
                self.remove_if_idle(rival)

    def remove_if_idle(self, source: Source) -> None:
        """Drop a source without object and pairs."""
        if source.object is None and not source.pairs:
            self.remove(source.key)

    def pair(self, source: Source, target: str) -> Pair:
        """The pair, made on first use."""
        pair = source.pairs.get(target)
        if pair is None:
            pair = source.pairs[target] = Pair()
            pair.since = self.wall()
            self._used[target, source.key.namespace] += 1
            kinds = self._placed.setdefault(target, {})
            self._kinds.setdefault(source.info.kind, set()).add(source.key.group_resource)
            kinds.setdefault(source.key.group_resource, {})[source.key] = source
        return pair

    def answered(self, target: TargetRuntime) -> None:
        """The target answered a request: it is well, and what was held back for it may go."""
        if target.breaker.state is not BreakerState.CLOSED:
            self.queue.hold(target.name, 0.0)
            self.wake()
        target.breaker.success()

    def failed(self, target: TargetRuntime, message: str) -> None:
        """The target did not answer, or is broken."""
        target.failed(self.clock(), message)
        self.hold_back(target)

    def hold_back(self, target: TargetRuntime) -> None:
        """While the breaker is not closed, keys that only wait for it cost nothing: one lot of them is tried when the
        next probe may go. News goes on, to be told that it waits."""
        if target.breaker.state is not BreakerState.CLOSED:
            self.queue.hold(target.name, target.breaker.retry_at(), above=CATCH_UP)

    def drop_pair(self, source: Source, target: str) -> None:
        """Nothing is, or can be, known of the pair any more."""
        pair = source.pairs.pop(target, None)
        kinds = self._placed.get(target, {})
        placed = kinds.get(source.key.group_resource, {})
        if placed.get(source.key) is source:
            del placed[source.key]
            if not placed:
                del kinds[source.key.group_resource]
            if not kinds:
                del self._placed[target]
        if pair is not None:
            used = target, source.key.namespace
            self._used[used] -= 1
            if not self._used[used]:
                del self._used[used]
            if pair.finished and source.gone:
                self.finished.forget_source(pair.finished)  # its end may have been reported after its source went
        self.wanting.forget(SyncKey(source.key, target))

    def enqueue(self, key: SyncKey, priority: int = USER_CHANGE, *, at: float = 0.0, rank: int = 0) -> None:
        """Ask for a pass over one pair."""
        if key.target in self.targets:
            self.queue.add(key, at=at, priority=priority, rank=rank)
            self.wake()

    def touch(self, source: Source, priority: int = USER_CHANGE, rank: int = 0) -> None:
        """Ask for a pass over every pair of a source."""
        for target in source.pairs.keys() | source.plan.assignments.keys() | source.plan.refusals.keys():
            self.enqueue(SyncKey(source.key, target), priority, rank=rank)

    def pairs_on(self, target: str, resource: GroupResource | None = None) -> Iterator[tuple[Source, Pair]]:
        """Every pair of a target, or those of one kind."""
        kinds = self._placed.get(target, {})
        for found in [resource] if resource is not None else list(kinds):
            for source in list(kinds.get(found, {}).values()):
                pair = source.pairs.get(target)
                if pair is not None:  # else it went while others were looked at
                    yield source, pair

    def uses(self, target: str, namespace: str) -> bool:
        """Whether a target has pairs of objects in this namespace."""
        return (target, namespace) in self._used

    def kinds_on(self, target: str) -> set[GroupResource]:
        """Kinds of which a target has pairs."""
        return set(self._placed.get(target, ()))

    def placed_kinds(self, kind: str) -> set[GroupResource]:
        """Resources of this kind name of which any target has, or had, pairs."""
        return self._kinds.get(kind, set())

    def forget_if_done(self, source: Source) -> None:
        """Drop a source that is gone upstream and on every target, or that nothing selects and no target holds."""
        if source.object is not None and (source.plan.matched or SYNCED_FINALIZER in source.object.finalizers):
            return
        if all(pair.outcome.state is State.GONE for pair in source.pairs.values()) and not source.plan.assignments:
            for target in list(source.pairs):
                self.drop_pair(source, target)
            self.forget(source)

    def forget(self, source: Source) -> None:
        """Drop a source that no placement and no target needs; where it has a merged status, once that says so."""
        if source.aggregator is None or source.object is None or source.key.origin:
            self.remove(source.key)
        else:
            self.object_changed(source)  # the writer of the status comes back here


__all__ = ["AUDIT_SECONDS", "CATCH_UP", "DRIFT", "USER_CHANGE", "World"]
