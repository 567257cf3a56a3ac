"""What rendering costs: µs of CPU time for each step, for a 4 KB Deployment with defaults as the server writes them.

Run: `python -m bench.render_micro`. CPU time, so that a busy machine changes little; the least of five runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import orjson

from syncer.api.keys import GroupKind
from syncer.api.transforms import Transform
from syncer.transform import Same, SourceRef, TargetView, compile_transforms, prune, references, render

DEPLOYMENT = GroupKind("apps", "Deployment")
CONFIG_MAP = GroupKind("", "ConfigMap")
TARGET = TargetView("east", "4f0c7d4e-6f9e-4b59-8bd2-5ac9ce1c3ff1", {"region": "eu"})
TRANSFORMS = (
    {"image": {"registry": "mirror.example"}},
    {"env": {"set": {"REGION": '${target.labels["region"]}', "CLUSTER": "${target.name}"}}},
    {"mergePatch": {"spec": {"minReadySeconds": 5}}},
)
CEL = {"cel": {"path": "/spec/minReadySeconds", "expression": "object.spec.replicas > 3 ? 10 : 0"}}
_RUNS = 5


def container(name: str) -> dict[str, Any]:
    """One container with defaults, about 1.5 KB."""
    probe = {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10}
    return {
        "name": name,
        "image": f"ghcr.example/shop/{name}:1.27.3",
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": [{"name": f"SETTING_{index}", "value": f"value-{index}"} for index in range(12)]
        + [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "credentials", "key": "token"}}}],
        "resources": {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "250m", "memory": "256Mi"}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/shop", "readOnly": True}],
        "livenessProbe": {**probe, "successThreshold": 1, "failureThreshold": 3},
        "readinessProbe": {**probe, "successThreshold": 1, "failureThreshold": 3},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def deployment() -> dict[str, Any]:
    """As the informer keeps it: without managedFields, with status."""
    labels = {"app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop", "app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "uid": "0f3f2f9c-94d7-4b1c-8a36-8d8a0a6a8a11",
            "resourceVersion": "812345",
            "generation": 3,
            "creationTimestamp": "2026-11-21T09:00:00Z",
            "labels": labels,
            "annotations": {"deployment.kubernetes.io/revision": "3", "team": "front"},
        },
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [container("web"), container("sidecar")],
                    "volumes": [{"name": "config", "configMap": {"name": "web", "defaultMode": 420}}],
                    "restartPolicy": "Always",
                    "terminationGracePeriodSeconds": 30,
                    "dnsPolicy": "ClusterFirst",
                    "securityContext": {},
                    "schedulerName": "default-scheduler",
                },
            },
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
        },
        "status": {"observedGeneration": 3, "replicas": 4, "readyReplicas": 4, "availableReplicas": 4},
    }


def config_map() -> dict[str, Any]:
    """1 KB of data."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "1", "labels": {"app": "web"}},
        "data": {f"key-{index}": "x" * 50 for index in range(18)},
    }


def rendering(
    manifest: dict[str, Any], kind: GroupKind, transforms: tuple[dict[str, Any], ...]
) -> Callable[[], object]:
    """One call of `render` for this object."""
    pipeline = compile_transforms([Transform.model_validate(transform) for transform in transforms])
    metadata = manifest["metadata"]
    source = SourceRef(
        "8a0c",
        "root",
        manifest["apiVersion"],
        kind.kind,
        "shop",
        metadata["name"],
        metadata["uid"],
        metadata.get("generation", 0),
    )
    mapping = Same()
    return lambda: render(
        manifest,
        kind=kind,
        has_status_subresource=True,
        pipeline=pipeline,
        target=TARGET,
        source=source,
        deletion_policy="Delete",
        mapping=mapping,
    )


def microseconds(call: Callable[[], object], seconds: float) -> float:
    """CPU time of one call: the least mean of several runs."""
    best = float("inf")
    for _ in range(_RUNS):
        calls, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds / _RUNS:
            for _ in range(100):
                call()
            calls += 100
        best = min(best, spent / calls)
    return best * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU time for each line")
    seconds = parser.parse_args().seconds
    big, small = deployment(), config_map()
    raw = orjson.dumps(big)
    lines: list[tuple[str, Callable[[], object]]] = [
        ("decode the cached bytes (orjson)", lambda: orjson.loads(raw)),
        ("prune", lambda: prune(big, DEPLOYMENT, has_status_subresource=True)),
        ("references", lambda: references(big, DEPLOYMENT)),
        ("render, no transform", rendering(big, DEPLOYMENT, ())),
        ("render, three transforms", rendering(big, DEPLOYMENT, TRANSFORMS)),
        ("render, three transforms and cel", rendering(big, DEPLOYMENT, (*TRANSFORMS, CEL))),
        ("render ConfigMap, no transform", rendering(small, CONFIG_MAP, ())),
    ]
    print(f"{len(raw)} bytes of Deployment, {len(orjson.dumps(small))} bytes of ConfigMap; µs of CPU time for one call")  # noqa: T201
    for name, call in lines:
        print(f"{name:36} {microseconds(call, seconds):7.1f}")  # noqa: T201


if __name__ == "__main__":
    main()
