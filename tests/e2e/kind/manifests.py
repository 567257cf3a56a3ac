"""Manifests that run real containers, of the images that every node of the self-built way has."""

from __future__ import annotations

from deploy.local.kind.images import BUSYBOX_IMAGE
from tests.e2e.manifests import Manifest


def pod_spec(*command: str, **fields: object) -> Manifest:
    """A Pod with one container of busybox."""
    container = {"name": "main", "image": BUSYBOX_IMAGE, "imagePullPolicy": "IfNotPresent", "command": [*command]}
    return {"terminationGracePeriodSeconds": 1, "containers": [container], **fields}


SERVES = "mkdir -p /tmp/w && echo hello from $HOSTNAME > /tmp/w/index.html && exec httpd -f -p 8080 -h /tmp/w"


def web(name: str = "web", replicas: int = 1) -> Manifest:
    """A Deployment of a real web server; its page says the name of the Pod."""
    labels = {"app": name}
    spec = pod_spec("sh", "-c", SERVES)
    spec["containers"][0] |= {
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def job(name: str, *command: str) -> Manifest:
    """A Job that runs one Pod once."""
    spec = pod_spec(*command, restartPolicy="Never")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    }
