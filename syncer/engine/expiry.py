"""`ttlSecondsAfterFinished` of Jobs, honoured on the source: a copy that a target removed by itself would look lost.

The source goes once its merged status says that every target has finished, and for as long; its copies follow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog

from syncer.api.keys import ObjectKey
from syncer.engine.sight import Sight
from syncer.engine.state import Source
from syncer.engine.world import World
from syncer.errors import SyncError
from syncer.kube.client import ClusterClient
from syncer.kube.errors import Conflict, NotFound

RETRY_SECONDS = 5.0

log = structlog.get_logger()


def expires_at(manifest: Mapping[str, Any]) -> float | None:
    """When a Job may be removed, in seconds since the epoch; None while it runs, or if it stays for good."""
    ttl = (manifest.get("spec") or {}).get("ttlSecondsAfterFinished")
    if not isinstance(ttl, int):
        return None
    for condition in (manifest.get("status") or {}).get("conditions") or ():
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            return _seconds(condition.get("lastTransitionTime"), ttl)
    return None


def _seconds(time: object, ttl: int) -> float | None:
    try:
        return datetime.fromisoformat(str(time)).timestamp() + ttl
    except ValueError:
        return None  # then nobody knows when it finished


class Expiry:
    """Removes finished Jobs upstream when their time is over."""

    def __init__(self, world: World, sight: Sight, upstream: ClusterClient) -> None:
        self._world = world
        self._sight = sight
        self._upstream = upstream
        self._due: dict[ObjectKey, float] = {}  # wall-clock seconds

    def seen(self, key: ObjectKey) -> None:
        """A Job upstream was changed or removed."""
        source = self._world.sources.get(key)
        item = source.object if source is not None else None
        at = expires_at(item.manifest()) if item is not None and not item.terminating else None
        if at is None:
            self._due.pop(key, None)
        else:
            self._due[key] = at

    async def run(self) -> None:
        """Look once a second at what is due, until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            now = self._world.wall()
            for key in [key for key, at in self._due.items() if at <= now]:
                self._due[key] = now + RETRY_SECONDS
                try:
                    await self._expire(key)
                except (NotFound, Conflict):
                    self._due.pop(key, None)  # it changed: its event says how to go on
                except SyncError as error:
                    log.debug("finished Job not removed yet", key=str(key), error=str(error))

    async def _expire(self, key: ObjectKey) -> None:
        source = self._world.sources.get(key)
        if source is None or source.object is None:
            self._due.pop(key, None)
            return
        item = source.object
        if self._world.frozen or self._sight.blind(key.group_resource) or not self._finished(source):
            return
        log.info("delete", key=str(key), uid=item.uid, evidence="finished everywhere, ttlSecondsAfterFinished is over")
        await self._upstream.delete(
            source.info, item.namespace, item.name, uid=item.uid, resource_version=item.resource_version
        )
        self._due.pop(key, None)

    def _finished(self, source: Source) -> bool:
        """Placed somewhere, and at its end wherever it is placed: a status alone may have been written by anybody."""
        uid = source.object.uid if source.object is not None else ""
        targets = [self._world.targets.get(name) for name in source.plan.assignments]
        return bool(targets) and all(t is not None and (uid, t.uid) in self._world.finished for t in targets)
