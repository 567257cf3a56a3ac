"""What runs while this replica leads: engine, SyncTarget controller, Events, and the published hub address."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from syncer.api.placement import AnyPlacement
from syncer.api.policy import builtin_kind
from syncer.controllers.kopf_edge import KopfEdge
from syncer.controllers.ports import TunnelLinks
from syncer.controllers.probe import ProbeSettings
from syncer.controllers.registration import ApprovalPolicy
from syncer.controllers.registrations import RegistrationController
from syncer.controllers.synctargets import SyncTargetController
from syncer.engine.engine import Engine
from syncer.errors import SyncError, TransientError
from syncer.events import EventRecorder
from syncer.hub.certificates import KeyPair
from syncer.hub.registered import Registered
from syncer.kube.client import ClusterClient
from syncer.metrics import Metrics
from syncer.settings import OperatorSettings
from syncer.webhooks.configurations import withdraw
from syncer.webhooks.findings import Context, ServedKind
from syncer.webhooks.rules import require_valid

INSIST_SECONDS: Final = 5.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Process:
    """What the process hands to each term.

    Attributes:
        upstream: client whose writes are guarded by the lease.
        guard: the lease's check, for clients of targets.
        publish: writes the hub's address where the CLI looks for it.
        edge: tells of SyncTargets.
        registered: tells of ClusterRegistrations.
        agents: the authority that signs agents' certificates.
        links: of agents to this replica.
    """

    settings: OperatorSettings
    metrics: Metrics
    upstream: ClusterClient
    hub_id: str
    guard: Callable[[], None]
    publish: Callable[[], Awaitable[None]]
    edge: KopfEdge
    registered: Registered
    agents: KeyPair
    links: TunnelLinks


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
            engine=self.engine,
            metrics=process.metrics,
            events=self._events,
            generation=process.registered.generation,
            hub_id=process.hub_id,
            guard=process.guard,
            probe=ProbeSettings(settings.probe_seconds, settings.probe_timeout_seconds, settings.probe_failures),
            links=process.links,
        )
        self._registrations = RegistrationController(
            process.upstream,
            process.registered,
            process.agents,
            ApprovalPolicy.parse(settings.approve_registrations),
            self._events,
            process.metrics,
        )
        self.engine.frozen_changed = self._targets.look_again

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

    async def run(self) -> None:
        """Lead until cancelled; raises what ended the engine."""
        self._process.edge.follow(self._targets.notify)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.engine.run(), name="engine")
            group.create_task(self._events.run(), name="events")
            group.create_task(self._registrations.run(), name="registrations")
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
        self._process.edge.follow(None)
        await self._targets.close()


async def _insist(complaint: str, work: Callable[[], Awaitable[None]]) -> None:
    """Try until it works."""
    while True:
        try:
            await work()
            return
        except SyncError as error:
            log.warning(complaint, error=str(error))
            await asyncio.sleep(INSIST_SECONDS)
