"""decide: one situation, one step. Pure: no clock, no server."""

from __future__ import annotations

import copy

import pytest

from syncer.api.names import Reason
from syncer.engine import actions as do
from syncer.engine.absorb import absorb_error, absorb_reply
from syncer.engine.decide import decide
from syncer.engine.pair import ABSENT, Failure, Memory, State, Unknown
from syncer.engine.situation import Held, PathRule, Policy, Unwanted
from syncer.kube.errors import Cause, Conflict, Invalid, NotFound, SchemaMismatch
from syncer.kube.fields import digest
from tests.support.objects import HUB, LIVE_UID, OWNED, deployment, live, marked, situation, wanted


def settled(step: do.Action | do.Settled) -> do.Settled:
    assert isinstance(step, do.Settled), step
    return step


def test_an_absent_object_is_created_with_a_create_only_apply() -> None:
    manifest, hash_ = marked(deployment())
    assert decide(situation(wanted(manifest, hash_), ABSENT)) == do.Create(manifest)


def test_the_namespace_comes_before_the_object() -> None:
    manifest, hash_ = marked(deployment())
    assert decide(situation(wanted(manifest, hash_), ABSENT, namespace_ready=False)) == do.EnsureNamespace()


def test_after_its_own_write_nothing_is_left_to_do() -> None:
    """P5: the second pass on unchanged input writes nothing."""
    manifest, hash_ = marked(deployment())
    created = live(manifest, OWNED)
    memory = absorb_reply(Memory(), do.Create(manifest), do.Replied(created), hash_)
    step = settled(decide(situation(wanted(manifest, hash_), created, memory)))
    assert step.outcome.state is State.SYNCED
    assert memory.owned == digest(created.owned)


def test_a_restarted_engine_recognises_its_own_work_without_a_write() -> None:
    """P5, L15: without memory the fields are compared, and nothing is written."""
    manifest, hash_ = marked(deployment())
    step = settled(decide(situation(wanted(manifest, hash_), live(manifest, OWNED), Memory())))
    assert step.outcome.state is State.SYNCED
    assert step.memory.owned


def test_new_content_is_applied_onto_the_known_uid() -> None:
    before, hash_ = marked(deployment())
    after, new_hash = marked(deployment(image="nginx:1.28"), generation=2)
    step = decide(situation(wanted(after, new_hash), live(before, OWNED), Memory(uid=LIVE_UID, applied=hash_)))
    assert step == do.Apply(after, LIVE_UID, force=True)


def test_a_field_that_somebody_took_over_is_drift_and_repaired() -> None:
    """F45: the server takes ownership away from us when somebody else changes a field."""
    manifest, hash_ = marked(deployment())
    changed = copy.deepcopy(manifest)
    changed["spec"]["replicas"] = 7
    owned = copy.deepcopy(OWNED)
    del owned["f:spec"]["f:replicas"]
    memory = Memory(uid=LIVE_UID, applied=hash_, owned=b"as it was")
    step = decide(situation(wanted(manifest, hash_), live(changed, owned), memory))
    assert isinstance(step, do.Apply)
    assert step.repairs == ("/spec/replicas",)


def test_a_mark_that_somebody_took_off_is_drift_and_new_content_is_not() -> None:
    manifest, hash_ = marked(deployment())
    bare = copy.deepcopy(manifest)
    del bare["metadata"]["annotations"]["syncline.io/applied"]
    memory = Memory(uid=LIVE_UID, applied=hash_)
    step = decide(situation(wanted(manifest, hash_), live(bare, OWNED), memory))
    assert step == do.Apply(manifest, LIVE_UID, force=True, repairs=("/metadata/annotations/syncline.io~1applied",))
    after, new_hash = marked(deployment(image="nginx:1.28"), generation=2)
    step = decide(situation(wanted(after, new_hash), live(bare, OWNED), memory))
    assert step == do.Apply(after, LIVE_UID, force=True)


@pytest.mark.parametrize("mode", ["Ignore", "Warn"])
def test_drift_that_is_not_enforced_is_left_alone(mode: str) -> None:
    manifest, hash_ = marked(deployment())
    changed = copy.deepcopy(manifest)
    changed["spec"]["replicas"] = 7
    owned = copy.deepcopy(OWNED)
    del owned["f:spec"]["f:replicas"]
    policy = Policy(paths=(PathRule("/spec/replicas", mode),))
    step = settled(decide(situation(wanted(manifest, hash_, policy), live(changed, owned), Memory(uid=LIVE_UID))))
    assert step.outcome.state is State.SYNCED
    assert (step.outcome.reason == Reason.DRIFT_DETECTED) is (mode == "Warn")


def test_an_ignored_field_is_handed_over_with_its_live_value_and_then_left_out() -> None:
    before, hash_ = marked(deployment())
    after, new_hash = marked(deployment(image="nginx:1.28"), generation=2)
    policy = Policy(paths=(PathRule("/spec/replicas", "Ignore"),))
    memory = Memory(uid=LIVE_UID, applied=hash_)
    step = decide(situation(wanted(after, new_hash, policy), live(before, OWNED), memory))
    assert isinstance(step, do.Cede)
    assert step.manifest["spec"] == {"replicas": 2}
    memory = absorb_reply(memory, step, do.Replied(live(before, OWNED)), new_hash)
    step = decide(situation(wanted(after, new_hash, policy), live(before, OWNED), memory))
    assert isinstance(step, do.Apply)
    assert "replicas" not in step.manifest["spec"]


def test_create_only_never_updates() -> None:
    before, hash_ = marked(deployment())
    after, new_hash = marked(deployment(image="nginx:1.28"), generation=2)
    policy = Policy(drift="CreateOnly")
    step = settled(decide(situation(wanted(after, new_hash, policy), live(before, OWNED), Memory(applied=hash_))))
    assert step.outcome.state is State.SYNCED


def test_a_foreign_object_is_not_touched() -> None:
    """F64, P4."""
    manifest, hash_ = marked(deployment())
    step = settled(decide(situation(wanted(manifest, hash_), live(deployment()))))
    assert (step.outcome.state, step.outcome.reason) == (State.FAILED, Reason.ALREADY_EXISTS)


def test_a_foreign_object_is_adopted_where_the_placement_says_so() -> None:
    manifest, hash_ = marked(deployment())
    step = decide(situation(wanted(manifest, hash_, Policy(existing="Adopt")), live(deployment())))
    assert step == do.Apply(manifest, LIVE_UID, force=True)


@pytest.mark.parametrize("existing", ["Abort", "Adopt", "Overwrite"])
def test_another_hubs_object_is_never_taken(existing: str) -> None:
    """P4."""
    manifest, hash_ = marked(deployment())
    theirs, _ = marked(deployment(), hub="hub-2")
    step = settled(decide(situation(wanted(manifest, hash_, Policy(existing=existing)), live(theirs))))
    assert step.outcome.reason == Reason.CLAIMED_BY_OTHER_HUB


def test_a_new_source_of_the_same_name_replaces_in_place() -> None:
    old, _ = marked(deployment(), uid="older")
    new, hash_ = marked(deployment())
    step = decide(situation(wanted(new, hash_), live(old, OWNED)))
    assert step == do.Apply(new, LIVE_UID, force=True)


def test_a_new_job_of_the_same_name_is_deleted_first() -> None:
    old, _ = marked(deployment(), uid="older")
    new, hash_ = marked(deployment())
    step = decide(situation(wanted(new, hash_, runs_once=True), live(old, OWNED)))
    assert isinstance(step, do.Delete)
    assert step.uid == LIVE_UID
    assert not step.counted


def test_a_finished_run_is_never_created_again() -> None:
    """F63."""
    manifest, hash_ = marked(deployment())
    step = settled(decide(situation(wanted(manifest, hash_, runs_once=True, finished=True), ABSENT)))
    assert step.outcome.state is State.SYNCED


def test_unknown_never_creates_and_never_deletes() -> None:
    """P3: unknown is not absent."""
    manifest, hash_ = marked(deployment())
    for intent in (wanted(manifest, hash_), Unwanted("deletionTimestamp seen", counted=False)):
        step = settled(decide(situation(intent, Unknown("403"))))
        assert step.outcome.state is State.PENDING


def test_removal_with_evidence_deletes_exactly_this_object() -> None:
    manifest, _ = marked(deployment())
    step = decide(situation(Unwanted("deletionTimestamp seen", counted=False), live(manifest, OWNED)))
    assert step == do.Delete(LIVE_UID, "deletionTimestamp seen", counted=False)


@pytest.mark.parametrize(
    ("unwanted", "action"),
    [
        (Unwanted(verify="source"), do.VerifySourceGone()),
        (Unwanted("deletionTimestamp seen", verify="kind"), do.VerifyKind("deletionTimestamp seen")),
        (Unwanted(verify="intent"), do.VerifyIntent()),
    ],
)
def test_removal_that_needs_proof_asks_live_first(unwanted: Unwanted, action: do.Action) -> None:
    """P3."""
    manifest, _ = marked(deployment())
    observed = live(manifest, OWNED)
    step = decide(situation(unwanted, observed))
    assert step == action
    memory = absorb_reply(Memory(), step, do.Replied(observed, proof="404"), "")
    assert decide(situation(unwanted, observed, memory)) == do.Delete(LIVE_UID, "404", counted=True)


def test_proof_for_one_object_is_no_proof_for_its_successor() -> None:
    """P3, P20."""
    manifest, _ = marked(deployment())
    memory = Memory(proof="404", proof_uid="another uid")
    assert isinstance(decide(situation(Unwanted(verify="source"), live(manifest, OWNED), memory)), do.VerifySourceGone)


def test_a_delete_is_not_sent_twice() -> None:
    manifest, _ = marked(deployment())
    observed = live(manifest, OWNED)
    memory = absorb_reply(Memory(), do.Delete(LIVE_UID, "seen", counted=False), do.Replied(), "")
    step = settled(decide(situation(Unwanted("seen", counted=False), observed, memory)))
    assert step.outcome.state is State.DELETING


@pytest.mark.parametrize("deletion", ["Orphan", "", "delete", None])
def test_what_does_not_clearly_say_delete_stays(deletion: str | None) -> None:
    """The policy travels with the object; missing or unreadable means Orphan."""
    manifest, _ = marked(deployment())
    if deletion is None:
        del manifest["metadata"]["annotations"]["syncline.io/deletion"]
    else:
        manifest["metadata"]["annotations"]["syncline.io/deletion"] = deletion
    step = settled(decide(situation(Unwanted("seen", counted=False), live(manifest, OWNED))))
    assert step.outcome.state is State.GONE


def test_a_copy_that_says_delete_is_told_to_stay_before_it_is_left() -> None:
    """F61: the placement's last word was Orphan, and nothing was written since."""
    manifest, _ = marked(deployment())
    step = decide(situation(Unwanted("seen", counted=False, orphan=True), live(manifest, OWNED)))
    assert step == do.Release(LIVE_UID)
    released, _ = marked(deployment(), deletion="Orphan")
    left = settled(decide(situation(Unwanted("seen", counted=False, orphan=True), live(released, OWNED))))
    assert left.outcome.state is State.GONE


def test_an_object_with_a_controller_is_not_ours_even_with_our_marks() -> None:
    """P4: ReplicaSets inherit annotations, EndpointSlices labels."""
    manifest, _ = marked(deployment())
    manifest["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "u", "controller": True}
    ]
    step = settled(decide(situation(Unwanted("seen", counted=False), live(manifest, OWNED))))
    assert step.outcome.state is State.GONE


def test_a_closed_target_gets_nothing() -> None:
    manifest, hash_ = marked(deployment())
    closed = Held(Reason.TARGET_NOT_READY, "no connection")
    step = settled(decide(situation(wanted(manifest, hash_), ABSENT, closed=closed)))
    assert step.outcome == step.outcome.__class__(State.PENDING, Reason.TARGET_NOT_READY, "no connection")


def test_a_terminal_refusal_is_not_repeated_until_the_content_changes() -> None:
    """B15: no retry storm."""
    manifest, hash_ = marked(deployment())
    memory = Memory(failure=Failure(hash_, Reason.INVALID, "no"))
    assert settled(decide(situation(wanted(manifest, hash_), ABSENT, memory))).outcome.state is State.FAILED
    other, other_hash = marked(deployment(replicas=3))
    assert isinstance(decide(situation(wanted(other, other_hash), ABSENT, memory)), do.Create)


def test_an_immutable_field_fails_with_its_path_or_recreates() -> None:
    """B15."""
    manifest, hash_ = marked(deployment())
    cause = Cause("FieldValueInvalid", "spec.selector", "Invalid value: field is immutable")
    error = Invalid(422, "Invalid", "no", causes=(cause,))
    action = do.Apply(manifest, LIVE_UID, force=True)
    memory = absorb_error(Memory(uid=LIVE_UID), action, error, wanted(manifest, hash_))
    assert memory is not None
    assert memory.failure is not None
    assert memory.failure.reason == Reason.IMMUTABLE_FIELD
    assert "spec.selector" in memory.failure.message
    recreating = wanted(manifest, hash_, Policy(on_immutable="Recreate"))
    memory = absorb_error(Memory(uid=LIVE_UID), action, error, recreating)
    assert memory is not None
    step = decide(situation(recreating, live(manifest, OWNED), memory))
    assert isinstance(step, do.Delete)


def test_a_vanished_object_is_read_before_anything_else() -> None:
    """P20: 409 on the uid precondition says that our view is old."""
    manifest, hash_ = marked(deployment())
    memory = absorb_error(
        Memory(), do.Apply(manifest, LIVE_UID, force=True), Conflict(409, "Conflict", "uid"), wanted(manifest, hash_)
    )
    assert memory is not None
    assert decide(situation(wanted(manifest, hash_), live(manifest, OWNED), memory)) == do.Read()


def test_a_field_unknown_to_the_target_is_dropped_once() -> None:
    """B25."""
    manifest, hash_ = marked(deployment())
    manifest["spec"]["novelty"] = {"deep": 1}
    error = SchemaMismatch(500, Reason.FIELD_PRUNED, "…", pointer=".spec.novelty")
    error.problem = "undeclared"
    memory = absorb_error(Memory(), do.Create(manifest), error, wanted(manifest, hash_))
    assert memory is not None
    assert memory.dropped == ("/spec/novelty",)
    step = decide(situation(wanted(manifest, hash_), ABSENT, memory))
    assert isinstance(step, do.Create)
    assert "novelty" not in step.manifest["spec"]
    again = absorb_error(memory, step, error, wanted(manifest, hash_))
    assert again is not None
    assert again.failure is not None


def test_a_field_that_another_manager_owns_is_left_to_it_where_downstream_wins() -> None:
    manifest, hash_ = marked(deployment())
    intent = wanted(manifest, hash_, Policy(fields="DownstreamWins"))
    cause = Cause("FieldManagerConflict", ".spec.replicas", 'conflict with "kubectl"')
    error = Conflict(409, "Conflict", "…", causes=(cause,))
    memory = absorb_error(Memory(), do.Apply(manifest, LIVE_UID, force=False), error, intent)
    assert memory is not None
    assert memory.ceded == ("/spec/replicas",)
    other, other_hash = marked(deployment(image="nginx:1.28"))
    step = decide(situation(wanted(other, other_hash, intent.policy), live(manifest, OWNED), memory))
    assert isinstance(step, do.Apply)
    assert not step.force
    assert "replicas" not in step.manifest["spec"]


def test_a_missing_namespace_is_ensured_and_a_missing_kind_is_waited_for() -> None:
    manifest, hash_ = marked(deployment())
    error = NotFound(404, "NotFound", "namespaces")
    error.kind_of_missing = "namespace"
    memory = absorb_error(Memory(), do.Create(manifest), error, wanted(manifest, hash_))
    assert memory is not None
    assert decide(situation(wanted(manifest, hash_), ABSENT, memory)) == do.EnsureNamespace()
    error.kind_of_missing = "resource"
    assert absorb_error(Memory(), do.Create(manifest), error, wanted(manifest, hash_)) is None


def test_our_object_whose_marks_were_removed_by_hand_is_repaired() -> None:
    """F45."""
    manifest, hash_ = marked(deployment())
    bare = live(deployment(), OWNED)
    step = decide(situation(wanted(manifest, hash_), bare, Memory(uid=LIVE_UID, applied=hash_)))
    assert step == do.Apply(manifest, LIVE_UID, force=True, repairs=("/metadata/annotations/syncline.io~1applied",))
    assert HUB not in bare.labels.values()


def test_a_recreation_is_off_when_the_change_is_taken_back() -> None:
    """B15, P3: the wish belongs to one content of one object of ours."""
    manifest, hash_ = marked(deployment())
    policy = Policy(on_immutable="Recreate")
    memory = Memory(uid=LIVE_UID, recreate=f"{LIVE_UID}/another content")
    step = decide(situation(wanted(manifest, hash_, policy), live(manifest, OWNED), memory))
    assert isinstance(step, do.Settled)


def test_a_foreign_object_is_not_deleted_to_recreate_it() -> None:
    """P4."""
    manifest, hash_ = marked(deployment())
    policy = Policy(existing="Adopt", on_immutable="Recreate")
    memory = Memory(recreate=f"{LIVE_UID}/{hash_}")
    step = decide(situation(wanted(manifest, hash_, policy), live(deployment()), memory))
    assert isinstance(step, do.Apply)


def test_a_container_that_is_gone_needs_no_merged_variables() -> None:
    manifest, hash_ = marked(deployment())
    memory = Memory(deduped=("/spec/template/spec/containers/1/env",))
    assert decide(situation(wanted(manifest, hash_), ABSENT, memory)) == do.Create(manifest)
