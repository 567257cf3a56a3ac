"""What to do next about one object on one target. Pure: a situation in, one action or a settled outcome out.

A pass is `decide → perform → absorb` until settled. Every rule here was tried on kube-apiserver 1.36; docs/concepts.md
tells users what they see of it.
"""

from __future__ import annotations

import msgspec

from syncer.api.names import APPLIED_ANNOTATION, Reason
from syncer.conflict.existing import Found, Refuse, resolve_existing
from syncer.conflict.fields import forces_fields
from syncer.conflict.immutable import may_recreate
from syncer.engine import actions as do
from syncer.engine.absorb import recreation
from syncer.engine.drift import compare, live_values, shaped
from syncer.engine.pair import Absent, Failure, Memory, Outcome, Present, State, Unknown
from syncer.engine.situation import Held, Situation, Unwanted, Wanted
from syncer.kube.fields import digest
from syncer.kube.objects import KubeObject
from syncer.kube.pointers import join_pointer
from syncer.transform.mark import is_ours, read_applied, read_deletion, read_mark

DELETION_POLL_SECONDS = 5.0
_MARKS = (join_pointer(("metadata", "annotations", APPLIED_ANNOTATION)),)  # whoever took others off took this one
_PAUSED = "drift mode Pause: nothing is written after the first apply"


def decide(situation: Situation) -> do.Action | do.Settled:
    """The next step of one pair; after its own result it ends in `Settled`."""
    intent, memory = situation.intent, situation.memory
    if situation.closed is not None:
        return _hold(situation.closed, memory)
    if isinstance(intent, Held):
        return _hold(intent, memory)
    if isinstance(situation.downstream, Unknown):
        unknown = situation.downstream
        reason = Reason.RETRYING if unknown.starting else Reason.UNREACHABLE
        return _settle(memory, State.PENDING, reason, unknown.reason, unknown.retry_seconds)
    if memory.stale:
        return do.Read()
    if isinstance(intent, Unwanted):
        return _decide_removal(situation, intent)
    return _decide_presence(situation, intent)


def _hold(held: Held, memory: Memory) -> do.Settled:
    state = State.FAILED if held.failed else State.PENDING
    return do.Settled(Outcome(state, held.reason, held.message), memory, held.retry_seconds)


def _settle(
    memory: Memory, state: State, reason: str = "", message: str = "", retry: float | None = None
) -> do.Settled:
    return do.Settled(Outcome(state, reason, message), memory, retry)


# Presence


def _decide_presence(situation: Situation, wanted: Wanted) -> do.Action | do.Settled:
    memory, namespace = situation.memory, situation.namespace_problem
    if namespace is not None and namespace.reason == Reason.DELETING:
        return _hold(namespace, memory)  # whatever is in it goes with it, and is made anew in its successor
    if memory.failure is not None and memory.failure.fingerprint == wanted.hash:
        return _settle(memory, State.FAILED, memory.failure.reason, memory.failure.message)
    if isinstance(situation.downstream, Absent):
        return _decide_creation(situation, wanted)
    assert isinstance(situation.downstream, Present)
    observed = situation.downstream.object
    if observed.terminating or observed.uid == memory.deleting:
        message = "the object is being deleted on the target; it is created again afterwards"
        return _settle(memory, State.PENDING, Reason.DELETING, message)
    if _to_recreate(situation, wanted, observed):
        why = "recreate: an immutable field changed and onImmutable is Recreate"
        return do.Delete(observed.uid, evidence=why, counted=False)
    mark = read_mark(observed) if _kin(observed, situation) else None
    if mark is None:
        return _decide_takeover(situation, wanted, observed)
    if mark.uid != wanted.source_uid:
        if wanted.runs_once:
            return do.Delete(
                observed.uid, evidence=f"replaced: source uid {wanted.source_uid} follows {mark.uid}", counted=False
            )
        return _apply(wanted, memory, observed)
    if read_applied(observed) != wanted.hash:
        if wanted.policy.drift == "CreateOnly":
            return _settle(_known(memory, observed), State.SYNCED)
        if wanted.policy.drift == "Pause":
            return _settle(memory, State.PENDING, Reason.SUSPENDED, _PAUSED)
        return _apply(wanted, memory, observed)
    return _decide_drift(wanted, memory, observed)


def _decide_creation(situation: Situation, wanted: Wanted) -> do.Action | do.Settled:
    memory = situation.memory
    if wanted.finished:
        return _settle(memory, State.SYNCED)
    if wanted.policy.drift == "Pause" and (memory.applied or wanted.taken_away):
        return _settle(
            memory,
            State.PENDING,
            Reason.SUSPENDED,
            "drift mode Pause: the object was deleted on the target and is not created again before the mode changes",
        )
    if situation.namespace_problem is not None:
        return _hold(situation.namespace_problem, memory)
    if wanted.namespace and (memory.namespace_missing or not situation.namespace_ready):
        return do.EnsureNamespace()
    return do.Create(shaped(wanted.manifest, msgspec.structs.replace(memory, ceded=())))


def _to_recreate(situation: Situation, wanted: Wanted, observed: KubeObject) -> bool:
    """The server refused this very content for this very object of ours, and the placement still says Recreate."""
    return (
        situation.memory.recreate == recreation(observed.uid, wanted.hash)
        and may_recreate(wanted.policy.on_immutable, wanted.kind)
        and _kin(observed, situation)
    )


def _kin(observed: KubeObject, situation: Situation) -> bool:
    """Ours by its marks; or its label was removed by hand, but it is what we wrote (same uid, or still our fields)."""
    if is_ours(observed, situation.hub_id):
        return True
    mark = read_mark(observed)
    return (
        mark is not None
        and mark.hub == situation.hub_id
        and not any(owner.controller for owner in observed.owner_references)
        and (mark.namespace, mark.name) == (observed.namespace, observed.name)
        and (observed.uid == situation.memory.uid or observed.owned is not None)
    )


def _decide_takeover(situation: Situation, wanted: Wanted, observed: KubeObject) -> do.Action | do.Settled:
    if observed.uid == situation.memory.uid and wanted.policy.drift == "Pause":
        return _settle(situation.memory, State.PENDING, Reason.SUSPENDED, _PAUSED)
    if observed.uid == situation.memory.uid:  # our own object whose marks were removed by hand: drift like any other
        return _apply(wanted, situation.memory, observed)
    verdict = resolve_existing(wanted.policy.existing, Found.classify(observed, situation.hub_id))
    if isinstance(verdict, Refuse):
        failure = Failure(wanted.hash, verdict.reason, verdict.message)
        return _settle(
            msgspec.structs.replace(situation.memory, failure=failure), State.FAILED, verdict.reason, verdict.message
        )
    force = wanted.policy.existing == "Overwrite" or forces_fields(wanted.policy.fields)
    manifest = shaped(wanted.manifest, situation.memory)
    return do.Apply(manifest, observed.uid, force=force)


def _known(memory: Memory, observed: KubeObject) -> Memory:
    return msgspec.structs.replace(memory, uid=observed.uid, owned=digest(observed.owned), failure=None)


def _apply(wanted: Wanted, memory: Memory, observed: KubeObject, repairs: tuple[str, ...] = ()) -> do.Action:
    """Bring an object that is ours to the wanted content; ignored fields that we still own are handed over first."""
    ignored = wanted.policy.ignored()
    if ignored and not memory.handed_over:
        ceding = live_values(observed, ignored)
        if ceding is not None:
            return do.Cede(ceding, observed.uid)
    if (memory.uid, memory.applied) == (observed.uid, wanted.hash):  # it has had this very content from us
        repairs = repairs or _MARKS
    manifest = shaped(wanted.manifest, memory, ignored)
    return do.Apply(manifest, observed.uid, force=forces_fields(wanted.policy.fields), repairs=repairs)


def _decide_drift(wanted: Wanted, memory: Memory, observed: KubeObject) -> do.Action | do.Settled:
    """The content was applied. Did somebody change, remove or take over a field since?"""
    if memory.uid == observed.uid and memory.owned and memory.owned == digest(observed.owned):
        return _settled_with_gaps(memory)
    drift = compare(wanted, memory, observed)
    known = _known(memory, observed)
    if drift.enforced:
        return _apply(wanted, memory, observed, repairs=drift.enforced)
    if drift.warned:
        fields = ", ".join(drift.warned[:5])
        return _settle(
            known,
            State.SYNCED,
            Reason.DRIFT_DETECTED,
            f"changed on the target and left alone (drift mode Warn): {fields}",
        )
    return _settled_with_gaps(known)


def _settled_with_gaps(memory: Memory) -> do.Settled:
    if memory.dropped:
        return _settle(
            memory, State.SYNCED, Reason.FIELD_PRUNED, "the target does not know " + ", ".join(memory.dropped)
        )
    if memory.ceded:
        return _settle(
            memory, State.SYNCED, Reason.FIELD_CONFLICT, "left to another manager: " + ", ".join(memory.ceded)
        )
    return _settle(memory, State.SYNCED)


# Removal


def _decide_removal(situation: Situation, unwanted: Unwanted) -> do.Action | do.Settled:
    memory = situation.memory
    if isinstance(situation.downstream, Absent):
        return _settle(Memory(), State.GONE)
    assert isinstance(situation.downstream, Present)
    observed = situation.downstream.object
    if not is_ours(observed, situation.hub_id):
        return _settle(Memory(), State.GONE)
    if observed.terminating or observed.uid == memory.deleting:
        return _settle(memory, State.DELETING)
    orphan = read_deletion(observed) == "Orphan"
    if unwanted.orphan and not orphan:
        return do.Release(observed.uid)  # only what the object itself says outlives us
    if orphan:
        return _settle(memory, State.GONE, message="left in place: its deletion policy is Orphan")
    if unwanted.evidence and not unwanted.verify:
        return do.Delete(observed.uid, unwanted.evidence, unwanted.counted)
    if memory.proof and memory.proof_uid == observed.uid:
        return do.Delete(observed.uid, memory.proof, unwanted.counted)
    if unwanted.verify == "source":
        return do.VerifySourceGone()
    if unwanted.verify == "kind":
        return do.VerifyKind(unwanted.evidence)
    if unwanted.verify == "intent":
        return do.VerifyIntent()
    return _settle(memory, State.PENDING, Reason.FROZEN, unwanted.message, retry=DELETION_POLL_SECONDS)
