"""What runs while this replica leads: engine, SyncTarget controller, kopf, Events, and the published hub address."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from syncer.api.placement import AnyPlacement, ClusterPlacement, Placement
from syncer.api.policy import builtin_kind
from syncer.api.synctarget import SyncTarget
from syncer.controllers.kopf_edge import Admission, KopfEdge
from syncer.controllers.synctargets import SyncTargetController
from syncer.controllers.target import ProbeSettings
from syncer.engine.engine import Engine
from syncer.errors import SyncError, TerminalError, TransientError
from syncer.events import EventRecorder
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.discovery import Discovery
from syncer.kube.objects import KubeObject
from syncer.metrics import Metrics
from syncer.settings import OperatorSettings
from syncer.webhooks.configurations import withdraw
from syncer.webhooks.findings import Context, ServedKind
from syncer.webhooks.handlers import AdmissionHandlers, Known, SubjectAccessReviews
from syncer.webhooks.rules import require_valid
from syncer.webhooks.server import AdmissionServer

INSIST_SECONDS: Final = 5.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Process:
    """What the process hands to each term.

    Attributes:
        upstream: client whose writes are guarded by the lease.
        guard: the lease's check, for clients of targets.
        credentials: makes new credentials of the upstream.
        publish: writes the hub's address where the CLI looks for it.
        loop_factory: makes a loop for kopf's thread; None for asyncio's.
    """

    settings: OperatorSettings
    metrics: Metrics
    upstream: ClusterClient
    hub_id: str
    guard: Callable[[], None]
    credentials: Callable[[], ClusterCredentials]
    publish: Callable[[], Awaitable[None]]
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None


class EnginePort:
    """The engine as the SyncTarget controller sees it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def attach_target(self, name: str, uid: str, client: ClusterClient, discovery: Discovery) -> None:
        self._engine.attach_target(name, uid, client, discovery)

    def attached(self, name: str) -> bool:
        return self._engine.attached(name)

    def detach_target(self, name: str, reason: str) -> None:
        self._engine.detach_target(name, reason)

    def target_reachable(self, name: str, reachable: bool, since: float, message: str) -> None:
        self._engine.target_reachable(name, reachable, since, message)

    def drained(self, name: str) -> bool:
        return self._engine.drained(name)

    def frozen(self, name: str) -> tuple[str, str] | None:
        return self._engine.frozen(name)

    def objects(self, name: str) -> int:
        """Objects of ours that are on the target."""
        runtime = self._engine.world.targets.get(name)
        return runtime.synced if runtime is not None else 0


class AdmissionView:
    """The engine's placements and targets for admission reviews, which run in kopf's thread.

    Only whole copies of the engine's tables are taken there, and nothing is changed; a copy of a dict's values is one
    step of the interpreter.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._parsed: dict[str, tuple[str, AnyPlacement]] = {}  # {uid: (resourceVersion, model)}

    def targets(self) -> dict[str, SyncTarget]:
        return {runtime.name: runtime.model for runtime in list(self._engine.world.targets.values())}

    def placements(self) -> list[AnyPlacement]:
        """The valid ones."""
        manifests = [record.manifest for record in list(self._engine.world.placements.values())]
        models = {item.uid: (item.resource_version, model) for item, model in self._models(manifests)}
        self._parsed = models
        return [model for _, model in models.values()]

    def _models(self, manifests: Iterable[KubeObject]) -> Iterable[tuple[KubeObject, AnyPlacement]]:
        for item in manifests:
            known = self._parsed.get(item.uid)
            if known is not None and known[0] == item.resource_version:
                yield item, known[1]
                continue
            kind: type[Placement | ClusterPlacement] = Placement if item.namespace else ClusterPlacement
            try:
                yield item, kind.parse(item.manifest())
            except TerminalError:
                continue


class Term:
    """One term of leading. Built anew for each, so that nothing of an earlier term is left."""

    def __init__(self, process: Process) -> None:
        self._process = process
        settings = process.settings
        self._events = EventRecorder(process.upstream, process.metrics)
        self.engine = Engine(
            upstream=process.upstream,
            hub_id=process.hub_id,
            workspace=process.hub_id,
            metrics=process.metrics,
            events=self._events,
            check=self._check,
        )
        self.discovery = self.engine.sight.discovery
        self._targets = SyncTargetController(
            upstream=process.upstream,
            upstream_kinds=self.discovery.resources,
            engine=EnginePort(self.engine),
            metrics=process.metrics,
            hub_id=process.hub_id,
            guard=process.guard,
            probe=ProbeSettings(settings.probe_seconds, settings.probe_timeout_seconds, settings.probe_failures),
        )
        self.engine.frozen_changed = self._targets.look_again
        self._kopf = KopfEdge(
            credentials=process.credentials,
            on_target=self._targets.notify,
            admission=self._admission if settings.webhooks == "auto" else None,
            loop=asyncio.get_running_loop(),
            loop_factory=process.loop_factory,
        )

    def _check(self, placement: AnyPlacement) -> None:
        """The rules of admission, once more: webhooks may be off, or may have been away."""
        targets = {runtime.name: runtime.model for runtime in self.engine.world.targets.values()}
        hub_id = self.engine.world.hub_id
        require_valid(placement, Context(targets=targets, resolve=self._resolve, schema_checked=True, hub_id=hub_id))

    def _resolve(self, api_version: str, kind: str) -> ServedKind | None:
        try:
            return self.discovery.find(api_version, kind)
        except TransientError:
            return builtin_kind(api_version, kind)

    @property
    def health(self) -> str:
        """Why the process should be restarted; "" if it should not."""
        return f"kopf {self._kopf.problem}" if self._kopf.problem else ""

    @property
    def readiness(self) -> str:
        """What is not up yet; "" once everything is."""
        return "" if self._kopf.ready else "kopf is starting"

    async def run(self) -> None:
        """Lead until cancelled; raises what ended the engine."""
        self._kopf.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.engine.run(), name="engine")
            group.create_task(self._events.run(), name="events")
            group.create_task(_insist("hub address not published", self._process.publish), name="publish hub")
            if self._process.settings.webhooks == "off":
                # An earlier operator may have served them; left behind they would refuse every new placement.
                leave = partial(withdraw, self._process.upstream)
                group.create_task(_insist("webhook configurations not removed", leave), name="no webhooks")

    async def drain(self, timeout_seconds: float) -> None:
        """Take no more work, finish what is in flight."""
        await self._targets.stop()
        await self.engine.drain(timeout_seconds)

    async def close(self) -> None:
        """End what does not end with `run`."""
        await self._targets.close()
        await self._kopf.stop()

    def _admission(self, client: ClusterClient) -> Admission:
        """Called in kopf's thread, with a client of its loop."""
        settings, view = self._process.settings, AdmissionView(self.engine)
        known = Known(
            targets=view.targets,
            placements=view.placements,
            resolve=self.discovery.find,
            hub_id=lambda: self._process.hub_id,
        )
        server = AdmissionServer(client, bind=settings.webhook_bind, url=settings.webhook_url)
        return Admission(server, AdmissionHandlers(SubjectAccessReviews(client), known).register)


async def _insist(complaint: str, work: Callable[[], Awaitable[None]]) -> None:
    """Try until it works."""
    while True:
        try:
            await work()
            return
        except SyncError as error:
            log.warning(complaint, error=str(error))
            await asyncio.sleep(INSIST_SECONDS)
