"""One source object, its targets, and what is written of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest

from status.aggregator import Aggregator
from status.patch import status_patch
from status.report import Expected, Health, Mode, missing
from tests.status.builders import (
    DEPLOYMENT,
    JOB,
    NOW,
    WIDGET,
    aggregator,
    condition,
    conditions,
    deployment,
    merged,
    reported,
    source,
)

AUTOSCALER = ("autoscaling", "HorizontalPodAutoscaler")
MISSING: dict[str, Any] = {"target_uid": "uid-west", "source_uid": "u-1", "now": 0.0}


def test_nothing_is_said_before_anything_is_known() -> None:
    """`no data` is a state of its own: neither targets nor reports, and the old status stays."""
    made = Aggregator(DEPLOYMENT, "u-1")
    made.put(reported("east", deployment(3)))
    assert made.status(source({"replicas": 6}), now=NOW) is None
    made = aggregator("east", "west")
    assert made.status(source({"replicas": 6}), now=NOW) is None
    assert made.summary("east") == (False, Health.UNKNOWN, "no status yet")


def test_a_new_object_that_no_controller_has_looked_at_says_nothing_yet() -> None:
    """A controller's first words come before its first look: nobody can use them, and each would cost a write."""
    made = aggregator("east", "west")
    untouched = {"metadata": {"name": "web", "generation": 1}, "status": {}}
    begun = {**untouched, "status": {"conditions": [condition("Progressing", "True", "NewReplicaSetCreated")]}}
    made.put(reported("east", untouched))
    made.put(reported("west", begun))
    assert made.status(source(), now=NOW) is None
    assert made.status(source({"replicas": 6}), now=NOW) is not None, "one that was there has lost its replicas"
    made.put(reported("east", deployment(3, available=0)))
    assert merged(made, source())["unavailableReplicas"] == 3


def test_an_autoscaler_is_ready_without_any_generation() -> None:
    """An API server gives it none and its controller reports none: its conditions tell that it was looked at."""
    made = Aggregator(AUTOSCALER, "u-1")
    made.expect({"east": Expected(0)})
    untouched = {"metadata": {"name": "web"}, "status": {"desiredReplicas": 0, "currentMetrics": None}}
    made.put(reported("east", untouched, AUTOSCALER, generation=0))
    assert (made.status(source(generation=0), now=NOW), made.slots()[0].ready) == (None, False)
    said = {"desiredReplicas": 2, "conditions": [condition("AbleToScale", "True"), condition("ScalingActive", "True")]}
    made.put(reported("east", {**untouched, "status": said}, AUTOSCALER, generation=0))
    status = merged(made, source(generation=0))
    assert (status["desiredReplicas"], "observedGeneration" in status) == (2, False)
    assert conditions(status)["AbleToScale"]["status"] == "True"
    assert (made.slots()[0].ready, made.slots()[0].health) == (True, Health.HEALTHY)


def test_what_is_known_of_a_new_object_is_told_at_once() -> None:
    """Counters, the reason why Pods do not run, and a target out of reach are news even before the first look."""
    begun = {"metadata": {"name": "web", "generation": 1}, "status": {}}
    news: tuple[Callable[[Aggregator], object], ...] = (
        lambda made: made.put(reported("east", {**begun, "status": {"replicas": 1}})),
        lambda made: made.note("east", "FailedCreate", "quota"),
        lambda made: made.stale("east", 1.0),
    )
    for tell in news:
        made = aggregator("east")
        made.put(reported("east", begun))
        assert made.status(source(), now=NOW) is None
        tell(made)
        assert made.status(source(), now=NOW) is not None


def test_counters_are_summed_and_conditions_name_their_targets() -> None:
    made = aggregator("east", "west")
    made.put(reported("west", deployment(2)))
    made.put(reported("east", deployment(3)))
    status = merged(made, source())
    assert (status["replicas"], status["readyReplicas"], status["observedGeneration"]) == (5, 5, 1)
    available = conditions(status)["Available"]
    assert available["status"] == "True"
    assert available["message"] == "east, west: from the target"
    assert available["lastTransitionTime"] == available["lastUpdateTime"] == "2026-11-21T09:00:00Z"


def test_the_worst_target_in_name_order_gives_reason_and_message() -> None:
    made = aggregator("a", "b", "c", "d", "e")
    for target in "edcba":
        down = condition("Available", "False", f"Reason{target}", f"of {target}")
        made.put(reported(target, deployment(1) if target == "a" else deployment(1, available=0, conditions=[down])))
    available = conditions(merged(made, source()))["Available"]
    assert available["reason"] == "Reasonb"
    assert available["message"] == "b: of b; c: of c; d: of d; and 1 more"


@pytest.mark.parametrize(
    ("kind", "given", "worst"),
    [
        ("Available", ("True", "Unknown", "False"), "False"),
        ("Available", ("True", "Unknown", "True"), "Unknown"),
        ("ReplicaFailure", ("False", "Unknown", "True"), "True"),
        ("ReplicaFailure", ("False", "Unknown", "False"), "Unknown"),
    ],
)
def test_the_worst_status_wins(kind: str, given: tuple[str, str, str], worst: str) -> None:
    made = aggregator("a", "b", "c")
    for target, status in zip("abc", given, strict=True):
        made.put(reported(target, deployment(1, conditions=[condition(kind, status, "R")])))
    assert conditions(merged(made, source()))[kind]["status"] == worst


def test_silence_about_something_bad_is_good_and_about_something_good_is_unknown() -> None:
    made = aggregator("east", "west", kind=WIDGET)
    said = [condition("Ready", "True", "Up"), condition("Stalled", "False", "Moving")]
    made.put(reported("east", {"metadata": {}, "status": {"conditions": said}}, WIDGET))
    made.put(reported("west", {"metadata": {}, "status": {}}, WIDGET))
    told = conditions(merged(made, source()))
    assert (told["Ready"]["status"], told["Ready"]["reason"]) == ("Unknown", "NotReported")
    assert told["Stalled"]["status"] == "False"


def test_a_transition_time_moves_only_with_the_status() -> None:
    made = aggregator("east")
    made.put(reported("east", deployment(3, available=1)))
    origin = source(merged(made, source()))
    made.put(reported("east", deployment(3, available=2, conditions=[condition("Available", "False", "Other", "x")])))
    later = NOW + timedelta(minutes=5)
    changed = conditions(merged(made, origin, later))["Available"]
    assert changed["reason"] == "Other"
    assert changed["lastTransitionTime"] == "2026-11-21T09:00:00Z"
    assert changed["lastUpdateTime"] == "2026-11-21T09:05:00Z"
    made.put(reported("east", deployment(3)))
    assert conditions(merged(made, origin, later))["Available"]["lastTransitionTime"] == "2026-11-21T09:05:00Z"


def test_a_report_that_says_the_same_changes_nothing() -> None:
    made = aggregator("east")
    report = reported("east", deployment(3))
    assert made.put(report)
    assert not made.put(replace(report, collected_at=99.0))
    assert made.slots()[0].report == replace(report, collected_at=99.0)
    assert not made.put(replace(report, source_uid="another incarnation", status={}))
    assert not made.put(reported("unasked", deployment(9)))
    assert merged(made, source())["replicas"] == 3


def test_a_target_that_left_loses_its_slot() -> None:
    made = aggregator("east", "west")
    for target in ("east", "west"):
        made.put(reported(target, deployment(3)))
    made.expect({"east": Expected(1)})
    assert merged(made, source())["replicas"] == 3
    assert made.summary("west") == (False, Health.UNKNOWN, "not selected")
    made.expect({"east": Expected(1), "west": Expected(1)})
    assert made.summary("west") == (False, Health.UNKNOWN, "no status yet")


def test_a_report_that_came_before_its_target_was_expected_counts() -> None:
    made = Aggregator(DEPLOYMENT, "u-1")
    made.put(reported("east", deployment(3)))
    assert made.slots() == []
    made.expect({"east": Expected(1)})
    assert merged(made, source())["observedGeneration"] == 1


def test_no_selected_target_is_said_plainly() -> None:
    made = aggregator("east")
    made.put(reported("east", deployment(3)))
    origin = source(merged(made, source()))
    made.expect({})
    status = merged(made, origin)
    assert (status["replicas"], status["availableReplicas"], status["observedGeneration"]) == (0, 0, 1)
    (available,) = status["conditions"]
    assert (available["status"], available["reason"]) == ("False", "NoTargets")
    assert made.status(source(status), now=NOW) is None


def test_an_unreachable_target_keeps_its_counters_and_loses_its_conditions() -> None:
    """P8: unreachable shows Unknown with age, not zero."""
    made = aggregator("east", "west")
    for target in ("east", "west"):
        made.put(reported(target, deployment(3)))
    origin = source(merged(made, source()))
    since = (NOW - timedelta(minutes=7)).timestamp()
    assert made.stale("west", since)
    assert not made.stale("west", since)
    status = merged(made, origin)
    assert (status["readyReplicas"], status["observedGeneration"]) == (6, 1)
    for kind in ("Available", "Progressing"):
        said = conditions(status)[kind]
        assert (said["status"], said["reason"]) == ("Unknown", "Unreachable")
        assert said["message"] == "west: no contact since 2026-11-21T08:53:00Z"
    assert made.summary("west") == (False, Health.UNKNOWN, "no contact since 2026-11-21T08:53:00Z")
    assert made.stale("west", None)
    assert made.status(origin, now=NOW) is None
    assert not made.stale("nowhere", 1.0)


def test_after_a_restart_an_unreachable_target_does_not_pull_the_counters_down() -> None:
    """P8: its numbers are only in the source's status now."""
    made = aggregator("east", "west", replicas=3)
    made.put(reported("east", deployment(3)))
    made.stale("west", 0.0)
    old = {"replicas": 6, "updatedReplicas": 6, "readyReplicas": 6, "availableReplicas": 6, "observedGeneration": 1}
    status = merged(made, source(old))
    assert (status["readyReplicas"], status["unavailableReplicas"]) == (6, 0)
    assert conditions(status)["Available"]["message"] == "west: no contact since 1970-01-01T00:00:00Z, no status yet"
    made.put(missing("west", **MISSING))
    made.stale("west", None)
    status = merged(made, source(status))
    assert (status["readyReplicas"], status["unavailableReplicas"]) == (3, 3)
    said = conditions(status)["Available"]
    assert (said["status"], said["reason"]) == ("False", "Missing")


def test_after_a_restart_nothing_is_written_until_all_targets_have_spoken() -> None:
    """P5: the first target alone would turn a true status into an unknown one for a moment."""
    made = aggregator("east", "west")
    for target in ("east", "west"):
        made.put(reported(target, deployment(3)))
    origin = source(merged(made, source()))
    again = aggregator("east", "west")
    assert again.status(origin, now=NOW) is None
    again.put(reported("east", deployment(3)))
    assert again.status(origin, now=NOW + timedelta(seconds=9)) is None
    late = merged(again, origin, NOW + timedelta(seconds=10))
    assert (late["readyReplicas"], conditions(late)["Available"]["reason"]) == (6, "NoData")
    again.put(reported("west", deployment(3)))
    assert again.status(origin, now=NOW) is None, "nothing has changed"
    again.expect({"east": Expected(1), "west": Expected(1), "south": Expected(1)})
    again.put(reported("east", deployment(3, available=1)))
    status = merged(again, origin)
    assert (status["readyReplicas"], conditions(status)["Available"]["status"]) == (4, "False"), (
        "a new one is no reason"
    )


def test_a_missing_object_tells_its_reason() -> None:
    made = aggregator("east", "west")
    made.put(reported("east", deployment(3)))
    made.put(missing("west", **MISSING, reason="APIMissing", message="no such kind"))
    told = conditions(merged(made, source()))
    assert (told["Available"]["status"], told["Available"]["reason"]) == ("False", "APIMissing")
    assert told["Available"]["message"] == "west: no such kind"
    assert told["Progressing"]["status"] == "Unknown"
    assert made.summary("west") == (False, Health.MISSING, "no such kind")


def test_observed_generation_waits_for_every_target_and_for_each_rollout_once() -> None:
    """P8."""
    made = aggregator("east", "west")
    made.put(reported("east", deployment(3)))
    made.put(reported("west", deployment(3, updated=1)))
    assert "observedGeneration" not in merged(made, source())
    made.put(reported("west", deployment(3)))
    assert merged(made, source())["observedGeneration"] == 1
    made.put(reported("west", deployment(3, available=0)))
    assert merged(made, source())["observedGeneration"] == 1, "it passed once"
    made.expect({"east": Expected(2), "west": Expected(2)})
    assert merged(made, source(generation=2))["observedGeneration"] == 1
    made.put(reported("east", deployment(3, generation=8), generation=2))
    made.put(reported("west", deployment(3, generation=8, observed=7), generation=2))
    assert merged(made, source(generation=2))["observedGeneration"] == 1
    made.put(reported("west", deployment(3, generation=8), generation=2))
    assert merged(made, source(generation=2))["observedGeneration"] == 2


def test_a_generation_that_nobody_asked_for_is_no_evidence() -> None:
    """P9: an annotation that was edited on the target cannot run ahead."""
    made = aggregator("east")
    made.put(reported("east", deployment(3), generation=99))
    assert "observedGeneration" not in merged(made, source())
    assert "observedGeneration" not in merged(made, source(generation=2))


@pytest.mark.parametrize("change", [{"paused": True}, {"deadline": True}])
def test_a_paused_or_overdue_rollout_counts_as_observed(change: dict[str, bool]) -> None:
    manifest = deployment(3, updated=1)
    manifest["spec"]["paused"] = change.get("paused", False)
    if "deadline" in change:
        overdue = condition("Progressing", "False", "ProgressDeadlineExceeded", "timed out")
        manifest["status"]["conditions"] = [overdue]
    made = aggregator("east")
    made.put(reported("east", manifest))
    status = merged(made, source())
    assert status["observedGeneration"] == 1
    if "deadline" in change:
        assert conditions(status)["Progressing"]["reason"] == "ProgressDeadlineExceeded", "kubectl reads it"


def test_a_true_of_an_older_generation_is_unknown() -> None:
    """P8: a target that was restored from a backup says True of a Deployment that is long gone."""
    made = aggregator("east", generation=2)
    made.put(reported("east", deployment(3), generation=2))
    origin = source(merged(made, source(generation=2)), generation=2)
    made.put(reported("east", deployment(3), generation=1))
    said = conditions(merged(made, origin))["Available"]
    assert (said["status"], said["reason"]) == ("Unknown", "OldGeneration")


def test_why_pods_do_not_run_is_told_until_they_do() -> None:
    made = aggregator("east", "west")
    made.put(reported("east", deployment(3)))
    made.put(reported("west", deployment(3, available=0)))
    assert made.note("west", "ImagePullBackOff", "web-abc: Back-off pulling image")
    assert not made.note("west", "ImagePullBackOff", "web-abc: Back-off pulling image")
    assert not made.note("nowhere", "A", "b")
    told = conditions(merged(made, source()))
    assert told["Available"]["reason"] == "ImagePullBackOff"
    assert told["Available"]["message"] == "west: ImagePullBackOff: web-abc: Back-off pulling image"
    assert told["Progressing"]["reason"] == "ReplicaSetUpdated", "kubectl reads it"
    assert "ImagePullBackOff" in told["Progressing"]["message"]
    assert made.summary("west")[2] == "ImagePullBackOff: web-abc: Back-off pulling image"
    made.put(reported("west", deployment(3, available=1)))
    assert made.slots()[1].note_reason == "ImagePullBackOff"
    made.put(reported("west", deployment(3)))
    assert made.slots()[1].note_reason == ""
    assert made.summary("west") == (True, Health.HEALTHY, "")


def test_a_slot_is_ready_only_with_the_wanted_generation() -> None:
    made = aggregator("east", generation=2)
    made.put(reported("east", deployment(3), generation=1))
    assert made.summary("east") == (False, Health.HEALTHY, "generation 2 is not there yet")
    made.put(reported("east", deployment(3), generation=2))
    assert made.summary("east") == (True, Health.HEALTHY, "")


def test_the_collision_count_never_falls_and_never_goes_away() -> None:
    made = aggregator("east", "west")
    made.put(reported("east", deployment(3, collisionCount=2)))
    made.put(reported("west", deployment(3)))
    status = merged(made, source())
    assert status["collisionCount"] == 2
    made.expect({})
    assert merged(made, source(status))["collisionCount"] == 2


def test_worst_mode_tells_what_the_worst_target_says() -> None:
    made = aggregator("east", "west", mode=Mode("Worst"))
    made.put(reported("east", deployment(5)))
    made.put(reported("west", deployment(3, available=1)))
    status = merged(made, source())
    assert (status["replicas"], status["readyReplicas"]) == (3, 1)
    assert conditions(status)["Available"]["status"] == "False"
    made.expect({})
    assert merged(made, source(status))["replicas"] == 0


def test_worst_mode_ends_a_job_only_when_all_targets_have_ended() -> None:
    """An end cannot be taken back: the target that failed is the worst, but another one still works."""
    ends = [condition("FailureTarget", "True"), condition("Failed", "True", "BackoffLimitExceeded")]
    made = aggregator("east", "west", kind=JOB, mode=Mode("Worst"))
    made.put(reported("east", {"metadata": {}, "status": {"failed": 1, "conditions": ends}}, JOB))
    running = {"metadata": {}, "status": {"active": 2}}
    made.put(reported("west", running, JOB))
    status = merged(made, source())
    assert (status["failed"], conditions(status)) == (1, {})
    complete = [condition("SuccessCriteriaMet", "True"), condition("Complete", "True")]
    made.put(reported("west", {**running, "status": {"succeeded": 2, "conditions": complete}}, JOB))
    assert set(conditions(merged(made, source(status)))) == {"FailureTarget", "Failed"}


def test_single_mode_tells_what_the_named_target_says() -> None:
    made = aggregator("east", "west", mode=Mode("Single", "east"))
    made.put(reported("east", deployment(5)))
    assert not made.put(reported("west", deployment(3, available=1)))
    status = merged(made, source())
    assert (status["replicas"], status["observedGeneration"]) == (5, 1)
    assert conditions(status)["Available"]["status"] == "True"
    assert [slot.target for slot in made.slots()] == ["east", "west"]
    assert made.slots()[1].health is Health.PROGRESSING
    made.expect({"west": Expected(1)})
    assert conditions(merged(made, source(status)))["Available"]["message"] == "target east is not selected"


def test_a_finished_job_stays_finished_when_it_is_gone_from_the_target() -> None:
    made = aggregator("west", kind=JOB)
    done = {
        "startTime": "2026-11-20T09:00:00Z",
        "completionTime": "2026-11-20T09:01:00Z",
        "succeeded": 1,
        "conditions": [condition("SuccessCriteriaMet", "True"), condition("Complete", "True")],
    }
    made.put(reported("west", {"metadata": {}, "status": done}, JOB))
    assert not made.put(missing("west", **MISSING))
    status = merged(made, source())
    assert set(conditions(status)) == {"SuccessCriteriaMet", "Complete"}
    assert made.status(source(status), now=NOW) is None
    made.expect({"west": Expected(1), "east": Expected(1)})
    assert made.status(source(status), now=NOW) is None, "its status is final"


def test_what_the_server_prunes_is_written_once() -> None:
    made = aggregator("east", kind=WIDGET)
    made.put(reported("east", {"metadata": {}, "status": {"known": 1, "pruned": 2}}, WIDGET))
    wanted = merged(made, source())
    made.wrote(wanted, source({"known": 1}))
    assert made.status(source({"known": 1}), now=NOW) is None
    made.put(reported("east", {"metadata": {}, "status": {"known": 2, "pruned": 2}}, WIDGET))
    assert merged(made, source({"known": 1})) == {"known": 2, "pruned": 2}


def managed(status: dict[str, Any], **times: str) -> dict[str, Any]:
    origin = source(status)
    origin["metadata"]["managedFields"] = [
        {"manager": manager.replace("_", "-"), "operation": "Update", "subresource": "status", "time": time}
        for manager, time in times.items()
    ] + [{"manager": "kubectl", "operation": "Update", "time": "2030-01-01T00:00:00Z"}]
    return origin


def test_a_foreign_writer_is_seen_in_managed_fields() -> None:
    """UpstreamControllerActive."""
    made = aggregator("east")
    made.put(reported("east", deployment(3)))
    status = merged(made, source())
    early, late = "2026-11-21T08:00:00Z", "2026-11-21T09:00:00Z"
    assert not made.foreign_writer(managed({}, kube_controller_manager=early)), "we have not written yet"
    assert not made.foreign_writer(managed(status, kube_controller_manager=early, syncline_status=late))
    assert made.foreign_writer(managed(status, kube_controller_manager=late, syncline_status=early))
    assert made.foreign_writer(source(status)), "stays until the next generation"
    assert not made.foreign_writer(source(status, generation=2))
    made.foreign_writer(managed(status, kube_controller_manager=late, syncline_status=early))
    assert not made.foreign_writer(managed(status, kube_controller_manager=early, syncline_status=late)), "denied"
    assert not made.foreign_writer(source(status))


def test_a_foreign_writer_is_seen_in_the_content() -> None:
    """UpstreamControllerActive; an event that is older than our last write is not foreign."""
    made = aggregator("east")
    found = source({"replicas": 7})
    assert not made.foreign_writer(found), "nothing is known yet"
    made.put(reported("east", deployment(3)))
    first = merged(made, found)
    made.put(reported("east", deployment(4)))
    second = merged(made, source(first))
    for ours in ({"replicas": 7}, first, second, {}):
        assert not made.foreign_writer(source(ours))
    assert made.foreign_writer(source({"replicas": 1}))


def test_the_patch_replaces_the_status_of_exactly_this_object() -> None:
    origin = source()
    body = orjson.loads(status_patch(origin, {"replicas": 1}))
    assert body == [
        {"op": "test", "path": "/metadata/uid", "value": "u-1"},
        {"op": "add", "path": "/status", "value": {"replicas": 1}},
    ]
    origin["metadata"]["resourceVersion"] = "42"
    assert orjson.loads(status_patch(origin, {}))[0] == {
        "op": "add",
        "path": "/metadata/resourceVersion",
        "value": "42",
    }
