"""What a SyncTarget says of itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from syncer.api.common import Condition
from syncer.api.keys import GroupResource
from syncer.api.synctarget import FrozenStatus, SyncTargetStatus, TunnelStatus
from syncer.controllers.probe import Verdict
from syncer.controllers.rights import MissingRight
from syncer.controllers.status import OLDEST_KUBERNETES, TargetFacts, build_status, worth_writing
from tests.support.operator import ROOT

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GOOD = TargetFacts(
    generation=3,
    verdict=Verdict(True, "Connected", "", 0),
    heartbeat=NOW,
    missing_rights=(),
    unserved=(),
    version="v1.36.4",
)


def conditions(
    facts: TargetFacts, previous: SyncTargetStatus | None = None, now: datetime = NOW
) -> dict[str, Condition]:
    return {c.type: c for c in build_status(facts, previous or SyncTargetStatus(), now=now).conditions}


def test_a_healthy_target_is_ready_and_says_so_in_every_condition() -> None:
    told = conditions(GOOD)
    assert {kind: c.status for kind, c in told.items()} == {
        "Ready": "True",
        "Connected": "True",
        "HeartbeatHealthy": "True",
        "Authorized": "True",
        "ResourcesCompatible": "True",
        "Frozen": "False",
    }
    assert all(c.observed_generation == 3 for c in told.values())
    assert build_status(GOOD, SyncTargetStatus(), now=NOW).reason == ""


def test_before_the_first_answer_everything_is_unknown() -> None:
    told = conditions(TargetFacts(generation=1, verdict=Verdict(None, "Connecting", "not yet asked", 0)))
    assert {told[kind].status for kind in ("Ready", "Connected", "HeartbeatHealthy", "Authorized")} == {"Unknown"}


def test_a_revoked_token_shows_in_connected_authorized_and_ready() -> None:
    facts = replace(GOOD, verdict=Verdict(False, "Unauthorized", "the token is not accepted", 0))
    told = conditions(facts)
    assert [told[kind].reason for kind in ("Ready", "Connected", "Authorized")] == ["Unauthorized"] * 3
    assert build_status(facts, SyncTargetStatus(), now=NOW).reason == "Unauthorized"


def test_ready_is_connected_and_a_fresh_heartbeat() -> None:
    told = conditions(GOOD, now=NOW + timedelta(seconds=61))
    assert (told["Ready"].status, told["Ready"].reason) == ("False", "HeartbeatStale")


def test_missing_rights_and_missing_kinds_block_only_what_they_name() -> None:
    missing = (MissingRight(GroupResource("batch", "jobs"), ("create",)),)
    told = conditions(replace(GOOD, missing_rights=missing, unserved=("widgets.example.com",)))
    assert told["Ready"].status == "True"
    assert "jobs.batch (create)" in told["Authorized"].message
    assert "widgets.example.com" in told["ResourcesCompatible"].message


def test_a_tunnelled_target_tells_its_registration_and_whether_two_agents_fight() -> None:
    """The generation of a registration that ended stays: the next one counts from there."""
    far = replace(GOOD, tunnel=TunnelStatus(links=1), registration=3)
    first = build_status(far, SyncTargetStatus(), now=NOW)
    assert first.registration_generation == 3
    assert build_status(replace(far, registration=0), first, now=NOW).registration_generation == 3
    assert build_status(replace(far, registration=4), first, now=NOW).registration_generation == 4
    assert build_status(GOOD, first, now=NOW).registration_generation == 0
    assert "DuplicateAgent" not in conditions(GOOD)
    assert conditions(far)["DuplicateAgent"].status == "False"
    fight = build_status(replace(far, duplicate=True), SyncTargetStatus(), now=NOW)
    assert fight.reason == "DuplicateAgent"
    assert {c.type: c.status for c in fight.conditions}["Ready"] == "True"


def test_what_cures_missing_rights_fits_how_the_target_is_reached() -> None:
    missing = replace(GOOD, missing_rights=(MissingRight(GroupResource("batch", "jobs"), ("create",)),))
    assert "syncline target add" in conditions(missing)["Authorized"].message
    far = conditions(replace(missing, tunnel=TunnelStatus()))["Authorized"].message
    assert "target add" not in far
    assert "the agent's identity" in far


def test_a_frozen_target_shows_token_and_reason_and_removing_our_api_shows_too() -> None:
    frozen = FrozenStatus(token="t0ken", message="11 deletes wait")
    told = conditions(replace(GOOD, frozen=frozen))
    assert (told["Frozen"].status, told["Frozen"].reason) == ("True", "Frozen")
    assert build_status(replace(GOOD, frozen=frozen), SyncTargetStatus(), now=NOW).reason == "Frozen"
    told = conditions(replace(GOOD, stopped="CustomResourceDefinition is being deleted"))
    assert (told["Frozen"].status, told["Frozen"].reason) == ("True", "ApiRemoved")


def test_a_deleted_target_is_not_ready_and_says_what_it_waits_for() -> None:
    told = conditions(replace(GOOD, deleting="3 objects are being removed"))
    assert (told["Ready"].reason, told["Ready"].message) == ("Deleting", "3 objects are being removed")


def test_transition_times_move_only_with_the_status() -> None:
    first = build_status(GOOD, SyncTargetStatus(), now=NOW)
    later = NOW + timedelta(seconds=30)
    same = build_status(replace(GOOD, heartbeat=later), first, now=later)
    assert [c.last_transition_time for c in same.conditions] == [c.last_transition_time for c in first.conditions]
    lost = build_status(replace(GOOD, verdict=Verdict(False, "Unreachable", "x", 0)), first, now=later)
    moved = {c.type for c in lost.conditions if c.last_transition_time != "2026-01-02T03:04:05Z"}
    assert moved == {"Ready", "Connected"}


def test_messages_from_outside_are_bounded_and_hold_no_secret() -> None:
    """B27, P17."""
    noisy = "Bearer c4n4ry-token-0123 " + "x" * 1_000_000
    told = conditions(replace(GOOD, verdict=Verdict(False, "Unreachable", noisy, 0)))
    assert len(told["Connected"].message) <= 1024
    assert "c4n4ry" not in told["Connected"].message


def test_heartbeats_are_written_once_a_minute_and_everything_else_at_once() -> None:
    first = build_status(GOOD, SyncTargetStatus(), now=NOW)
    assert worth_writing(first, None, age_seconds=0)
    assert not worth_writing(first, first, age_seconds=3600)
    beat = first.model_copy(update={"last_heartbeat_time": "2026-01-02T03:05:05Z"})
    assert not worth_writing(beat, first, age_seconds=59)
    assert worth_writing(beat, first, age_seconds=60)
    empty, four, five = (first.model_copy(update={"objects": objects}) for objects in (0, 4, 5))
    assert not worth_writing(five, four, age_seconds=4)
    assert worth_writing(five, four, age_seconds=5)
    assert worth_writing(four, empty, age_seconds=0)
    changed = first.model_copy(update={"reason": "Unreachable"})
    assert worth_writing(changed, first, age_seconds=0)


@pytest.mark.parametrize("version", ["v1.29.14", "v1.21.3-gke.100", "1.9"])
def test_an_old_target_is_told_with_both_versions(version: str) -> None:
    told = conditions(replace(GOOD, version=version))["ResourcesCompatible"]
    assert (told.status, told.reason) == ("False", "VersionSkew")
    assert version in told.message
    assert "v1.30" in told.message
    assert build_status(replace(GOOD, version=version), SyncTargetStatus(), now=NOW).reason == "VersionSkew"


@pytest.mark.parametrize("version", ["v1.30.0", "v1.36.4+k3s1", "v2.0", "", "nonsense", "v99999.1"])
def test_a_version_that_is_new_or_cannot_be_read_is_no_trouble(version: str) -> None:
    """What a target says of itself is not trusted to look like a version."""
    assert conditions(replace(GOOD, version=version))["ResourcesCompatible"].status == "True"


def test_the_charts_ask_for_the_same_version() -> None:
    oldest = ".".join(map(str, OLDEST_KUBERNETES))
    for path in (ROOT / "deploy" / "helm").glob("*/Chart.yaml"):
        assert f'kubeVersion: ">={oldest}.0-0"' in path.read_text()


def test_an_old_target_hides_neither_missing_kinds_nor_missing_rights() -> None:
    missing = (MissingRight(GroupResource("batch", "jobs"), ("create",)),)
    facts = replace(GOOD, version="v1.29.1", missing_rights=missing, unserved=("widgets.example.com",))
    assert "widgets.example.com" in conditions(facts)["ResourcesCompatible"].message
    assert build_status(facts, SyncTargetStatus(), now=NOW).reason == "Forbidden"
