"""One source object on one target: what is known of it, and how it stands. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import msgspec

from syncer.kube.objects import KubeObject


@dataclass(frozen=True, slots=True)
class Present:
    """The object is there; `object` is the newest version that we have seen."""

    object: KubeObject


@dataclass(frozen=True, slots=True)
class Absent:
    """A complete list, a DELETED event or a live 404 says that the object is not there."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody could tell. Unknown is never absent: it deletes nothing and recreates nothing."""

    reason: str
    starting: bool = False  # nobody asked yet, as opposed to: nobody answered
    retry_seconds: float | None = None  # look again then; None: an event follows once it is known


Observation: TypeAlias = Present | Absent | Unknown
ABSENT = Absent()


class State(StrEnum):
    """How one pair stands, for placement status and the CLI."""

    SYNCED = "Synced"
    PENDING = "Pending"  # something must happen first; it is tried again by itself
    FAILED = "Failed"  # a person has to change something
    DELETING = "Deleting"
    GONE = "Gone"  # nothing of ours is there (any more), as wanted


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of the last pass over a pair; equal outcomes are one outcome (Events are sent on change only)."""

    state: State
    reason: str = ""
    message: str = ""


class Failure(msgspec.Struct, frozen=True, gc=False):
    """A terminal answer, kept until the desired content changes: the same request is not sent again."""

    fingerprint: str  # hash of the desired manifest that failed
    reason: str
    message: str


class Memory(msgspec.Struct, frozen=True, gc=False):
    """What our own requests taught about one synced object. Lost at restart; all of it can be found out again."""

    uid: str = ""  # downstream uid after our last successful write or comparison
    applied: str = ""  # hash of the last content that the server took from us
    owned: bytes = b""  # digest of the fields we owned after it; b"" means: compare field by field
    failure: Failure | None = None
    dropped: tuple[str, ...] = ()  # pointers that this target's schema does not know (FieldPruned)
    deduped: tuple[str, ...] = ()  # pointers of env lists that name a variable twice; the last one is sent
    ceded: tuple[str, ...] = ()  # pointers left to another manager (DownstreamWins)
    stale: bool = False  # the server contradicted our view: read live before the next decision
    recreate: str = ""  # `absorb.recreation`: an object that must go before this content can be created
    namespace_missing: bool = False
    deleting: str = ""  # uid of an object that the server agreed to delete; its DELETED event follows
    handed_over: bool = False  # ignored fields were ceded; the next apply leaves them out
    proof: str = ""  # evidence collected for deleting the object with this uid, see `evidence`
    proof_uid: str = ""


def unlearned(memory: Memory) -> Memory:
    """Memory without what belonged to the earlier content or policy: failures, and pointers that count list items."""
    if not (memory.failure or memory.ceded or memory.deduped or memory.dropped or memory.recreate):
        return memory
    return msgspec.structs.replace(
        memory, failure=None, ceded=(), deduped=(), dropped=(), recreate="", handed_over=False, owned=b""
    )
