"""`syncer.transform.skip`: what is never synced, and why."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from syncer.api.keys import GroupKind
from syncer.kube.objects import decode_object
from syncer.transform import skip_reason


def reason(kind: str, name: str, *, group: str = "", namespace: str = "shop", **more: Any) -> str | None:
    """Skip reason of an object as the informer decodes it."""
    metadata = {"name": name, "namespace": namespace, "uid": "u", "resourceVersion": "1", **more.pop("metadata", {})}
    manifest = {"apiVersion": f"{group}/v1" if group else "v1", "kind": kind, "metadata": metadata, **more}
    return skip_reason(decode_object(orjson.dumps(manifest)), GroupKind(group, kind))


@pytest.mark.parametrize(
    ("kind", "name", "more", "part"),
    [
        ("Secret", "bot-token", {"type": "kubernetes.io/service-account-token"}, "token of an upstream ServiceAccount"),
        ("Secret", "sh.helm.release.v1.web.v1", {"type": "helm.sh/release.v1"}, "Helm release"),
        ("Secret", "sh.helm.release.v1.web.v1", {"metadata": {"labels": {"owner": "helm"}}}, "Helm release"),
        ("Secret", "bootstrap-token-abcdef", {"type": "bootstrap.kubernetes.io/token"}, "joining nodes"),
        ("ConfigMap", "kube-root-ca.crt", {}, "every cluster writes its own"),
        ("ServiceAccount", "default", {}, "every namespace has its own"),
        ("Service", "kubernetes", {"namespace": "default"}, "API server"),
        ("Endpoints", "kubernetes", {"namespace": "default"}, "API server"),
        ("EndpointSlice", "kubernetes", {"group": "discovery.k8s.io", "namespace": "default"}, "API server"),
        (
            "Endpoints",
            "web",
            {"metadata": {"labels": {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}}},
            "from its Service",
        ),
        (
            "EndpointSlice",
            "web-x",
            {
                "group": "discovery.k8s.io",
                "metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
            },
            "from its Service",
        ),
    ],
)
def test_objects_that_belong_to_one_cluster_are_skipped_with_a_reason(
    kind: str, name: str, more: dict[str, Any], part: str
) -> None:
    """B19: tokens, root certificates and Helm records are skipped, and the reason says why."""
    told = reason(kind, name, **more)
    assert told is not None
    assert part in told


@pytest.mark.parametrize(
    ("metadata", "part"),
    [
        ({"deletionTimestamp": "2026-11-21T09:00:00Z"}, "being deleted"),
        ({"labels": {"syncline.io/skip": "true"}}, "syncline.io/skip=true"),
        (
            {
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "o", "controller": True}
                ]
            },
            "controlled by Deployment web",
        ),
    ],
)
def test_objects_of_any_kind_are_skipped_for_what_their_metadata_says(metadata: dict[str, Any], part: str) -> None:
    """B14: what a controller runs comes into being again beside its owner, so it is not synced itself."""
    told = reason("ReplicaSet", "web-1", group="apps", metadata=metadata)
    assert told is not None
    assert part in told


@pytest.mark.parametrize(
    ("kind", "name", "more"),
    [
        ("Secret", "regcred", {"type": "kubernetes.io/dockerconfigjson"}),
        ("ConfigMap", "web", {}),
        ("ServiceAccount", "bot", {}),
        ("Service", "kubernetes", {"namespace": "shop"}),
        ("Endpoints", "db", {}),
        ("EndpointSlice", "db-1", {"group": "discovery.k8s.io"}),
        ("ConfigMap", "web", {"metadata": {"labels": {"syncline.io/skip": "false"}}}),
        ("ConfigMap", "job-7x2", {"metadata": {"generateName": "job-"}}),
        (
            "ConfigMap",
            "web",
            {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Team", "name": "a", "uid": "o"}]}},
        ),
    ],
)
def test_other_objects_are_synced(kind: str, name: str, more: dict[str, Any]) -> None:
    """B13: what generateName made has a stable name and travels under it. B14: a plain owner is only stripped."""
    assert reason(kind, name, **more) is None
