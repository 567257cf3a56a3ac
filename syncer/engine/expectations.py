"""What the status side is told to wait for: targets, generations and replicas of a source, as its plan says. No I/O."""

from __future__ import annotations

from status.aggregator import Aggregator
from status.report import Expected, Mode
from syncer.engine.state import Source
from syncer.engine.world import World


def expect(world: World, source: Source) -> None:
    """Tell the status side which targets should hold which generation."""
    item = source.object
    if item is None or not source.info.has_status or not source.plan.matched:
        return
    mode = _mode(world, source)
    if source.aggregator is None or (source.aggregated_uid, source.mode) != (item.uid, mode):
        kind = source.info.group_kind
        source.aggregator = Aggregator((kind.group, kind.kind), item.uid, mode)
        source.aggregated_uid, source.mode = item.uid, mode
        source.asked_again = False
    expected = {
        target: Expected(item.generation, assignment.split.replicas if assignment.split is not None else None)
        for target, assignment in source.plan.assignments.items()
    }
    for target in source.aggregator.expect(expected):
        pair = source.pairs.get(target)
        if pair is not None and pair.report is not None:
            source.aggregator.put(pair.report)
    for target in expected:
        runtime = world.targets[target]
        if not runtime.ready and runtime.told:
            source.aggregator.stale(target, runtime.since)


def _mode(world: World, source: Source) -> Mode:
    """How the statuses become one: the say of the placement that comes first."""
    compiled = [world.placements[uid].compiled for uid in source.plan.matched]
    first = min((one for one in compiled if one is not None), key=lambda one: one.precedence)
    return Mode(first.status.mode, first.status.target or "")
