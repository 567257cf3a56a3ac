"""What the answer to one action teaches about a pair. Pure: memory, action and reply in; memory out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from syncer.api.names import Reason
from syncer.conflict.immutable import may_recreate
from syncer.engine import actions as do
from syncer.engine.pair import Failure, Memory
from syncer.engine.situation import Wanted
from syncer.kube.errors import (
    AdmissionDenied,
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    SchemaMismatch,
    TooLarge,
)
from syncer.kube.fields import digest, get_pointer, parse_field_text, pointer

replace = msgspec.structs.replace

IMMUTABLE = re.compile(
    r"immutable|updates to .* for fields other than|may not (be )?change|can only be (set|added)", re.I
)
_NOTHING: Final = object()


def absorb_reply(memory: Memory, action: do.Action, reply: do.Replied, wanted_hash: str) -> Memory:
    """Memory after an action that the server accepted."""
    if isinstance(action, do.Create | do.Apply):
        assert reply.object is not None
        return replace(
            memory,
            uid=reply.object.uid,
            applied=wanted_hash,
            owned=digest(reply.object.owned),
            failure=None,
            recreate="",
            namespace_missing=False,
            proof="",
            proof_uid="",
            handed_over=False,
        )
    if isinstance(action, do.Cede):
        return replace(memory, handed_over=True)
    if isinstance(action, do.Delete):
        return replace(memory, owned=b"", recreate="", proof="", proof_uid="", deleting=action.uid)
    if isinstance(action, do.EnsureNamespace):
        return replace(memory, namespace_missing=False)
    if isinstance(action, do.Read):
        return replace(memory, stale=False)
    if isinstance(action, do.Verify):
        assert reply.object is not None
        return replace(memory, proof=reply.proof, proof_uid=reply.object.uid)
    return memory


def absorb_error(memory: Memory, action: do.Action, error: ApiError, wanted: Wanted | None) -> Memory | None:
    """Memory after a refusal that decides something; None if the key must simply be tried again later."""
    if wanted is None:
        return replace(memory, stale=True) if isinstance(error, Conflict | NotFound | Invalid) else None
    if isinstance(error, SchemaMismatch):
        return _absorb_schema(memory, error, wanted)
    if isinstance(error, Conflict):
        return _absorb_conflict(memory, error, wanted)
    if isinstance(error, NotFound) and isinstance(action, do.Create):
        return replace(memory, namespace_missing=True) if error.kind_of_missing == "namespace" else None
    if isinstance(error, NotFound):
        return replace(memory, stale=True) if error.kind_of_missing == "object" else None
    if isinstance(error, Invalid):
        return _absorb_invalid(memory, action, error, wanted)
    if isinstance(error, TooLarge):
        return _fail(memory, wanted, Reason.OBJECT_TOO_LARGE, error.message)
    if isinstance(error, AdmissionDenied | Forbidden | BadRequest):
        return _fail(memory, wanted, error.reason, error.message)
    return None


def _fail(memory: Memory, wanted: Wanted, reason: str, message: str) -> Memory:
    return replace(memory, failure=Failure(wanted.hash, reason, message[:1024]))


def _absorb_schema(memory: Memory, error: SchemaMismatch, wanted: Wanted) -> Memory:
    """A 500 that never goes away: the target's schema does not know a field, or a keyed list has an item twice."""
    found = place(error.pointer, wanted.manifest)
    if error.problem == "duplicate" and found is not None and found.endswith("/env") and found not in memory.deduped:
        return replace(memory, deduped=(*memory.deduped, found))
    if error.problem != "undeclared" or found is None or found in memory.dropped:
        return _fail(memory, wanted, Reason.INVALID, error.message)
    return replace(memory, dropped=(*memory.dropped, found))


def _absorb_conflict(memory: Memory, error: Conflict, wanted: Wanted) -> Memory:
    if not error.field_conflicts:
        return replace(memory, stale=True)
    pointers = [place(cause.field, wanted.manifest) for cause in error.field_conflicts]
    fresh = tuple(p for p in pointers if p is not None and p not in memory.ceded)
    if not fresh:
        return _fail(memory, wanted, Reason.FIELD_CONFLICT, error.message)
    return replace(memory, ceded=memory.ceded + fresh)


def _absorb_invalid(memory: Memory, action: do.Action, error: Invalid, wanted: Wanted) -> Memory:
    if error.other_uid:
        return replace(memory, stale=True)
    immutable = [cause for cause in error.causes if IMMUTABLE.search(cause.message)]
    if immutable:
        if (
            may_recreate(wanted.policy.on_immutable, wanted.kind)
            and isinstance(action, do.Apply)
            and memory.recreate != recreation(action.uid, wanted.hash)
        ):
            return replace(memory, recreate=recreation(action.uid, wanted.hash))
        return _fail(memory, wanted, Reason.IMMUTABLE_FIELD, f"{immutable[0].field}: {immutable[0].message}")
    return _fail(memory, wanted, Reason.INVALID, error.message)


def recreation(uid: str, content: str) -> str:
    """Which object must go for which content: a change of either takes the wish back."""
    return f"{uid}/{content}"


def place(text: str | None, manifest: Mapping[str, Any]) -> str | None:
    """JSON pointer of a field that the server names `.spec.containers[name="web"].image`; None if it leads nowhere."""
    try:
        found = pointer(parse_field_text(text or "", manifest), manifest)
    except ValueError:
        return None
    return found if found and get_pointer(manifest, found, _NOTHING) is not _NOTHING else None
