"""Which targets one source object goes to, and by which placement. Pure over the engine's records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from syncer.api.keys import GroupKind, GroupResource
from syncer.api.names import Reason
from syncer.engine.state import Assignment, PlacementRecord, Plan, Refusal, Source
from syncer.errors import TerminalError
from syncer.placement.division import divide
from syncer.placement.targets import TargetState
from syncer.transform.skip import skip_reason
from syncer.transform.split import Split, share, totals

JOB = GroupKind("batch", "Job")
POD = GroupKind("", "Pod")
RUNS_ONCE = {JOB, POD}

# Order inside one priority: what others use comes first when applied, and last when deleted.
_EARLY = {
    "Namespace": 0,
    "CustomResourceDefinition": 0,
    "ServiceAccount": 1,
    "Secret": 1,
    "ConfigMap": 1,
    "PersistentVolume": 1,
}
_EARLY |= {"PersistentVolumeClaim": 2, "Role": 2, "RoleBinding": 2, "NetworkPolicy": 2, "Service": 3}
_LATE = 5
RANKS = 10


def rank(kind: str, *, deleting: bool = False) -> int:
    """Place in the order of work: configuration before workloads; the other way round when deleting."""
    place = _EARLY.get(kind, _LATE)
    return RANKS - place if deleting else place


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the planner needs to know beside the source."""

    records: Mapping[str, PlacementRecord]  # by uid
    targets: Callable[[str], TargetState]  # by name
    accepts: Callable[[str, GroupResource], bool]  # target name, resource
    holds: Callable[[str, Source], bool]  # target name: it has a copy of the source, or may have one
    acting: Callable[[Source], str]  # why controllers of the upstream itself act on the source; "" if they do not
    # Target name: what the copy there has of each divided number; {} without a copy, None while nobody could look.
    shares: Callable[[str, Source], Mapping[str, int] | None]


class Claim(NamedTuple):
    """A placement that gives one place of its targets an object. The smallest wins a target."""

    precedence: tuple[int, str, str]
    upstream: bool  # the object is an upstream one; of one placement what it holds inline comes first
    record: PlacementRecord


def claims_of(source: Source, matching: Sequence[PlacementRecord]) -> list[Claim]:
    """What the placements that select a source claim for it; nothing for what is never placed."""
    if source.object is None or skip_reason(source.object, source.info.group_kind) is not None:
        return []
    return _claims(source, matching)


def _claims(source: Source, matching: Sequence[PlacementRecord]) -> list[Claim]:
    return [Claim(_precedence(record), not source.key.origin, record) for record in matching]


def plan(source: Source, matching: Sequence[PlacementRecord], fleet: Fleet, rivals: Sequence[Claim] = ()) -> Plan:
    """Where the source goes.

    Args:
        matching: records of the placements that select the source, in any order.
        rivals: claims of other sources that would stand at the same place of a target.
    """
    matched = tuple(sorted(record.manifest.uid for record in matching))
    if source.object is None or not matching:
        return Plan(matched=matched)
    skip = skip_reason(source.object, source.info.group_kind)
    if skip is not None:
        return Plan(matched=matched, skip=skip)
    if fleet.acting(source):
        return _refused(matched, matching, rivals, fleet.acting(source))
    own = _claims(source, matching)
    claims: dict[str, list[Claim]] = {}
    for claim in (*own, *rivals):
        if claim.record.selection is not None:
            for target in claim.record.selection.selected:
                claims.setdefault(target, []).append(claim)
    assignments: dict[str, Assignment] = {}
    refusals: dict[str, Refusal] = {}
    outranked: list[tuple[str, str, str]] = []
    for target in sorted(claims):
        best = min(claims[target], key=lambda claim: claim[:2])
        uid = best.record.manifest.uid
        mine = best in own
        losers = [
            claim.record for claim in claims[target] if claim.record is not best.record and (mine or claim in own)
        ]
        outranked += [(other.manifest.uid, target, uid) for other in losers]
        if not mine:
            continue
        refusal = _refuse(source, uid, fleet, target)
        if refusal is not None:
            refusals[target] = refusal
        else:
            assignments[target] = Assignment(uid)
    awaits: tuple[str, ...] = ()
    try:
        assignments, awaits = _divide(source, assignments, fleet)
    except TerminalError as error:  # an object that cannot be divided; others of the placement can
        for target, assignment in assignments.items():
            if _divided(fleet.records[assignment.placement]):
                refusals[target] = Refusal(assignment.placement, error.reason, f"{error} at {error.pointer}")
        assignments = {target: a for target, a in assignments.items() if target not in refusals}
    return Plan(assignments, refusals, tuple(outranked), matched, awaits=awaits)


def _precedence(record: PlacementRecord) -> tuple[int, str, str]:
    assert record.compiled is not None  # only compiled placements are in the index
    return record.compiled.precedence


def _refused(matched: tuple[str, ...], matching: Sequence[PlacementRecord], rivals: Sequence[Claim], why: str) -> Plan:
    """The whole object is refused; what a placement holds inline may have its places."""
    taken = {target for one in rivals if one.record.selection is not None for target in one.record.selection.selected}
    refusals: dict[str, Refusal] = {}
    for record in sorted(matching, key=_precedence):
        for target in record.selection.selected if record.selection is not None else ():
            if target not in taken:
                refusals.setdefault(target, Refusal(record.manifest.uid, Reason.UPSTREAM_CONTROLLER_ACTIVE, why))
    return Plan(refusals=refusals, matched=matched)


def _refuse(source: Source, uid: str, fleet: Fleet, target: str) -> Refusal | None:
    """Why this target does not take this object, although the placement selects it."""
    group_resource = source.info.group_resource
    if not fleet.accepts(target, group_resource):
        return Refusal(uid, Reason.RESOURCE_DENIED, f"{target} does not accept {group_resource} (spec.resources)")
    if fleet.targets(target).unschedulable and not fleet.holds(target, source):
        message = f"{target} is cordoned: what it has stays and is kept in step, new objects wait"
        return Refusal(uid, Reason.TARGET_UNSCHEDULABLE, message)
    return None


def _divide(
    source: Source, assignments: dict[str, Assignment], fleet: Fleet
) -> tuple[dict[str, Assignment], tuple[str, ...]]:
    """Give each target its share of the replicas where the placement divides them.

    Also returns the targets whose copies must be read first. The shares of an earlier process are known from its copies
    only; dividing without them could move a replica that runs.
    """
    dividing = {a.placement for a in assignments.values() if _divided(fleet.records[a.placement])}
    whole = totals(source.object.manifest(), source.info.group_kind) if dividing and source.object is not None else None
    if whole is None:
        source.shares.clear()
        return assignments, ()
    numbers = {field: total for field, total in whole._asdict().items() if total is not None}
    awaits: set[str] = set()
    for uid in dividing:
        compiled = fleet.records[uid].compiled
        assert compiled is not None
        # Only over targets that take this very object: a share for one that refuses it would be lost.
        weights = {target: compiled.weight(target) for target, a in assignments.items() if a.placement == uid}
        before = source.shares.get(uid)
        if before is None:
            seen = {target: fleet.shares(target, source) for target in weights}
            unread = _unread(seen, fleet)
            if unread:
                awaits |= unread
                assignments |= _held(uid, weights, numbers, seen, unread)
                continue
            before = {
                field: {target: copy[field] for target, copy in seen.items() if copy and field in copy}
                for field in numbers
            }
        shares = {field: divide(total, weights, before.get(field)) for field, total in numbers.items()}
        source.shares[uid] = shares
        for target in weights:
            split = share(whole, {field: parts.get(target, 0) for field, parts in shares.items()})
            assignments[target] = Assignment(uid, split)
    for uid in source.shares.keys() - dividing:
        del source.shares[uid]
    return assignments, tuple(sorted(awaits))


def _unread(seen: Mapping[str, Mapping[str, int] | None], fleet: Fleet) -> set[str]:
    """Targets that must be read before the first division of this process.

    An object of which no target that could be read has a copy is new, as far as anybody can tell: it need not wait for
    targets that are not there.
    """
    unread = {target for target, copy in seen.items() if copy is None}
    new = any(copy is not None for copy in seen.values()) and not any(seen.values())
    return {target for target in unread if fleet.targets(target).ready} if new else unread


def _held(
    uid: str,
    weights: Mapping[str, int],
    numbers: Mapping[str, int],
    seen: Mapping[str, Mapping[str, int] | None],
    unread: set[str],
) -> dict[str, Assignment]:
    """Assignments that move nothing: a copy keeps its numbers where they can be its share, else it waits as it is."""
    whole = sum(weights.values())
    why = f"replicas are not moved before the copies on {', '.join(sorted(unread))} were read"
    held: dict[str, Assignment] = {}
    for target, weight in weights.items():
        copy = seen[target] or {}
        fits = whole > 0 and all(
            total * weight // whole <= copy.get(field, -1) <= -(-total * weight // whole)
            for field, total in numbers.items()
        )
        held[target] = Assignment(uid, Split(**{f: copy[f] for f in numbers})) if fits else Assignment(uid, held=why)
    return held


def _divided(record: PlacementRecord) -> bool:
    return record.compiled is not None and record.compiled.divided
