"""One kind of one cluster, mirrored: list, watch, and everything that goes wrong with both.

The cache follows the server through broken connections, compacted history, silent watches, lost events and restores.
Events tell what changed in it; they are hints to look again, and the cache is what counts.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import structlog

from syncer.api.names import SPEC_MANAGER
from syncer.errors import SyncError
from syncer.kube.changes import CacheKey, EventType, InformerEvent, change, changes, split_lines, version_number
from syncer.kube.client import ClusterClient
from syncer.kube.errors import BadRequest, Gone, Invalid, MalformedAnswer, NotFound, Unreachable, error_from_status
from syncer.kube.objects import KubeObject, ResourceInfo, WatchEvent, decode_list, decode_watch_event, key_of

__all__ = ["EventType", "Informer", "InformerEvent", "InformerStatistics"]

PAGE_SIZE: Final = 500
BACKOFF_FLOOR_SECONDS: Final = 0.2
BACKOFF_CAP_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 10.0  # a watch that lived as long counts as success
OPEN_SECONDS: Final = 25.0  # for the head of a watch's answer
STREAM_PATIENCE_SECONDS: Final = 25.0  # between two initial events, before a streaming list is given up for pages
STREAM_ERRORS: Final = 3  # ERROR events in a row, after which a list is taken
WATCH_SECONDS: Final = (300, 600)  # how long the server should keep a watch open, spread
RECHECK_SECONDS: Final = 30.0  # to the next audit after an event that looked like a replay
DOUBTFUL_LOSS: Final = (
    10  # more objects gone at once than this, and than half of all: asked again before it is believed
)
_BATCH: Final = 256  # events handed out before others get a turn

_Expiry = Literal["silence", "audit", "no end"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class InformerStatistics:
    """Counts since the start."""

    lists: int = 0
    watches: int = 0
    events: int = 0
    replays: int = 0  # events that were older than what was already seen
    silences: int = 0  # watches given up because nothing came
    failures: int = 0
    handler_errors: int = 0


class _StreamEnded(Exception):
    """The server closed a watch in the normal way."""


class _Silent(Unreachable):
    """A watch from which nothing came for too long."""


class _AuditDue(Exception):
    """The watch was left for a complete list."""


class _NoInitialEnd(Exception):
    """A streaming list does not end, or is refused: pages from now on."""


class _Doubt(Exception):
    """A streaming list takes too much away to be believed alone: pages this time."""


class Informer:
    """Mirrors the objects of one kind that selectors and namespace choose; one task runs it.

    Attributes:
        synced: a complete list was taken once, and all of it was told; stays True.
        fresh: the watch is alive right now; a cache that is not fresh may be old, and absence from it proves nothing.
        last_contact: clock reading of the last byte from the server.
        error: why the cache is not followed, or None.
        rewound: the server went back to an older version (a restored backup); stays True until a restart of ours.
            What is missing then may only be forgotten, so deletes must wait for a person.
    """

    def __init__(
        self,
        client: ClusterClient,
        info: ResourceInfo,
        *,
        on_event: Callable[[InformerEvent], None],
        label_selector: str = "",
        namespace: str = "",
        field_selector: str = "",
        manager: str | None = SPEC_MANAGER,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        audit_seconds: float = 300.0,
        inactivity_seconds: float = 80.0,
        list_slots: asyncio.Semaphore | None = None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            on_event: called from the informer's task after the cache changed; must not block; what it raises is
                logged, and that object told again at the next list.
            manager: whose applied fields the cached objects carry as `owned`.
            audit_seconds: between two complete lists, spread by a tenth; a watch may lie.
            inactivity_seconds: longest silence of a watch, spread by an eighth; bookmarks come once a minute.
            list_slots: shared by the informers of one cluster, so that few list at the same time.
        """
        self._client = client
        self.info = info
        self._on_event = on_event
        self._selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._path = info.path(namespace)
        self._manager = manager
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 (spreads load, guards nothing)
        self._sleep = sleep
        self._audit_seconds = audit_seconds
        self._inactivity_seconds = inactivity_seconds
        self._slots = list_slots
        self._cache: dict[CacheKey, KubeObject] = {}
        self.cache: Mapping[CacheKey, KubeObject] = MappingProxyType(self._cache)
        self._version = ""  # where a watch can go on; "" means nowhere, so a list must come first
        self._highest = 0  # highest version ever seen, where versions are numbers
        self._audit_at = float("inf")
        self._stream_errors = 0  # ERROR events in a row without anything else
        # When to leave the open watch, and what that means then.
        self._deadline: asyncio.Timeout | None = None
        self._expiry: _Expiry = "silence"
        self._silence = inactivity_seconds
        self._synced = asyncio.Event()
        self._hurry = asyncio.Event()
        self.fresh = False
        self.last_contact = clock()
        self.error: str | None = None
        self.rewound = False
        self._counts = Counter[str]()
        self._missed: dict[tuple[CacheKey, str], InformerEvent] = {}  # by object and UID: what the handler failed at

    @property
    def synced(self) -> bool:
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Return once the first complete list is in the cache."""
        await self._synced.wait()

    def statistics(self) -> InformerStatistics:
        """A snapshot."""
        return InformerStatistics(**self._counts)

    def audit_soon(self) -> None:
        """Take a complete list now instead of at the next audit."""
        self._audit_at = self._clock()
        if self._expiry != "no end":
            self._leave_in(0.0, "audit")

    def hurry(self) -> None:
        """The server is back: try again now instead of after the pause that failures made long."""
        self._hurry.set()

    def start(self, name: str) -> asyncio.Task[None]:
        """Run in a task of that name; cancel it to stop."""
        return asyncio.create_task(self.run(), name=name)

    async def run(self) -> None:
        """Follow the server until cancelled; no error ends it."""
        failures = 0
        try:
            while True:
                started = self._clock()
                try:
                    await self._follow()
                except _AuditDue:
                    self._audit_at = self._clock()  # timers may fire a moment early
                    continue
                except _StreamEnded:
                    problem: SyncError | None = None
                except SyncError as error:
                    problem = error
                except Exception as error:  # a bug, or an answer that nobody foresaw: the mirror must go on
                    _log.exception("informer failed", **self._names())
                    problem = SyncError(f"unexpected {type(error).__name__}")
                if self._clock() - started >= STEADY_SECONDS:
                    failures = 0
                delay = self._delay(failures, problem)
                failures += 1
                if problem is not None:
                    self._failed(problem)
                await self._pause(delay)
        finally:
            self.fresh = False

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless somebody knows that the server is back."""
        self._hurry.clear()
        naps = [asyncio.ensure_future(self._sleep(seconds)), asyncio.ensure_future(self._hurry.wait())]
        try:
            await asyncio.wait(naps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for nap in naps:
                nap.cancel()

    def _delay(self, failures: int, problem: SyncError | None) -> float:
        """Seconds until the next try, full jitter; what the server asked for is a floor."""
        ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_FLOOR_SECONDS * 2.0 ** min(failures, 16))
        delay = self._rng.uniform(0, ceiling)
        return max(delay, getattr(problem, "retry_after_seconds", None) or 0.0)

    def _failed(self, problem: SyncError) -> None:
        """Decide what the next round begins with, and tell once."""
        self._counts["failures"] += 1
        self._counts["silences"] += isinstance(problem, _Silent)
        if isinstance(problem, Gone | MalformedAnswer | _Silent) or self._stream_errors >= STREAM_ERRORS:
            # From this version on the watch may say nothing, or nonsense, for ever; a list gets past it.
            self._version = ""
            self._stream_errors = 0
        text = f"{self.info.group_resource} is not served here" if isinstance(problem, NotFound) else str(problem)
        if text != self.error or self.fresh:
            self.fresh, self.error = False, text
            self._emit(InformerEvent(EventType.ERROR))

    async def _follow(self) -> None:
        """One round: a list where one is due, then a watch until it ends. Always raises."""
        if not self._version or self._clock() >= self._audit_at:
            lists = self._counts["lists"]
            try:
                await self._relist()
            except SyncError as error:
                if not self._version or self._counts["lists"] > lists:
                    raise
                # The audit failed, the watch is still good: try the audit again later.
                self._counts["failures"] += 1
                self._audit_at = self._clock() + RECHECK_SECONDS
                _log.debug("audit failed", **self._names(), error=str(error))
        await self._watch(initial=False)

    async def _relist(self) -> None:
        """A complete list; where the server offers it as a stream, that goes on as a watch and ends by raising."""
        doubted = False
        if self.info.group_resource not in self._client.refused_streams:
            try:
                await self._watch(initial=True)
            except _NoInitialEnd:
                self._client.refused_streams.add(self.info.group_resource)
            except _Doubt:
                doubted = True
        await self._list(doubted=doubted)

    async def _list(self, *, doubted: bool) -> None:
        """A complete list in pages; only a whole one is used. One that takes much away is taken twice.

        Args:
            doubted: this is the second time.
        """
        async with AsyncExitStack() as stack:
            if self._slots is not None:
                await stack.enter_async_context(self._slots)
            found, version = await self._pages()
            if not doubted and self._doubtful(found):
                found, version = await self._pages()
        await self._replace(found, version)

    async def _pages(self) -> tuple[dict[CacheKey, KubeObject], str]:
        found: dict[CacheKey, KubeObject] = {}
        version, token = "", ""
        while True:
            params = self._params({"limit": str(PAGE_SIZE), "continue": token})
            answer = await self._client.request(
                "GET", self._path, params=params, timeout_seconds=60.0, verb="list", resource=self.info.resource
            )
            page = decode_list(answer.body, manager=self._manager)
            for item in page.objects:
                self._collect(found, item)
            version = version or page.resource_version
            self.last_contact = self._clock()
            if not page.continue_token:
                return found, version
            token = page.continue_token

    def _collect(self, found: dict[CacheKey, KubeObject], item: KubeObject) -> None:
        """Keep the object that is cached already where it is the same one, so that a list costs little memory."""
        key = key_of(item)
        known = self._cache.get(key)
        same = known is not None and (known.uid, known.resource_version) == (item.uid, item.resource_version)
        found[key] = known if known is not None and same else item

    def _doubtful(self, found: Mapping[CacheKey, KubeObject]) -> bool:
        """True if a list takes so much away that it is asked for again, once."""
        lost = len(self._cache.keys() - found.keys())
        return lost > DOUBTFUL_LOSS and lost * 2 > len(self._cache)

    async def _replace(self, found: dict[CacheKey, KubeObject], version: str) -> None:
        """Make a complete list the cache, and tell what differs from before."""
        number = version_number(version)
        if 0 < number < self._highest:
            self.rewound = True
            self._highest = number
            _log.warning("the server went back to an older version", **self._names())
        self._counts["lists"] += 1
        before = dict(self._cache)
        self._cache.clear()
        self._cache.update(found)
        self._saw(version)
        first = not self.synced
        spread = self._rng.uniform(0.5, 1.0) if first else self._rng.uniform(0.9, 1.1)
        self._audit_at = self._clock() + self._audit_seconds * spread
        for told, event in enumerate([*self._take_missed(found), *changes(before, found)], 1):
            self._emit(event)
            if told % _BATCH == 0:
                await asyncio.sleep(0)
        self._synced.set()  # not before everybody was told of every object: who is asked in between knows only a part
        self._emit(InformerEvent(EventType.SYNCED if first else EventType.RELISTED, proof="relist"))

    async def _watch(self, *, initial: bool) -> None:
        """Consume one watch until it ends, fails or the next audit is due.

        Args:
            initial: begin with a streaming list instead of resuming.
        Raises:
            _StreamEnded: closed by the server. _AuditDue: left for an audit.
            _NoInitialEnd, _Doubt: a list in pages must come first.
            SyncError: everything else.
        """
        self._counts["watches"] += 1
        self._silence = self._inactivity_seconds * self._rng.uniform(0.875, 1.125)
        collected: dict[CacheKey, KubeObject] | None = {} if initial else None
        params = self._watch_params(initial=initial)
        try:
            async with AsyncExitStack() as slot, asyncio.timeout(None) as self._deadline:
                if initial and self._slots is not None:
                    await slot.enter_async_context(self._slots)
                self._leave_in(OPEN_SECONDS, "silence")
                async with self._client.stream(self._path, params=params, resource=self.info.resource) as pieces:
                    if initial:
                        self._leave_in(STREAM_PATIENCE_SECONDS, "no end")
                    else:
                        self._live()
                    async for lines in split_lines(pieces):
                        before = len(collected or ())
                        for line in lines:
                            event = decode_watch_event(line, manager=self._manager)
                            if collected is None:
                                self._take(event)
                            elif await self._take_initial(event, collected):
                                collected = None
                                await slot.aclose()
                        if collected is None:
                            self._live()
                        elif len(collected) > before:
                            self._leave_in(STREAM_PATIENCE_SECONDS, "no end")
        except TimeoutError:
            raise self._expired() from None
        except (Invalid, BadRequest):
            if collected is None:
                raise
            raise _NoInitialEnd from None
        finally:
            self._deadline = None
        raise _StreamEnded

    def _expired(self) -> Exception:
        """What it means that the deadline passed."""
        match self._expiry:
            case "audit":
                return _AuditDue()
            case "no end":
                return _NoInitialEnd()
            case "silence":
                names = f"{self._client.name}: watch of {self.info.group_resource}"
                return _Silent(0, "Unreachable", f"{names}: nothing came for {self._silence:.0f} s")

    async def _take_initial(self, event: WatchEvent, collected: dict[CacheKey, KubeObject]) -> bool:
        """One event of a streaming list; True once the list is complete and in the cache."""
        if event.type == "ERROR":
            raise self._in_stream(event)
        if event.type == "BOOKMARK":
            if not event.initial_end:
                return False
            if self._doubtful(collected):
                raise _Doubt
            if self._deadline is not None and not self._deadline.expired():
                self._deadline.reschedule(None)  # telling of many objects may take longer than the server may
            await self._replace(collected, event.resource_version)
            return True
        assert event.object is not None
        if event.type == "DELETED":
            collected.pop(key_of(event.object), None)
        else:
            self._collect(collected, event.object)
        return False

    def _take(self, event: WatchEvent) -> None:
        """One event of a watch that is in step with the cache."""
        if event.type == "ERROR":
            raise self._in_stream(event)
        if event.type == "BOOKMARK":
            self._saw(event.resource_version)
            return
        item = event.object
        assert item is not None
        number = version_number(event.resource_version)
        if 0 < number <= version_number(self._version):
            # A watch never goes back; if this server's versions are no order, the audit puts it right.
            self._counts["replays"] += 1
            self._audit_at = min(self._audit_at, self._clock() + RECHECK_SECONDS)
            return
        self._saw(event.resource_version)
        self._counts["events"] += 1
        key = key_of(item)
        known = self._cache.get(key)
        if event.type == "DELETED":
            if known is not None and known.uid == item.uid:
                del self._cache[key]
                self._emit(InformerEvent(EventType.DELETED, item, known))
            return
        self._cache[key] = item
        for told in change(known, item, "watch"):
            self._emit(told)

    def _in_stream(self, event: WatchEvent) -> SyncError:
        assert event.status is not None
        self._stream_errors += 1
        return error_from_status(event.status.code or 500, event.status, resource=self.info.resource)

    def _live(self) -> None:
        """Something came on a watch that is in step with the cache; it is left when silent or for the next audit."""
        now = self._clock()
        self.fresh, self.error, self.last_contact = True, None, now
        if self._audit_at - now <= self._silence:
            self._leave_in(self._audit_at - now, "audit")
        else:
            self._leave_in(self._silence, "silence")

    def _leave_in(self, seconds: float, expiry: _Expiry) -> None:
        if self._deadline is not None and not self._deadline.expired():
            self._expiry = expiry
            self._deadline.reschedule(asyncio.get_running_loop().time() + max(0.0, seconds))

    def _saw(self, version: str) -> None:
        self._version = version
        self._highest = max(self._highest, version_number(version))
        self._stream_errors = 0

    def _names(self) -> dict[str, str]:
        return {"cluster": self._client.name, "resource": str(self.info.group_resource)}

    def _params(self, extra: Mapping[str, str]) -> dict[str, str]:
        return {key: value for key, value in {**self._selectors, **extra}.items() if value}

    def _watch_params(self, *, initial: bool) -> dict[str, str]:
        extra = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._rng.randint(*WATCH_SECONDS)),
            "resourceVersion": "" if initial else self._version,
        }
        if initial:
            extra |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        return self._params(extra)

    def _take_missed(self, found: Mapping[CacheKey, KubeObject]) -> list[InformerEvent]:
        """What the handler failed at since the last list, to be told once more, with the objects as they are now."""
        missed, self._missed = self._missed, {}
        again: list[InformerEvent] = []
        for (key, uid), event in missed.items():
            item = event.object if event.type == "DELETED" else found.get(key)
            if item is not None and item.uid == uid:
                again.append(event._replace(object=item, proof="relist"))
        return again

    def _emit(self, event: InformerEvent) -> None:
        item = event.object
        try:
            self._on_event(event)
        except Exception:  # the handler's bug is not the mirror's: the object is told again at the next list
            self._counts["handler_errors"] += 1
            _log.exception("informer handler failed", **self._names())
            if item is not None:
                self._missed[key_of(item), item.uid] = event
        else:
            if item is not None and self._missed:
                self._missed.pop((key_of(item), item.uid), None)
