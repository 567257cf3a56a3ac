"""Events of synced objects: what a target did to them, and what it says about them."""

from __future__ import annotations

from collections.abc import Callable

from status.collector import collect
from status.report import Health, Refused, Report, missing
from syncer.api.keys import SyncKey
from syncer.engine.catalog import Catalog, Cause
from syncer.engine.namespaces import NAMESPACES
from syncer.engine.pair import Memory, Outcome, Present, State
from syncer.engine.planner import RUNS_ONCE
from syncer.engine.state import Pair, Source, version
from syncer.engine.targets import TargetRuntime
from syncer.engine.world import CATCH_UP, DRIFT, World
from syncer.kube.informer import InformerEvent
from syncer.kube.objects import KubeObject, ResourceInfo
from syncer.transform.mark import is_ours, read_mark


class Downstream:
    """Feeds events of targets into pairs and reports.

    Args:
        progressing: told when a workload starts or stops waiting for its Pods.
        trouble: told when a target's status is refused (source, target).
        namespace_seen: told of namespaces of ours (target, namespace, deleted).
    """

    def __init__(
        self,
        world: World,
        catalog: Catalog,
        progressing: Callable[[SyncKey, bool], None],
        trouble: Callable[[Source, str], None],
        namespace_seen: Callable[[str, KubeObject, bool], None],
    ) -> None:
        self._world = world
        self._catalog = catalog
        self._progressing = progressing
        self._trouble = trouble
        self._namespace_seen = namespace_seen

    def event(self, name: str, info: ResourceInfo, event: InformerEvent) -> None:
        """An informer of a target has something to say."""
        target = self._world.targets.get(name)
        if target is None or target.link is None:
            return
        if event.type in ("SYNCED", "RELISTED"):
            self._read(target, info, audit=event.type == "RELISTED")
        item = event.object
        if item is None:
            return
        deleted = event.type == "DELETED"
        if info.group_resource == NAMESPACES.group_resource:
            target.link.book.saw(item, deleted)
            if not is_ours(item, self._world.hub_id):
                return
        elif not is_ours(item, self._world.hub_id) and not self._known(info, item, name):
            return  # inherited our label, like an EndpointSlice from its Service
        self._object(target, info, event, item, deleted)

    def _known(self, info: ResourceInfo, item: KubeObject, target: str) -> bool:
        """An object that we wrote and whose marks somebody damaged."""
        source = self._world.sources.get(self._world.copied(target, info.group_resource, item))
        pair = source.pairs.get(target) if source is not None else None
        return pair is not None and pair.memory.uid == item.uid

    def _object(
        self, target: TargetRuntime, info: ResourceInfo, event: InformerEvent, item: KubeObject, deleted: bool
    ) -> None:
        source = self._catalog.downstream_seen(target.name, info, item)
        if info.group_resource == NAMESPACES.group_resource and target.name not in source.plan.assignments:
            self._namespace_seen(target.name, item, deleted)
            self._world.forget_if_done(source)
            return
        pair = self._world.pair(source, target.name)
        own = isinstance(pair.live, Present) and version(pair.live.object) >= version(item)
        pair.saw_event(item, deleted)
        if deleted:
            self._absent(source, pair, target, item)
        elif source.info.has_status:
            self._report(source, pair, target, item)
        if not own and (deleted or event.old is None or _differs(event.old, item)):
            self._world.enqueue(SyncKey(source.key, target.name), DRIFT)

    def _read(self, target: TargetRuntime, info: ResourceInfo, *, audit: bool) -> None:
        """The kind has been read completely, for the first time or again: every pair of it can be judged."""
        for source, pair in self._world.pairs_on(target.name, info.group_resource):
            if audit:
                forget_answers(pair)
            elif target.state.unschedulable or target.name in source.plan.awaits:  # only now it is known what it has
                self._catalog.replan(source, Cause(f"{target.name} was read", priority=CATCH_UP))
            self._world.enqueue(SyncKey(source.key, target.name), CATCH_UP)

    def _absent(self, source: Source, pair: Pair, target: TargetRuntime, item: KubeObject) -> None:
        pair.report = None
        self._taken_away(source, pair, target, item)
        self._progressing(SyncKey(source.key, target.name), False)
        if source.aggregator is not None:
            uid = source.object.uid if source.object is not None else ""
            gone = missing(target.name, target_uid=target.uid, source_uid=uid, now=self._world.wall())
            if source.aggregator.put(gone):
                self._status_changed(source)

    def _taken_away(self, source: Source, pair: Pair, target: TargetRuntime, item: KubeObject) -> None:
        """Drift mode Pause: what somebody deleted stays away, also after a restart of ours."""
        assignment = source.plan.assignments.get(target.name)
        if assignment is None or source.object is None or source.object.terminating:
            return
        compiled = self._world.placements[assignment.placement].compiled
        ours = pair.memory.deleting == item.uid
        if compiled is None or compiled.drift.mode != "Pause" or ours or source.info.group_kind in RUNS_ONCE:
            return
        self._world.finished.add((source.object.uid, target.uid))
        self._world.placement_changed(assignment.placement)

    def not_there(self, source: Source, pair: Pair, target: str, outcome: Outcome) -> None:
        """An object that cannot be brought to a target is missing there for a reason, and its status says so."""
        runtime = self._world.targets.get(target)
        if pair.report is not None or source.aggregator is None or runtime is None or not outcome.reason:
            return
        if outcome.state is State.FAILED and target in source.plan.assignments:
            lost = missing(
                target,
                target_uid=runtime.uid,
                source_uid=source.aggregated_uid,
                now=self._world.wall(),
                reason=outcome.reason,
                message=outcome.message,
            )
            if source.aggregator.put(lost):
                self._status_changed(source)

    def _report(self, source: Source, pair: Pair, target: TargetRuntime, item: KubeObject) -> None:
        """Turn what the target says into a report and hand it to the aggregator."""
        mark = read_mark(item)
        if mark is None:
            return
        kind = source.info.group_kind
        said = collect(
            item.manifest(),
            group_kind=(kind.group, kind.kind),
            target=target.name,
            target_uid=target.uid,
            source_uid=mark.uid,
            source_generation=mark.generation,
            now=self._world.wall(),
        )
        if isinstance(said, Refused):
            if source.aggregator is not None:
                source.aggregator.refuse(target.name, said.message)
            self._trouble(source, target.name)
            return
        pair.report = said
        if said.terminal and kind in RUNS_ONCE:
            self._finished(source, pair, target, said)
        if source.aggregator is not None and source.aggregated_uid == said.source_uid and source.aggregator.put(said):
            self._status_changed(source)
        self._progressing(SyncKey(source.key, target.name), said.health is Health.PROGRESSING)

    def _finished(self, source: Source, pair: Pair, target: TargetRuntime, said: Report) -> None:
        """A Job or Pod came to its end here: remember it, so that it never runs again.

        A pair has one mark, whatever uids a target invents: only that of the source while it is known.
        """
        other = source.object is not None and source.object.uid != said.source_uid
        if other or pair.finished == said.source_uid:
            return
        self._world.finished.discard((pair.finished, target.uid))
        pair.finished = said.source_uid
        self._world.finished.add((said.source_uid, target.uid))
        for uid in source.plan.matched:
            self._world.placement_changed(uid)

    def _status_changed(self, source: Source) -> None:
        if not source.status_seen:
            source.status_seen = self._world.clock()
        self._world.object_changed(source)
        for uid in source.plan.matched:
            self._world.placement_changed(uid)


def forget_answers(pair: Pair) -> None:
    """Judge a pair from scratch at its next pass: compare field by field, and try again what was refused for good."""
    known = pair.memory
    pair.memory = Memory(
        uid=known.uid, applied=known.applied, ceded=known.ceded, dropped=known.dropped, deduped=known.deduped
    )
    pair.live = None


def _differs(before: KubeObject, after: KubeObject) -> bool:
    """Whether anything but the status may differ: spec fields show in what we own, the rest in metadata."""
    return (
        before.owned != after.owned
        or before.uid != after.uid
        or before.labels != after.labels
        or before.annotations != after.annotations
        or before.deletion_timestamp != after.deletion_timestamp
    )
