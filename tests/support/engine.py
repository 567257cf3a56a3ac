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
from syncer.api.names import SYSTEM_NAMESPACE
from syncer.engine.engine import Engine
from syncer.events import EventRecorder
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.discovery import Discovery
from syncer.kube.errors import ApiError, NotFound
from syncer.metrics import Metrics

CRDS = Path(__file__).parents[2] / "deploy" / "crds"


# What tests ask for most; the rest goes through kubectl, which takes longer.
PATHS = {
    "namespace": "/api/v1/namespaces",
    "configmap": "/api/v1/configmaps",
    "secret": "/api/v1/secrets",
    "service": "/api/v1/services",
    "pod": "/api/v1/pods",
    "deployment": "/apis/apps/v1/deployments",
    "statefulset": "/apis/apps/v1/statefulsets",
    "job": "/apis/batch/v1/jobs",
    "cronjob": "/apis/batch/v1/cronjobs",
    "crd": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "customresourcedefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "widget": "/apis/example.com/v1/widgets",
    "widgets.example.com": "/apis/example.com/v1/widgets",
    "clusterplacement": "/apis/syncline.io/v1alpha1/clusterplacements",
    "placement": "/apis/syncline.io/v1alpha1/placements",
    "synctarget": "/apis/syncline.io/v1alpha1/synctargets",
}


def path_of(kind: str, name: str, namespace: str = "") -> str:
    """Path of an object whose kind is in PATHS."""
    prefix, _, plural = PATHS[kind].rpartition("/")
    where = f"namespaces/{namespace}/" if namespace else ""
    return f"{prefix}/{where}{plural}/{name}"


async def server_side_apply(client: ClusterClient, path: str, manifest: bytes) -> None:
    """Apply YAML or JSON as kubectl would."""
    await client.request(
        "PATCH",
        path,
        params={"fieldManager": "kubectl", "force": "true"},
        body=manifest,
        content_type="application/apply-patch+yaml",
    )


class Running:
    """An engine at work, and kubectl beside it.

    Attributes:
        targets: names of the SyncTargets by cluster: `{"east": "east-3fa9"}`.
        make_client: makes the engine's clients; replace it before `start` to put a liar in front of a cluster.
        clients: the engine's clients by cluster.
    """

    engine: Engine

    def __init__(self, fleet: Fleet, targets: Mapping[str, str], hub_id: str) -> None:
        self.fleet = fleet
        self.targets = targets
        self.metrics = Metrics()
        self.hub_id = hub_id
        self.make_client: Callable[..., ClusterClient] = ClusterClient
        self.clients: dict[str, ClusterClient] = {}
        self._opened: list[ClusterClient] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._eyes = {
            name: ClusterClient(ClusterCredentials.from_kubeconfig(cluster.kubeconfig), name=name)
            for name, cluster in fleet.clusters.items()
        }

    async def start(self, *, attached: bool = True) -> None:
        """Start an engine of this hub; `attached`: and connect every target, as the SyncTarget controller does."""
        upstream = self.client("upstream", "upstream", "upstream")
        events = EventRecorder(upstream, self.metrics)
        self.engine = Engine(
            upstream=upstream, hub_id=self.hub_id, workspace=self.hub_id, metrics=self.metrics, events=events
        )
        self._tasks = [asyncio.create_task(self.engine.run()), asyncio.create_task(events.run())]
        if attached:
            await self.attach_all()

    async def attach_all(self) -> None:
        """Connect every target."""
        for cluster, name in self.targets.items():
            await attach(self, cluster, name)

    async def stop(self) -> None:
        """End the engine without ceremony, as a crash does; raises what ended it before."""
        ended = [task for task in self._tasks[:1] if task.done()]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._opened:
            await self._opened.pop().close()
        for task in ended:
            task.result()

    async def close(self) -> None:
        """Stop, and remove the SyncTargets."""
        try:
            await self.stop()
        finally:
            for name in self.targets.values():
                with contextlib.suppress(ApiError):  # the test removed it, or its CRD
                    await self._eyes["upstream"].request("DELETE", path_of("synctarget", name))
            for client in self._eyes.values():
                await client.close()

    def eyes(self, cluster: str) -> ClusterClient:
        """An admin's client of a cluster, which the engine knows nothing of."""
        return self._eyes[cluster]

    def client(self, cluster: str, name: str, side: str) -> ClusterClient:
        """A client for the engine."""
        credentials = ClusterCredentials.from_kubeconfig(self.fleet.clusters[cluster].kubeconfig)
        client = self.make_client(credentials, name=name, observe=metrics_observer(self.metrics, side))
        self.clients[cluster] = client
        self._opened.append(client)
        return client

    async def kubectl(self, cluster: str, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Output of one kubectl command, stdout and stderr."""
        done: subprocess.CompletedProcess[str] = await asyncio.to_thread(
            self.fleet.kubectl, cluster, *args, stdin=stdin, check=check
        )
        return done.stdout + done.stderr

    async def apply(self, *manifests: Mapping[str, Any], cluster: str = "upstream") -> None:
        """`kubectl apply --server-side --force-conflicts` of some manifests, without the process where we know how."""
        for manifest in manifests:
            if (kind := manifest["kind"].lower()) in PATHS:
                metadata = manifest["metadata"]
                path = path_of(kind, metadata["name"], metadata.get("namespace", ""))
                await server_side_apply(self._eyes[cluster], path, orjson.dumps(manifest))
            else:
                text = orjson.dumps(manifest).decode()
                await self.kubectl(cluster, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)

    async def get(self, cluster: str, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        """The object as JSON with managed fields, None if it is not there."""
        if kind in PATHS:
            try:
                return await self._eyes[cluster].get_json(path_of(kind, name, namespace))
            except NotFound:
                return None
        scope = ("-n", namespace) if namespace else ()
        text = await self.kubectl(
            cluster, "get", kind, name, *scope, "-o", "json", "--show-managed-fields", "--ignore-not-found"
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


async def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> None:
    """Wait until something in this process is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)


_INSTALLED: dict[Path, dict[str, str]] = {}  # {folder of a fleet: {CRD: its UID}}, as this process left them
_METADATA = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}


async def install(fleet: Fleet) -> None:
    """Our CRDs, served, and our namespace, upstream. What this process installed already stays as it is.

    To apply a CRD again takes an API server 0.1 s of CPU, even where nothing changes: it compiles all its rules.
    """
    client = ClusterClient(ClusterCredentials.from_kubeconfig(fleet.upstream.kubeconfig), name="upstream")
    try:
        if _INSTALLED.get(fleet.folder, {"": ""}).items() <= (await crd_uids(client)).items():
            return
        files = {path_of("crd", file.stem): file.read_bytes() for file in CRDS.glob("*.yaml")}
        for path, manifest in files.items():
            await server_side_apply(client, path, manifest)
        await server_side_apply(
            client, path_of("namespace", SYSTEM_NAMESPACE), orjson.dumps(namespace(SYSTEM_NAMESPACE))
        )
        deadline = time.monotonic() + 30
        for path in files:
            while not established(await client.get_json(path)):
                assert time.monotonic() < deadline, f"{path} is not established"
                await asyncio.sleep(0.05)
        there = await crd_uids(client)
        _INSTALLED[fleet.folder] = {file.stem: there[file.stem] for file in CRDS.glob("*.yaml")}
    finally:
        await client.close()


async def crd_uids(client: ClusterClient) -> dict[str, str]:
    """{name: UID} of all CRDs of a cluster that are not ending."""
    found = await client.get_json(PATHS["crd"], headers=_METADATA)
    items = (item["metadata"] for item in found["items"] or ())
    return {item["name"]: item["uid"] for item in items if "deletionTimestamp" not in item}


def established(crd: dict[str, Any]) -> bool:
    """Whether an API server serves what a CRD says."""
    conditions = crd.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def writes(run: Running, side: str = "", verb: str = "") -> int:
    """API writes of the engine so far; "" is any side, any verb (`downstream`, `delete`)."""
    found = 0.0
    for metric in run.metrics.api_writes_total.collect():
        for sample in metric.samples:
            labels = sample.labels
            if sample.name.endswith("_total") and side in ("", labels["side"]) and verb in ("", labels["verb"]):
                found += sample.value
    return int(found)


@contextlib.asynccontextmanager
async def running_engine(
    fleet: Fleet,
    clusters: tuple[str, ...] = ("east", "west"),
    *,
    hub_id: str = "",
    make_client: Callable[..., ClusterClient] = ClusterClient,
    **target_spec: Any,
) -> AsyncIterator[Running]:
    """Run an engine whose targets are the given clusters, connected as admin."""
    await install(fleet)
    suffix = uuid.uuid4().hex[:6]
    targets = {cluster: f"{cluster}-{suffix}" for cluster in clusters}
    run = Running(fleet, targets, hub_id or f"hub-{uuid.uuid4().hex[:12]}")
    run.make_client = make_client
    await run.apply(
        *(
            sync_target(name, labels={"cluster": cluster, "run": suffix}, **target_spec)
            for cluster, name in targets.items()
        )
    )
    try:
        await run.start()
        yield run
    finally:
        await run.close()


def metrics_observer(metrics: Metrics, side: str) -> Callable[[str, str, int, float], None]:
    return lambda _, verb, code, seconds: metrics.observe_request(side, verb, code, seconds)


async def attach(run: Running, cluster: str, name: str) -> ClusterClient:
    """Connect a target's cluster, as the SyncTarget controller does."""
    client = run.client(cluster, name, "downstream")
    discovery = Discovery(client)
    await discovery.refresh()
    deadline = time.monotonic() + 40
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


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


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
