"""What benchmarks sync. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

CONFIG_MAPS: Final = "configmaps"
SERVICES: Final = "services"
DEPLOYMENTS: Final = "deployments"
CRON_JOBS: Final = "cronjobs"
OFFERS: Final = "offers"
PLACEMENTS: Final = "placements"
KINDS: Final = {  # {plural: (apiVersion, kind)}
    CONFIG_MAPS: ("v1", "ConfigMap"),
    SERVICES: ("v1", "Service"),
    DEPLOYMENTS: ("apps/v1", "Deployment"),
    CRON_JOBS: ("batch/v1", "CronJob"),
    OFFERS: ("shop.example/v1", "Offer"),
    PLACEMENTS: ("syncline.io/v1alpha1", "Placement"),
}

SYNCED: Final = tuple(resource for resource in KINDS if resource != PLACEMENTS)
PREFIX: Final = "bench-"  # of every namespace that a scenario makes


def collection(resource: str, namespace: str) -> str:
    """Path of a resource in a namespace, in all namespaces for ""."""
    where = f"/namespaces/{namespace}" if namespace else ""
    version, _ = KINDS[resource]
    return f"/{'apis' if '/' in version else 'api'}/{version}{where}/{resource}"


def resource_of(item: Mapping[str, Any]) -> str:
    """The plural of an object's kind."""
    return next(resource for resource, (_, kind) in KINDS.items() if kind == item["kind"])


def config_map(namespace: str, name: str, value: str = "0") -> dict[str, Any]:
    """About 700 bytes, as small settings are."""
    data = {"value": value, "settings.ini": "\n".join(f"setting-{number} = value-{number}" for number in range(20))}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "bench"}},
        "data": data,
    }


def deployment(namespace: str, name: str, replicas: int = 1) -> dict[str, Any]:
    """One container with the usual parts."""
    container = {
        "name": "web",
        "image": "nginx:1.27",
        "ports": [{"name": "http", "containerPort": 80}],
        "env": [{"name": f"SETTING_{number}", "value": f"value-{number}"} for number in range(6)],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        },
    }


def placement(namespace: str, targets: Iterable[str], resources: Sequence[str], **spec: Any) -> dict[str, Any]:
    """Everything of these resources in the namespace, to these targets."""
    chosen = [{"apiVersion": KINDS[name][0], "kind": KINDS[name][1], "names": ["*"]} for name in resources]
    return {
        "apiVersion": "syncline.io/v1alpha1",
        "kind": "Placement",
        "metadata": {"name": "bench", "namespace": namespace},
        "spec": {"resources": chosen, "targets": {"names": list(targets)}, **spec},
    }


def service(namespace: str, name: str) -> dict[str, Any]:
    """A load balancer's Service; no controller of the fleet writes its status."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": False,
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80}],
        },
    }


def raw_body(downstream: dict[str, Any], namespace: str) -> bytes:
    """The PATCH body that made a downstream object, for the same object in another namespace.

    The label that marks it as synced carries another hub's id of the same length, so that Syncline leaves it alone.
    """
    metadata = downstream["metadata"]
    labels = {
        key: value[::-1] if key == "syncline.io/managed-by" else value for key, value in metadata["labels"].items()
    }
    annotations = {key: value for key, value in metadata["annotations"].items() if key.startswith("syncline.io/")}
    body = {key: value for key, value in downstream.items() if key not in ("metadata", "status")}
    body["metadata"] = {
        "name": metadata["name"],
        "namespace": namespace,
        "labels": labels,
        "annotations": annotations,
        "resourceVersion": "1",  # only create, as the engine's first apply does
    }
    return orjson.dumps(body)
