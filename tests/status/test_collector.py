"""What a target may say: pruned, capped, stripped, and refused when it cannot be true."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest

from status.aggregator import Aggregator
from status.collector import collect, waiting_reason
from status.report import Expected, Refused
from status.sanitize import MAX_CONDITIONS, MAX_SLOT_BYTES, MAX_TEXT_CHARS, Sanitizer, clean_reason, clean_text
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


def refused(manifest: dict[str, Any], kind: tuple[str, str] = DEPLOYMENT) -> str:
    said = collect(
        manifest, group_kind=kind, target="east", target_uid="t", source_uid="u-1", source_generation=1, now=0.0
    )
    assert isinstance(said, Refused), said
    return said.message


def widget(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "w", "generation": 1}, "status": status}


def test_a_megabyte_of_text_is_cut_and_counted() -> None:
    """B27."""
    report = reported(
        "east", widget(message="x" * 2**20, conditions=[condition("Ready", "True", "R", "y" * 2**20)]), WIDGET
    )
    assert report.cuts == 2
    assert len(report.status["message"]) == MAX_TEXT_CHARS
    assert len(orjson.dumps(report.status)) < 3 * MAX_TEXT_CHARS


def test_ten_thousand_conditions_become_a_hundred() -> None:
    """B27."""
    many = [condition(f"C{number}", "True") for number in range(10_000)]
    report = reported("east", widget(conditions=many), WIDGET)
    assert len(report.status["conditions"]) == MAX_CONDITIONS
    assert report.cuts == 10_000 - MAX_CONDITIONS


def test_many_targets_cannot_make_more_than_a_hundred_conditions() -> None:
    """P9: what one target invents does not crowd out what all of them report."""
    made = aggregator("a", "b", "c", kind=WIDGET)
    for target in ("a", "b", "c"):
        own = [condition(f"{target}{number}", "True", "R") for number in range(90)]
        made.put(reported(target, widget(conditions=[*own, condition("Ready", "True", "R")]), WIDGET))
    told = merged(made, source())["conditions"]
    assert len(told) == MAX_CONDITIONS
    assert "Ready" in {item["type"] for item in told}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("line one\r\nline two\tend", "line one line two end"),
        ("\x1b[31mred\x1b[0m\x00\x07", "[31mred[0m"),
        ("a\u202eb\u200bc\ufeff", "abc"),
        ("<script>alert(1)</script> [bold]", "<script>alert(1)</script> [bold]"),
        ("naïve – 日本", "naïve – 日本"),
    ],
)
def test_control_and_invisible_characters_never_arrive(text: str, clean: str) -> None:
    """B27: markup stays as it was written; whoever renders it escapes it."""
    assert clean_text(text) == clean
    report = reported("east", widget(**{text: {"deep": [text]}}), WIDGET)
    assert report.status == {clean: {"deep": [clean]}}


def test_a_status_above_32_kib_loses_its_largest_fields_first() -> None:
    big = [{"text": f"{number}" * 300} for number in range(100)]
    report = reported("east", widget(big=big, phase="Running", replicas=2), WIDGET)
    assert report.status == {"phase": "Running", "replicas": 2}
    assert report.cuts == 1
    assert len(orjson.dumps(report.status)) <= MAX_SLOT_BYTES


def test_a_very_deep_status_is_cut() -> None:
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"a": [deep]}
    sanitizer = Sanitizer()
    sanitizer.status(deep, None)
    assert sanitizer.cuts == 1


def test_fields_that_the_kind_does_not_have_are_pruned() -> None:
    report = reported("east", deployment(1, evil={"a": 1}, podIP="10.0.0.1"))
    assert not {"evil", "podIP"} & report.status.keys()
    assert report.cuts == 0


@pytest.mark.parametrize("value", [-1, 2**31, "3", 1.5, True, [1]])
def test_a_count_that_is_none_is_refused(value: Any) -> None:
    """B27."""
    assert refused(deployment(3, readyReplicas=value)).startswith("status.readyReplicas is not a count")
    assert "status.replicas" in refused(widget(replicas=value), WIDGET)
    assert "status.active" in refused({"metadata": {}, "status": {"active": value}}, JOB)


@pytest.mark.parametrize("value", [2, -1, "1", True])
def test_an_observed_generation_from_the_future_is_refused(value: Any) -> None:
    """P9."""
    assert "status.observedGeneration" in refused(deployment(3, generation=1, observed=value))


def test_other_impossible_values_are_refused() -> None:
    assert refused({"metadata": {}, "status": [1]}) == "status is not an object"
    assert refused({"metadata": {}, "status": {"conditions": {}}}) == "status.conditions is not a list"
    assert (
        refused({"metadata": {}, "status": {"phase": "Owned\n"}}, ("", "Pod")) == "status.phase is not a phase: Owned "
    )


def test_a_refused_status_keeps_the_last_good_slot() -> None:
    """P9."""
    made = aggregator("east")
    made.put(reported("east", deployment(3)))
    before = merged(made, source())
    made.refuse("east", refused(deployment(3, readyReplicas=-1)))
    assert merged(made, source()) == before
    (slot,) = made.slots()
    assert slot.refused == "status.readyReplicas is not a count: -1"
    assert slot.message == "refused: status.readyReplicas is not a count: -1"
    made.put(reported("east", deployment(3)))
    assert made.slots()[0].refused == ""


def test_a_target_changes_its_own_slot_only() -> None:
    """P9: whatever west says, what is known of east stays."""
    made = aggregator("east", "west")
    made.put(reported("east", deployment(3)))
    east = made.slots()[0]
    for manifest in (deployment(5), deployment(0), deployment(3, conditions=[condition("Available", "False")])):
        made.put(reported("west", manifest))
        assert made.slots()[0] == east


def test_conditions_that_are_not_conditions_are_left_out() -> None:
    made = aggregator("east", kind=WIDGET)
    odd = [1, None, "Ready", {}, {"type": "", "status": "True"}, {"type": "A", "status": "yes"}, {"type": 3}]
    twice = [condition("Ready", "True", "First"), condition("Ready", "False", "Second")]
    made.put(reported("east", widget(conditions=[*odd, *twice]), WIDGET))
    assert {kind: item["reason"] for kind, item in conditions(merged(made, source())).items()} == {"Ready": "First"}


@pytest.mark.parametrize(
    ("reason", "clean"),
    [("Good", "Good"), ("not a reason!", "notareason"), ("", "Reported"), ("9a", "a"), ("<>", "Reported"), ("A:", "A")],
)
def test_a_reason_is_one_word_that_every_server_takes(reason: str, clean: str) -> None:
    assert clean_reason(reason, "Reported") == clean


def test_generations_in_a_report_are_those_of_the_source() -> None:
    """The target counts generations of its own."""
    manifest = widget(observedGeneration=9, conditions=[condition("Ready", "True", observedGeneration=8)])
    manifest["metadata"]["generation"] = 9
    report = reported("east", manifest, WIDGET, generation=4)
    assert (report.observed_generation, report.status["observedGeneration"]) == (4, 4)
    assert report.status["conditions"][0]["observedGeneration"] == 3
    manifest["metadata"]["generation"] = 10
    assert reported("east", manifest, WIDGET, generation=4).observed_generation == 3


def test_a_report_that_lags_is_no_evidence_of_its_generation() -> None:
    """P8."""
    report = reported("east", deployment(3, generation=5, observed=4), generation=2)
    assert (report.source_generation, report.observed_generation, report.rolled_out) == (2, 1, False)


def test_collecting_does_not_change_the_manifest() -> None:
    manifest = widget(conditions=[condition("Ready", "True", observedGeneration=1)])
    before = orjson.dumps(manifest)
    reported("east", manifest, WIDGET, generation=7)
    assert orjson.dumps(manifest) == before


def pod(
    name: str, reason: str = "", message: str = "", *, scheduled: str = "", phase: str = "Pending"
) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}} if reason else {"running": {}}
    unscheduled = [condition("PodScheduled", "False", "Unschedulable", scheduled)] if scheduled else []
    statuses = [] if scheduled else [{"name": "c", "state": state}]
    return {
        "metadata": {"name": name},
        "status": {"phase": phase, "containerStatuses": statuses, "conditions": unscheduled},
    }


def test_the_worst_waiting_reason_is_told_whatever_the_order() -> None:
    pods = [
        pod("web-a", "ContainerCreating"),
        pod("web-b", "CrashLoopBackOff", "back-off 10s restarting"),
        pod("web-d", "ImagePullBackOff", "Back-off pulling\nimage"),
        pod("web-c", "ImagePullBackOff", "Back-off pulling image"),
        pod("web-e", scheduled="0/3 nodes are available"),
    ]
    for some in itertools.permutations(pods):
        assert waiting_reason(some) == ("ImagePullBackOff", "web-c: Back-off pulling image")


def ended(code: int, restarts: int, phase: str) -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": "Error"}}
    statuses = [{"name": "c", "state": state, "restartCount": restarts}]
    return {"metadata": {"name": "web-a"}, "status": {"phase": phase, "containerStatuses": statuses}}


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (ended(1, 1, "Running"), ("CrashLoopBackOff", "web-a: container c ended again: exit code 1, Error")),
        (ended(1, 0, "Running"), None),  # once is no loop
        (ended(0, 3, "Running"), None),
        (ended(1, 3, "Failed"), ("Failed", "web-a")),
    ],
)
def test_a_crash_loop_is_told_also_between_two_waits(one: dict[str, Any], said: tuple[str, str] | None) -> None:
    assert waiting_reason([one]) == said


def test_pods_that_run_or_are_being_created_have_no_reason() -> None:
    assert waiting_reason([]) is None
    assert waiting_reason([pod("web-a", "ContainerCreating"), pod("web-b", phase="Running")]) is None


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (pod("web-a", scheduled="no nodes"), ("Unschedulable", "web-a: no nodes")),
        (pod("web-a", "SomethingNew"), ("SomethingNew", "web-a")),
        (
            {"metadata": {"name": "p"}, "status": {"phase": "Failed", "reason": "Evicted", "message": "m"}},
            ("Evicted", "p: m"),
        ),
        (
            {
                "metadata": {"name": "p"},
                "status": {"initContainerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]},
            },
            ("ErrImagePull", "p"),
        ),
    ],
)
def test_every_kind_of_reason_is_found(one: dict[str, Any], said: tuple[str, str]) -> None:
    assert waiting_reason([one]) == said


def test_a_merged_count_stays_within_what_the_api_can_hold() -> None:
    made = aggregator("east", "west")
    for target in ("east", "west"):
        made.put(reported(target, deployment(2**31 - 1)))
    assert merged(made, source())["replicas"] == 2**31 - 1


def test_times_from_a_clock_that_runs_ahead_are_those_of_now() -> None:
    made = Aggregator(("batch", "CronJob"), "u-1")
    made.expect({"east": Expected(1)})
    said = {"lastScheduleTime": "2999-01-01T00:00:00Z", "lastSuccessfulTime": "yesterday"}
    made.put(reported("east", {"metadata": {}, "spec": {}, "status": said}, ("batch", "CronJob")))
    assert made.status(source(), now=NOW) == {"active": [], "lastScheduleTime": "2026-11-21T09:00:00Z"}
