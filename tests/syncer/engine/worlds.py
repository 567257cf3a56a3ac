"""A world made by hand: the real records, planned by the real catalog, with memory in place of API servers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from syncer.api.keys import GroupResource, ObjectKey
from syncer.api.synctarget import SyncTarget
from syncer.engine.catalog import Catalog, Cause
from syncer.engine.namespaces import NamespaceBook
from syncer.engine.needs import Needs
from syncer.engine.pair import Outcome, State
from syncer.engine.reports import Reports
from syncer.engine.sight import Sight
from syncer.engine.state import Pair, Source
from syncer.engine.targets import Link, TargetRuntime, Watch
from syncer.engine.world import World
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.client import ClusterClient, Response
from syncer.kube.discovery import Discovery
from syncer.kube.errors import NotFound
from syncer.kube.informer import Informer
from syncer.kube.objects import KubeObject, ResourceInfo, decode_object
from syncer.transform.mark import SourceRef, mark

HUB = "hub-1"
CREATED = "2026-01-01T00:00:00Z"
NOW = 1_800_000_000.0  # wall clock of the test
VERBS = frozenset({"get", "list", "watch"})
CONFIG_MAPS = ResourceInfo("", "v1", "configmaps", "ConfigMap", True, VERBS)
SECRETS = ResourceInfo("", "v1", "secrets", "Secret", True, VERBS)
NAMESPACES = ResourceInfo("", "v1", "namespaces", "Namespace", False, VERBS, True)
DEPLOYMENTS = ResourceInfo("apps", "v1", "deployments", "Deployment", True, VERBS, True, True)
SCALERS = ResourceInfo("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True, VERBS, True)
CRON_JOBS = ResourceInfo("batch", "v1", "cronjobs", "CronJob", True, VERBS, True, True)
JOBS = ResourceInfo("batch", "v1", "jobs", "Job", True, VERBS, True)
SERVED = (CONFIG_MAPS, SECRETS, NAMESPACES, DEPLOYMENTS, SCALERS, CRON_JOBS, JOBS)


class Served(Discovery):
    """A cluster that serves `SERVED`."""

    def __init__(self) -> None:
        super().__init__(cast(ClusterClient, None))
        self.known_resources = list(SERVED)

    def find_resource(self, resource: GroupResource) -> ResourceInfo | None:
        return next((info for info in self.known_resources if info.group_resource == resource), None)

    def find(self, api_version: str, kind: str) -> ResourceInfo | None:
        named = [info for info in self.known_resources if info.kind == kind]
        return next((info for info in named if api_version in (info.api_version, info.group)), None)

    def resources(self) -> list[ResourceInfo]:
        return self.known_resources


@dataclass
class Mirror:
    """What reports read of an informer."""

    cache: dict[tuple[str, str], KubeObject] = field(default_factory=dict)
    synced: bool = True
    error: str | None = None
    rewound: bool = False
    last_contact: float = 0.0


class Api:
    """Answers GETs from `answers` (a body or an error); anything else is 404. `stuck` never answers."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.params: dict[str, Mapping[str, str]] = {}  # {path: of the last request}
        self.stuck = False

    async def request(self, method: str, path: str, **more: Any) -> Response:
        assert method == "GET"
        self.asked.append(path)
        self.params[path] = more.get("params") or {}
        if self.stuck:
            await asyncio.Event().wait()
        found = self.answers.get(path)
        if found is None:
            raise NotFound(404, "NotFound", f"{path} not found")
        if isinstance(found, Exception):
            raise found
        return Response(200, cast(Any, {}), orjson.dumps(found))


class Realm:
    """A world, and everything that a test does to it."""

    def __init__(self) -> None:
        self.now = 1000.0  # monotonic
        self.world = World(HUB, HUB, clock=lambda: self.now, wall=lambda: NOW)
        self.discovery = Served()
        self.sight = Sight(self.discovery)
        self.sight.unsettled = ""
        self.upstream = Api()
        self.frozen: dict[str, tuple[str, str]] = {}
        self.catalog = Catalog(self.world, self.sight, lambda: None, lambda model: None)
        upstream = cast(ClusterClient, self.upstream)
        self.reports = Reports(self.world, self.sight, upstream, Needs(self.world), frozen=self.frozen.get)
        self.apis: dict[str, Api] = {}
        self.mirrors: dict[tuple[str, GroupResource], Mirror] = {}
        self._version = 0

    # Targets

    def target(self, name: str, *, ready: bool = True, **more: Any) -> TargetRuntime:
        """A SyncTarget; `labels` and spec fields as given."""
        labels = more.pop("labels", {})
        metadata = {"name": name, "uid": f"uid-{name}", "labels": labels, **more.pop("metadata", {})}
        spec = {"connection": {"direct": {"kubeconfigSecretRef": {"namespace": "syncline-system"}}}, **more}
        manifest = {"apiVersion": "syncline.io/v1alpha1", "kind": "SyncTarget", "metadata": metadata, "spec": spec}
        runtime = self.world.targets[name] = TargetRuntime(SyncTarget.parse(manifest), NOW - 60)
        if ready:
            api = self.apis[name] = Api()
            client = cast(ClusterClient, api)
            runtime.link = Link(client, Served(), NamespaceBook(client, HUB, lambda _: None))
            for info in SERVED:
                mirror = self.mirrors[name, info.group_resource] = Mirror(last_contact=self.now - 5)
                watch = Watch(cast(Informer, mirror), cast("asyncio.Task[None]", None))
                runtime.link.watches[info.group_resource] = watch
            runtime.set_reachable(True, NOW - 60, "")
        self.catalog.targets_changed(Cause("a target came"))
        return runtime

    # Placements and objects

    def place(
        self, name: str = "web", namespace: str = "shop", *, created: str = "2026-01-01T00:00:00Z", **spec: Any
    ) -> str:
        """A placement of everything named `web*` on all targets, with other spec fields as given; returns its uid."""
        uid = f"uid-{namespace}-{name}"
        metadata: dict[str, Any] = {"name": name, "namespace": namespace, "uid": uid, "creationTimestamp": created}
        metadata["generation"] = self._version + 1  # placing it again changes it
        default = {
            "resources": [{"apiVersion": "*", "kind": "*", "names": ["web*"]}],
            "targets": {"all": True},
        }
        manifest = {
            "apiVersion": "syncline.io/v1alpha1",
            "kind": "Placement" if namespace else "ClusterPlacement",
            "metadata": metadata,
            "spec": default | spec,
        }
        self.catalog.placement_event(InformerEvent(EventType.ADDED, self._object(manifest)))
        return uid

    def put(self, info: ResourceInfo, manifest: Mapping[str, Any]) -> Source | None:
        """The object appears upstream, or changes; its source, if a placement selects it."""
        item = self._object(manifest)
        mirror = self.sight.informers.setdefault(info.group_resource, cast(Informer, Mirror()))
        self.sight.infos[info.group_resource] = info
        cast(Mirror, mirror).cache[item.namespace, item.name] = item
        self.catalog.source_event(info, InformerEvent(EventType.ADDED, item))
        return self.world.sources.get(ObjectKey(HUB, info.group_resource, item.namespace, item.name))

    def deployment(self, name: str = "web", namespace: str = "shop", **more: Any) -> Source:
        """A Deployment that some placement selects."""
        source = self.put(DEPLOYMENTS, deployment(name, namespace, **more))
        assert source is not None
        return source

    def settle(self, source: Source, target: str, state: State, reason: str = "", message: str = "") -> Pair:
        """The outcome of the last pass over a pair."""
        pair = self.world.pair(source, target)
        pair.outcome, pair.since = Outcome(state, reason, message), NOW - 30
        self.world.targets[target].synced += state is State.SYNCED
        return pair

    def land(self, source: Source, target: str, managed_fields: list[dict[str, Any]] | None = None) -> Pair:
        """The object stands on the target as its source says, and the pair is in sync."""
        item = source.object
        assert item is not None
        ref = SourceRef(HUB, HUB, item.api_version, item.kind, item.namespace, item.name, item.uid, item.generation)
        made, _ = mark(item.manifest(), ref, deletion_policy="Delete")
        metadata = {**made["metadata"], "uid": f"{target}-{item.uid}", "resourceVersion": "7"}
        live = {**made, "metadata": {**metadata, "managedFields": managed_fields or []}}
        self.apis[target].answers[source.info.path(item.namespace, item.name)] = live
        seen = decode_object(orjson.dumps(live))
        self.mirrors[target, source.key.group_resource].cache[item.namespace, item.name] = seen
        return self.settle(source, target, State.SYNCED)

    def _object(self, manifest: Mapping[str, Any]) -> KubeObject:
        self._version += 1
        metadata = {"resourceVersion": str(self._version), "generation": 1, **manifest["metadata"]}
        metadata.setdefault("uid", f"uid-{manifest['kind']}-{metadata.get('namespace', '')}-{metadata['name']}")
        return decode_object(orjson.dumps({**manifest, "metadata": metadata}), manager=None)


def deployment(name: str = "web", namespace: str = "shop", *, secret: str = "", **metadata: Any) -> dict[str, Any]:
    """A Deployment; `secret` is used as an imagePullSecret."""
    spec: dict[str, Any] = {"containers": [{"name": "web", "image": "nginx:1.27"}]}
    if secret:
        spec["imagePullSecrets"] = [{"name": secret}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    }


def config_map(name: str = "web", namespace: str = "shop", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace, **metadata}}


def secret(name: str, namespace: str = "shop", **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, **more}
