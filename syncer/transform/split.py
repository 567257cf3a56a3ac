"""Step 3: one target's share of a divided placement."""

from __future__ import annotations

from collections.abc import Mapping
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
        parallelism, completions = spec.get("parallelism"), spec.get("completions")
        queue = completions is None and parallelism is not None  # the API's words: no fixed number of completions
        return Split(parallelism=_count(parallelism), completions=None if queue else _count(completions))
    return Split(replicas=_count(spec.get("replicas"))) if kind in SCALABLE else None


def share(whole: Split, numbers: Mapping[str, int]) -> Split:
    """One target's part of `whole`, of numbers that are divided.

    A Job without a worker never ends, and neither would the whole: each target has one at least, so that a small
    `parallelism` is exceeded rather than its sum kept. One that is paused upstream is paused everywhere.
    """
    split = Split(**numbers)
    return split._replace(parallelism=1) if whole.parallelism and split.parallelism == 0 else split


def split_draft(draft: Draft, kind: GroupKind, split: Split) -> None:
    """Write a share into the draft; numbers that do not belong to the kind are left alone."""
    fields = ("parallelism", "completions") if kind == _JOB else ("replicas",) if kind in SCALABLE else ()
    for field in fields:
        number = getattr(split, field)
        if number is not None:
            draft.ensure("spec")[field] = number


def _count(value: object) -> int:
    return value if isinstance(value, int) else 1
