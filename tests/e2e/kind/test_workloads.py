"""What becomes of workloads on real nodes, and what upstream says of it."""

from __future__ import annotations

from typing import Any

from deploy.local.kind import engine
from deploy.local.kind.provider import kind_name
from deploy.local.kind.site import node_of
from tests.e2e.kind.manifests import job, pod_spec, web
from tests.support.fleet import wait_until
from tests.support.incluster import InCluster


def ready_condition(installed: InCluster, room: str, name: str) -> dict[str, Any]:
    conditions = installed.placement(room, name).get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == "Ready"), {})


def errors(installed: InCluster, room: str, name: str, reason: str) -> dict[str, str]:
    """{target: message} of what the placement tells with a reason."""
    return {
        target: error["message"]
        for target, entry in installed.told(room, name).items()
        for error in entry.get("errors", [])
        if reason in (error["reason"], error["message"].split(":")[0]) or reason in error["message"]
    }


def until_told(installed: InCluster, room: str, name: str, reason: str) -> dict[str, str]:
    """Wait until every target has said it."""

    def told() -> dict[str, str]:
        found = errors(installed, room, name, reason)
        assert found.keys() == installed.fleet.targets.keys(), installed.placement(room, name).get("status")
        return found

    return wait_until(told, timeout_seconds=120, every_seconds=1)


def test_a_job_runs_once_on_each_target_and_completes(installed: InCluster, room: str) -> None:
    """It completes where it ran, once, and the placement is Ready then."""
    installed.place(room, "once", job("once", "sh", "-c", "echo done"))
    installed.until_placed(room, "once")
    for target in installed.fleet.targets:
        (made,) = installed.kubectl.items(target, "jobs", room)
        assert made["status"]["succeeded"] == 1
        assert len(installed.kubectl.items(target, "pods", room)) == 1


def test_a_crash_loop_is_told_upstream(installed: InCluster, room: str) -> None:
    """CrashLoopBackOff of a real container, of both targets, with the kubelet's words, or how it ended in between."""
    crashing = web("crashing")
    crashing["spec"]["template"]["spec"] = pod_spec("sh", "-c", "echo dying; exit 3")
    installed.place(room, "crashing", crashing)
    for message in until_told(installed, room, "crashing", "CrashLoopBackOff").values():
        assert "back-off" in message or "ended again" in message


def test_an_image_that_cannot_be_pulled_is_told_upstream(installed: InCluster, room: str) -> None:
    """ImagePullBackOff, with the name of the image."""
    absent = web("absent")
    absent["spec"]["template"]["spec"]["containers"][0]["image"] = "127.0.0.1:1/absent:1"
    installed.place(room, "absent", absent)
    for message in until_told(installed, room, "absent", "ImagePullBackOff").values():
        assert "127.0.0.1:1/absent:1" in message


def test_a_cron_job_makes_jobs(installed: InCluster, room: str) -> None:
    """On the next full minute each target has run one."""
    made = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "each-minute"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job("-", "true")["spec"]}},
    }
    installed.place(room, "each-minute", made)

    def ran(target: str) -> bool:
        jobs = installed.kubectl.items(target, "jobs", room)
        return any(one["status"].get("succeeded") == 1 for one in jobs)

    for target in installed.fleet.targets:
        wait_until(lambda target=target: ran(target), timeout_seconds=120, every_seconds=2)  # type: ignore[misc]


def stateful(name: str) -> dict[str, Any]:
    """A StatefulSet that writes into its volume once, and tells what is there."""
    labels = {"app": name}
    write = "test -e /data/first || hostname > /data/first; echo started; sleep 3600"
    spec = pod_spec("sh", "-c", write)
    spec["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        },
    }


def test_a_stateful_set_keeps_its_volume(installed: InCluster, room: str) -> None:
    """A claim of its own on each target, and the next Pod finds what the first wrote."""
    installed.place(room, "db", stateful("db"))
    installed.until_placed(room, "db")
    east = ("east", "-n", room)
    before = installed.kubectl(*east, "get", "pod", "db-0", "-o", "jsonpath={.metadata.uid}")
    installed.kubectl(*east, "exec", "db-0", "--", "sh", "-c", "echo more >> /data/first")
    installed.kubectl(*east, "delete", "pod", "db-0", timeout_seconds=60)
    wait_until(
        lambda: installed.kubectl(*east, "get", "pod", "db-0", "-o", "jsonpath={.metadata.uid}") != before,
        timeout_seconds=60,
    )
    installed.kubectl(*east, "wait", "pod/db-0", "--for=condition=Ready", "--timeout=60s", timeout_seconds=70)
    assert installed.kubectl(*east, "exec", "db-0", "--", "cat", "/data/first") == "db-0\nmore\n"


def test_a_drained_node_is_told_and_comes_back(installed: InCluster, room: str) -> None:
    """Evicted Pods wait on the only node of east: told upstream, while west is as it was; uncordoned, all is well."""
    installed.place(room, "web", web())
    installed.until_placed(room, "web")
    node = node_of(kind_name("east"))
    try:
        # The agent stays: a Pod in its place would wait for a node, too, and nobody could be told of anything.
        installed.kubectl(
            "east", "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--pod-selector=app=web",
            "--timeout=60s", timeout_seconds=70,
        )  # fmt: skip
        wait_until(lambda: installed.told(room, "web")["east"]["ready"] == 0, timeout_seconds=60)
        assert installed.told(room, "web")["west"]["ready"] == 1
        assert ready_condition(installed, room, "web")["status"] != "True"
    finally:
        installed.kubectl("east", "uncordon", node)
    installed.until_placed(room, "web")


def test_a_stopped_node_is_told_and_nothing_is_taken_from_it(installed: InCluster, room: str) -> None:
    """The whole of west is frozen: not known any more, nothing moved or deleted; when it goes on, all is as it was."""
    installed.place(room, "web", web())
    installed.until_placed(room, "web")
    before = installed.uids(room)
    engine.docker("pause", node_of(kind_name("west")))
    try:
        wait_until(lambda: installed.target("west")["status"] != "True", timeout_seconds=90, every_seconds=1)
        wait_until(lambda: errors(installed, room, "web", "TargetNotReady").keys() == {"west"}, timeout_seconds=30)
        assert ready_condition(installed, room, "web")["reason"] == "TargetNotReady"
        assert installed.told(room, "web")["east"]["ready"] == 1
    finally:
        engine.docker("unpause", node_of(kind_name("west")))
    installed.until_targets_are_ready(timeout_seconds=120)
    installed.until_placed(room, "web")
    assert installed.uids(room) == before


def test_more_replicas_run_on_both_targets(installed: InCluster, room: str) -> None:
    """Scaled by an edit of what the placement holds."""
    installed.place(room, "web", web())
    installed.until_placed(room, "web")
    installed.place(room, "web", web(replicas=3))

    def running(target: str) -> bool:
        deployment = installed.kubectl.get(target, "deployment", "web", room)
        return deployment is not None and deployment["status"].get("readyReplicas") == 3

    for target in installed.fleet.targets:
        wait_until(lambda target=target: running(target), timeout_seconds=60)  # type: ignore[misc]
