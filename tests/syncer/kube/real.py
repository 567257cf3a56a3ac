"""Applying to real API servers, for the tests beside."""

from __future__ import annotations

from typing import Any

import orjson

from syncer.kube.client import ClusterClient
from syncer.kube.objects import KubeObject, ResourceInfo

CONFIGMAPS = ResourceInfo("", "v1", "configmaps", "ConfigMap", True)
DEPLOYMENTS = ResourceInfo("apps", "v1", "deployments", "Deployment", True, has_status=True, has_scale=True)
NAMESPACES = ResourceInfo("", "v1", "namespaces", "Namespace", False)


async def apply(
    client: ClusterClient, info: ResourceInfo, manifest: dict[str, Any], namespace: str, **metadata: str
) -> tuple[KubeObject, int]:
    body = {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace, **metadata}}
    return await client.apply(info, namespace, manifest["metadata"]["name"], orjson.dumps(body), force=True)


def configmap(name: str = "c", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
