"""Steps 3 and 4: the share of a divided placement, then the user's transforms, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from syncer.api.common import wire_name
from syncer.api.keys import GroupKind
from syncer.api.transforms import TargetFilter, Transform
from syncer.transform.draft import Draft, Manifest
from syncer.transform.errors import OperationError, TransformFailed
from syncer.transform.operations import COMPILERS
from syncer.transform.operations.base import Context, Operation
from syncer.transform.pointer import GUARDED_METADATA, GUARDED_ROOT
from syncer.transform.split import Split, split_draft
from syncer.transform.target import TargetView

_MISSING: Final = object()


@dataclass(frozen=True)
class Step:
    """One compiled entry of `spec.transforms`."""

    index: int
    name: str  # the operation's name on the wire
    targets: TargetFilter | None
    kinds: frozenset[str]  # "Deployment" or "Deployment.apps"; empty means every kind
    operation: Operation

    def applies(self, context: Context) -> bool:
        """Whether target and kind are meant."""
        if self.kinds and context.kind.kind not in self.kinds and str(context.kind) not in self.kinds:
            return False
        wanted = self.targets
        if wanted is None:
            return True
        if wanted.names and context.target.name not in wanted.names:
            return False
        return wanted.label_selector is None or wanted.label_selector.matches(context.target.labels)


class Pipeline:
    """The transforms of one placement, compiled. Immutable; equal inputs give equal outputs."""

    __slots__ = ("_steps",)

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)

    def applying(self, kind: GroupKind, target: TargetView) -> list[int]:
        """Indices in `spec.transforms` of the steps that are meant for this kind and target, in order."""
        context = Context(kind, target)
        return [step.index for step in self._steps if step.applies(context)]

    def run(self, manifest: Manifest, *, kind: GroupKind, target: TargetView, split: Split | None = None) -> Manifest:
        """Split and transform a copy.

        Args:
            manifest: pruned; never changed.
            split: this target's share, or None where the placement duplicates.
        Raises:
            TransformFailed: an operation does not fit this object or target, or changed its identity.
        """
        draft = Draft(manifest)
        self.run_draft(draft, kind=kind, target=target, split=split)
        return draft.root

    def run_draft(self, draft: Draft, *, kind: GroupKind, target: TargetView, split: Split | None = None) -> None:
        """`run` on a draft that goes on through the pipeline; after an error the draft is of no use."""
        if split is not None:
            split_draft(draft, kind, split)
        if not self._steps:
            return
        context = Context(kind, target)
        before = _identity(draft.root)
        for step in self._steps:
            if step.applies(context):
                try:
                    step.operation(draft, context)
                except OperationError as error:
                    raise _failed(step.index, step.name, error) from error
                except ValueError as error:  # an object that does not have the shape of its kind
                    raise _failed(step.index, step.name, OperationError(str(error))) from error
        _check_identity(before, _identity(draft.root))


def compile_transforms(transforms: Sequence[Transform]) -> Pipeline:
    """Build the pipeline of a placement: everything that can fail early fails here.

    Raises:
        TransformFailed: with the index and the JSON pointer of what is wrong.
    """
    steps = []
    for index, transform in enumerate(transforms):
        used = [name for name in COMPILERS if getattr(transform, name) is not None]
        if len(used) != 1:
            told = ", ".join(map(wire_name, used)) or "none"
            raise TransformFailed(
                f"transforms[{index}]: exactly one operation is needed, there is {told}",
                index=index,
                pointer=f"/spec/transforms/{index}",
            )
        name = wire_name(used[0])
        try:
            operation = COMPILERS[used[0]](getattr(transform, used[0]))
        except OperationError as error:
            raise _failed(index, name, error) from error
        steps.append(Step(index, name, transform.targets, frozenset(transform.kinds), operation))
    return Pipeline(steps)


def _failed(index: int, name: str, error: OperationError) -> TransformFailed:
    return TransformFailed(
        f"transforms[{index}].{name}: {error}", index=index, pointer=f"/spec/transforms/{index}/{name}{error.at}"
    )


def _identity(root: Manifest) -> dict[str, Any]:
    """Guarded fields that are there, by pointer."""
    metadata = root.get("metadata")
    fields = {f"/{key}": root[key] for key in GUARDED_ROOT & root.keys()}
    if isinstance(metadata, dict):
        fields |= {f"/metadata/{key}": metadata[key] for key in GUARDED_METADATA & metadata.keys()}
    return fields


def _check_identity(before: dict[str, Any], after: dict[str, Any]) -> None:
    """The second of two checks; the first, when compiling, names the transform."""
    if before != after:
        changed = sorted(
            field for field in before.keys() | after.keys() if before.get(field, _MISSING) != after.get(field, _MISSING)
        )
        raise TransformFailed(f"the transforms change {', '.join(changed)}, which is not theirs to change")
