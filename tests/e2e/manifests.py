"""Plain manifests as a user writes them."""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]
CONFIG_MAPS: Manifest = {"apiVersion": "v1", "kind": "ConfigMap", "names": ["*"]}
DEPLOYMENTS: Manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "names": ["*"]}


def namespace(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def config_map(room: str, name: str, labels: dict[str, str] | None = None, **data: str) -> Manifest:
    metadata = {"name": name, "namespace": room, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def deployment(room: str, name: str, replicas: int = 2, **container: Any) -> Manifest:
    """A Deployment with the label `app: NAME`; `container` replaces fields of its one container."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": room, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": "nginx:1.27"} | container]},
            },
        },
    }


def placement(room: str, name: str, targets: list[str], *resources: Manifest, **spec: Any) -> Manifest:
    """ConfigMaps and Deployments of the namespace, unless resources are named."""
    return {
        "apiVersion": "syncline.io/v1alpha1",
        "kind": "Placement",
        "metadata": {"name": name, "namespace": room},
        "spec": {"resources": list(resources) or [CONFIG_MAPS, DEPLOYMENTS], "targets": {"names": targets}, **spec},
    }
