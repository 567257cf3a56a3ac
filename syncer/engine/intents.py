"""From the engine's knowledge to one pair's situation: is the object wanted on the target, how, or why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.api.names import SYNCED_FINALIZER, Reason
from syncer.api.policy import builtin_kind
from syncer.engine.pair import ABSENT, Observation, State, Unknown
from syncer.engine.planner import RUNS_ONCE
from syncer.engine.sight import LOOKING_UP
from syncer.engine.situation import Held, Intent, PathRule, Policy, Situation, Unwanted, Wanted
from syncer.engine.state import Assignment, Pair, PlacementRecord, Source
from syncer.engine.targets import TargetRuntime
from syncer.engine.world import World
from syncer.errors import TerminalError, TransientError
from syncer.kube.objects import KubeObject
from syncer.transform.mark import SourceRef
from syncer.transform.names import Same
from syncer.transform.render import Rendered, render

if TYPE_CHECKING:
    from syncer.engine.sight import Sight

REPLICAS = PathRule("/spec/replicas", "Ignore")
_SAME = Same()
_NOT_LOOKED_AT = Unknown("the target takes no writes now")
LANDING_RETRY_SECONDS = 2.0
ASKING_RETRY_SECONDS = 0.2  # a target is being asked what it serves
UNKNOWN_RETRY_SECONDS = 5.0  # nobody could say what a target serves
API_MISSING_RETRY_SECONDS = 30.0  # discovery is asked anew about as often


def situation(world: World, sight: Sight, source: Source, pair: Pair, target: TargetRuntime) -> Situation:
    """Everything that the next decision about this pair may look at."""
    closed = _closed(world, target)
    if closed is not None:  # nothing else matters then, and rendering for nobody is the dearest part
        return Situation(closed, _NOT_LOOKED_AT, pair.memory, world.hub_id, closed)
    namespace = source.key.namespace
    book = target.link.book if target.link is not None else None
    return Situation(
        intent=intent(world, sight, source, pair, target),
        downstream=downstream(source, pair, target),
        memory=pair.memory,
        hub_id=world.hub_id,
        namespace_ready=not namespace or (book is not None and book.ready(namespace)),
        namespace_problem=book.problem(namespace) if namespace and book is not None else None,
    )


def _closed(world: World, target: TargetRuntime) -> Held | None:
    if world.frozen:
        return Held(Reason.FROZEN, f"nothing is written anywhere: {world.frozen}")
    return target.closed(world.clock())


def downstream(source: Source, pair: Pair, target: TargetRuntime) -> Observation:
    """What stands on the target, as far as we know."""
    informer = target.watch(source.key.group_resource)
    if informer is None:
        return _unwatched(source, pair, target)
    cached = informer.cache.get((source.key.namespace, source.key.name))
    return pair.observe(cached, informer.synced, informer.error or "")


def _unwatched(source: Source, pair: Pair, target: TargetRuntime) -> Observation:
    """A watch that is about to start tells; where none ever starts, since the kind is not served, nothing can stand."""
    resource, retry = source.key.group_resource, None
    if target.link is not None:
        try:
            served = target.link.discovery.find_resource(resource) is not None
        except TransientError as error:
            return pair.live or Unknown(str(error), retry_seconds=UNKNOWN_RETRY_SECONDS)
        if not served and target.link.lacks.get(resource):  # asked since something of it is needed there
            return ABSENT
        retry = None if served else ASKING_RETRY_SECONDS
    return pair.live or Unknown(f"{resource} is not watched on {target.name} yet", starting=True, retry_seconds=retry)


def intent(world: World, sight: Sight, source: Source, pair: Pair, target: TargetRuntime) -> Intent:
    """What should become of the pair."""
    item = source.object
    if item is None and source.key.origin:  # a placement held it, so what became of that placement tells
        return _unplaced(world, sight, source, pair, target)
    if item is None:
        return _source_missing(world, sight, source, pair, target)
    if item.terminating:
        seen = f"source uid {item.uid} has deletionTimestamp {item.deletion_timestamp}"
        return Unwanted(seen, counted=False, verify="" if _built_in(source) else "kind", orphan=pair.orphan)
    assignment = source.plan.assignments.get(target.name)
    if assignment is not None:
        missing = _api_missing(source, pair, target)
        if missing is not None:
            return missing
        if assignment.held:
            return Held(Reason.RETRYING, assignment.held)  # planned anew once they were read
        return _wanted(world, source, pair, target, assignment, item)
    refusal = source.plan.refusals.get(target.name)
    if refusal is not None:
        return Held(refusal.reason, refusal.message, failed=refusal.reason != Reason.TARGET_UNSCHEDULABLE)
    return _unplaced(world, sight, source, pair, target)


def _api_missing(source: Source, pair: Pair, target: TargetRuntime) -> Held | None:
    """B24: the target serves no such kind; other objects go on. Told once that was asked anew: its CRD may be new."""
    if target.link is None:
        return None
    info = source.info
    try:
        if target.link.discovery.find_resource(info.group_resource) is not None:
            return None
    except TransientError as error:
        return Held(Reason.UNREACHABLE, str(error), retry_seconds=UNKNOWN_RETRY_SECONDS)
    message = f"{target.name} serves no {info.api_version} {info.kind}"
    if not target.link.lacks.get(info.group_resource) and pair.outcome.reason != Reason.API_MISSING:
        return Held(Reason.RETRYING, message, retry_seconds=ASKING_RETRY_SECONDS)
    return Held(Reason.API_MISSING, message, failed=True, retry_seconds=API_MISSING_RETRY_SECONDS)


def _source_missing(world: World, sight: Sight, source: Source, pair: Pair, target: TargetRuntime) -> Intent:
    if source.gone and _built_in(source):
        return Unwanted(source.gone, counted=False, orphan=pair.orphan)
    blind = sight.blind(source.key.group_resource)
    if blind:
        return Held(Reason.UNREACHABLE, blind, retry_seconds=_blind_retry(sight))
    if source.key.group_resource not in sight.informers:
        return _unplaced(world, sight, source, pair, target)
    # Of a custom kind even a DELETED event proves little: removing a CRD upstream deletes all its objects.
    return Unwanted(verify="source", counted=not source.gone, orphan=pair.orphan)


def _built_in(source: Source) -> bool:
    """Whether no CRD can take the source with it."""
    return builtin_kind(source.info.api_version, source.info.kind) is not None


def _blind_retry(sight: Sight) -> float:
    """A look-up of kinds takes milliseconds, a list that fails may take long."""
    return 0.1 if sight.unsettled == LOOKING_UP else 2.0


def _unplaced(world: World, sight: Sight, source: Source, pair: Pair, target: TargetRuntime) -> Intent:
    """No placement gives this source to this target. Was that somebody's wish?"""
    resource = source.key.group_resource
    blind = sight.blind(resource if resource in sight.informers and not source.key.origin else None)
    if blind:
        return Held(Reason.UNREACHABLE, blind, retry_seconds=_blind_retry(sight))
    why = pair.unplaced
    if why is not None and source.info.group_kind not in RUNS_ONCE:
        awaited = [name for name in sorted(why.heirs) if not _landed(source, name)]
        if awaited:
            message = f"moves to {', '.join(awaited)}, and stays here until it is ready there"
            return Held(Reason.RETRYING, message, retry_seconds=LANDING_RETRY_SECONDS)
    if why is not None and not why.verify:
        return Unwanted(why.why, counted=why.counted, orphan=pair.orphan)
    if why is not None:
        return Unwanted(verify="intent", counted=why.counted, orphan=pair.orphan)
    if target.draining:
        return Unwanted(verify="intent", counted=False, orphan=pair.orphan)
    if world.left_behind and target.name not in world.acknowledged:
        message = (
            "left from before the CRDs of Syncline were installed again, and no placement selects it; "
            f"place it again, or let it be deleted with: syncline ack {target.name}"
        )
        return Unwanted(message=message, orphan=pair.orphan)
    unread = _unread(world, source)
    if unread:
        message = f"{unread} is not valid and may place it; correct or delete that"
        return Held(Reason.INVALID, message, failed=True, retry_seconds=2.0)
    return Unwanted(verify="intent", counted=True, orphan=pair.orphan)


def _landed(source: Source, target: str) -> bool:
    """Whether an object that moves to a target does not need its old place any more."""
    heir = source.pairs.get(target)
    if heir is None or target not in source.plan.assignments:
        return True  # the heir lost it again: nothing to wait for
    ready = not source.info.has_status or source.aggregator is None or source.aggregator.summary(target)[0]
    return ready and heir.outcome.state is State.SYNCED


def _unread(world: World, source: Source) -> str:
    """A placement that nobody can read and that may be the one which placed this object; "" if there is none."""
    for record in world.placements.values():
        unread = record.compiled is None or (bool(record.unknown) and bool(source.key.origin))
        if unread and record.manifest.namespace in ("", source.key.namespace):
            return record.path
    return ""


def _wanted(
    world: World, source: Source, pair: Pair, target: TargetRuntime, assignment: Assignment, item: KubeObject
) -> Intent:
    record = world.placements[assignment.placement]
    compiled = record.compiled
    assert compiled is not None  # only such placements assign
    if compiled.suspend:
        return Held(Reason.SUSPENDED, f"{record.path} is suspended")
    if compiled.deletion.wait and not source.key.origin and SYNCED_FINALIZER not in item.finalizers:
        return Held(Reason.RETRYING, f"waiting for finalizer {SYNCED_FINALIZER} on the source", retry_seconds=1.0)
    kind = source.info.group_kind
    try:
        rendered = _rendered(world, source, pair, target, assignment, item, record)
    except TerminalError as error:
        pointer = f" at {error.pointer}" if error.pointer else ""
        return Held(error.reason, f"{error}{pointer}", failed=True)
    return Wanted(
        manifest=rendered.manifest,
        hash=rendered.hash,
        kind=kind,
        namespace=item.namespace,
        source_uid=item.uid,
        policy=_policy(world, source, record, target),
        runs_once=kind in RUNS_ONCE,
        taken_away=_taken_away(world, record, source, item, target),
        finished=kind in RUNS_ONCE and (pair.finished == item.uid or (item.uid, target.uid) in world.finished),
    )


def _rendered(
    world: World,
    source: Source,
    pair: Pair,
    target: TargetRuntime,
    assignment: Assignment,
    item: KubeObject,
    record: PlacementRecord,
) -> Rendered:
    """What the target should hold; made once for all steps of a pass that nothing interrupts.

    Raises:
        TransformFailed: a transform does not fit.
    """
    compiled = record.compiled
    assert compiled is not None
    assert record.pipeline is not None
    basis = (item, assignment, compiled, record.pipeline, target.view)
    known = pair.rendered
    if known is not None and all(one is other for one, other in zip(known[0], basis, strict=True)):
        return known[1]
    kind = source.info.group_kind
    mark = SourceRef(
        hub=world.hub_id,
        workspace=world.workspace,
        api_version=source.info.api_version,
        kind=kind.kind,
        namespace=item.namespace,
        name=item.name,
        uid=item.uid,
        generation=item.generation,
        placement=record.path if source.key.origin else "",
    )
    rendered = render(
        item.manifest(),
        kind=kind,
        has_status_subresource=source.info.has_status,
        pipeline=record.pipeline,
        target=target.view,
        source=mark,
        deletion_policy=compiled.deletion.policy,
        mapping=_SAME,
        split=assignment.split,
    )
    pair.rendered = (basis, rendered)
    return rendered


def _taken_away(world: World, record: PlacementRecord, source: Source, item: KubeObject, target: TargetRuntime) -> bool:
    """Whether an absent object was there before: seen to be deleted, or the placement's status said so at our start."""
    assert record.compiled is not None
    if record.compiled.drift.mode != "Pause" or source.info.group_kind in RUNS_ONCE:
        return False
    since, targets = record.had
    return (item.uid, target.uid) in world.finished or (target.uid in targets and "" < item.creation_timestamp < since)


def _policy(world: World, source: Source, record: PlacementRecord, target: TargetRuntime) -> Policy:
    """The placement's choices; replicas are left alone where an autoscaler that runs on this target sets them."""
    assert record.compiled is not None
    conflict, drift = record.compiled.conflict, record.compiled.drift
    paths = tuple(PathRule(rule.path, rule.mode) for rule in drift.paths)
    scaler = world.scaled.get((source.key.namespace, source.info.kind, source.key.name))
    if scaler is not None:
        hpa = world.sources.get(scaler)
        if hpa is not None and target.name in hpa.plan.assignments:
            paths = (*paths, REPLICAS)
    return Policy(conflict.existing, conflict.fields, conflict.on_immutable, drift.mode, paths)
