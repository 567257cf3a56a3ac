"""Passes: take a key, decide, perform, learn, until the pair is settled. The engine's inner loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from syncer.api.keys import SyncKey
from syncer.api.names import SPEC_MANAGER, Reason
from syncer.conflict.fights import FightHistory
from syncer.engine import actions as do
from syncer.engine.absorb import absorb_error, absorb_reply
from syncer.engine.decide import decide
from syncer.engine.executor import Executor, SourceStillThereError
from syncer.engine.guard import NotProven, Wish
from syncer.engine.intents import situation
from syncer.engine.pair import ABSENT, Outcome, Present, State
from syncer.engine.sight import Sight
from syncer.engine.situation import Situation, Wanted
from syncer.engine.state import Pair, Source, version
from syncer.engine.targets import Link, TargetRuntime, served_as
from syncer.engine.world import CATCH_UP, World
from syncer.errors import NotLeadingError
from syncer.kube.errors import (
    ApiError,
    NamespaceTerminating,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unreachable,
    WebhookFailed,
)
from syncer.kube.fields import owners
from syncer.kube.objects import KubeObject
from syncer.metrics import Metrics

MAX_STEPS = 10  # reads and writes of one pass; the longest real one has 7
MAX_WRITES = 3  # per (change, target)
LONGEST_PAUSE_SECONDS = 300.0  # Retry-After is a target's word, and a target is not trusted with for ever
SLOW_RETRY_SECONDS = 60.0  # after an answer that a person must resolve outside of Syncline:
_RESOLVED_OUTSIDE = (Reason.FORBIDDEN, Reason.ADMISSION_DENIED, Reason.OBJECT_TOO_LARGE)
INTENT_FRESH_SECONDS = 2.0  # a live check of our own API is good for this long when no moment is known

log = structlog.get_logger()

Told = Callable[[Source, Pair, str, Outcome], None]  # source, pair, target, new outcome
Amend = Callable[[Source, str, Outcome], Outcome]


@dataclass
class _Pass:
    """One pass under way."""

    source: Source
    pair: Pair
    target: TargetRuntime
    link: Link
    writes: int = 0
    paid: bool = False  # a token of the rate limit was taken for a write that is not sent yet
    repaired: tuple[str, ...] = ()
    changed_at: float = 0.0  # `Pair.changed_at` of the change that the step under way brings


class Passes:
    """Runs passes over pairs and keeps their records.

    Args:
        amend: may add a warning to the outcome of an object that is in sync (source, target, outcome).
        told: called when a pair's outcome changes.
    """

    def __init__(
        self, world: World, sight: Sight, executor: Executor, metrics: Metrics, amend: Amend, told: Told
    ) -> None:
        self._world = world
        self._sight = sight
        self._executor = executor
        self._metrics = metrics
        self._amend = amend
        self._told = told

    async def run(self, key: SyncKey) -> None:
        """One pass. Never raises: what goes wrong is an outcome, a retry, and a log line."""
        source, target = self._world.sources.get(key.object), self._world.targets.get(key.target)
        if source is None or target is None:
            self._world.queue.forget(key)
            return
        if key.target not in source.pairs and self._world.heir(source, key.target) is not None:
            self._world.queue.forget(key)  # another object of its name has the place now
            return
        pair = self._world.pair(source, key.target)
        try:
            await self._run(key, source, pair, target)
        except NotLeadingError:
            self._retry(key, 1.0)
        except Exception:
            log.exception("pass failed", key=str(key))
            self._settle(
                source, pair, target, Outcome(State.PENDING, Reason.RETRYING, "internal error, see the operator's log")
            )
            self._retry(key, 5.0)
        finally:
            pair.rendered = None

    async def _run(self, key: SyncKey, source: Source, pair: Pair, target: TargetRuntime) -> None:
        current: _Pass | None = None
        for _ in range(MAX_STEPS):
            if self._world.targets.get(key.target) is not target or source.pairs.get(key.target) is not pair:
                return  # the target, or what it had, went while we waited; what follows has a pair of its own
            now = situation(self._world, self._sight, source, pair, target)
            step = decide(now)
            if isinstance(step, do.Settled):
                if now.closed is not None:
                    self._world.hold_back(target)
                pair.memory = step.memory
                self._finish(key, source, pair, target, step)
                return
            assert target.link is not None  # an unconnected target is closed, and closed settles
            if current is None:
                current = _Pass(source, pair, target, target.link)
            if not await self._step(key, current, now, step):
                return
        log.warning("pass did not settle", key=str(key))
        self._retry(key, 1.0)

    async def _step(self, key: SyncKey, current: _Pass, now: Situation, step: do.Action) -> bool:
        """Perform one action; False ends the pass (it comes back by itself)."""
        if isinstance(step, do.WRITES):
            if await self._waited(current):
                return True  # the world went on meanwhile: decide again
            current.writes += 1
            if current.writes > MAX_WRITES:
                self._retry(key, 1.0)
                return False
            if not await self._may_write(key, current, step):
                return False
        observed = now.downstream.object if isinstance(now.downstream, Present) else None
        info = served_as(current.link.discovery, current.source.info)
        if info is None:
            self._retry(key, 5.0)  # it was served when the situation was taken
            return False
        if not isinstance(step, do.Verify) and not current.target.breaker.allows(self._world.clock()):
            return True  # it opened, or another request is its probe: decide again
        current.changed_at = current.pair.changed_at
        try:
            wish = self._wish(current)
            reply = await self._executor.perform(step, current.source, info, current.link, observed, wish)
        except ApiError as error:
            return self._refused(key, current, now, step, error)
        except NotProven as why:
            self._unproven(key, current, step, why)
            return False
        except SourceStillThereError:
            self._sight.audit_soon(key.object.group_resource, self._world.clock())
            self._retry(key, 5.0)
            return False
        self._accepted(current, now, step, reply, observed)
        return True

    def _unproven(self, key: SyncKey, current: _Pass, step: do.Action, why: NotProven) -> None:
        """The copy stays; and a source that goes with its kind waits for no copy, or its CRD could never go."""
        source = current.source
        if isinstance(step, do.VerifyKind) and source.object is not None and source.object.terminating:
            source.left = source.object.uid
        self._settle(source, current.pair, current.target, Outcome(State.PENDING, Reason.FROZEN, f"not deleted: {why}"))
        self._retry(key, 5.0)

    def _wish(self, current: _Pass) -> Wish:
        """What is known of why the pair is not placed any more."""
        target, unplaced = current.target, current.pair.unplaced
        given_up = target.name in self._world.acknowledged
        if unplaced is not None:
            return Wish(unplaced.at, unplaced.lost, given_up)
        return Wish(self._world.clock() - INTENT_FRESH_SECONDS, target.lost if target.draining else None, given_up)

    async def _waited(self, current: _Pass) -> bool:
        """Take a token of the target's rate limit; True if that took time. The token is then kept for the next step."""
        if current.paid:
            current.paid = False
            return False
        bucket, clock = current.target.bucket, self._world.clock
        wait = bucket.take(clock())
        if wait <= 0:
            return False
        while wait > 0:
            await asyncio.sleep(wait)
            wait = bucket.paused_seconds(clock())
        current.paid = True
        return True

    async def _may_write(self, key: SyncKey, current: _Pass, step: do.Action) -> bool:
        """Deletion budget and fights."""
        if isinstance(step, do.Delete) and not self._may_delete(key, current, step):
            return False
        if isinstance(step, do.Apply) and step.repairs:
            if await self._fights(key, current, step):
                return False
            current.repaired = step.repairs
        return True

    def _may_delete(self, key: SyncKey, current: _Pass, step: do.Delete) -> bool:
        target = current.target
        budget = self._world.budget
        if step.counted and not budget.spend(target.name, key, step.uid, synced=target.synced, now=self._world.clock()):
            frozen = budget.frozen(target.name)
            token = frozen.token if frozen is not None else ""
            message = f"too many deletes at once; if they are meant: syncline ack {target.name} (token {token})"
            self._settle(current.source, current.pair, target, Outcome(State.PENDING, Reason.FROZEN, message))
            self._world.target_changed(target.name)
            return False
        log.info("delete", key=str(key), uid=step.uid, evidence=step.evidence)
        return True

    async def _fights(self, key: SyncKey, current: _Pass, step: do.Apply) -> bool:
        """Whether somebody changes these fields back each time; then the next repair waits."""
        pair, target, now = current.pair, current.target, self._world.clock()
        if pair.fights is None:
            pair.fights = FightHistory()
        fighting = [pointer for pointer in step.repairs if pair.fights.record(pointer, now)]
        if not fighting:
            return False
        managers = await self._managers(key, current, fighting[0])
        message = f"{', '.join(fighting[:3])} is changed again by {managers} each time it is repaired"
        self._settle(current.source, pair, target, Outcome(State.FAILED, Reason.DRIFT_FIGHT, message))
        self._world.enqueue(key, CATCH_UP, at=now + pair.fights.wait_seconds(now))
        return True

    @staticmethod
    async def _managers(key: SyncKey, current: _Pass, pointer: str) -> str:
        """Who owns a field on the target now, for people."""
        info = served_as(current.link.discovery, current.source.info)
        if info is None:
            return "somebody"
        try:
            live = await current.link.client.get_json(info.path(key.object.namespace, key.object.name))
        except ApiError:
            return "somebody"
        found = owners(live["metadata"].get("managedFields") or (), pointer, live)
        others = ", ".join(name for name in found if name != SPEC_MANAGER)
        return others or "an admission webhook, or whoever removes it,"

    def _accepted(
        self, current: _Pass, now: Situation, step: do.Action, reply: do.Replied, observed: KubeObject | None
    ) -> None:
        """Learn from an answer, and remember what it says about the object until the informer catches up."""
        pair, wanted = current.pair, now.intent
        if not isinstance(step, do.Verify):
            self._world.answered(current.target)
        hash_ = wanted.hash if isinstance(wanted, Wanted) else ""
        pair.memory = absorb_reply(pair.memory, step, reply, hash_)
        if isinstance(step, do.Create | do.Apply | do.Cede | do.Release):
            assert reply.object is not None
            if isinstance(step, do.Create) and isinstance(wanted, Wanted) and not wanted.runs_once:
                self._world.finished.discard((wanted.source_uid, current.target.uid))
            # An answer that is older than a DELETED event speaks of an object that is gone.
            pair.live = Present(reply.object) if version(reply.object) > pair.gone_version else None
            if isinstance(step, do.Create | do.Apply) and current.changed_at:
                self._metrics.sync_latency_seconds.observe(self._world.clock() - current.changed_at)
                if pair.changed_at == current.changed_at:  # else the source was changed again meanwhile
                    pair.changed_at = 0.0
        elif isinstance(step, do.Read):
            pair.live = Present(reply.object) if reply.object is not None else ABSENT
        if current.repaired and isinstance(step, do.Apply) and not reply.unchanged:
            self._metrics.drift_total.labels(current.target.name).inc()
            message = f"repaired on {current.target.name}: {', '.join(current.repaired[:5])}"
            self._told(current.source, pair, current.target.name, Outcome(State.SYNCED, Reason.DRIFT_REPAIRED, message))

    def _refused(self, key: SyncKey, current: _Pass, now: Situation, step: do.Action, error: ApiError) -> bool:
        """Learn from a refusal. True: decide again at once; False: later."""
        target, pair, clock = current.target, current.pair, self._world.clock
        upstream = isinstance(step, do.Verify)
        if not isinstance(error, Unreachable | ServerError | Unauthorized) or isinstance(error, WebhookFailed):
            if not upstream:
                self._world.answered(target)
            wanted = now.intent if isinstance(now.intent, Wanted) else None
            learned = absorb_error(pair.memory, step, error, wanted)
            if learned is not None and learned != pair.memory:
                if learned.namespace_missing and target.link is not None:
                    target.link.book.forget(key.object.namespace)
                pair.memory = learned
                return True
        elif not upstream:
            self._world.failed(target, error.message)
        if isinstance(error, TooManyRequests) and error.retry_after_seconds is not None and not upstream:
            target.bucket.pause(clock() + min(error.retry_after_seconds, LONGEST_PAUSE_SECONDS))
        self._metrics.sync_error(target.name, error.reason)
        reason = Reason.UNREACHABLE if isinstance(error, Unreachable) else Reason.RETRYING
        if isinstance(error, NamespaceTerminating) and target.link is not None:
            target.link.book.forget(key.object.namespace)
        self._settle(current.source, pair, target, Outcome(State.PENDING, reason, error.message))
        floor = error.retry_after_seconds
        self._retry(key, None if floor is None else min(floor, LONGEST_PAUSE_SECONDS))
        return False

    def _retry(self, key: SyncKey, floor_seconds: float | None) -> None:
        self._world.queue.retry(key, self._world.clock(), self._world.rng, floor_seconds=floor_seconds)
        self._world.wake()

    def _finish(self, key: SyncKey, source: Source, pair: Pair, target: TargetRuntime, settled: do.Settled) -> None:
        self._world.queue.forget(key)
        outcome = settled.outcome
        if outcome.state is State.SYNCED:
            pair.changed_at = 0.0
        if outcome.state is State.FAILED and pair.memory.failure is not None:
            self._metrics.sync_error(target.name, outcome.reason)
        self._settle(source, pair, target, outcome)
        if settled.retry_seconds is not None:
            self._world.enqueue(key, CATCH_UP, at=self._world.clock() + settled.retry_seconds)
        elif outcome.reason in _RESOLVED_OUTSIDE:
            pair.memory = msgspec.structs.replace(pair.memory, failure=None)
            self._world.enqueue(key, CATCH_UP, at=self._world.clock() + SLOW_RETRY_SECONDS)
        if outcome.state is State.GONE:
            self._world.drop_pair(source, target.name)
            self._world.forget_if_done(source)

    def _settle(self, source: Source, pair: Pair, target: TargetRuntime, outcome: Outcome) -> None:
        """Record an outcome and tell of it if it is news."""
        if outcome.state is State.SYNCED and not outcome.reason:
            outcome = self._amend(source, target.name, outcome)
        if outcome == pair.outcome:
            return
        before = pair.outcome
        target.synced += (outcome.state is State.SYNCED) - (before.state is State.SYNCED)
        pair.outcome = outcome
        pair.since = self._world.wall()
        self._told(source, pair, target.name, outcome)
