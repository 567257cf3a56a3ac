"""Which targets a placement selects: candidates, refusals, stickiness, and a limit filled without randomness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from syncer.api.names import Reason
from syncer.api.synctarget import Taint
from syncer.placement.compiled import CompiledPlacement
from syncer.placement.policy import ResourcePolicy


@dataclass(frozen=True, slots=True)
class TargetState:
    """What placement needs to know of one SyncTarget."""

    name: str
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    ready: bool = True
    deleting: bool = False
    evict_after_seconds: float | None = None  # None: never
    resources: ResourcePolicy = field(default_factory=ResourcePolicy)


@dataclass(frozen=True, slots=True)
class Selection:
    """Where a placement's objects go, and why not elsewhere."""

    selected: tuple[str, ...]  # sorted
    refused: Mapping[str, tuple[Reason, str]] = field(default_factory=dict)  # candidates that may not be used now
    missing: tuple[str, ...] = ()  # names that no target has, sorted: TargetNotFound
    left_out: Mapping[str, str] = field(default_factory=dict)  # usable, but not wanted: weight 0, above maxTargets


def rendezvous(placement_uid: str, target_uid: str) -> bytes:
    """Stable pseudo-random rank of a target for a placement: smaller goes first, and other targets do not change it."""
    return blake2b(f"{placement_uid}\0{target_uid}".encode(), digest_size=8).digest()


def choose_targets(
    placement: CompiledPlacement,
    targets: Mapping[str, TargetState],
    *,
    holds: frozenset[str],
    now: float,
    not_ready_since: Mapping[str, float],
) -> Selection:
    """Select targets.

    Args:
        targets: all targets by name.
        holds: names that the placement has selected before; they keep it unless something says otherwise.
        now: in the unit of `not_ready_since` (seconds), by target name, for targets that are not ready.
    """
    refused: dict[str, tuple[Reason, str]] = {}
    left_out: dict[str, str] = {}
    usable: list[TargetState] = []
    for target in _candidates(placement, targets):
        refusal = _refusal(placement, target, held=target.name in holds)
        if refusal is not None:
            refused[target.name] = refusal
        elif placement.divided and placement.weight(target.name) == 0:
            left_out[target.name] = "its weight is 0"
        else:
            usable.append(target)

    usable.sort(key=lambda one: (one.name not in holds, not one.ready, rendezvous(placement.uid, one.uid)))
    for gone in _evicted(placement, usable, targets, holds=holds, now=now, not_ready_since=not_ready_since):
        usable.remove(gone)
        refused[gone.name] = (
            Reason.TARGET_NOT_READY,
            "not Ready for longer than its evictAfter; moved to another target",
        )

    limit = placement.targets.max_targets
    if limit is not None:
        left_out |= {one.name: f"maxTargets is {limit}" for one in usable[limit:]}
        usable = usable[:limit]
    return Selection(
        selected=tuple(sorted(one.name for one in usable)),
        refused=refused,
        missing=tuple(sorted(set(placement.targets.names) - set(targets))),
        left_out=left_out,
    )


def _candidates(placement: CompiledPlacement, targets: Mapping[str, TargetState]) -> list[TargetState]:
    rule = placement.targets
    named = [targets[name] for name in sorted(set(rule.names)) if name in targets]
    return [
        target
        for target in (named if rule.names else [targets[name] for name in sorted(targets)])
        if rule.selector is None or rule.selector.matches(target.labels)
    ]


def _refusal(placement: CompiledPlacement, target: TargetState, *, held: bool) -> tuple[Reason, str] | None:
    if target.deleting:
        return Reason.DELETING, "the target is being deleted"
    for taint in target.taints:
        if taint.effect == "NoSchedule" and held:
            continue
        if not placement.targets.tolerates(taint.key, taint.value, taint.effect):
            text = f"{taint.key}={taint.value}:{taint.effect}" if taint.value else f"{taint.key}:{taint.effect}"
            return Reason.TARGET_UNSCHEDULABLE, f"taint {text} is not tolerated"
    if held:
        return None
    if target.unschedulable:
        return Reason.TARGET_UNSCHEDULABLE, "the target is cordoned (spec.unschedulable)"
    if not target.ready and can_move(placement):
        return Reason.TARGET_NOT_READY, "the target is not Ready and holds nothing of this placement yet"
    return None


def can_move(placement: CompiledPlacement) -> bool:
    """Whether another target can stand in for one, as opposed to every target having its own copy.

    Else it does not matter to the choice which targets are ready.
    """
    return placement.divided or placement.targets.max_targets is not None


def _evicted(
    placement: CompiledPlacement,
    usable: list[TargetState],
    targets: Mapping[str, TargetState],
    *,
    holds: frozenset[str],
    now: float,
    not_ready_since: Mapping[str, float],
) -> list[TargetState]:
    """Held targets whose patience is over and that others can stand in for, longest not ready first."""
    if not can_move(placement) or placement.targets.names:
        return []
    if 3 * sum(not target.ready for target in targets.values()) > len(targets):
        return []  # then not the targets but the hub, or the network around it, is the suspect
    expired = [
        one
        for one in usable
        if not one.ready
        and one.name in holds
        and one.evict_after_seconds is not None
        and now - not_ready_since.get(one.name, now) >= one.evict_after_seconds
    ]
    expired.sort(key=lambda one: (not_ready_since[one.name], one.name))
    if placement.divided:  # its share goes to whoever is Ready
        return expired if any(one.ready for one in usable) else []
    limit = placement.targets.max_targets or 0
    free = max(0, limit - sum(one.name in holds for one in usable))  # places that new targets get anyway
    return expired[: max(0, sum(one.ready and one.name not in holds for one in usable) - free)]
