"""`syncer.transform.references`: what a workload needs beside itself."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.api.keys import GroupKind
from syncer.transform import references
from tests.syncer.transform.builders import CONFIG_MAP, CRON_JOB, DEPLOYMENT, POD, workload


def found(**pod: Any) -> list[str]:
    """References of a Deployment with this pod spec, `?` after optional ones."""
    manifest = workload()
    manifest["spec"]["template"]["spec"] = {"containers": [], **pod}
    return [f"{r}{'?' if r.optional else ''}" for r in references(manifest, DEPLOYMENT)]


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        ({"serviceAccountName": "bot"}, ["v1/ServiceAccount/shop/bot"]),
        ({"serviceAccount": "bot"}, ["v1/ServiceAccount/shop/bot"]),
        ({"serviceAccountName": "default"}, []),
        ({"imagePullSecrets": [{"name": "regcred"}, {}]}, ["v1/Secret/shop/regcred"]),
        ({"volumes": [{"secret": {"secretName": "s", "optional": True}}]}, ["v1/Secret/shop/s?"]),
        ({"volumes": [{"configMap": {"name": "c"}}, {"emptyDir": {}}]}, ["v1/ConfigMap/shop/c"]),
        ({"volumes": [{"configMap": {"name": "kube-root-ca.crt"}}]}, []),
        ({"volumes": [{"persistentVolumeClaim": {"claimName": "d"}}]}, ["v1/PersistentVolumeClaim/shop/d"]),
        (
            {
                "volumes": [
                    {
                        "projected": {
                            "sources": [{"secret": {"name": "s"}}, {"configMap": {"name": "c", "optional": True}}]
                        }
                    }
                ]
            },
            ["v1/ConfigMap/shop/c?", "v1/Secret/shop/s"],
        ),
        ({"volumes": [{"csi": {"nodePublishSecretRef": {"name": "s"}}}]}, ["v1/Secret/shop/s"]),
        ({"volumes": [{"azureFile": {"secretName": "s"}}]}, ["v1/Secret/shop/s"]),
        (
            {
                "containers": [
                    {"env": [{"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, {"name": "A", "value": "b"}]}
                ]
            },
            ["v1/Secret/shop/s"],
        ),
        (
            {"initContainers": [{"envFrom": [{"configMapRef": {"name": "c", "optional": True}}]}]},
            ["v1/ConfigMap/shop/c?"],
        ),
        (
            {
                "containers": [
                    {"envFrom": [{"secretRef": {"name": "s", "optional": True}}, {"secretRef": {"name": "s"}}]}
                ]
            },
            ["v1/Secret/shop/s"],
        ),
        ({"volumes": "text", "containers": [None, {"env": {}}], "imagePullSecrets": [1]}, []),
    ],
)
def test_what_a_pod_template_uses_is_found(pod: dict[str, Any], expected: list[str]) -> None:
    assert found(**pod) == expected


def test_pods_and_cron_jobs_have_references_and_config_maps_have_none() -> None:
    containers = [{"name": "a", "envFrom": [{"secretRef": {"name": "s"}}]}]
    for kind, manifest in (
        (POD, workload("Pod", "v1", containers=containers)),
        (CRON_JOB, workload("CronJob", "batch/v1", containers=containers)),
        (GroupKind("argoproj.io", "Rollout"), workload("Rollout", "argoproj.io/v1", containers=containers)),
    ):
        assert [r.name for r in references(manifest, kind)] == ["s"]
    assert references({"metadata": {"name": "c"}, "data": {}}, CONFIG_MAP) == []
