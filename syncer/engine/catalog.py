"""From informer events to plans and keys: the only writer of sources and placement records.

An event changes the records, plans what it touches, and enqueues the pairs that may need a write. No I/O.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog
from msgspec.structs import replace

from syncer.api.keys import GroupResource, ObjectKey, SyncKey
from syncer.api.names import ACKNOWLEDGE_ANNOTATION, GROUP, SYNCED_FINALIZER
from syncer.api.placement import AnyPlacement, ClusterPlacement, Placement
from syncer.engine.acting import evidence
from syncer.engine.copies import fleet
from syncer.engine.expectations import expect
from syncer.engine.guard import Lost
from syncer.engine.inline import InlineSources
from syncer.engine.pair import unlearned
from syncer.engine.planner import claims_of, plan, rank
from syncer.engine.sight import Sight
from syncer.engine.state import (
    NO_PLAN,
    PlacementRecord,
    Plan,
    Source,
    Unplaced,
    only_status,
    same_metadata,
    version,
)
from syncer.engine.tables import Names
from syncer.engine.world import CATCH_UP, USER_CHANGE, World
from syncer.errors import TerminalError
from syncer.kube.informer import InformerEvent
from syncer.kube.objects import KubeObject, ResourceInfo
from syncer.placement.compile import compile_placement
from syncer.placement.targets import TargetState, can_move, choose_targets
from syncer.transform.pipeline import compile_transforms

SYNC_TARGETS = GroupResource(GROUP, "synctargets")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Cause:
    """Why sources are planned anew; becomes the evidence if a pair loses its place by it."""

    why: str
    counted: bool = True
    verify: bool = False
    lost: Lost | None = None
    priority: int = USER_CHANGE
    touch: bool = False  # the content may differ too: look at every pair, not only at those that moved


class Catalog:
    """Keeps sources, placement records and plans in step with what the informers say.

    Args:
        check: raises TerminalError for a placement that admission would have refused.
        interest_changed: called when the set of kinds that placements name may have changed.
    """

    def __init__(
        self,
        world: World,
        sight: Sight,
        interest_changed: Callable[[], None],
        check: Callable[[AnyPlacement], None] = lambda placement: None,
    ) -> None:
        self._world = world
        self._sight = sight
        self._interest_changed = interest_changed
        self._check = check
        self._targets_read = False
        self._fleet = fleet(world)
        self._names = Names(sight.informers)
        self._inline = InlineSources(world, sight)
        world.look_up = self.look_up
        self._awaiting: set[ObjectKey] = set()  # sources whose division waits for targets to be read

    # Sources

    def source_event(self, info: ResourceInfo, event: InformerEvent) -> None:
        """An upstream object of a placed kind changed."""
        item = event.object
        if item is None:
            if event.type == "SYNCED":
                self._reread(info)
            return
        key = self._world.key(info.group_resource, item)
        self._acts(info, item)
        self._names.saw(info.group_resource, item, gone=event.type == "DELETED")
        if event.type == "DELETED":
            self._source_deleted(key, item, event.proof)
            return
        source = self._world.sources.get(key)
        if source is None:
            if SYNCED_FINALIZER not in item.finalizers and not self._matching(info, item):
                return
            source = self._world.add(Source(key, info))
        before, source.object = source.object, item
        source.gone = ""
        live = source.status_live
        if live is not None and (live.uid != item.uid or version(live) <= version(item)):
            source.status_live = None
        if before is not None and before.uid == item.uid and only_status(before, item):
            self._world.object_changed(source)  # our own status write, or somebody else's: the writer looks
            return
        self.replan(source, Cause(f"the object was changed (resourceVersion {item.resource_version})", touch=True))
        for pair in source.pairs.values():
            pair.changed_at = self._world.clock()

    def _acts(self, info: ResourceInfo, item: KubeObject) -> None:
        """Take note of the first workload on which a controller of the upstream itself acts."""
        if self._world.acting or not (found := evidence(info.group_kind, item)):
            return
        log.warning("workloads of this upstream are refused", evidence=found)
        self._world.acting = found
        workloads = [key for key, source in self._world.sources.items() if self._fleet.acting(source)]
        self._replan(workloads, Cause(found))

    def _reread(self, info: ResourceInfo) -> None:
        """A kind was read for the first time, or for the first time again: what went meanwhile has no event."""
        informer = self._sight.informers.get(info.group_resource)
        for source in list(self._world.sources.values()):
            item = source.object
            if informer is None or item is None or source.key.origin:
                continue
            if source.key.group_resource != info.group_resource:
                continue
            if (item.namespace, item.name) not in informer.cache:
                self._source_deleted(source.key, item, "relist")

    def _source_deleted(self, key: ObjectKey, item: KubeObject, proof: str) -> None:
        source = self._world.sources.get(key)
        if proof == "watch":
            self._world.finished.forget_source(item.uid)
        if source is None:
            return
        source.object = None
        source.created = item.creation_timestamp
        source.gone = f"DELETED event of source uid {item.uid}" if proof == "watch" else ""
        self._retire(source)
        self._world.touch(source, USER_CHANGE, rank(source.info.kind, deleting=True))
        if not source.pairs:
            self._world.remove(key)

    def _retire(self, source: Source) -> None:
        """Take a source that is gone out of its placements; its pairs remain until they are clean."""
        self._set_plan(source, NO_PLAN)
        self._replan_rivals(source, Cause("another object of its name went"))
        self._awaiting.discard(source.key)
        source.aggregator = None
        source.shares.clear()

    def downstream_seen(self, target: str, info: ResourceInfo, item: KubeObject) -> Source:
        """The source of an object that stands on a target with our mark; made if nothing knew it."""
        key = self._world.copied(target, info.group_resource, item)
        source = self._world.sources.get(key)
        if source is None and key.origin:
            source = self._world.add(Source(key, info))  # its placement has not been read yet, or is gone
        if source is None:
            source = self._world.add(Source(key, info))
            informer = self._sight.informers.get(info.group_resource)
            if informer is not None:
                source.object = informer.cache.get((item.namespace, item.name))
                self.replan(source, Cause("the object was found on a target", priority=CATCH_UP))
            elif info.group_resource not in self._sight.standing:
                self._interest_changed()  # the kind is watched upstream for as long as copies are left
            self._world.add(source)  # planning drops what nothing selects; this one stands on a target
        return source

    def _matching(self, info: ResourceInfo, item: KubeObject) -> list[PlacementRecord]:
        found = self._world.index.match(info.group_kind, item.namespace, item.name, item.labels)
        return [self._world.placements[compiled.uid] for compiled in found]

    def _selecting(self, source: Source) -> list[PlacementRecord]:
        """The placements that want the source somewhere: those that select it, or the one that holds it inline."""
        if source.object is None:
            return []
        if not source.key.origin:
            return self._matching(source.info, source.object)
        record = self._world.placements.get(source.placement)
        return [record] if record is not None else []

    # Plans

    def replan(self, source: Source, cause: Cause, *, spread: bool = True) -> None:
        """Plan a source anew and enqueue what that moves; `spread`: of it and of those that claim the same place."""
        rivals = [one for one in self._world.rivals(source) if not self._fleet.acting(one)]
        claims = [claim for one in rivals for claim in claims_of(one, self._selecting(one))]
        new = plan(source, self._selecting(source), self._fleet, claims)
        old = source.plan
        if new.awaits:
            self._awaiting.add(source.key)
        else:
            self._awaiting.discard(source.key)
        if new != old:
            self._set_plan(source, new)
            self._move(source, old, new, cause)
        placed_by = {target: refusal.placement for target, refusal in new.refusals.items()}
        placed_by |= {target: assignment.placement for target, assignment in new.assignments.items()}
        for target, placement in placed_by.items():
            self._world.take_over(source, target)
            pair = self._world.pair(source, target)
            pair.orphan = self._orphans(placement)
            if cause.touch:
                pair.memory = unlearned(pair.memory)
        expect(self._world, source)
        if new != old or cause.touch:
            terminating = source.object is None or source.object.terminating
            self._world.touch(source, cause.priority, rank(source.info.kind, deleting=terminating))
            self._world.object_changed(source)
        held = source.object is not None and SYNCED_FINALIZER in source.object.finalizers
        if (source.object is not None or source.key.origin) and not new.matched and not source.pairs and not held:
            self._world.forget(source)
        if spread:
            self._replan_rivals(source, cause)

    def _replan_rivals(self, source: Source, cause: Cause) -> None:
        """Who wins or loses a place of a target changed for the others that claim it, too."""
        for rival in self._world.rivals(source):
            self.replan(rival, dataclasses.replace(cause, touch=False), spread=False)

    def _orphans(self, placement: str) -> bool:
        """Whether the placement, while it lives, says that copies stay when it does not place them any more."""
        compiled = self._world.placements[placement].compiled
        return compiled is not None and compiled.deletion.policy == "Orphan"

    def _states(self) -> dict[str, TargetState]:
        return {name: runtime.state for name, runtime in self._world.targets.items()}

    def _set_plan(self, source: Source, new: Plan) -> None:
        old, source.plan = source.plan, new
        for uid in set(old.matched) - set(new.matched):
            if uid in self._world.placements:
                self._world.placements[uid].objects.discard(source.key)
                self._world.placement_changed(uid)
        for uid in new.matched:
            self._world.placements[uid].objects.add(source.key)
            self._world.placement_changed(uid)

    def _move(self, source: Source, old: Plan, new: Plan, cause: Cause) -> None:
        """Remember why pairs lose their place, and take back what was held against those that got one."""
        world = self._world
        heirs = frozenset(new.assignments.keys() - old.assignments.keys())
        for target in old.assignments.keys() - new.assignments.keys() - new.refusals.keys():
            placement = old.assignments[target].placement
            unplaced = Unplaced(cause.why, world.clock(), cause.counted, cause.verify, heirs, cause.lost)
            if world.heir(source, target) is not None:
                world.drop_pair(source, target)  # another object of its name has the place, and took the pair over
                continue
            runtime = world.targets.get(target)
            if runtime is None:
                world.drop_pair(source, target)  # the target is gone, and what stands there with it
                continue
            if runtime.draining:
                why = f"SyncTarget {target} is being deleted with deletion: Drain"
                unplaced = Unplaced(why, world.clock(), counted=False, verify=True, heirs=heirs, lost=runtime.lost)
            pair = world.pair(source, target)
            pair.unplaced = unplaced
            if placement in world.placements:
                pair.orphan = self._orphans(placement)  # the change may be to both policy and targets
        for target in new.assignments:
            world.take_over(source, target)
            pair = world.pair(source, target)
            pair.unplaced = None
            # A proof for a delete that did not happen is about the past: the next one is collected anew.
            pair.memory = replace(pair.memory, proof="", proof_uid="")
            world.budget.withdraw(target, SyncKey(source.key, target), pair.memory.uid)
        if old.assignments != new.assignments:
            for key in world.wanting.take(source.key.place):
                world.enqueue(key, CATCH_UP)

    # Placements

    def placement_event(self, event: InformerEvent) -> None:
        """A Placement or ClusterPlacement changed."""
        item = event.object
        if item is None:
            return
        if event.type == "DELETED":
            self._placement_deleted(item)
            return
        record = self._world.placements.get(item.uid)
        if (
            record is not None
            and record.manifest.generation == item.generation
            and same_metadata(record.manifest, item)
        ):
            record.manifest = item  # status only
            return
        if record is None:
            record = self._world.placements[item.uid] = PlacementRecord(item)
            self._restore(record)
        announced = record.manifest.annotations.get(ACKNOWLEDGE_ANNOTATION) != item.annotations.get(
            ACKNOWLEDGE_ANNOTATION
        )
        record.manifest = item
        if item.terminating:
            return  # its DELETED event follows; a foreign finalizer keeps it working until then
        if not self._knows_targets():
            return  # targets_read comes back to it
        self._compile(record)
        if announced:  # once: an annotation that stays must not cover every later change
            self._announce(record)
        self._select(record)
        self._interest_changed()
        self.replan_placement(record, Cause(f"{record.path} was changed (generation {item.generation})", touch=True))

    def _knows_targets(self) -> bool:
        """False only at start: without the targets that are there, every choice among them would be wrong."""
        informer = self._sight.standing.get(SYNC_TARGETS)
        return self._targets_read or informer is None or informer.synced

    def targets_read(self) -> None:
        """Every SyncTarget is known: now the placements that came before them can choose."""
        self._targets_read = True
        for record in list(self._world.placements.values()):
            if record.compiled is None and not record.manifest.terminating:
                self._compile(record)
                self._select(record)
                self.replan_placement(record, Cause(f"{record.path} was read", touch=True, priority=CATCH_UP))
        self._interest_changed()

    def _placement_deleted(self, item: KubeObject) -> None:
        record = self._world.placements.pop(item.uid, None)
        if record is None:
            return
        self._world.index.remove(item.uid)
        self._inline.drop(record)
        self._world.placement_compiled(record.compiled, None)
        keys, record.objects = record.objects, set()
        lost = Lost(f"{item.kind.lower()}s", item.creation_timestamp)
        cause = Cause(f"{record.path} was deleted", counted=False, verify=True, lost=lost)
        for key in keys:
            source = self._world.sources.get(key)
            if source is not None:
                self.replan(source, cause)
        self._interest_changed()

    def _compile(self, record: PlacementRecord) -> None:
        """Parse and compile; a placement that is at fault selects nothing new but keeps what it placed."""
        model = Placement if record.manifest.kind == "Placement" else ClusterPlacement
        try:
            parsed = model.parse(record.manifest.manifest())
            self._check(parsed)
            compiled = compile_placement(parsed)
            record.pipeline = compile_transforms(compiled.transforms)
        except TerminalError as error:
            record.error = (error.reason, str(error))
            if record.compiled is None:
                self._world.placement_changed(record.manifest.uid)
            return
        record.error = None
        before, record.compiled = record.compiled, compiled
        self._world.index.put(compiled)
        self._inline.take(record)
        self._world.placement_compiled(before, compiled)

    def look_up(self) -> bool:
        """Ask again for kinds of `spec.manifests` that nobody served; True while some are unknown."""
        for record in [record for record in self._world.placements.values() if record.unknown]:
            before = record.inline
            self._inline.take(record)
            if record.inline != before:
                self.replan_placement(record, Cause(f"a kind of {record.path} is served now", touch=True))
                self._world.placement_changed(record.manifest.uid)
        return any(record.unknown for record in self._world.placements.values())

    def _restore(self, record: PlacementRecord) -> None:
        """Take over what the placement's status remembers: which targets it has, which runs are finished."""
        status = record.manifest.field("status") or {}
        record.holds = frozenset(str(entry.get("name")) for entry in status.get("selectedTargets") or ())
        for condition in status.get("conditions") or ():
            if condition.get("type") == "Synced" and condition.get("status") == "True":
                targets = frozenset(str(entry.get("uid")) for entry in status.get("selectedTargets") or ())
                record.had = str(condition.get("lastTransitionTime") or ""), targets
        for run in status.get("completedRuns") or ():
            self._world.finished.add((str(run.get("uid")), str(run.get("target"))))

    def _announce(self, record: PlacementRecord) -> None:
        """A person may say how many deletes a change will cost (annotation with a number)."""
        text = record.manifest.annotations.get(ACKNOWLEDGE_ANNOTATION, "")
        if text.isascii() and text.isdigit() and len(text) < 10:
            for target in record.selection.selected if record.selection is not None else ():
                self._world.budget.announce(target, int(text), self._world.clock())

    def _select(self, record: PlacementRecord, states: Mapping[str, TargetState] | None = None) -> bool:
        """Choose the placement's targets; True if that differs from before. `states`: of all targets, if at hand."""
        if record.compiled is None:
            return False
        states = self._states() if states is None else states
        since = {name: runtime.since for name, runtime in self._world.targets.items()}
        held = frozenset(record.selection.selected) if record.selection is not None else record.holds
        selection = choose_targets(record.compiled, states, holds=held, now=self._world.wall(), not_ready_since=since)
        if selection == record.selection:
            return False
        changed = record.selection is None or selection.selected != record.selection.selected
        record.selection = selection
        self._world.placement_changed(record.manifest.uid)
        return changed

    def replan_placement(self, record: PlacementRecord, cause: Cause, namespace: str = "") -> None:
        """Plan everything that the placement selects now or selected before, of one namespace if that is given."""
        self._replan(self._found(record, namespace), cause)

    def _found(self, record: PlacementRecord, namespace: str = "") -> Iterable[ObjectKey]:
        """Take in what the placement selects now; the keys to plan: those, and what it selected before."""
        if record.compiled is None:
            return ()
        only = namespace or record.compiled.namespace
        touched: list[ObjectKey] = []
        for resource in self._sight.informers:
            info = self._sight.infos[resource]
            if not any(rule.matches_kind(info.group_kind) for rule in record.compiled.rules):
                continue
            for item in self._names.items(resource, only):
                key = self._world.key(resource, item)
                labels = self._world.index.namespace_labels(item.namespace)
                if record.compiled.selects(info.group_kind, item.namespace, item.name, item.labels, labels):
                    if key not in self._world.sources:
                        self._world.add(Source(key, info)).object = item
                    record.objects.add(key)
                if namespace and key in record.objects:
                    touched.append(key)
        return touched if namespace else record.objects

    def _replan(self, keys: Iterable[ObjectKey], cause: Cause) -> None:
        """Plan some sources; what Pods need at their start goes before what makes Pods."""
        found = [self._world.sources[key] for key in keys if key in self._world.sources]
        for source in sorted(found, key=lambda one: rank(one.info.kind)):
            self.replan(source, cause)

    # Targets and namespaces

    def targets_changed(self, cause: Cause, only: Iterable[str] = (), *, readiness: bool = False) -> None:
        """Labels, taints, readiness or the set of targets changed: every placement selects anew, then each source that
        this may move is planned once.

        Args:
            only: targets whose own pairs are planned in any case.
            readiness: nothing changed but which targets are ready, or for how long they are not.
        """
        if not self._knows_targets():
            return
        states = self._states()
        touched = set(self._awaiting)
        for record in self._world.placements.values():
            if readiness and (record.compiled is None or not can_move(record.compiled)):
                continue
            invalid = record.error is not None
            if invalid:
                self._compile(record)  # what a target accepts may have been its fault
            if self._select(record, states) or (invalid and record.error is None):
                touched.update(self._found(record) if invalid else record.objects)
        for target in only:
            touched.update(source.key for source, _ in self._world.pairs_on(target))
        self._replan(touched, cause)

    def namespace_event(self, event: InformerEvent) -> None:
        """An upstream Namespace changed: its labels may select it, and some of them travel."""
        item = event.object
        if item is None:
            return
        if event.type == "DELETED":
            known = self._world.namespaces.get(item.name)
            if known is not None and known.uid != item.uid:
                return
            self._world.namespaces.pop(item.name, None)
            self._world.index.remove_namespace(item.name)
            return
        before = self._world.namespaces.get(item.name)
        self._world.namespaces[item.name] = item
        self._world.index.put_namespace(item.name, item.labels)
        if before is None or before.labels != item.labels:
            cause = Cause(f"labels of namespace {item.name} were changed")
            labels = before.labels if before is not None else {}
            for record in list(self._world.placements.values()):
                rule = record.compiled.namespaces if record.compiled is not None else None
                if rule is not None and rule.matches(item.name, labels) != rule.matches(item.name, item.labels):
                    self.replan_placement(record, cause, namespace=item.name)
