"""Command lines of the control-plane processes, and kwok's configuration. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.local.plan import ClusterPlan

STAGES = Path(__file__).parent / "stages"

# An upstream that ran the Deployment controller would start Pods itself and fight over status. Without the two
# protection controllers `kubectl delete pvc` hangs for ever, for the admission plugin still adds their finalizers.
UPSTREAM_CONTROLLERS = (
    "namespace-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "garbage-collector-controller",
    "root-ca-certificate-publisher-controller",
    "clusterrole-aggregation-controller",
    "resourcequota-controller",
    "certificatesigningrequest-signing-controller",
    "certificatesigningrequest-approving-controller",
    "certificatesigningrequest-cleaner-controller",
    "persistentvolumeclaim-protection-controller",
    "persistentvolume-protection-controller",
)
_OPEN_PATHS = "--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics"


def etcd(binary: Path, data: Path, *, client_port: int, peer_port: int) -> list[str]:
    """One etcd for the whole fleet; without fsync, for a fleet's data need not outlive the machine."""
    client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    return [
        str(binary),
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        "--quota-backend-bytes=8589934592",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=5m",
    ]


def apiserver(binary: Path, cluster: ClusterPlan) -> list[str]:
    """kube-apiserver with RBAC and its default admission plugins; its data lies in etcd below the cluster's name."""
    pki = cluster.pki
    return [
        str(binary),
        f"--etcd-servers=http://127.0.0.1:{cluster.etcd_port}",
        f"--etcd-prefix=/{cluster.name}",
        f"--cert-dir={pki}",
        "--bind-address=127.0.0.1",
        f"--secure-port={cluster.ports['apiserver']}",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/16",
        "--allow-privileged=true",
        f"--client-ca-file={pki}/ca.crt",
        f"--service-account-issuer={cluster.server}/",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        "--shutdown-delay-duration=0s",
        f"--kubelet-client-certificate={pki}/admin.crt",
        f"--kubelet-client-key={pki}/admin.key",
        "--kubelet-preferred-address-types=InternalIP",
    ]


def controller_manager(binary: Path, cluster: ClusterPlan) -> list[str]:
    """kube-controller-manager: everything on targets, the few that upstream needs there."""
    pki = cluster.pki
    return [
        str(binary),
        f"--kubeconfig={cluster.folder}/controller-manager.kubeconfig",
        f"--controllers={','.join(UPSTREAM_CONTROLLERS) if cluster.is_upstream else '*'}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={cluster.ports['controller-manager']}",
        f"--cert-dir={pki}",
        f"--root-ca-file={pki}/ca.crt",
        f"--service-account-private-key-file={pki}/sa.key",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        "--use-service-account-credentials=true",
        _OPEN_PATHS,
        "--kube-api-qps=2000",
        "--kube-api-burst=4000",
    ]


def scheduler(binary: Path, cluster: ClusterPlan) -> list[str]:
    """kube-scheduler, on targets only."""
    return [
        str(binary),
        f"--kubeconfig={cluster.folder}/scheduler.kubeconfig",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={cluster.ports['scheduler']}",
        f"--cert-dir={cluster.pki}",
        _OPEN_PATHS,
        "--kube-api-qps=2000",
        "--kube-api-burst=4000",
    ]


def kwok(binary: Path, cluster: ClusterPlan) -> list[str]:
    """kwok, which plays all nodes and their kubelets; it speaks HTTP and HTTPS on the one port."""
    port = cluster.ports["kwok"]
    configs = [*sorted(STAGES.glob("*.yaml")), cluster.folder / "kwok.yaml"]
    return [
        str(binary),
        f"--kubeconfig={cluster.folder}/admin.kubeconfig",
        "--manage-all-nodes=true",
        "--node-ip=127.0.0.1",
        f"--server-address=127.0.0.1:{port}",
        f"--node-port={port}",
        f"--tls-cert-file={cluster.pki}/apiserver.crt",
        f"--tls-private-key-file={cluster.pki}/apiserver.key",
        "--node-lease-duration-seconds=40",
        *(f"--config={config}" for config in configs),
    ]


POD_LOG = "2026-01-01T00:00:00.000000000Z stdout F Syncline's fake Pods all say this line.\n"


def kwok_config(cluster: ClusterPlan) -> list[dict[str, Any]]:
    """What fake Pods answer: logs and attach read `pod.log`, exec runs the command on this machine, and every
    forwarded port leads to kwok's own HTTP server (`/healthz` answers `ok`)."""
    log = str(cluster.folder / "pod.log")
    forward = {"target": {"address": "127.0.0.1", "port": cluster.ports["kwok"]}}
    specs: dict[str, dict[str, Sequence[Any]]] = {
        "ClusterLogs": {"logs": [{"logsFile": log, "follow": True}]},
        "ClusterAttach": {"attaches": [{"logsFile": log}]},
        "ClusterExec": {"execs": [{"local": {}}]},
        "ClusterPortForward": {"forwards": [forward]},
    }
    return [
        {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": kind, "metadata": {"name": "every-pod"}, "spec": spec}
        for kind, spec in specs.items()
    ]


def node(name: str) -> dict[str, Any]:
    """A fake node, large enough that benchmarks and demos never fill it."""
    size = {"cpu": "512", "memory": "2Ti", "pods": "5000", "ephemeral-storage": "10Ti"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
        },
        "status": {"allocatable": size, "capacity": size},
    }
