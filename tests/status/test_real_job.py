"""The status of a Job: what a real API server refuses, and the sequences that it takes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from status.aggregator import Aggregator
from status.collector import collect
from status.report import Expected, Report
from tests.status.builders import JOB, condition, conditions
from tests.status.upstream import Api, Source
from tests.support.fleet import Kubectl

START, LATER, END = "2026-11-20T09:00:00Z", "2026-11-20T09:00:30Z", "2026-11-20T09:05:00Z"
COMPLETE = [condition("SuccessCriteriaMet", "True", "CompletionsReached"), condition("Complete", "True")]
FAILED = [
    condition("FailureTarget", "True", "BackoffLimitExceeded", "too many"),
    condition("Failed", "True", "BackoffLimitExceeded", "too many"),
]


def job(namespace: str, name: str = "once", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "once", "image": "once:1"}]},
            },
            **spec,
        },
    }


class JobLine:
    """A Job upstream and an aggregator that expects it on two targets."""

    def __init__(self, upstream: Api, namespace: str, **spec: Any) -> None:
        self.source = Source(upstream, job(namespace, **spec))
        self.made = Aggregator(JOB, self.source.uid)
        self.made.expect({"east": Expected(1), "west": Expected(1)})

    def say(self, target: str, **status: Any) -> dict[str, Any]:
        """A target reports; the merged status is written and returned."""
        report = collect(
            {"metadata": {"uid": "d", "generation": 1}, "spec": {}, "status": status},
            group_kind=JOB,
            target=target,
            target_uid=target,
            source_uid=self.source.uid,
            source_generation=1,
            now=0.0,
        )
        assert isinstance(report, Report), report
        self.made.put(report)
        self.source.write(self.made)
        return self.source.status

    def write(self) -> bool:
        return self.source.write(self.made)


def test_a_job_completes_when_both_targets_completed(upstream: Api, kubectl: Kubectl, namespace: str) -> None:
    line = JobLine(upstream, namespace)
    status = line.say("east", startTime=LATER, active=1, ready=1)
    assert status == {"active": 1, "ready": 1, "startTime": LATER, "terminating": 0}
    status = line.say("west", startTime=START, active=1, ready=0)
    assert (status["active"], status["startTime"]) == (2, LATER), "the first written start stays"
    status = line.say("east", startTime=LATER, completionTime=END, succeeded=1, conditions=COMPLETE)
    assert "conditions" not in status
    assert (status["active"], status["succeeded"]) == (1, 1)
    status = line.say("west", startTime=START, active=0, failed=2, succeeded=1, ready=0)
    status = line.say("west", startTime=START, completionTime=LATER, failed=2, succeeded=1, conditions=COMPLETE)
    assert {kind: item["status"] for kind, item in conditions(status).items()} == {
        "SuccessCriteriaMet": "True",
        "Complete": "True",
    }
    assert status["completionTime"] == END
    assert (status.get("active", 0), status["succeeded"], status["failed"]) == (0, 2, 2)
    said = kubectl("upstream", "wait", *line.source.scope, "--for=condition=Complete", "--timeout=2s")
    assert "condition met" in said
    line.made.expect({"east": Expected(1), "west": Expected(1), "south": Expected(1)})
    assert not line.write(), "a target added later changes nothing"
    line.made.expect({})
    assert not line.write()


def test_a_job_fails_only_when_the_other_target_has_finished_too(upstream: Api, namespace: str) -> None:
    line = JobLine(upstream, namespace)
    line.say("east", startTime=START, active=1)
    line.say("west", startTime=START, active=1)
    status = line.say("east", startTime=START, failed=7, terminating=1, conditions=FAILED[:1])
    assert "conditions" not in status, "FailureTarget alone would make the other end impossible"
    status = line.say("east", startTime=START, failed=7, conditions=FAILED)
    assert "conditions" not in status
    status = line.say("west", startTime=START, completionTime=END, succeeded=1, conditions=COMPLETE)
    told = conditions(status)
    assert set(told) == {"FailureTarget", "Failed"}
    assert (told["Failed"]["reason"], told["Failed"]["message"]) == ("BackoffLimitExceeded", "east: too many")
    assert "completionTime" not in status
    assert (status["failed"], status["succeeded"]) == (7, 1)


def test_a_suspended_job_is_resumed_and_completes(upstream: Api, namespace: str) -> None:
    line = JobLine(upstream, namespace, suspend=True)
    suspended = condition("Suspended", "True", "JobSuspended", "Job suspended")
    line.say("east", conditions=[suspended])
    status = line.say("west", conditions=[suspended])
    assert conditions(status)["Suspended"]["status"] == "True"
    assert "startTime" not in status
    line.source.patch_spec({"suspend": False})
    line.made.expect({"east": Expected(2), "west": Expected(2)})
    resumed = condition("Suspended", "False", "JobResumed", "Job resumed")
    status = line.say("east", startTime=START, active=1, conditions=[resumed])
    assert conditions(status)["Suspended"]["status"] == "True", "west is still suspended"
    status = line.say("west", startTime=LATER, active=1, conditions=[resumed])
    assert conditions(status)["Suspended"]["status"] == "False"
    line.source.patch_spec({"suspend": True})
    line.say("east", conditions=[suspended])
    status = line.say("west", conditions=[suspended])
    assert (status["startTime"], conditions(status)["Suspended"]["status"]) == (START, "True")
    line.source.patch_spec({"suspend": False})
    for target in ("east", "west"):
        status = line.say(target, startTime=LATER, completionTime=END, succeeded=1, conditions=[resumed, *COMPLETE])
    assert set(conditions(status)) == {"Suspended", "SuccessCriteriaMet", "Complete"}


def test_a_job_ends_although_no_target_told_a_start(upstream: Api, namespace: str) -> None:
    line = JobLine(upstream, namespace, suspend=True, completions=0)
    for target in ("east", "west"):
        status = line.say(target, conditions=COMPLETE)
    assert status["startTime"] <= status["completionTime"] <= datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_counters_do_not_fall_when_a_target_leaves_or_its_job_is_gone(upstream: Api, namespace: str) -> None:
    line = JobLine(upstream, namespace, completions=5)
    line.say("east", startTime=START, active=1, succeeded=2, failed=1)
    line.say("west", startTime=START, active=1, succeeded=2, failed=1)
    line.made.expect({"east": Expected(1)})
    assert line.write()
    status = line.source.status
    assert (status["active"], status["succeeded"], status["failed"]) == (1, 4, 2)


BROKEN: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "startTime moves": ({"startTime": START, "active": 1}, {"startTime": LATER, "active": 1}, "field is immutable"),
    "succeeded falls": ({"succeeded": 2}, {"succeeded": 1}, "cannot decrease the succeeded counter"),
    "failed falls": ({"failed": 2}, {"failed": 1}, "cannot decrease the failed counter"),
    "more ready than active": ({}, {"active": 1, "ready": 2}, "cannot set more ready pods than active"),
    "Complete alone": (
        {"startTime": START},
        {"startTime": START, "completionTime": END, "conditions": COMPLETE[1:]},
        "without the SuccessCriteriaMet=true condition",
    ),
    "Failed alone": (
        {"startTime": START},
        {"startTime": START, "conditions": FAILED[1:]},
        "without the FailureTarget=true condition",
    ),
    "finished with active Pods": (
        {"startTime": START, "active": 1},
        {"startTime": START, "active": 1, "completionTime": END, "conditions": COMPLETE},
        "active>0 is invalid for finished job",
    ),
    "finished with terminating Pods": (
        {"startTime": START},
        {"startTime": START, "terminating": 1, "completionTime": END, "conditions": COMPLETE},
        "terminating>0 is invalid for finished job",
    ),
    "finished without a start": ({}, {"completionTime": END, "conditions": COMPLETE}, "startTime is required"),
    "complete without completionTime": (
        {"startTime": START},
        {"startTime": START, "conditions": COMPLETE},
        "completionTime is required for Complete jobs",
    ),
    "completed before it started": (
        {"startTime": LATER},
        {"startTime": LATER, "completionTime": START, "conditions": COMPLETE},
        "must be equal to or after `startTime`",
    ),
    "failed after FailureTarget was taken back": (
        {"startTime": START, "conditions": FAILED[:1]},
        {"startTime": START, "completionTime": END, "conditions": COMPLETE},
        "cannot disable the terminal FailureTarget=True condition",
    ),
    "failed after SuccessCriteriaMet": (
        {"startTime": START, "conditions": COMPLETE[:1]},
        {"startTime": START, "conditions": [*COMPLETE[:1], *FAILED]},
        "cannot set SuccessCriteriaMet=True and Failed=true conditions",
    ),
    "an end taken back": (
        {"startTime": START, "completionTime": END, "conditions": COMPLETE},
        {"startTime": START, "active": 1},
        "cannot disable the terminal Complete=True condition",
    ),
    "completedIndexes of a Job that is not indexed": (
        {},
        {"completedIndexes": "0"},
        "cannot set non-empty completedIndexes when non-indexed completion mode",
    ),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_the_server_refuses_a_broken_rule(rule: str, upstream: Api, namespace: str) -> None:
    """Why the merge of Jobs is as it is: each rule broken by hand is a 422."""
    before, after, refusal = BROKEN[rule]
    source = Source(upstream, job(namespace))
    if before:
        assert source.refusal(before) == ""
    assert refusal in source.refusal(after)


def test_an_announced_end_that_somebody_else_wrote_is_kept(upstream: Api, namespace: str) -> None:
    """FailureTarget cannot be taken back: the Job ends as Failed although both targets completed."""
    line = JobLine(upstream, namespace)
    assert line.source.refusal({"startTime": START, "conditions": FAILED[:1]}) == ""
    line.source.reread()
    line.say("east", startTime=START, completionTime=END, succeeded=1, conditions=COMPLETE)
    status = line.say("west", startTime=START, completionTime=END, succeeded=1, conditions=COMPLETE)
    assert json.dumps(sorted(conditions(status))) == '["Failed", "FailureTarget"]'
