"""What the planner asks about targets and their copies, answered from the informers. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from syncer.api.keys import GroupResource
from syncer.engine.acting import WORKLOADS
from syncer.engine.planner import Fleet
from syncer.engine.state import Source
from syncer.engine.targets import served_as
from syncer.engine.world import World
from syncer.placement.targets import TargetState
from syncer.transform.split import Split


def fleet(world: World) -> Fleet:
    """The planner's view of a world; it stays true while the world changes."""
    copies = Copies(world)
    return Fleet(world.placements, copies.state, copies.accepts, copies.holds, copies.acting, copies.shares)


class Copies:
    """Looks at one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def state(self, target: str) -> TargetState:
        """The target, as placements see it."""
        return self._world.targets[target].state

    def accepts(self, target: str, resource: GroupResource) -> bool:
        """Whether the target's own policy lets the kind in."""
        return self._world.targets[target].policy.accepts(resource)

    def holds(self, target: str, source: Source) -> bool:
        """Whether a target has a copy, or may have one because it was not read yet."""
        pair = source.pairs.get(target)
        if pair is not None and pair.memory.uid:
            return True
        informer = self._world.targets[target].watch(source.key.group_resource)
        if informer is None or not informer.synced:
            return True
        return (source.key.namespace, source.key.name) in informer.cache

    def acting(self, source: Source) -> str:
        """Why controllers of the upstream itself act on the source."""
        return self._world.acting if not source.key.origin and source.info.group_kind in WORKLOADS else ""

    def shares(self, target: str, source: Source) -> Mapping[str, int] | None:
        """What a copy has of the numbers that a division sets; {} without a copy, None while nobody could look."""
        runtime = self._world.targets[target]
        informer = runtime.watch(source.key.group_resource)
        if informer is None and runtime.link is not None and served_as(runtime.link.discovery, source.info) is None:
            return None if runtime.link.discovery.stale() else {}  # it serves no such kind
        if informer is None or not informer.synced:
            return None
        copy = informer.cache.get((source.key.namespace, source.key.name))
        numbers = copy.field("spec") if copy is not None else None
        if not isinstance(numbers, dict):
            return {}
        return {field: numbers[field] for field in Split._fields if isinstance(numbers.get(field), int)}
