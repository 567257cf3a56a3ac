"""What becomes of a registration: every phase with everything that can happen to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from typing import Any

import pytest

from syncer.agent.credentials import certificate_request, new_key
from syncer.api.registration import ClusterRegistration
from syncer.api.synctarget import SyncTarget
from syncer.controllers.registration import (
    ApprovalPolicy,
    Approve,
    Bind,
    CreateTarget,
    Known,
    Settle,
    Step,
    Wait,
    decide,
)

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
NOBODY, ANYBODY = ApprovalPolicy(), ApprovalPolicy(names=("*",))


@cache
def csr(target: str = "east") -> str:
    return certificate_request(new_key(), target)


def registration(
    uid: str = "r1",
    phase: str = "",
    *,
    target: str = "east",
    cluster: str = "u1",
    age: timedelta = timedelta(minutes=1),
    status: dict[str, Any] | None = None,
    deleting: bool = False,
    **spec: Any,
) -> ClusterRegistration:
    metadata: dict[str, Any] = {
        "name": f"{target}-{uid}", "uid": uid, "creationTimestamp": (NOW - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    }  # fmt: skip
    if deleting:
        metadata["deletionTimestamp"] = "2026-05-04T12:00:00Z"
    return ClusterRegistration.parse(
        {
            "kind": "ClusterRegistration",
            "metadata": metadata,
            "spec": {"targetName": target, "clusterUID": cluster, "request": csr(target), **spec},
            "status": ({"phase": phase, "reason": "X", "registrationGeneration": 1} if phase else {}) | (status or {}),
        }
    )


def sync_target(
    name: str = "east", *, uid: str = "t1", cluster: str = "", direct: bool = False, generation: int = 0
) -> SyncTarget:
    return SyncTarget.parse(
        {
            "kind": "SyncTarget",
            "metadata": {"name": name, "uid": uid},
            "spec": {"connection": {"direct": {}} if direct else {"tunnel": {}}},
            "status": {"clusterUID": cluster, "registrationGeneration": generation},
        }
    )


def step(one: ClusterRegistration, *others: ClusterRegistration | SyncTarget, policy: ApprovalPolicy = NOBODY) -> Step:
    known = Known(
        {found.metadata.name: found for found in (one, *others) if isinstance(found, ClusterRegistration)},
        {found.metadata.name: found for found in others if isinstance(found, SyncTarget)},
    )
    return decide(one, known, policy, now=NOW)


def test_a_new_one_says_whom_it_waits_for_and_then_waits() -> None:
    assert step(registration()) == Settle("Pending", "WaitsForApproval", "cluster u1: syncline approve east")
    assert step(registration(phase="Pending")) == Wait(3541)


def test_a_person_or_the_policy_approves() -> None:
    assert step(registration(decision="Approved")) == Approve(1, "ApprovedByPerson", "somebody approved it")
    by_policy = step(registration(), policy=ANYBODY)
    assert isinstance(by_policy, Approve)
    assert by_policy.reason == "ApprovedByPolicy"


def test_after_the_approval_the_target_is_made_bound_and_left_alone() -> None:
    approved = registration(phase="Approved")
    assert step(approved) == CreateTarget()
    assert step(approved, sync_target()) == Bind("t1")
    assert step(registration(phase="Approved", status={"targetUID": "t1"}), sync_target()) == Wait()


PHASES = ("", "Pending", "Approved", "Denied", "Expired")
DECISIONS = (None, "Approved", "Denied")
AGES = (timedelta(minutes=1), timedelta(hours=2))
TARGETS: tuple[tuple[SyncTarget, ...], ...] = (
    (), (sync_target(),), (sync_target(cluster="u1"),), (sync_target(cluster="u2"),), (sync_target(direct=True),),
    (sync_target("west", cluster="u1"),), (sync_target(uid="t2"),),
)  # fmt: skip
OTHERS: tuple[tuple[ClusterRegistration, ...], ...] = (
    (), (registration("r2", "Pending"),), (registration("r2", "Approved", status={"registrationGeneration": 2}),),
    (registration("r2", "Approved", cluster="u2"),), (registration("r2", "Denied", cluster="u2"),),
    (registration("r2", "Approved", target="west"),),
)  # fmt: skip


@pytest.mark.parametrize("policy", [NOBODY, ANYBODY])
@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_with_every_input_keeps_the_rules(phase: str, policy: ApprovalPolicy) -> None:
    """B40, S07: nothing final moves, nothing denied is approved, and one cluster has one name."""
    inputs = product(DECISIONS, AGES, TARGETS, OTHERS, (False, True), ("", "t1"))
    for decision, age, targets, others, deleting, bound in inputs:
        one = registration(
            phase=phase, decision=decision, age=age, deleting=deleting, status={"targetUID": bound} if bound else {}
        )
        found = step(one, *targets, *others, policy=policy)
        what = (phase, decision, age, targets, others, deleting, bound, found)
        if deleting or phase in ("Denied", "Expired"):
            assert found == Wait(), what
            continue
        if decision == "Denied":
            assert isinstance(found, Settle), what
            assert found.phase == "Denied", what
            continue
        taken = any(target.status.cluster_uid not in ("", "u1") for target in targets)
        elsewhere = any(target.metadata.name == "west" for target in targets)
        rivals = [other for other in others if other.status.phase == "Approved"]
        conflict = taken or elsewhere or any(
            (other.spec.target_name, other.spec.cluster_uid) != ("east", "u1") for other in rivals
        )  # fmt: skip
        if isinstance(found, Approve):
            assert phase in ("", "Pending"), what
            assert not conflict, what
            assert decision == "Approved" or policy is ANYBODY, what
            assert age == AGES[0], what
            assert all(other.status.registration_generation < found.generation for other in others), what
        if phase in ("", "Pending") and conflict:
            assert isinstance(found, Settle), what
            assert found.reason == "IdentityMismatch", what
            assert "u1" in found.message, what
        if isinstance(found, CreateTarget):
            assert phase == "Approved", what
            assert not bound, what
            assert all(target.metadata.name != "east" for target in targets), what


def test_the_message_of_a_mismatch_names_both_and_the_way_out() -> None:
    """B40."""
    other_cluster = step(registration(), sync_target(cluster="u2"))
    assert isinstance(other_cluster, Settle)
    assert other_cluster.message.startswith("target east is the cluster u2, and this is the cluster u1; ")
    assert "syncline target remove east" in other_cluster.message
    other_name = step(registration(), registration("r2", "Approved", target="west"))
    assert isinstance(other_name, Settle)
    assert other_name.message.startswith("cluster u1 is target west already, and asks to be target east; ")


def test_a_request_that_somebody_wrote_by_hand_is_checked_too() -> None:
    """S03."""
    forged = registration(decision="Approved", request=csr("west"))
    found = step(forged)
    assert isinstance(found, Settle)
    assert (found.phase, found.reason) == ("Denied", "RequestDenied")


@pytest.mark.parametrize(
    ("others", "generation"),
    [
        ((), 1),
        ((sync_target(generation=4),), 5),
        ((registration("r2", "Expired", status={"registrationGeneration": 7}),), 8),
        ((registration("r2", "Approved", target="west", cluster="u9", status={"registrationGeneration": 9}),), 1),
    ],
)
def test_generations_count_on_and_each_target_has_its_own(others: tuple[Any, ...], generation: int) -> None:
    """S06."""
    found = step(registration(decision="Approved"), *others)
    assert isinstance(found, Approve)
    assert found.generation == generation


def test_a_newer_registration_ends_the_one_before() -> None:
    """S06."""
    old, new = registration("r1", "Approved"), registration("r2", "Approved", status={"registrationGeneration": 2})
    ended = step(old, new, sync_target())
    assert isinstance(ended, Settle)
    assert (ended.phase, ended.reason) == ("Expired", "Superseded")
    assert step(new, old, sync_target()) == Bind("t1")


@pytest.mark.parametrize("found", [(), (sync_target(uid="t2"),)])
def test_a_target_that_was_removed_is_not_made_again(found: tuple[SyncTarget, ...]) -> None:
    """S07: nor is one of the same name that somebody made since taken over."""
    ended = step(registration(phase="Approved", status={"targetUID": "t1"}), *found)
    assert isinstance(ended, Settle)
    assert (ended.phase, ended.reason) == ("Expired", "TargetRemoved")


def test_nobody_s_answer_is_an_answer_after_an_hour() -> None:
    ended = step(registration(phase="Pending", age=timedelta(hours=1, seconds=1), decision="Approved"))
    assert isinstance(ended, Settle)
    assert (ended.phase, ended.reason) == ("Expired", "NotApproved")


@pytest.mark.parametrize(
    ("terms", "target", "labels", "allowed"),
    [
        ((), "east", {"region": "eu"}, False),
        (("edge-*",), "edge-1", {}, True),
        (("edge-*",), "east", {}, False),
        (("edge-*", "lab-*"), "lab-1", {}, True),
        (("region=eu*",), "east", {"region": "eu-1"}, True),
        (("region=eu*",), "east", {}, False),
        (("region=*",), "east", {}, False),
        (("edge-*", "region=eu"), "edge-1", {"region": "us"}, False),
        (("edge-*", "region=eu"), "edge-1", {"region": "eu"}, True),
        (("EDGE-*",), "edge-1", {}, False),
    ],
)
def test_the_policy_takes_one_of_its_names_and_all_of_its_labels(
    terms: tuple[str, ...], target: str, labels: dict[str, str], allowed: bool
) -> None:
    assert ApprovalPolicy.parse(terms).allows(registration(target=target, labels=labels).spec) is allowed
