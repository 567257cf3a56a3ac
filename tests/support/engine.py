"""The engine in the test's own process, on a real fleet: no operator, no kopf, no leader election.

Each `Running` has a hub id of its own, so that engines of different tests never take each other's objects for theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from deploy.local.fleet import Fleet
from syncer.engine.engine import Engine
from syncer.events import EventRecorder
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.discovery import Discovery
from syncer.metrics import Metrics

CRDS = Path(__file__).parents[2] / "deploy" / "crds"


class Running:
    """An engine at work, and kubectl beside it.

    Attributes:
        targets: names of the SyncTargets by cluster: `{"east": "east-3fa9"}`.
    """

    def __init__(self, fleet: Fleet, engine: Engine, targets: Mapping[str, str], metrics: Metrics) -> None:
        self.fleet = fleet
        self.engine = engine
        self.targets = targets
        self.metrics = metrics
        self.hub_id = engine.world.hub_id

    async def kubectl(self, cluster: str, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Output of one kubectl command, stdout and stderr."""
        done: subprocess.CompletedProcess[str] = await asyncio.to_thread(
            self.fleet.kubectl, cluster, *args, stdin=stdin, check=check
        )
        return done.stdout + done.stderr

    async def apply(self, *manifests: Mapping[str, Any], cluster: str = "upstream") -> None:
        """`kubectl apply` of some manifests."""
        everything = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        await self.kubectl(cluster, "apply", "-f", "-", stdin=orjson.dumps(everything).decode())

    async def get(self, cluster: str, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        """The object as JSON with managed fields, None if it is not there."""
        where = ("-n", namespace) if namespace else ()
        text = await self.kubectl(
            cluster, "get", kind, name, *where, "-o", "json", "--show-managed-fields", "--ignore-not-found"
        )
        return dict(orjson.loads(text)) if text.strip() else None

    async def until(
        self,
        cluster: str,
        kind: str,
        name: str,
        namespace: str,
        holds: Callable[[Any], Any],
        what: str,
        seconds: float = 15.0,
    ) -> Any:
        """Wait until the object (None while absent) satisfies `holds`; returns the object."""
        deadline = time.monotonic() + seconds
        while True:
            item = await self.get(cluster, kind, name, namespace)
            with contextlib.suppress(KeyError, TypeError, IndexError):
                if holds(item):
                    return item
            if time.monotonic() > deadline:
                raise AssertionError(f"{kind}/{name} on {cluster}: not {what} within {seconds} s: {item}")
            await asyncio.sleep(0.1)


async def quiet(running: Running, seconds: float = 0.5) -> None:
    """Wait until the engine has nothing to do, and stays so for a while."""
    calm_since: float | None = None
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        busy = len(running.engine.world.queue) or running.engine.world.queue.in_hand
        now = time.monotonic()
        calm_since = None if busy else (calm_since or now)
        if calm_since is not None and now - calm_since > seconds:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the engine did not come to rest")


@contextlib.asynccontextmanager
async def running_engine(
    fleet: Fleet, clusters: tuple[str, ...] = ("east", "west"), *, hub_id: str = "", **target_spec: Any
) -> AsyncIterator[Running]:
    """Run an engine whose targets are the given clusters, connected as admin."""
    await asyncio.to_thread(fleet.kubectl, "upstream", "apply", "--server-side", "-f", str(CRDS))
    await asyncio.to_thread(
        fleet.kubectl,
        "upstream",
        "wait",
        "--for=condition=Established",
        "crd",
        "-l",
        "app.kubernetes.io/part-of=syncline",
        check=False,
    )
    with contextlib.suppress(Exception):
        await asyncio.to_thread(fleet.kubectl, "upstream", "create", "namespace", "syncline-system")
    suffix = uuid.uuid4().hex[:6]
    metrics = Metrics()
    upstream = ClusterClient(
        ClusterCredentials.from_kubeconfig(fleet.upstream.kubeconfig),
        name="upstream",
        observe=metrics_observer(metrics, "upstream"),
    )
    hub = hub_id or f"hub-{uuid.uuid4().hex[:12]}"
    events = EventRecorder(upstream, metrics)
    engine = Engine(upstream=upstream, hub_id=hub, workspace=hub, metrics=metrics, events=events)
    targets = {cluster: f"{cluster}-{suffix}" for cluster in clusters}
    run = Running(fleet, engine, targets, metrics)
    for cluster, name in targets.items():
        await run.apply(sync_target(name, labels={"cluster": cluster, "run": suffix}, **target_spec))
    tasks = [asyncio.create_task(engine.run()), asyncio.create_task(events.run())]
    clients = [upstream]
    try:
        for cluster, name in targets.items():
            clients.append(await attach(run, cluster, name))
        yield run
        if tasks[0].done():
            tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for name in targets.values():
            await run.kubectl(
                "upstream", "delete", "synctarget", name, "--wait=false", "--ignore-not-found", check=False
            )
        for client in clients:
            await client.close()


def metrics_observer(metrics: Metrics, side: str) -> Callable[[str, str, int, float], None]:
    return lambda _, verb, code, seconds: metrics.observe_request(side, verb, code, seconds)


async def attach(run: Running, cluster: str, name: str) -> ClusterClient:
    """Connect a target's cluster, as the SyncTarget controller does."""
    credentials = ClusterCredentials.from_kubeconfig(run.fleet.clusters[cluster].kubeconfig)
    client = ClusterClient(credentials, name=name, observe=metrics_observer(run.metrics, "downstream"))
    discovery = Discovery(client)
    await discovery.refresh()
    deadline = time.monotonic() + 10
    while not run.engine.attached(name):
        runtime = run.engine.world.targets.get(name)
        if runtime is not None:
            run.engine.attach_target(name, runtime.uid, client, discovery)
        assert time.monotonic() < deadline, "the engine did not see the SyncTarget"
        await asyncio.sleep(0.05)
    return client


def sync_target(name: str, labels: Mapping[str, str], **spec: Any) -> dict[str, Any]:
    connection = {
        "direct": {"kubeconfigSecretRef": {"namespace": "syncline-system", "name": name, "key": "kubeconfig"}}
    }
    return {
        "apiVersion": "syncline.io/v1alpha1",
        "kind": "SyncTarget",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {"connection": connection, **spec},
    }


def placement(
    name: str, namespace: str, targets: Any, resources: list[dict[str, Any]] | None = None, **spec: Any
) -> dict[str, Any]:
    """A Placement of everything in the namespace unless `resources` is given; `targets`: names, or a whole selector."""
    chosen = targets if isinstance(targets, dict) else {"names": list(targets)}
    return {
        "apiVersion": "syncline.io/v1alpha1",
        "kind": "Placement",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "resources": resources or [{"apiVersion": "*", "kind": "*", "names": ["*"]}],
            "targets": chosen,
            **spec,
        },
    }


def config_map(name: str, namespace: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def deployment(
    name: str, namespace: str, replicas: int = 2, image: str = "nginx:1.27", **labels: str
) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, **labels}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "web", "image": image, "ports": [{"containerPort": 80}]}]},
            },
        },
    }
