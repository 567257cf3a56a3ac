"""Which objects go to which targets, and in what shares: pure functions over values.

Reading order: `compiled` (a placement as the engine uses it), `compile` (the only reader of the API models), `index`
(which placements select an object), `targets` (which targets a placement selects), `division` (replica shares),
`policy` (which kinds a target takes), `explain` (why something was not selected).
"""

from syncer.placement.compile import compile_placement, compile_target
from syncer.placement.compiled import CompiledPlacement
from syncer.placement.division import divide
from syncer.placement.explain import Miss, nearest, why_not
from syncer.placement.index import PlacementIndex
from syncer.placement.policy import ResourcePolicy
from syncer.placement.targets import Selection, TargetState, choose_targets

__all__ = [
    "CompiledPlacement",
    "Miss",
    "PlacementIndex",
    "ResourcePolicy",
    "Selection",
    "TargetState",
    "choose_targets",
    "compile_placement",
    "compile_target",
    "divide",
    "nearest",
    "why_not",
]
