"""What is merged of each kind beyond sums and conditions."""

from __future__ import annotations

from typing import Any

import pytest

from status.aggregator import PATIENCE
from status.report import Health, Mode, missing
from tests.status.builders import JOB, NOW, aggregator, condition, conditions, merged, reported, source

SERVICE, INGRESS = ("", "Service"), ("networking.k8s.io", "Ingress")
POD, CLAIM = ("", "Pod"), ("", "PersistentVolumeClaim")
CRONJOB = ("batch", "CronJob")


def merge(kind: tuple[str, str], origin: dict[str, Any] | None = None, **said: dict[str, Any]) -> dict[str, Any]:
    """Merged status of one status per target."""
    made = aggregator(*said, kind=kind)
    for target, status in said.items():
        manifest = {"metadata": {"generation": 1}, "spec": (origin or {}).get("spec", {}), "status": status}
        made.put(reported(target, manifest, kind))
    return merged(made, origin or source())


def balanced(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"loadBalancer": {"ingress": list(entries)}}


def test_load_balancer_entries_are_united_sorted_and_told_once() -> None:
    status = merge(
        SERVICE,
        source(type="LoadBalancer"),
        west=balanced({"ip": "192.0.2.10"}, {"hostname": "b.example"}, {"ip": "2001:DB8::1"}),
        east=balanced({"ip": "192.0.2.9", "ipMode": "Proxy"}, {"ip": "192.0.2.10", "ipMode": "Proxy"}),
    )
    assert status == balanced(
        {"ip": "192.0.2.9", "ipMode": "Proxy"},
        {"ip": "192.0.2.10", "ipMode": "Proxy"},
        {"ip": "2001:db8::1", "ipMode": "VIP"},
        {"hostname": "b.example"},
    )


def test_an_address_is_an_ip_and_a_name_a_hostname_whatever_the_target_calls_it() -> None:
    """B27: what the API server would refuse is left out."""
    status = merge(
        INGRESS,
        east=balanced(
            {"hostname": "192.0.2.1"},
            {"ip": "lb.example"},
            {"hostname": "-bad-"},
            {"ip": "192.0.2.999"},
            {"ip": "fe80::1%eth0"},
            {"ip": "::ffff:192.0.2.5"},
            {"hostname": "UPPER.example"},
            {},
        ),
    )
    assert status == balanced({"ip": "192.0.2.1"})


def test_a_service_of_another_type_has_no_load_balancer() -> None:
    made = aggregator("east", kind=SERVICE)
    manifest = {"metadata": {}, "spec": {"type": "LoadBalancer"}, "status": balanced({"ip": "192.0.2.1"})}
    made.put(reported("east", manifest, SERVICE))
    assert made.status(source(type="ClusterIP"), now=NOW) is None
    assert merged(made, source(balanced({"ip": "192.0.2.7"}), type="ClusterIP")) == {"loadBalancer": {}}
    made.expect({})
    assert merged(made, source(balanced({"ip": "192.0.2.7"}), type="LoadBalancer")) == balanced()


def test_active_jobs_are_united_and_the_newest_times_win() -> None:
    one, two = (
        {"namespace": "shop", "name": name, "uid": name, "kind": "Job", "apiVersion": "batch/v1"} for name in "ab"
    )
    early, late = "2026-11-21T07:00:00Z", "2026-11-21T08:00:00Z"
    status = merge(
        CRONJOB,
        east={"active": [two], "lastScheduleTime": early, "lastSuccessfulTime": late},
        west={"active": [{**one, "name": 5}, {**one, "evil": 1}, two, "x"], "lastScheduleTime": late},
    )
    assert status.pop("active")[0] == {**one, "name": ""}
    assert status == {"lastScheduleTime": late, "lastSuccessfulTime": late}
    status = merge(CRONJOB, east={"active": [two]}, west={"active": [one, two], "lastScheduleTime": late})
    assert status == {"active": [one, two], "lastScheduleTime": late}
    made = aggregator(kind=CRONJOB)
    assert merged(made, source({"active": [one], "lastScheduleTime": late})) == {"active": [], "lastScheduleTime": late}


@pytest.mark.parametrize(
    ("kind", "phases", "worst"),
    [
        (CLAIM, ("Bound", "Pending"), "Pending"),
        (CLAIM, ("Lost", "Pending"), "Lost"),
        (CLAIM, ("Bound", "Bound"), "Bound"),
        (("", "PersistentVolume"), ("Bound", "Failed"), "Failed"),
        (("", "PersistentVolume"), ("Released", "Available"), "Released"),
        (POD, ("Running", "Pending"), "Pending"),
        (POD, ("Succeeded", "Running"), "Running"),
        (POD, ("Succeeded", "Failed"), "Failed"),
    ],
)
def test_the_worst_phase_wins(kind: tuple[str, str], phases: tuple[str, str], worst: str) -> None:
    for one, two in (phases, phases[::-1]):
        assert merge(kind, east={"phase": one}, west={"phase": two})["phase"] == worst


def test_a_claim_is_not_bound_before_all_targets_bound_it() -> None:
    made = aggregator("east", "west", kind=CLAIM)
    bound = {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}
    made.put(reported("east", {"metadata": {}, "status": bound}, CLAIM))
    status = merged(made, source())
    assert (status["phase"], status["capacity"]) == ("Pending", {"storage": "1Gi"})
    made.put(reported("west", {"metadata": {}, "status": bound}, CLAIM))
    status = merged(made, source(status))
    assert status == {**bound, "conditions": []}
    made.expect({})
    assert merged(made, source(status))["phase"] == "Pending"


def test_what_the_server_could_not_decode_is_left_out() -> None:
    """B27, P9: one target's nonsense must not keep the others' status from being written."""
    said = {"phase": "Bound", "accessModes": ["ReadWriteOnce", 5], "capacity": {"storage": "1Gi", "x": "much", "y": 1}}
    status = merge(CLAIM, east=said, west={"phase": "Bound"})
    assert status == {
        "phase": "Bound",
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "conditions": [],
    }
    status = merge(("", "PersistentVolume"), east={"phase": "Failed", "message": 5}, west={"phase": "Bound"})
    assert status["message"] == ""


@pytest.mark.parametrize(
    ("kind", "previous", "now"),
    [
        (
            ("apps", "Deployment"),
            {"observedGeneration": 1, "replicas": 3, "conditions": [condition("Available", "True")]},
            {"replicas": 0},
        ),
        (
            POD,
            {"phase": "Running", "podIP": "10.0.0.1", "conditions": [condition("Ready", "True")]},
            {"phase": "Pending"},
        ),
        (CLAIM, {"phase": "Bound", "accessModes": ["ReadWriteOnce"]}, {"phase": "Pending"}),
        (SERVICE, balanced({"ip": "192.0.2.1"}), {"loadBalancer": {"ingress": []}}),
        (("example.com", "Widget"), {"replicas": 3, "phase": "Up"}, {"replicas": 0}),
    ],
)
def test_an_object_that_vanished_from_all_targets_is_no_longer_there(
    kind: tuple[str, str], previous: dict[str, Any], now: dict[str, Any]
) -> None:
    """A new object that is on its way says nothing yet; one that was there says that it is gone."""
    made = aggregator("east", kind=kind)
    made.put(missing("east", target_uid="e", source_uid="u-1", now=0.0))
    assert made.status(source({"phase": "Pending"} if "phase" in previous else {}), now=NOW) is None
    status = merged(made, source(previous, type="LoadBalancer"))
    assert now.items() <= status.items()
    assert not any(item["status"] == "True" for item in status.get("conditions", []))


def container(name: str = "web", **state: Any) -> dict[str, Any]:
    return {
        "name": name,
        "ready": "running" in state,
        "restartCount": 0,
        "image": "web:1",
        "imageID": "",
        "state": state,
    }


def test_one_target_gives_the_pod_as_it_is_but_for_what_cannot_be_written() -> None:
    said = {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "qosClass": "Guaranteed",
        "nominatedNodeName": "n",
        "containerStatuses": [{**container(running={}), "allocatedResources": {"cpu": "1"}}],
        "conditions": [condition("Ready", "True")],
    }
    status = merge(POD, source({"qosClass": "BestEffort"}), east=said)
    assert (status["podIP"], status["qosClass"]) == ("10.0.0.1", "BestEffort")
    assert "nominatedNodeName" not in status
    assert status["containerStatuses"] == [container(running={})]
    assert conditions(status)["Ready"]["status"] == "True"


@pytest.mark.parametrize(
    ("policy", "code", "stays"),
    [("Never", 1, True), ("OnFailure", 0, True), ("OnFailure", 1, False), ("Always", 0, False)],
)
def test_a_container_that_may_not_restart_stays_terminated(policy: str, code: int, stays: bool) -> None:
    """The API server refuses the transition."""
    ended = container(terminated={"exitCode": code})
    origin = source({"phase": "Running", "containerStatuses": [ended]}, restartPolicy=policy)
    status = merge(POD, origin, east={"phase": "Running", "containerStatuses": [container(running={})]})
    assert status["containerStatuses"] == [ended if stays else container(running={})]


def test_several_pods_share_no_address() -> None:
    early, late = "2026-11-21T07:00:00Z", "2026-11-21T08:00:00Z"
    ready = [condition("Ready", "True")]
    status = merge(
        POD,
        east={"phase": "Running", "podIP": "10.0.0.1", "startTime": late, "conditions": ready},
        west={"phase": "Failed", "reason": "Evicted", "message": "memory", "startTime": early},
    )
    assert {key: status[key] for key in ("phase", "reason", "message", "startTime")} == {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "memory",
        "startTime": early,
    }
    assert "podIP" not in status
    assert conditions(status)["Ready"]["status"] == "Unknown"


def test_a_pod_without_targets_waits_unless_it_has_finished() -> None:
    made = aggregator(kind=POD)
    status = merged(made, source({"phase": "Running", "podIP": "10.0.0.1"}))
    assert status["phase"] == "Pending"
    assert conditions(status)["Ready"]["reason"] == "NoTargets"
    assert made.status(source({"phase": "Succeeded"}), now=NOW) is None


def test_a_pod_that_one_target_lacks_is_pending() -> None:
    made = aggregator("east", "west", kind=POD)
    made.put(missing("west", target_uid="w", source_uid="u-1", now=0.0))
    made.put(reported("east", {"metadata": {}, "status": {"phase": "Running"}}, POD))
    assert merged(made, source({"phase": "Running"}))["phase"] == "Pending"


def test_disrupted_pods_are_told_per_target() -> None:
    time = "2026-11-21T08:00:00Z"
    said = {
        "observedGeneration": 1,
        "currentHealthy": 2,
        "desiredHealthy": 1,
        "expectedPods": 2,
        "disruptionsAllowed": 1,
    }
    status = merge(
        ("policy", "PodDisruptionBudget"), east={**said, "disruptedPods": {"web-a": time, "bad": "soon"}}, west=said
    )
    assert status["disruptedPods"] == {"east/web-a": time}
    assert (status["currentHealthy"], status["disruptionsAllowed"], status["observedGeneration"]) == (4, 2, 1)


def test_an_autoscaler_keeps_its_metrics_only_alone() -> None:
    metric = {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 3}}}
    said = {"currentReplicas": 2, "desiredReplicas": 3, "currentMetrics": [metric]}
    kind = ("autoscaling", "HorizontalPodAutoscaler")
    assert merge(kind, east={**said, "lastScaleTime": "2026-11-21T08:00:00Z"})["currentMetrics"] == [metric]
    status = merge(kind, east=said, west={**said, "lastScaleTime": "2026-11-21T08:00:00Z"})
    assert (status["currentReplicas"], status["desiredReplicas"], status["currentMetrics"]) == (4, 6, [])
    assert status["lastScaleTime"] == "2026-11-21T08:00:00Z"


def test_revisions_are_told_only_when_all_targets_agree() -> None:
    said = {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "currentRevision": "a", "updateRevision": "b"}
    kind = ("apps", "StatefulSet")
    assert merge(kind, east=said, west=said)["updateRevision"] == "b"
    status = merge(kind, east=said, west={**said, "updateRevision": "c"})
    assert (status["currentRevision"], "updateRevision" in status) == ("a", False)


def test_more_ready_than_active_pods_are_never_written() -> None:
    """B27: a 422 for the whole status otherwise."""
    assert merge(JOB, east={"active": 1, "ready": 5})["ready"] == 1


def test_a_finished_job_with_active_pods_is_not_finished() -> None:
    ends = [condition("FailureTarget", "True"), condition("Failed", "True")]
    status = merge(JOB, east={"active": 1, "conditions": ends}, west={"conditions": ends})
    assert "conditions" not in status


def test_a_job_whose_success_was_announced_cannot_fail() -> None:
    met = condition("SuccessCriteriaMet", "True", "R", "m")
    ends = [condition("FailureTarget", "True"), condition("Failed", "True")]
    status = merge(JOB, source({"conditions": [met]}), east={"startTime": "2026-11-21T08:00:00Z", "conditions": ends})
    assert status["conditions"] == [met]


def test_several_failed_targets_are_counted_in_the_message() -> None:
    ends = [condition("FailureTarget", "True"), condition("Failed", "True", "BackoffLimitExceeded", "too many")]
    status = merge(JOB, east={"conditions": ends}, west={"conditions": ends})
    assert conditions(status)["Failed"]["message"] == "east: too many (and 1 more)"


def test_any_other_kind_keeps_what_all_targets_agree_on() -> None:
    kind = ("example.com", "Widget")
    east = {"phase": "Up", "url": "http://east", "replicas": 2, "readyReplicas": 1}
    assert merge(kind, east=east, west={**east, "url": "http://west"}) == {
        "phase": "Up",
        "replicas": 4,
        "readyReplicas": 2,
    }
    made = aggregator("east", "west", kind=kind, mode=Mode("Worst"))
    made.put(reported("east", {"metadata": {}, "status": east}, kind))
    down = {**east, "phase": "Down", "conditions": [condition("Ready", "False", "R", "m")]}
    made.put(reported("west", {"metadata": {}, "status": down}, kind))
    status = merged(made, source())
    assert status["phase"] == "Down"
    assert made.summary("west")[1] is Health.PROGRESSING


def test_any_other_kind_is_held_while_a_target_was_not_heard_of() -> None:
    kind = ("example.com", "Widget")
    made = aggregator("east", "west", kind=kind)
    made.put(reported("east", {"metadata": {}, "status": {"replicas": 2, "phase": "Up"}}, kind))
    later = NOW + PATIENCE
    assert made.status(source({"replicas": 5}), now=NOW) is None
    assert made.status(source({"replicas": 5}), now=later) is None
    assert merged(made, source({"replicas": 1}), later) == {"replicas": 2}
    made.put(missing("west", target_uid="w", source_uid="u-1", now=0.0))
    assert merged(made, source({"replicas": 5})) == {"replicas": 2}
    made.expect({})
    origin = source({"replicas": 5, "phase": "Up", "conditions": [condition("Ready", "True")]})
    status = merged(made, origin)
    assert (status["replicas"], conditions(status)["Ready"]["reason"], "phase" in status) == (0, "NoTargets", False)


def test_a_replicaset_and_a_daemonset_tell_whether_they_are_available() -> None:
    """They have no such condition themselves, so kubectl wait would never return."""
    said = {
        "observedGeneration": 1,
        "replicas": 1,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "terminatingReplicas": 2,
    }
    status = merge(("apps", "ReplicaSet"), east=said, west={**said, "availableReplicas": 0})
    assert (status["terminatingReplicas"], status["availableReplicas"]) == (4, 1)
    assert conditions(status)["Available"]["message"] == "west: 0 of 1 are available"
    nodes = {"observedGeneration": 1, "desiredNumberScheduled": 2, "numberAvailable": 2, "updatedNumberScheduled": 2}
    status = merge(("apps", "DaemonSet"), east=nodes, west=nodes)
    assert (status["numberAvailable"], status["observedGeneration"]) == (4, 1)
    assert conditions(status)["Available"]["status"] == "True"
