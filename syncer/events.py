"""Kubernetes Events about sync outcomes: only when an outcome changes, never more than the rate allows.

`OutcomeMemory` decides and `Backlog` orders (pure), `EventRecorder` posts in the background. An Event's name is made
from what it says, so a restarted operator that finds the same outcome again does not tell it a second time while the
first Event lives.
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


class News(NamedTuple):
    """An outcome to be posted."""

    target: str  # whose doing it is; "" for what no single target has caused
    regarding: Regarding
    slot: str
    outcome: Outcome


class Backlog:
    """What waits to be posted: of each slot and reason the newest, and the targets in turn.

    So a target that makes news without end holds up its own only, and what does not fit is taken from who has most.
    """

    def __init__(self, limit: int = MAX_QUEUED) -> None:
        self._turns: OrderedDict[str, dict[tuple[str, str, str], News]] = OrderedDict()  # by target, none is empty
        self._limit = limit
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, news: News) -> News | None:
        """Add one; returns the one that had to be dropped for it."""
        waiting = self._turns.setdefault(news.target, {})
        key = (news.regarding.uid, news.slot, news.outcome.reason)
        self._size += key not in waiting
        waiting[key] = news
        if self._size <= self._limit:
            return None
        most = max(self._turns, key=lambda target: len(self._turns[target]))
        return self._pop(most, next(reversed(self._turns[most])))

    def take(self) -> News:
        """The oldest of the target whose turn it is. There must be one."""
        target, waiting = next(iter(self._turns.items()))
        self._turns.move_to_end(target)
        return self._pop(target, next(iter(waiting)))

    def _pop(self, target: str, key: tuple[str, str, str]) -> News:
        self._size -= 1
        news = self._turns[target].pop(key)
        if not self._turns[target]:
            del self._turns[target]
        return news


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
        self._backlog = Backlog()
        self._waiting = asyncio.Event()
        self._instance = socket.gethostname()

    def outcome(self, regarding: Regarding, slot: str, outcome: Outcome | None, *, target: str = "") -> None:
        """Tell how things stand; an Event leaves only if that changed. Never blocks, never raises.

        Args:
            slot: what the outcome is of, such as a target's name: an object has one outcome per slot.
            outcome: None when all is well; nothing is told then, and the next trouble is news again.
            target: whose doing it is: targets share the rate evenly.
        """
        if not self._memory.changed(regarding.uid, slot, outcome) or outcome is None:
            return
        dropped = self._backlog.put(News(target, regarding, slot, outcome))
        self._waiting.set()
        if dropped is not None:
            self._metrics.events_dropped_total.inc()
            self._memory.changed(dropped.regarding.uid, dropped.slot, None)  # nobody was told of it

    def forget(self, uid: str) -> None:
        """The object is gone: its outcomes need not be remembered."""
        self._memory.forget(uid)

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            await self._waiting.wait()
            await asyncio.sleep(self._bucket.take(self._clock()))
            _, regarding, slot, outcome = self._backlog.take()
            if not self._backlog:
                self._waiting.clear()
            body = event_manifest(regarding, slot, outcome, now=self._now(), instance=self._instance)
            try:
                with contextlib.suppress(AlreadyExists):
                    await self._client.create(EVENTS, regarding.namespace or "default", body)
            except SyncError as error:
                self._metrics.events_dropped_total.inc()
                log.debug("event not posted", regarding=regarding.name, reason=outcome.reason, error=str(error))
