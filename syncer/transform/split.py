"""Step 3: one target's share of a divided placement."""

from __future__ import annotations

from typing import Final, NamedTuple

from syncer.api.keys import GroupKind
from syncer.api.names import Reason
from syncer.errors import TerminalError
from syncer.transform.draft import Draft, Manifest
from syncer.transform.operations.replicas import SCALABLE

_JOB: Final = GroupKind("batch", "Job")


class Split(NamedTuple):
    """Numbers that are divided; None where the kind has no such number, or it is not set."""

    replicas: int | None = None
    parallelism: int | None = None
    completions: int | None = None


def totals(manifest: Manifest, kind: GroupKind) -> Split | None:
    """What there is to divide, with the API's defaults; None for objects that are only ever duplicated.

    Raises:
        TerminalError: an Indexed Job, whose completions are named parts and not a number of equal ones.
    """
    spec = manifest.get("spec")
    if not isinstance(spec, dict):
        return None
    if kind == _JOB:
        if spec.get("completionMode") == "Indexed":
            raise TerminalError(
                Reason.INVALID, "an Indexed Job cannot be divided between targets", pointer="/spec/completionMode"
            )
        completions = spec.get("completions")
        return Split(
            parallelism=_count(spec.get("parallelism")),
            completions=None if completions is None else _count(completions),
        )
    return Split(replicas=_count(spec.get("replicas"))) if kind in SCALABLE else None


def split_draft(draft: Draft, kind: GroupKind, split: Split) -> None:
    """Write a share into the draft; numbers that do not belong to the kind are left alone."""
    fields = ("parallelism", "completions") if kind == _JOB else ("replicas",) if kind in SCALABLE else ()
    for field in fields:
        number = getattr(split, field)
        if number is not None:
            draft.ensure("spec")[field] = number


def _count(value: object) -> int:
    return value if isinstance(value, int) else 1
