"""Writes merged statuses to source objects: the first change at once, more within a window together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from status.aggregator import Aggregator
from status.patch import CONTENT_TYPE, status_patch
from syncer.api.keys import ObjectKey
from syncer.api.names import STATUS_MANAGER, SYNCED_FINALIZER, Reason
from syncer.engine.pair import State
from syncer.engine.sight import Sight
from syncer.engine.state import Source, version
from syncer.engine.workqueue import KeyedQueue
from syncer.engine.world import World
from syncer.errors import NotLeadingError
from syncer.kube.client import MERGE_PATCH, ClusterClient
from syncer.kube.errors import AdmissionDenied, ApiError, Conflict, Invalid, NotFound
from syncer.kube.objects import KubeObject
from syncer.metrics import Metrics

WINDOW_SECONDS = 0.1
BUSY_SECONDS = 1.0  # between two looks whether all targets are clean; most of the time an event comes first
DENIED_SECONDS = 60.0
SILENCE_SECONDS = 10.5  # a moment after the aggregator stops waiting for targets that never spoke

log = structlog.get_logger()


class StatusWriter:
    """One writer for two fields of a source object: its `.status`, and our finalizer where deletion waits."""

    def __init__(
        self,
        world: World,
        sight: Sight,
        upstream: ClusterClient,
        metrics: Metrics,
        trouble: Callable[[Source, str, str], None],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        mono: Callable[[], float] = time.monotonic,
    ) -> None:
        self._world = world
        self._sight = sight
        self._upstream = upstream
        self._metrics = metrics
        self._trouble = trouble  # source, reason, message
        self._now = now
        self._mono = mono
        self.queue: KeyedQueue[ObjectKey] = KeyedQueue(lane_limit=32)
        self._written: dict[ObjectKey, float] = {}  # when, for the window; entries older than it are dropped

    def changed(self, source: Source) -> None:
        """Something that the source's status or finalizer depends on may differ."""
        if source.key.origin:
            return  # there is nothing upstream to write to: the placement's own status tells
        now = self._mono()
        last = self._written.get(source.key)
        self.queue.add(source.key, at=0.0 if last is None else last + WINDOW_SECONDS)
        if len(self._written) > 1024:
            self._written = {key: at for key, at in self._written.items() if at > now - WINDOW_SECONDS}

    async def run(self, key: ObjectKey) -> None:
        """One pass over one source. Never raises."""
        source = self._world.sources.get(key)
        if source is None or source.object is None:
            self.queue.forget(key)
            return
        try:
            await self._finalizer(source)
            if source.object is not None:
                await self._status(source, source.object)
            self.queue.forget(key)
        except (NotFound, NotLeadingError):
            self.queue.forget(key)  # gone, or not ours to write: an event or the next leader comes back to it
        except Conflict:
            source.status_live = None
            self._retry(key, 0.05)
        except (Invalid, AdmissionDenied) as error:
            log.warning("merged status refused", key=str(key), error=error.message)
            self._trouble(source, Reason.INVALID_STATUS, error.message)
            if isinstance(error, AdmissionDenied):  # what denies it may go, and nothing else would tell
                self._retry(key, DENIED_SECONDS)
        except ApiError as error:
            self._retry(key, error.retry_after_seconds)
        except Exception:
            log.exception("status pass failed", key=str(key))
            self._retry(key, 5.0)
        if _left(source) and key not in self.queue:
            source.aggregator = None  # it has said its last word
            self._world.forget_if_done(source)

    def _retry(self, key: ObjectKey, floor_seconds: float | None) -> None:
        self.queue.retry(key, self._mono(), self._world.rng, floor_seconds=floor_seconds)

    async def _status(self, source: Source, item: KubeObject) -> None:
        """Write the merged status if it differs from the newest that we know."""
        aggregator = source.aggregator  # the source may be deleted, and lose it, while the server answers
        if aggregator is None or (item.terminating and not source.plan.assignments):
            return
        if any(refusal.reason == Reason.UPSTREAM_CONTROLLER_ACTIVE for refusal in source.plan.refusals.values()):
            return  # the status is the upstream's own
        if _left(source):
            aggregator.expect({})
        manifest = (source.status_live or item).manifest()
        if await self._foreign(source, item, manifest, aggregator):
            return
        status = aggregator.status(manifest, now=self._now())
        if status is None:
            if not source.asked_again:  # targets that stay silent are only waited for so long
                source.asked_again = True
                self.queue.add(source.key, at=self._mono() + SILENCE_SECONDS)
            return
        self._written[source.key] = self._mono()
        body = status_patch(manifest, status)
        answer = await self._upstream.patch(
            source.info, item.namespace, item.name, body, CONTENT_TYPE, subresource="status", manager=STATUS_MANAGER
        )
        aggregator.wrote(status, answer.manifest())
        known = source.object
        source.status_live = answer if known is None or version(known) < version(answer) else None
        seen = source.status_seen
        source.status_seen = 0.0
        if seen:
            self._metrics.status_latency_seconds.observe(self._mono() - seen)

    async def _foreign(
        self, source: Source, item: KubeObject, manifest: Mapping[str, Any], aggregator: Aggregator
    ) -> bool:
        """Whether an upstream controller writes this status, too; judged by content first, then by field ownership."""
        if not aggregator.foreign_writer(manifest):
            return False
        self._written[source.key] = self._mono()
        live = await self._upstream.get_json(source.info.path(item.namespace, item.name))
        if not aggregator.foreign_writer(live):
            return False
        self._trouble(source, Reason.UPSTREAM_CONTROLLER_ACTIVE, "a controller upstream writes this status, too")
        return True

    async def _finalizer(self, source: Source) -> None:
        """Hold a source that waits for its targets, and let it go once every one of them is clean."""
        item = source.object
        assert item is not None
        has = SYNCED_FINALIZER in item.finalizers
        wanted = not item.terminating and any(
            (record := self._world.placements.get(a.placement)) is not None
            and record.compiled is not None
            and record.compiled.deletion.wait
            for a in source.plan.assignments.values()
        )
        if wanted and not has:
            await self._write_finalizers(source, item, (*item.finalizers, SYNCED_FINALIZER))
        elif has and not wanted:
            if self._sight.blind(None) or (item.terminating and source.left != item.uid and self._dirty(source)):
                self.queue.add(source.key, at=self._mono() + BUSY_SECONDS)
                return
            await self._write_finalizers(source, item, tuple(f for f in item.finalizers if f != SYNCED_FINALIZER))

    def _dirty(self, source: Source) -> bool:
        """Whether a copy may be left on a target that was ever to hold one: there, or not to be told from here."""
        if any(pair.outcome.state is not State.GONE for pair in source.pairs.values()):
            return True
        records = [self._world.placements[uid] for uid in source.plan.matched]
        holders = {name for r in records for name in (*r.holds, *(r.selection.selected if r.selection else ()))}
        return any(
            target.holds_unseen(source.key.group_resource)
            for name, target in self._world.targets.items()
            if name in holders or not records
        )

    async def _write_finalizers(self, source: Source, item: KubeObject, finalizers: tuple[str, ...]) -> None:
        metadata = {"uid": item.uid, "resourceVersion": item.resource_version, "finalizers": list(finalizers)}
        body = orjson.dumps({"metadata": metadata})
        answer = await self._upstream.patch(source.info, item.namespace, item.name, body, MERGE_PATCH)
        known = source.object  # an event may have been faster than our answer
        if known is not None and known.uid == answer.uid and version(known) < version(answer):
            source.object = answer


def _left(source: Source) -> bool:
    """Nothing selects the source and no target has it.

    As long as a copy is left its target is told of: the placement may only seem gone, while our API is being removed.
    """
    return not source.plan.matched and not source.pairs
