"""The SyncTarget controller with kopf, on a real fleet, beside an engine that only takes notes."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from syncer.controllers.kopf_edge import KopfEdge
from syncer.controllers.probe import ProbeSettings
from syncer.controllers.synctargets import SyncTargetController
from syncer.events import EventRecorder
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.discovery import Discovery
from syncer.metrics import Metrics
from tests.support.fleet import Kubectl, eventually
from tests.support.links import NoLinks

QUICK = ProbeSettings(interval=0.5, timeout=0.5, failures=3)


@dataclass
class NotingEngine:
    """Knows every SyncTarget at once, and holds what tests tell it to hold."""

    clients: dict[str, ClusterClient] = field(default_factory=dict)
    attachments: int = 0
    told: list[tuple[str, Any]] = field(default_factory=list)
    held: int = 0
    freeze: tuple[str, str] | None = None
    move: str = ""

    def attach_target(self, name: str, uid: str, client: ClusterClient, discovery: Discovery) -> None:
        assert discovery.resources()
        self.clients[name] = client
        self.attachments += 1

    def attached(self, name: str) -> bool:
        return name in self.clients

    def detach_target(self, name: str, reason: str) -> None:
        self.clients.pop(name, None)
        self.told.append(("detached", reason))

    def target_reachable(self, name: str, reachable: bool, since: float, message: str) -> None:
        self.told.append(("reachable", reachable))

    def drained(self, name: str) -> bool:
        return self.held == 0

    def moving(self, name: str) -> list[str]:
        return [self.move] if self.move else []

    def objects(self, name: str) -> int:
        return self.held

    def frozen(self, name: str) -> tuple[str, str] | None:
        return self.freeze


class Bench:
    """One test's view: SyncTargets and Secrets upstream, conditions as they come."""

    def __init__(self, kubectl: Kubectl, engine: NotingEngine, controller: SyncTargetController) -> None:
        self.kubectl = kubectl
        self.api = kubectl.api("upstream")
        self.engine = engine
        self.controller = controller
        self.metrics = Metrics()
        self.names: list[str] = []

    def kubeconfig(self, cluster: str) -> str:
        """The admin's kubeconfig of a cluster, all inline."""
        return self.kubectl.fleet.clusters[cluster].kubeconfig.read_text()

    def secret(self, name: str, kubeconfig: str) -> None:
        data = {"kubeconfig": base64.b64encode(kubeconfig.encode()).decode()}
        metadata = {"name": name, "namespace": "syncline-system"}
        self.api.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    def target(self, kubeconfig: str | None, **spec: Any) -> str:
        """A new SyncTarget; None makes no Secret."""
        name = f"t-{uuid.uuid4().hex[:8]}"
        self.names.append(name)
        if kubeconfig is not None:
            self.secret(name, kubeconfig)
        reference = {"namespace": "syncline-system", "name": name, "key": "kubeconfig"}
        manifest = {
            "apiVersion": "syncline.io/v1alpha1",
            "kind": "SyncTarget",
            "metadata": {"name": name},
            "spec": {"connection": {"direct": {"kubeconfigSecretRef": reference}}, **spec},
        }
        self.api.apply(manifest)
        return name

    def get(self, name: str) -> dict[str, Any] | None:
        return self.kubectl.get("upstream", "synctarget", name)

    def condition(self, name: str, kind: str) -> tuple[str, str, str]:
        """(status, reason, message), empty texts while there is none."""
        for condition in ((self.get(name) or {}).get("status") or {}).get("conditions") or ():
            if condition["type"] == kind:
                return condition["status"], condition["reason"], condition.get("message", "")
        return "", "", ""

    async def until(self, name: str, kind: str, status: str, reason: str = "", timeout_seconds: float = 15) -> str:
        """Wait for a condition; its message."""

        def holds() -> bool:
            found = self.condition(name, kind)
            assert found[0] == status, found
            assert reason in ("", found[1]), found
            return True

        await eventually(holds, timeout_seconds=timeout_seconds)
        return self.condition(name, kind)[2]

    async def gone(self, name: str, timeout_seconds: float = 15) -> None:
        await eventually(lambda: self.get(name) is None, timeout_seconds=timeout_seconds)

    def clean(self) -> None:
        """Remove what the test made, finalizers included: the controller is gone by now."""
        for name in self.names:
            if self.get(name) is not None:
                self.api.patch("synctarget", "", name, {"metadata": {"finalizers": None}})
                self.api.delete("synctarget", "", name)
            self.api.delete("secret", "syncline-system", name)


@asynccontextmanager
async def bench(kubectl: Kubectl, probe: ProbeSettings = QUICK) -> AsyncIterator[Bench]:
    """A running controller."""
    path: Path = kubectl.fleet.upstream.kubeconfig
    upstream = ClusterClient(ClusterCredentials.from_kubeconfig(path), name="upstream")
    discovery = Discovery(upstream)
    await discovery.refresh()
    hub_id = (await upstream.get_json("/api/v1/namespaces/kube-system"))["metadata"]["uid"]
    engine = NotingEngine()
    controller = SyncTargetController(
        upstream=upstream,
        upstream_kinds=discovery.resources,
        engine=engine,
        metrics=Metrics(),
        events=EventRecorder(upstream, Metrics()),
        generation=lambda _: 0,
        hub_id=hub_id,
        guard=lambda: None,
        probe=probe,
        links=NoLinks(),
    )
    edge = KopfEdge(
        credentials=lambda: ClusterCredentials.from_kubeconfig(path),
        admission=None,
        loop=asyncio.get_running_loop(),
    )
    edge.follow(controller.notify)
    edge.start()
    made = Bench(kubectl, engine, controller)
    try:
        yield made
    finally:
        await controller.close()
        await edge.stop()
        await upstream.close()
        await asyncio.to_thread(made.clean)


def service_account(kubectl: Kubectl, cluster: str, *rules: dict[str, Any]) -> tuple[str, str]:
    """A new identity with a cluster-wide role on a target; (its name, its kubeconfig)."""
    name = f"sa-{uuid.uuid4().hex[:8]}"
    rbac = "rbac.authorization.k8s.io"
    kubectl.apply(
        cluster,
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "kube-system"}},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": list(rules)},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}],
        },
    )
    return name, token_kubeconfig(kubectl, cluster, name)


def token_kubeconfig(kubectl: Kubectl, cluster: str, account: str) -> str:
    """A kubeconfig with a new token of that ServiceAccount."""
    token = kubectl(cluster, "create", "token", account, "-n", "kube-system", "--duration=1h").strip()
    config = yaml.safe_load(kubectl.fleet.clusters[cluster].kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    return yaml.safe_dump(config)
