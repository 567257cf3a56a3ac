"""What a placement's own status says: counts per target, first errors, conditions. Pure, but for the writer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from heapq import nsmallest
from typing import Any

import orjson
import structlog

from status.values import time_text
from syncer.api.hints import hint
from syncer.api.names import GROUP, STATUS_MANAGER, VERSION, Reason
from syncer.api.placement import MAX_COMPLETED_RUNS, MAX_ERRORS
from syncer.engine.complaints import Word, reports
from syncer.engine.pair import Outcome, State
from syncer.engine.planner import RUNS_ONCE
from syncer.engine.sight import Sight
from syncer.engine.state import Pair, PlacementRecord, Source
from syncer.engine.workqueue import KeyedQueue
from syncer.engine.world import World
from syncer.errors import NotLeadingError
from syncer.kube.client import MERGE_PATCH, ClusterClient
from syncer.kube.errors import ApiError, Conflict, NotFound
from syncer.kube.objects import ResourceInfo

WINDOW_SECONDS = 0.5
START_SECONDS = 10.0  # a restart is not news: what was written before stands until everything was looked at
SHARE_OF_TIME = 20  # a fold may take 1/20 of the time at most: the window grows with the number of objects
PLACEMENTS = ResourceInfo(GROUP, VERSION, "placements", "Placement", True, frozenset(), True, False)
CLUSTER_PLACEMENTS = ResourceInfo(
    GROUP, VERSION, "clusterplacements", "ClusterPlacement", False, frozenset(), True, False
)
# Pending for one of these is the ordinary course of things, or told of the target as a whole.
_QUIET = {"", Reason.RETRYING, Reason.DELETING, Reason.SUSPENDED, Reason.TARGET_NOT_READY}

log = structlog.get_logger()


class Fold:
    """Counts of one placement on one target. `close` it when everything was counted."""

    __slots__ = ("_found", "errors", "failed", "more", "objects", "ready", "synced")

    def __init__(self) -> None:
        self.objects = self.synced = self.ready = self.failed = self.more = 0
        self.errors: list[dict[str, str]] = []  # the first ones by name; `more` are not listed
        self._found: list[tuple[str, str, str, float]] = []  # object, reason, message, since

    def add(self, source: Source, pair: Pair | None, ready: bool) -> None:
        """Count one object."""
        self.objects += 1
        if pair is None:
            return
        self.synced += pair.outcome.state is State.SYNCED
        self.ready += ready and pair.outcome.state is State.SYNCED
        self.failed += pair.outcome.state is State.FAILED
        if worth_telling(pair.outcome):
            self.tell(source.reference, pair.outcome.reason, pair.outcome.message, pair.since)

    def tell(self, reference: str, reason: str, message: str, since: float) -> None:
        """Note an error; "" stands for the target as a whole."""
        self._found.append((reference, reason, message, since))

    def close(self) -> None:
        """List the first errors."""
        self.errors = [
            {"object": reference, "reason": reason, "message": message[:512], "since": time_text(since)}
            for reference, reason, message, since in nsmallest(MAX_ERRORS, self._found)
        ]
        self.more = len(self._found) - len(self.errors)


def worth_telling(outcome: Outcome) -> bool:
    """Should a user hear of this outcome?"""
    if outcome.state is State.FAILED:
        return True
    return bool(outcome.reason) and outcome.reason not in _QUIET


def fold(world: World, record: PlacementRecord, present: Mapping[str, Any], now: str) -> dict[str, Any]:
    """The whole `.status` of a placement.

    Args:
        present: its status as it stands; conditions keep their transition times, finished runs stay.
        now: RFC 3339.
    """
    if record.compiled is None:
        return _invalid(record, present, now)
    uid = record.manifest.uid
    selected = record.selection.selected if record.selection is not None else ()
    folds = {target: Fold() for target in selected}
    objects = 0
    runs: list[Source] = []
    lost: set[str] = set()
    won: set[str] = set()
    for key in record.objects:
        source = world.sources.get(key)
        if source is None:
            continue
        if source.info.group_kind in RUNS_ONCE or record.compiled.drift.mode == "Pause":
            runs.append(source)
        if source.plan.skip:
            continue
        objects += 1
        _count(source, uid, folds)
        for loser, _, winner in source.plan.outranked:
            if uid == loser:
                lost.add(source.reference)
            elif uid == winner and loser in world.placements:
                won.add(f"{source.reference} (also selected by {world.placements[loser].path})")
    for name, entry in folds.items():
        runtime = world.targets.get(name)
        if runtime is not None and not runtime.ready:
            entry.tell("", Reason.TARGET_NOT_READY, runtime.message, runtime.since)
        entry.close()
    status = {
        "observedGeneration": record.manifest.generation,
        "objects": objects,
        "selectedTargets": [_target(world, name, folds[name]) for name in selected],
        "refusedTargets": _refused(record),
        "completedRuns": _runs(world, record, present, runs),
    }
    good = sum(1 for f in folds.values() if f.synced == f.objects)
    status["targetsSummary"] = f"{good}/{len(folds)}"
    conditions, reason = _conditions(record, folds, sorted(lost), sorted(won))
    status["reason"] = reason
    status["conditions"] = _timed(conditions, present.get("conditions") or (), record.manifest.generation, now)
    return status


def _invalid(record: PlacementRecord, present: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Says why nothing is done; its targets and finished runs stay: they are all that is remembered of them."""
    generation = record.manifest.generation
    conditions, reason = _conditions(record, {}, [], [])
    timed = _timed(conditions, present.get("conditions") or (), generation, now)
    return {**present, "observedGeneration": generation, "reason": reason, "conditions": timed}


def _count(source: Source, uid: str, folds: Mapping[str, Fold]) -> None:
    complaints: Mapping[str, Word] | None = None
    for target, entry in folds.items():
        assignment = source.plan.assignments.get(target)
        if assignment is not None and assignment.placement == uid:
            pair = source.pairs.get(target)
            ready = source.aggregator.summary(target)[0] if source.aggregator is not None else True
            entry.add(source, pair, ready)
            if source.placement and pair is not None and pair.outcome.state is State.SYNCED and not ready:
                # No upstream object can tell it.
                complaints = reports(source) if complaints is None else complaints
                if target in complaints and not worth_telling(pair.outcome):
                    reason, message = complaints[target]
                    noted, since = pair.noted
                    entry.tell(source.reference, reason, message, since if noted == reason else pair.since)
            continue
        refusal = source.plan.refusals.get(target)
        if refusal is not None and refusal.placement == uid:
            pair = source.pairs.get(target)
            entry.objects += 1
            entry.failed += 1
            entry.tell(source.reference, refusal.reason, refusal.message, pair.since if pair is not None else 0.0)


def _target(world: World, name: str, entry: Fold) -> dict[str, Any]:
    runtime = world.targets.get(name)
    return {
        "name": name,
        "uid": runtime.uid if runtime is not None else "",
        "objects": entry.objects,
        "synced": entry.synced,
        "ready": entry.ready,
        "failed": entry.failed,
        "errors": entry.errors,
        "moreErrors": entry.more,
    }


def _refused(record: PlacementRecord) -> list[dict[str, str]]:
    if record.selection is None:
        return []
    refused = [{"name": n, "reason": str(r), "message": m} for n, (r, m) in record.selection.refused.items()]
    missing = [
        {"name": n, "reason": str(Reason.TARGET_NOT_FOUND), "message": f"no SyncTarget {n}"}
        for n in record.selection.missing
    ]
    return sorted([*refused, *missing], key=lambda entry: entry["name"])[:64]


def _runs(
    world: World, record: PlacementRecord, present: Mapping[str, Any], sources: list[Source]
) -> list[dict[str, str]]:
    """Marks of finished Jobs and Pods, and of what was taken away while paused.

    Those whose source is proven gone are dropped, the newest are kept.
    """
    alive: dict[tuple[str, str], None] = {}
    uids: set[str] = set()
    for source in sorted(sources, key=lambda one: one.key):
        if source.object is None:
            continue
        uids.add(source.object.uid)
        for target, pair in source.pairs.items():
            runtime = world.targets.get(target)
            if runtime is None:
                continue
            mark = (source.object.uid, runtime.uid)
            if pair.finished == source.object.uid or mark in world.finished:
                alive[mark] = None
    kept = [run for run in present.get("completedRuns") or () if record.unread or run.get("uid") in uids]
    merged = {(run["uid"], run["target"]): None for run in kept} | alive
    return [{"uid": uid, "target": target} for uid, target in list(merged)[-MAX_COMPLETED_RUNS:]]


Condition = tuple[str, str, str, str]  # type, status, reason, message
Errors = list[tuple[str, dict[str, str]]]  # where, and an entry of `Fold.errors`


def _conditions(
    record: PlacementRecord, folds: Mapping[str, Fold], lost: list[str], won: list[str]
) -> tuple[list[Condition], str]:
    """Conditions, and the first reason why not everything is in sync ("" when it is)."""
    found, first = _measured(record, folds) if record.error is None else _refused_edit(record, record.error)
    if lost:
        first = first or Reason.CLAIMED_BY_PLACEMENT
    if lost or won:
        texts = [f"another placement comes first for {', '.join(lost[:5])}"] if lost else []
        texts += [f"this one comes first for {', '.join(won[:5])}"] if won else []
        found.append(("Conflict", "True", Reason.CLAIMED_BY_PLACEMENT, "; ".join(texts)))
    if record.compiled is not None and record.compiled.suspend:
        found.append(("Suspended", "True", Reason.SUSPENDED, "nothing is written while spec.suspend is true"))
    return found, first


def _measured(record: PlacementRecord, folds: Mapping[str, Fold]) -> tuple[list[Condition], str]:
    """The three conditions of a valid placement, and the first reason."""
    scheduled = _scheduled(record, folds)
    errors = _errors(record, folds)
    # What is counted is not all that is meant.
    blind = bool(record.unserved or record.unread or record.unknown) or not folds
    behind = [name for name, entry in folds.items() if entry.synced < entry.objects]
    unready = [name for name, entry in folds.items() if entry.ready < entry.objects]
    first = scheduled[2] if scheduled[1] == "False" else errors[0][1]["reason"] if errors else ""
    found = [
        scheduled,
        _whole("Synced", "applied", behind, errors, blind=blind),
        _whole("Ready", "ready", unready, errors, blind=blind),
    ]
    return found, first


def _refused_edit(record: PlacementRecord, error: tuple[str, str]) -> tuple[list[Condition], str]:
    """The same of one whose newest generation is at fault: conditions speak of that one, and it is not in force."""
    reason, message = error
    kept = record.compiled is not None
    message += "; the last valid version is in force" if kept else ""
    found = [(kind, "False", reason, message) for kind in ("Scheduled", "Synced", "Ready")]
    return found + [("Invalid", "True", reason, message)] * kept, reason


def _scheduled(record: PlacementRecord, folds: Mapping[str, Fold]) -> Condition:
    if record.selection is not None and record.selection.missing:
        return "Scheduled", "False", Reason.TARGET_NOT_FOUND, f"no SyncTarget {', '.join(record.selection.missing)}"
    if not folds:
        return "Scheduled", "False", Reason.NO_TARGETS, "no target fits; " + hint(Reason.NO_TARGETS)
    return "Scheduled", "True", "Scheduled", f"{len(folds)} targets: {', '.join(folds)}"


def _errors(record: PlacementRecord, folds: Mapping[str, Fold]) -> Errors:
    """What is wrong upstream, then what is wrong on targets."""
    upstream = []
    if record.unserved:
        kinds = ", ".join(record.unserved)
        message = f"the upstream API server serves no {kinds}; correct the spelling or install the CRD"
        upstream.append((Reason.API_MISSING, message))
    upstream += [(Reason.API_MISSING, text) for text in record.unknown]
    if record.unread:
        upstream.append((Reason.UNREACHABLE, record.unread))
    found: Errors = [("upstream", {"object": "", "reason": reason, "message": text}) for reason, text in upstream]
    return found + [(name, error) for name, entry in folds.items() for error in entry.errors]


def _whole(kind: str, done: str, lagging: list[str], errors: Errors, *, blind: bool) -> Condition:
    """`Synced` or `Ready`: True if no target lags behind and everything is known."""
    if not lagging and not blind:
        return kind, "True", kind, f"everything is {done}"
    slow = f"not everything is {done} on {', '.join(lagging)}" if lagging else "no targets"
    reason, message = _first(errors) or ("Progressing", slow)
    return kind, "False", reason, message


def _first(errors: Errors) -> tuple[str, str] | None:
    if not errors:
        return None
    target, error = errors[0]
    where = f"{error['object']} on {target}" if error["object"] else target
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return error["reason"], f"{where}: {error['message']}{more}"


def _timed(
    conditions: list[Condition], present: Iterable[Mapping[str, Any]], generation: int, now: str
) -> list[dict[str, Any]]:
    """As API conditions; the transition time moves only when the status does."""
    before = {str(c.get("type")): c for c in present}
    result = []
    for kind, status, reason, message in conditions:
        old = before.get(kind)
        since = (
            old["lastTransitionTime"]
            if old is not None and old.get("status") == status and old.get("lastTransitionTime")
            else now
        )
        result.append(
            {
                "type": kind,
                "status": status,
                "reason": str(reason),
                "message": message[:1024],
                "lastTransitionTime": since,
                "observedGeneration": generation,
            }
        )
    return result


class PlacementStatusWriter:
    """Writes placement statuses, coalesced, only what differs."""

    def __init__(
        self, world: World, sight: Sight, upstream: ClusterClient, *, mono: Callable[[], float] = time.monotonic
    ) -> None:
        self._world = world
        self._sight = sight
        self._upstream = upstream
        self._mono = mono
        self._window = WINDOW_SECONDS
        self._patience_over = mono() + START_SECONDS
        self.queue: KeyedQueue[str] = KeyedQueue(lane_limit=8)
        self._written: dict[str, tuple[float, dict[str, Any]]] = {}  # {uid: (when, status that we wrote last)}

    def _starting(self, record: PlacementRecord, now: float) -> bool:
        """Whether the process has just started and what it says of targets would soon be taken back."""
        if now >= self._patience_over or record.selection is None:
            return False
        targets = [self._world.targets.get(name) for name in record.selection.selected]
        if not all(target is not None and target.read for target in targets):
            return True
        sources = (self._world.sources[key] for key in record.objects if key in self._world.sources)
        outcomes = (pair.outcome for source in sources for pair in source.pairs.values())
        return any(one.state is State.PENDING and one.reason in ("", Reason.RETRYING) for one in outcomes)

    def changed(self, uid: str) -> None:
        """Something that the placement's status is made of may differ."""
        last = self._written.get(uid)
        self.queue.add(uid, at=self._mono() + WINDOW_SECONDS if last is None else last[0] + self._window)

    async def run(self, uid: str) -> None:
        """One pass over one placement. Never raises."""
        record = self._world.placements.get(uid)
        if record is None:
            self._written.pop(uid, None)
            self.queue.forget(uid)
            return
        started = self._mono()
        record.unread, fault = self._sight.unread(record)
        if (record.unread and not fault) or self._starting(record, started):
            self.queue.add(uid, at=started + WINDOW_SECONDS)  # counts of a part would look like the whole
            return
        last = self._written.get(uid)
        present = last[1] if last is not None else record.manifest.field("status") or {}
        try:
            status = fold(self._world, record, present, time_text(self._world.wall()))
            self._window = max(WINDOW_SECONDS, SHARE_OF_TIME * (self._mono() - started))
            self._written[uid] = (started, present)
            diff = merge_diff(present, status)
            if not diff:
                return
            info = PLACEMENTS if record.manifest.kind == "Placement" else CLUSTER_PLACEMENTS
            body = orjson.dumps({"metadata": {"uid": uid}, "status": diff})
            namespace, name = record.manifest.namespace, record.manifest.name
            await self._upstream.patch(
                info, namespace, name, body, MERGE_PATCH, subresource="status", manager=STATUS_MANAGER
            )
            self._written[uid] = (started, status)
            self.queue.forget(uid)
        except (NotFound, Conflict, NotLeadingError):
            self._written.pop(uid, None)
        except ApiError as error:
            self.queue.retry(uid, self._mono(), self._world.rng, floor_seconds=error.retry_after_seconds)
        except Exception:
            log.exception("placement status failed", placement=record.path)
            self.queue.retry(uid, self._mono(), self._world.rng, floor_seconds=5.0)


def merge_diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The RFC 7396 patch that turns one map into the other; keys that went become null, lists are whole."""
    patch: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            inner = merge_diff(old, value)
            if inner:
                patch[key] = inner
        elif old != value or key not in before:
            patch[key] = value
    return patch
