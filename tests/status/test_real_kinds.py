"""Every merged status is taken by a real API server, kind by kind, and says nothing new afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from status.aggregator import Aggregator
from status.collector import collect
from status.report import Expected, Report, missing
from tests.status.upstream import Api, Source
from tests.support.fleet import Kubectl, wait_until

NOW = 1_790_000_000.0
TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "web", "image": "web:1"}]},
}
JOB_TEMPLATE = {"spec": {"restartPolicy": "Never", "containers": [{"name": "web", "image": "web:1"}]}}
SELECTOR = {"matchLabels": {"app": "web"}}
SOURCES: Mapping[str, tuple[str, str, Any]] = {
    "deployment": ("apps/v1", "Deployment", {"replicas": 3, "selector": SELECTOR, "template": TEMPLATE}),
    "statefulset": (
        "apps/v1",
        "StatefulSet",
        {"replicas": 3, "serviceName": "web", "selector": SELECTOR, "template": TEMPLATE},
    ),
    "daemonset": ("apps/v1", "DaemonSet", {"selector": SELECTOR, "template": TEMPLATE}),
    "replicaset": ("apps/v1", "ReplicaSet", {"replicas": 2, "selector": SELECTOR, "template": TEMPLATE}),
    "job": ("batch/v1", "Job", {"template": JOB_TEMPLATE}),
    "cronjob": ("batch/v1", "CronJob", {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": JOB_TEMPLATE}}}),
    "pod": ("v1", "Pod", TEMPLATE["spec"]),
    "service": ("v1", "Service", {"type": "LoadBalancer", "ports": [{"port": 80}], "selector": {"app": "web"}}),
    "ingress": (
        "networking.k8s.io/v1",
        "Ingress",
        {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
    ),
    "persistentvolumeclaim": (
        "v1",
        "PersistentVolumeClaim",
        {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    ),
    "hpa": (
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        {"maxReplicas": 4, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    ),
    "pdb": ("policy/v1", "PodDisruptionBudget", {"minAvailable": 1, "selector": SELECTOR}),
}
MORE: Mapping[str, list[dict[str, Any]]] = {
    "cronjob": [
        {
            "active": [{"apiVersion": "batch/v1", "kind": "Job", "namespace": "shop", "name": "web-1", "uid": "j-1"}],
            "lastScheduleTime": "2026-11-21T08:00:00Z",
            "lastSuccessfulTime": "2026-11-21T07:59:00Z",
        }
    ],
    "pod": [
        {
            "phase": "Running",
            "startTime": "2026-11-21T08:00:00Z",
            "hostIP": "10.0.0.1",
            "hostIPs": [{"ip": "10.0.0.1"}],
            "podIP": "10.1.0.1",
            "podIPs": [{"ip": "10.1.0.1"}],
            "qosClass": "Guaranteed",
            "nominatedNodeName": "node-1",
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T08:00:00Z"},
                {"type": "PodScheduled", "status": "True", "observedGeneration": 1},
            ],
            "containerStatuses": [
                {
                    "name": "web",
                    "ready": True,
                    "started": True,
                    "restartCount": 1,
                    "image": "web:1",
                    "imageID": "sha256:1",
                    "containerID": "containerd://1",
                    "allocatedResources": {"cpu": "100m"},
                    "state": {"running": {"startedAt": "2026-11-21T08:00:00Z"}},
                    "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
                }
            ],
            "resourceClaimStatuses": [{"name": "gpu"}],
        }
    ],
    "service": [
        {"loadBalancer": {"ingress": [{"hostname": "lb.example"}, {"ip": "2001:db8::1"}, {"ip": "192.0.2.9"}]}},
        {"loadBalancer": {"ingress": [{"hostname": "192.0.2.10"}, {"hostname": "Not A Name"}, {"ip": "192.0.2.999"}]}},
    ],
    "ingress": [{"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}, {"hostname": "192.0.2.8"}, {"ip": "01.2.3.4"}]}}],
    "persistentvolumeclaim": [{"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}],
    "pdb": [
        {
            "observedGeneration": 1,
            "currentHealthy": 2,
            "desiredHealthy": 1,
            "disruptionsAllowed": 1,
            "expectedPods": 2,
            "disruptedPods": {"web-abc": "2026-11-21T08:00:00Z"},
            "conditions": [
                {
                    "type": "DisruptionAllowed",
                    "status": "True",
                    "reason": "SufficientPods",
                    "message": "",
                    "observedGeneration": 1,
                    "lastTransitionTime": "2026-11-21T08:00:00Z",
                }
            ],
        }
    ],
    "hpa": [
        {
            "currentReplicas": 2,
            "desiredReplicas": 3,
            "lastScaleTime": "2026-11-21T08:00:00Z",
            "currentMetrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "current": {"averageUtilization": 50, "averageValue": "50m"}},
                }
            ],
            "conditions": [{"type": "AbleToScale", "status": "True", "reason": "ReadyForNewScale", "message": "ok"}],
        }
    ],
}
STRANGE = {
    "phase": "Pending",
    "message": "m",
    "active": [{"name": 5, "evil": {}}],
    "capacity": {"storage": "much"},
    "accessModes": [7],
    "startTime": "yesterday",
    "lastScheduleTime": 5,
    "currentRevision": ["a"],
    "disruptedPods": {"a b": "2026-11-21T08:00:00Z", "c": 5},
    "loadBalancer": {"ingress": [{"ip": 5}, {"ip": "1.2.3.4", "ipMode": "Odd", "ports": "none"}, "x"]},
    "currentMetrics": "none",
    "conditions": [{"type": "bad type!", "status": "True"}, {"type": "Ready", "status": "True", "reason": "a b"}],
}
HUGE = {
    "conditions": [
        {"type": f"T{n}", "status": "True", "reason": "<b>not a reason</b>\n", "message": "x\x07\n" * 9999}
        for n in range(300)
    ]
}


def statuses(name: str) -> list[dict[str, Any]]:
    """What targets may say of a kind: the health cases, richer ones, and a hostile one."""
    files = sorted((Path(__file__).parent / "testdata").glob(f"{name}-*.yaml"))
    cases = [list(yaml.safe_load_all(path.read_text()))[1].get("status") or {} for path in files]
    strange = {key: value for key, value in STRANGE.items() if name != "job" or key != "active"}  # refused: no count
    return [*cases, *MORE.get(name, []), HUGE, strange]


def collected(name: str, source: Source, target: str, status: Mapping[str, Any]) -> Report:
    api_version, kind, spec = SOURCES[name]
    report = collect(
        {"metadata": {"generation": 3, "uid": "d-1"}, "spec": spec, "status": status},
        group_kind=(api_version.rpartition("/")[0] if "/" in api_version else "", kind),
        target=target,
        target_uid=f"uid-{target}",
        source_uid=source.uid,
        source_generation=max(source.generation, 1),
        now=NOW,
    )
    assert isinstance(report, Report), report
    return report


def steps(
    name: str, source: Source, made: Aggregator, status: Mapping[str, Any], other: Mapping[str, Any]
) -> Iterator[str]:
    """Two targets speak, one falls silent, loses the object and leaves, then the other leaves."""
    expected = Expected(max(source.generation, 1), 3)
    made.expect({"east": expected, "west": expected})
    made.put(collected(name, source, "east", status))
    yield "one of two speaks"
    made.put(collected(name, source, "west", other))
    yield "both speak"
    made.stale("west", NOW)
    yield "one is unreachable"
    made.put(missing("west", target_uid="uid-west", source_uid=source.uid, now=NOW))
    made.stale("west", None)
    yield "one lost it"
    made.expect({"east": expected})
    yield "one is left"
    made.expect({})
    yield "none is left"


@pytest.mark.parametrize("name", SOURCES)
def test_the_server_takes_every_merged_status(name: str, upstream: Api, kubectl: Kubectl, namespace: str) -> None:
    """B27, P5: whatever two targets say, come, go or fall silent, the server takes it and it settles at once."""
    api_version, kind, spec = SOURCES[name]
    group_kind = (api_version.rpartition("/")[0] if "/" in api_version else "", kind)
    if name == "pod":
        wait_until(lambda: kubectl.get("upstream", "serviceaccount", "default", namespace))
    said = statuses(name)
    written = 0
    for number, status in enumerate(said):
        manifest: dict[str, Any] = {"apiVersion": api_version, "kind": kind, "spec": spec}
        manifest["metadata"] = {"name": f"web-{number}", "namespace": namespace}
        source = Source(upstream, manifest)
        made = Aggregator(group_kind, source.uid)
        for step in steps(name, source, made, status, said[(number + 1) % len(said)]):
            written += source.write(made)
            again = made.status(source.present, now=datetime.now(UTC))
            assert again is None, (step, status, source.status)
    assert written > len(said)
