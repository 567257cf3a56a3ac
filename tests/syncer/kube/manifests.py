"""Manifests as people write them: defaults left out, odd quantities, empty values, keyed lists without their keys."""

from __future__ import annotations

from typing import Any

_POD: dict[str, Any] = {
    "hostNetwork": False,
    "securityContext": {},
    "nodeSelector": None,
    "tolerations": [],
    "imagePullSecrets": [{"name": "registry"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "topologySpreadConstraints": [
        {
            "topologyKey": "zone",
            "maxSkew": 1,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": "web"}},
        }
    ],
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["b", "a"]}],
    "volumes": [
        {"name": "scratch", "emptyDir": {}},
        {"name": "sized", "emptyDir": {"sizeLimit": "1024Mi"}},
        {"name": "config", "configMap": {"name": "c", "items": [{"key": "a", "path": "b"}]}},
        {
            "name": "token",
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"path": "t"}},
                    {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                ]
            },
        },
        {
            "name": "disk",
            "ephemeral": {
                "volumeClaimTemplate": {
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "0.5Gi"}}}
                }
            },
        },
    ],
    "initContainers": [{"name": "init", "image": "example.com/init"}],
    "containers": [
        {
            "name": "web",
            "image": "example.com/web:1",
            "command": ["sh", "-c", "run"],
            "env": [
                {"name": "PLAIN", "value": "1000m"},
                {"name": "EMPTY", "value": ""},
                {"name": "FIELD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
            ],
            "envFrom": [{"configMapRef": {"name": "c"}}],
            "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53}],
            "resources": {"limits": {"cpu": "1000m", "memory": "1.5Gi"}, "requests": {"cpu": 0.5, "memory": "1e9"}},
            "volumeMounts": [
                {"name": "scratch", "mountPath": "/x"},
                {"name": "config", "mountPath": "/c", "readOnly": True},
            ],
            "readinessProbe": {"httpGet": {"path": "/", "port": "http", "httpHeaders": [{"name": "a", "value": "b"}]}},
            "livenessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 5},
            "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
            "securityContext": {"capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True},
        },
        {"name": "side", "image": "example.com/side", "resources": {}},
    ],
}
_LABELS = {"app": "web", "app.kubernetes.io/name": "web", "empty": ""}


def _template(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "web"}, "annotations": {}}, "spec": {**_POD, **spec}}


def _manifest(api_version: str, kind: str, name: str, **content: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": _LABELS, "annotations": {"a/b.c": "1000m"}}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


_CLAIM: dict[str, Any] = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1000Mi"}}},
}

MANIFESTS: list[dict[str, Any]] = [
    _manifest(
        "apps/v1",
        "Deployment",
        "web",
        spec={"replicas": 2, "strategy": {}, "selector": {"matchLabels": {"app": "web"}}, "template": _template()},
    ),
    _manifest(
        "apps/v1",
        "StatefulSet",
        "db",
        spec={
            "serviceName": "db",
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": _template(),
            "volumeClaimTemplates": [_CLAIM],
        },
    ),
    _manifest(
        "apps/v1", "DaemonSet", "agent", spec={"selector": {"matchLabels": {"app": "web"}}, "template": _template()}
    ),
    _manifest(
        "batch/v1",
        "CronJob",
        "nightly",
        spec={
            "schedule": "0 3 * * *",
            "suspend": True,
            "jobTemplate": {"spec": {"template": _template(restartPolicy="Never")}},
        },
    ),
    _manifest("batch/v1", "Job", "once", spec={"suspend": True, "template": _template(restartPolicy="OnFailure")}),
    _manifest("v1", "ConfigMap", "c", data={"a.b/c".replace("/", "-"): "1000m", "empty": ""}, binaryData={"x": "YQ=="}),
    _manifest("v1", "Secret", "s", type="Opaque", data={"k": "YQ=="}),
    _manifest(
        "v1",
        "Service",
        "web",
        spec={
            "selector": {"app": "web"},
            "ports": [
                {"name": "http", "port": 80, "targetPort": "http"},
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53},
            ],
        },
    ),
    _manifest("v1", "Service", "headless", spec={"clusterIP": "None", "ports": [{"port": 80}]}),
    _manifest(
        "networking.k8s.io/v1",
        "Ingress",
        "web",
        spec={
            "tls": [{"hosts": ["a.example.com"], "secretName": "t"}],
            "rules": [
                {
                    "host": "a.example.com",
                    "http": {
                        "paths": [
                            {
                                "path": "/",
                                "pathType": "Prefix",
                                "backend": {"service": {"name": "web", "port": {"number": 80}}},
                            }
                        ]
                    },
                }
            ],
        },
    ),
    _manifest(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "deny",
        spec={
            "podSelector": {},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"port": 80}], "from": [{"podSelector": {}}]}],
        },
    ),
    _manifest("v1", "PersistentVolumeClaim", "data", spec=_CLAIM["spec"]),
    _manifest(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "web",
        spec={
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "maxReplicas": 3,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "0.5"}},
                }
            ],
        },
    ),
    _manifest(
        "policy/v1",
        "PodDisruptionBudget",
        "web",
        spec={"minAvailable": "50%", "selector": {"matchLabels": {"app": "web"}}},
    ),
    _manifest("v1", "ResourceQuota", "q", spec={"hard": {"requests.cpu": "1000m", "pods": 10}}),
    _manifest(
        "v1",
        "LimitRange",
        "l",
        spec={"limits": [{"type": "Container", "default": {"cpu": "0.5"}, "max": {"memory": "1e9"}}]},
    ),
    _manifest(
        "v1",
        "ServiceAccount",
        "sa",
        imagePullSecrets=[{"name": "b"}, {"name": "a"}],
        automountServiceAccountToken=False,
    ),
    _manifest(
        "rbac.authorization.k8s.io/v1",
        "Role",
        "r",
        rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}],
    ),
]
