"""Writes one SyncTarget's status, when that is worth a request. The only writer of that status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from syncer.api.names import STATUS_MANAGER
from syncer.api.synctarget import FrozenStatus, SyncTargetStatus
from syncer.controllers.ports import SYNCTARGETS, TargetEngine
from syncer.controllers.status import DUPLICATE, TWO_AGENTS, TargetFacts, build_status, worth_writing
from syncer.events import EventRecorder, Outcome, Regarding
from syncer.kube.client import ClusterClient
from syncer.metrics import Metrics


class StatusReporter:
    """Remembers what was written last, so that what still holds is not written again."""

    def __init__(
        self,
        name: str,
        upstream: ClusterClient,
        engine: TargetEngine,
        metrics: Metrics,
        events: EventRecorder,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._name = name
        self._upstream = upstream
        self._engine = engine
        self._metrics = metrics
        self._events = events
        self._clock = clock
        self._now = now
        self._written: SyncTargetStatus | None = None
        self._written_at = 0.0

    def go_on_from(self, status: SyncTargetStatus) -> None:
        """Take over what an earlier leader wrote."""
        if status.conditions:
            self._written, self._written_at = status, self._clock()

    async def report(self, facts: TargetFacts, *, uid: str) -> None:
        """Write the status if that is worth it.

        Args:
            facts: without what the engine knows, which is asked here.
            uid: of the SyncTarget; a namesake that replaced it is not touched.
        """
        if facts.verdict.reachable is None and self._written is not None:
            return  # just started: what an earlier leader wrote stands until there is an answer
        regarding = Regarding(SYNCTARGETS.api_version, SYNCTARGETS.kind, "", self._name, uid)
        self._events.outcome(regarding, "agents", Outcome(DUPLICATE, TWO_AGENTS) if facts.duplicate else None)
        token, why = self._engine.frozen(self._name) or ("", "")
        frozen = FrozenStatus(token=token, since=self._frozen_since(token), message=why) if token else None
        before = self._written or SyncTargetStatus()
        objects = self._engine.objects(self._name)
        if objects is None:
            objects = before.objects
        facts = replace(facts, objects=objects, frozen=frozen, stopped="" if token else why)
        status = build_status(facts, before, now=self._now())
        ready = any(found.type == "Ready" and found.status == "True" for found in status.conditions)
        self._metrics.target_ready.labels(self._name).set(ready)
        if not worth_writing(status, self._written, age_seconds=self._clock() - self._written_at):
            return
        # Zero objects is an answer too; everything else that has its default has nothing to say.
        told = {"objects": status.objects, **status.model_dump(mode="json", by_alias=True, exclude_defaults=True)}
        if status.tunnel is not None:
            told["tunnel"]["links"] = status.tunnel.links
        manifest: dict[str, Any] = {
            "apiVersion": SYNCTARGETS.api_version,
            "kind": SYNCTARGETS.kind,
            "metadata": {"name": self._name, "uid": uid},
            "status": told,
        }
        await self._upstream.apply(
            SYNCTARGETS,
            "",
            self._name,
            orjson.dumps(manifest),
            force=True,
            manager=STATUS_MANAGER,
            subresource="status",
        )
        self._written, self._written_at = status, self._clock()

    def _frozen_since(self, token: str) -> str:
        before = self._written.frozen if self._written else None
        if before is not None and before.token == token:
            return before.since
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
