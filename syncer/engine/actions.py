"""What a decision may ask for. Frozen values, compared by content; the executor performs them one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from syncer.engine.pair import Memory, Outcome
from syncer.kube.objects import KubeObject


@dataclass(frozen=True, slots=True)
class Create:
    """Server-side apply that succeeds only if the object is absent (resourceVersion "1")."""

    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply onto the object with this uid; never creates.

    `repairs` lists the JSON pointers that drifted; empty when the desired content changed.
    """

    manifest: Mapping[str, Any]
    uid: str
    force: bool
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cede:
    """Hand fields with their live values to manager `syncline-ceded`, so that omitting them later changes nothing."""

    manifest: Mapping[str, Any]
    uid: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the object with this uid; `evidence` says why that is proven."""

    uid: str
    evidence: str
    counted: bool  # spends the target's deletion budget


@dataclass(frozen=True, slots=True)
class Release:
    """Write `Orphan` onto the object with this uid: it stays, whoever asks it later."""

    uid: str


@dataclass(frozen=True, slots=True)
class Read:
    """Live GET of the object on the target."""


@dataclass(frozen=True, slots=True)
class EnsureNamespace:
    """Create the object's namespace on the target, or learn that it may be used."""


@dataclass(frozen=True, slots=True)
class VerifySourceGone:
    """Live GET of the source: only a 404 proves that it is gone."""


@dataclass(frozen=True, slots=True)
class VerifyKind:
    """Live check that a custom kind stays: whoever removes its CRD deletes all its objects, and means none of them.

    `evidence` is what was seen of the source, and counts once that is known.
    """

    evidence: str


@dataclass(frozen=True, slots=True)
class VerifyIntent:
    """Live check that our own API is installed and not terminating: only then un-placement is somebody's wish."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing to do now. `retry_seconds`: look again then, without waiting for an event."""

    outcome: Outcome
    memory: Memory
    retry_seconds: float | None = None


Verify: TypeAlias = VerifySourceGone | VerifyKind | VerifyIntent  # asked of the upstream
Action: TypeAlias = Create | Apply | Cede | Delete | Release | Read | EnsureNamespace | Verify
WRITES = (Create, Apply, Cede, Delete, Release, EnsureNamespace)


@dataclass(frozen=True, slots=True)
class Replied:
    """An action went through; `object` is what the server answered, None where it has nothing to show."""

    object: KubeObject | None = None
    unchanged: bool = False  # an apply that came back with the same resourceVersion
    proof: str = ""
