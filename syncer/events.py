"""Kubernetes Events about sync outcomes: only when an outcome changes, never more than the rate allows.

`OutcomeMemory` decides (pure), `EventRecorder` posts in the background. An Event's name is made from what it says, so a
restarted operator that finds the same outcome again does not tell it a second time while the first Event lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import socket
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

import orjson
import structlog

from syncer.engine.lanes import TokenBucket
from syncer.errors import SyncError
from syncer.kube.errors import AlreadyExists
from syncer.kube.objects import KubeObject, ResourceInfo
from syncer.logs import redact
from syncer.metrics import Metrics

REPORTER: Final = "syncline.io/operator"
MAX_NOTE: Final = 1024  # characters; the limit of events.k8s.io/v1
MAX_REMEMBERED: Final = 20_000  # outcomes; the oldest is forgotten first
MAX_QUEUED: Final = 1_000
EVENTS: Final = ResourceInfo("events.k8s.io", "v1", "events", "Event", namespaced=True)

log = structlog.get_logger()


class Regarding(NamedTuple):
    """The object that an Event is about."""

    api_version: str
    kind: str
    namespace: str  # "" for cluster-scoped objects
    name: str
    uid: str


class Outcome(NamedTuple):
    """How things stand; `message` takes part in "has it changed"."""

    reason: str  # one of syncer.api.names.Reason, or a word like Synced
    message: str
    warning: bool = True


class OutcomeMemory:
    """What was told last, by (uid of the object, slot). Bounded; forgetting costs at most one repeated Event."""

    def __init__(self, limit: int = MAX_REMEMBERED) -> None:
        self._told: OrderedDict[tuple[str, str], Outcome] = OrderedDict()
        self._slots: defaultdict[str, set[str]] = defaultdict(set)  # {uid: its slots in `_told`}
        self._limit = limit

    def changed(self, uid: str, slot: str, outcome: Outcome | None) -> bool:
        """Remember the outcome; True if there is something new to tell. None (all is well) is never told."""
        key = (uid, slot)
        if outcome is None:
            self._drop(uid, slot)
            return False
        if self._told.get(key) == outcome:
            self._told.move_to_end(key)
            return False
        self._told[key] = outcome
        self._told.move_to_end(key)
        self._slots[uid].add(slot)
        if len(self._told) > self._limit:
            self._drop(*next(iter(self._told)))
        return True

    def forget(self, uid: str) -> None:
        """The object is gone."""
        for slot in self._slots.pop(uid, ()):
            del self._told[uid, slot]

    def _drop(self, uid: str, slot: str) -> None:
        if self._told.pop((uid, slot), None) is not None:
            self._slots[uid].remove(slot)
            if not self._slots[uid]:
                del self._slots[uid]


class _Client(Protocol):
    async def create(self, info: ResourceInfo, namespace: str, body: bytes) -> KubeObject: ...


def event_manifest(regarding: Regarding, slot: str, outcome: Outcome, *, now: datetime, instance: str) -> bytes:
    """The Event as `events.k8s.io/v1` JSON.

    Its name is the object's plus a hash over object, slot, reason and message. Cluster-scoped objects report into
    namespace `default`, as everywhere in Kubernetes.
    """
    note = redact(outcome.message)
    note = note if len(note) <= MAX_NOTE else note[: MAX_NOTE - 1] + "…"
    identity = "\0".join((regarding.uid, slot, outcome.reason, outcome.message))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    stem = re.sub(r"[^a-z0-9.-]", "-", regarding.name.lower()).strip(".-")[:200].rstrip(".-") or "object"
    reference = {
        "apiVersion": regarding.api_version,
        "kind": regarding.kind,
        "name": regarding.name,
        "uid": regarding.uid,
    }
    if regarding.namespace:
        reference["namespace"] = regarding.namespace
    return orjson.dumps(
        {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{stem}.{digest}", "namespace": regarding.namespace or "default"},
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": REPORTER,
            "reportingInstance": instance[:128],
            "action": "Sync",
            "reason": outcome.reason[:128],
            "regarding": reference,
            "note": note,
            "type": "Warning" if outcome.warning else "Normal",
        }
    )


class EventRecorder:
    """Takes outcomes from anywhere on the loop and posts Events in the background.

    Posting is best effort: an API server that refuses Events never holds up or fails a sync.
    """

    def __init__(
        self,
        client: _Client,
        metrics: Metrics,
        *,
        qps: float = 10.0,
        burst: int = 100,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Args: qps, burst: limit over all Events of this process."""
        self._client = client
        self._metrics = metrics
        self._bucket = TokenBucket(qps, burst)
        self._clock = clock
        self._now = now
        self._memory = OutcomeMemory()
        self._queue: asyncio.Queue[tuple[Regarding, str, Outcome]] = asyncio.Queue(MAX_QUEUED)
        self._instance = socket.gethostname()

    def outcome(self, regarding: Regarding, slot: str, outcome: Outcome | None) -> None:
        """Tell how things stand; an Event leaves only if that changed. Never blocks, never raises.

        Args:
            slot: what the outcome is of, such as a target's name: an object has one outcome per slot.
            outcome: None when all is well; nothing is told then, and the next trouble is news again.
        """
        if not self._memory.changed(regarding.uid, slot, outcome) or outcome is None:
            return
        try:
            self._queue.put_nowait((regarding, slot, outcome))
        except asyncio.QueueFull:
            self._metrics.events_dropped_total.inc()

    def forget(self, uid: str) -> None:
        """The object is gone: its outcomes need not be remembered."""
        self._memory.forget(uid)

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            regarding, slot, outcome = await self._queue.get()
            await asyncio.sleep(self._bucket.take(self._clock()))
            body = event_manifest(regarding, slot, outcome, now=self._now(), instance=self._instance)
            try:
                with contextlib.suppress(AlreadyExists):
                    await self._client.create(EVENTS, regarding.namespace or "default", body)
            except SyncError as error:
                self._metrics.events_dropped_total.inc()
                log.debug("event not posted", regarding=regarding.name, reason=outcome.reason, error=str(error))
