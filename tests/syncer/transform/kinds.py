"""One object of every kind that people place, as they would write it: defaults are left to the server."""

from __future__ import annotations

from typing import Any

POD: dict[str, Any] = {"containers": [{"name": "app", "image": "nginx:1.27", "env": [{"name": "DEBUG", "value": "1"}]}]}
FULL_POD: dict[str, Any] = {
    "serviceAccountName": "bot",
    "initContainers": [{"name": "init", "image": "busybox", "command": ["true"]}],
    "containers": [
        {
            "name": "app",
            "image": "nginx:1.27",
            "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}],
            "env": [
                {"name": "DEBUG", "value": "1"},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            ],
            "resources": {"requests": {"cpu": "0.1", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
            "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
            "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}, {"name": "scratch", "mountPath": "/scratch"}],
        },
        {"name": "log", "image": "busybox"},
    ],
    "volumes": [
        {"name": "config", "configMap": {"name": "config"}},
        {
            "name": "scratch",
            "ephemeral": {
                "volumeClaimTemplate": {
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
                }
            },
        },
    ],
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
}
LABELS = {"app": "web"}
CLAIM = {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "1024Mi"}}}


def _object(api_version: str, kind: str, name: str, **body: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": LABELS}, **body}


def _template(pod: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"metadata": {"labels": LABELS}, "spec": {**pod, **more}}


def workloads() -> list[dict[str, Any]]:
    """Everything that holds a pod template, and a Pod."""
    selector = {"matchLabels": LABELS}
    claims = [{"metadata": {"name": "data"}, "spec": CLAIM}]
    return [
        _object(
            "apps/v1", "Deployment", "web", spec={"replicas": 1, "selector": selector, "template": _template(FULL_POD)}
        ),
        _object(
            "apps/v1",
            "StatefulSet",
            "db",
            spec={
                "serviceName": "db",
                "selector": selector,
                "template": _template(POD),
                "volumeClaimTemplates": claims,
            },
        ),
        _object("apps/v1", "DaemonSet", "agent", spec={"selector": selector, "template": _template(POD)}),
        _object(
            "apps/v1", "ReplicaSet", "plain", spec={"replicas": 1, "selector": selector, "template": _template(POD)}
        ),
        _object(
            "v1",
            "ReplicationController",
            "old",
            spec={
                "replicas": 1,
                "selector": {"app": "old"},
                "template": {"metadata": {"labels": {"app": "old"}}, "spec": POD},
            },
        ),
        _object("v1", "PodTemplate", "template", template=_template(POD)),
        _object("v1", "Pod", "alone", spec=FULL_POD),
        _object(
            "batch/v1",
            "Job",
            "once",
            spec={"ttlSecondsAfterFinished": 5, "template": _template(POD, restartPolicy="Never")},
        ),
        _object(
            "batch/v1",
            "CronJob",
            "nightly",
            spec={
                "schedule": "0 3 * * *",
                "jobTemplate": {"spec": {"template": _template(POD, restartPolicy="OnFailure")}},
            },
        ),
    ]


def networking() -> list[dict[str, Any]]:
    """Services of each type, and what stands around them."""
    ports = [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "dns", "port": 53, "protocol": "UDP"}]

    def service(name: str, **spec: Any) -> dict[str, Any]:
        return _object("v1", "Service", name, spec=spec)

    backend = {"service": {"name": "web", "port": {"number": 80}}}
    return [
        service("cluster", selector=LABELS, ports=ports),
        service("node", selector=LABELS, type="NodePort", ports=ports),
        service("balanced", selector=LABELS, type="LoadBalancer", ports=ports[:1], externalTrafficPolicy="Local"),
        service("headless", selector=LABELS, clusterIP="None", ports=ports),
        service("headless-alone", clusterIP="None", ports=ports),
        service("external", type="ExternalName", externalName="db.example.com"),
        service("dual", selector=LABELS, ipFamilyPolicy="PreferDualStack", ports=ports),
        _object(
            "networking.k8s.io/v1",
            "Ingress",
            "web",
            spec={
                "rules": [
                    {
                        "host": "web.example",
                        "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
                    }
                ],
                "tls": [{"hosts": ["web.example"], "secretName": "tls"}],
            },
        ),
        _object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            "deny",
            spec={"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]},
        ),
        _object(
            "v1",
            "Endpoints",
            "headless-alone",
            subsets=[{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"name": "http", "port": 80}]}],
        ),
        _object(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            "by-hand",
            addressType="IPv4",
            endpoints=[{"addresses": ["192.0.2.8"]}],
            ports=[{"name": "http", "port": 80}],
        ),
    ]


def configuration() -> list[dict[str, Any]]:
    """Config, storage, policy and rights inside a namespace."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    return [
        _object("v1", "ConfigMap", "config", data={"a": "b"}, binaryData={"c": "AAE="}),
        _object("v1", "ConfigMap", "fixed", data={"a": "b"}, immutable=True),
        _object("v1", "Secret", "password", stringData={"password": "x"}),
        _object("v1", "ServiceAccount", "bot", imagePullSecrets=[{"name": "regcred"}]),
        _object("v1", "PersistentVolumeClaim", "data", spec=CLAIM),
        _object("v1", "LimitRange", "limits", spec={"limits": [{"type": "Container", "default": {"memory": "2Gi"}}]}),
        _object("v1", "ResourceQuota", "quota", spec={"hard": {"pods": "50", "requests.storage": "1Ti"}}),
        _object("autoscaling/v2", "HorizontalPodAutoscaler", "web", spec={"scaleTargetRef": target, "maxReplicas": 3}),
        _object(
            "policy/v1", "PodDisruptionBudget", "web", spec={"minAvailable": "50%", "selector": {"matchLabels": LABELS}}
        ),
        _object("coordination.k8s.io/v1", "Lease", "lock", spec={"leaseDurationSeconds": 15}),
        _object(
            "rbac.authorization.k8s.io/v1",
            "Role",
            "reader",
            rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        ),
        _object(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            "reader",
            roleRef=role,
            subjects=[
                {"kind": "ServiceAccount", "name": "bot", "namespace": "elsewhere"},
                {"kind": "User", "name": "ann"},
            ],
        ),
    ]


def cluster_scoped(suffix: str) -> list[dict[str, Any]]:
    """What lives outside of namespaces, with names of their own."""
    volume = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/data"},
        "claimRef": {"namespace": "shop", "name": "data"},
    }
    return [
        _object("v1", "PersistentVolume", f"volume-{suffix}", spec=volume),
        _object("storage.k8s.io/v1", "StorageClass", f"class-{suffix}", provisioner="example.com/none"),
        _object("scheduling.k8s.io/v1", "PriorityClass", f"priority-{suffix}", value=100),
        _object("networking.k8s.io/v1", "IngressClass", f"ingress-{suffix}", spec={"controller": "example.com/none"}),
        _object("rbac.authorization.k8s.io/v1", "ClusterRole", f"role-{suffix}", rules=[]),
        _object(
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            f"gathered-{suffix}",
            aggregationRule={
                "clusterRoleSelectors": [{"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}]
            },
        ),
    ]


def custom(group: str, plural: str, *, status_subresource: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """A definition with a default, and an object of it that holds a status."""
    kind = plural.removesuffix("s").capitalize()
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {
        "type": "object",
        "properties": {"spec": {**free, "properties": {"size": {"type": "integer", "default": 3}}}, "status": free},
    }
    version: dict[str, Any] = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    if status_subresource:
        version["subresources"] = {"status": {}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [version],
        },
    }
    return definition, _object(f"{group}/v1", kind, "thing", spec={"color": "red"}, status={"wish": 1})
