"""The engine as one thing: informers in, writes out. Built by `syncer.operator`, run while this replica leads."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable, Coroutine

import structlog
from msgspec.structs import replace

from syncer.api.keys import SyncKey
from syncer.api.names import ACKNOWLEDGE_ANNOTATION, GROUP, VERSION, Reason
from syncer.api.placement import AnyPlacement
from syncer.api.synctarget import SyncTarget
from syncer.engine import acting
from syncer.engine.catalog import Catalog, Cause
from syncer.engine.dispatcher import Dispatcher
from syncer.engine.downstream import Downstream
from syncer.engine.executor import Executor
from syncer.engine.expiry import Expiry
from syncer.engine.guard import ApiGuard
from syncer.engine.namespaces import NAMESPACES, NamespaceBook
from syncer.engine.needs import Needs
from syncer.engine.nskeeper import NamespaceKeeper
from syncer.engine.pair import Outcome, State
from syncer.engine.passes import Passes
from syncer.engine.placementstatus import CLUSTER_PLACEMENTS, PLACEMENTS, PlacementStatusWriter
from syncer.engine.planner import JOB
from syncer.engine.podwatch import PodWatch
from syncer.engine.reports import Reports
from syncer.engine.sight import Sight
from syncer.engine.standing import Handler, Standing
from syncer.engine.state import Pair, Source
from syncer.engine.statuswriter import StatusWriter
from syncer.engine.targets import Link, TargetRuntime, same_target
from syncer.engine.telling import Telling
from syncer.engine.watches import Watches
from syncer.engine.world import AUDIT_SECONDS, CATCH_UP, World
from syncer.errors import SyncError, TerminalError
from syncer.events import EventRecorder
from syncer.kube.client import ClusterClient
from syncer.kube.discovery import Discovery
from syncer.kube.informer import InformerEvent
from syncer.kube.objects import KubeObject, ResourceInfo
from syncer.metrics import Metrics
from syncer.placement.compiled import CompiledPlacement

SYNC_TARGETS = ResourceInfo(GROUP, VERSION, "synctargets", "SyncTarget", False, frozenset(), True, False)
GUARD_SECONDS = 5.0
RESELECT_SECONDS = 10.0  # evictAfter and readiness have no event of their own
START_RETRY_SECONDS = 1.0
REINSTALLED = "reinstalled-"  # begins the token that gives up objects from before our CRDs were installed anew
AUDITS_PER_SCHEMA_LOOK = 12  # a field that a target does not know is offered to it once an hour (B25)

log = structlog.get_logger()


class Engine:
    """Syncs one upstream to its targets. Methods are called on the engine's event loop; none of them blocks."""

    def __init__(
        self,
        *,
        upstream: ClusterClient,
        hub_id: str,
        workspace: str,
        metrics: Metrics,
        events: EventRecorder,
        check: Callable[[AnyPlacement], None] = lambda placement: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            hub_id, workspace: UID of the upstream `kube-system` namespace.
            check: raises TerminalError for a placement that admission would have refused.
        """
        self._upstream = upstream
        self._metrics = metrics
        self.world = World(hub_id, workspace, clock=clock, wall=wall, rng=rng)
        self.sight = Sight(Discovery(upstream))
        self._guard = ApiGuard(upstream, clock=clock)
        needs = Needs(self.world)
        self._telling = Telling(self.world, metrics, events, needs)
        self._catalog = Catalog(self.world, self.sight, lambda: self._watches.changed(), check)
        self._keeper = NamespaceKeeper(self.world, self.sight, upstream, self._guard)
        self._pods = PodWatch(self.world, self._pods_noted)
        self._downstream = Downstream(
            self.world, self._catalog, self._pods.progressing, self._telling.status_refused, self._keeper_seen
        )
        self._watches = Watches(self.world, self.sight, upstream, self._source_event, self._downstream.event)
        trouble = self._telling.source_trouble
        self._statuses = StatusWriter(self.world, self.sight, upstream, metrics, trouble, mono=clock)
        self._placements = PlacementStatusWriter(self.world, self.sight, upstream, mono=clock)
        passes = Passes(
            self.world, self.sight, Executor(upstream, self._guard), metrics, self._telling.with_missing, self._told
        )
        self._pairs = Dispatcher(self.world.queue, passes.run, clock)
        self._status_work = Dispatcher(self._statuses.queue, self._statuses.run, clock)
        self._placement_work = Dispatcher(self._placements.queue, self._placements.run, clock)
        self._namespace_work = Dispatcher(self._keeper.queue, self._keeper.run, clock)
        self._expiry = Expiry(self.world, self.sight, upstream)
        self._standing = Standing(self.world, self.sight, upstream)
        self._background: set[asyncio.Task[None]] = set()
        self._suspected = asyncio.Event()  # our API may be gone
        self.reports = Reports(self.world, self.sight, upstream, needs, frozen=self.frozen)
        self.world.wake = self._pairs.wake
        self.world.object_changed = self._object_changed
        self.world.placement_changed = self._placement_changed
        self.world.placement_compiled = self._placement_compiled
        self.frozen_changed: Callable[[str], None] = lambda name: None  # a target froze or thawed; set by the operator
        self.world.target_changed = lambda name: self.frozen_changed(name)

    # Life

    async def run(self) -> None:
        """Sync until cancelled. Raises what no retry can cure, which ends the process."""
        await self._start()
        try:
            async with asyncio.TaskGroup() as group:
                for informer in self.sight.standing.values():
                    group.create_task(informer.run())
                for work in (self._pairs, self._status_work, self._placement_work, self._namespace_work):
                    group.create_task(work.run())
                group.create_task(self._watches.run())
                group.create_task(self._pods.run())
                group.create_task(self._expiry.run())
                group.create_task(self._watch_api())
                group.create_task(self._reselect())
                group.create_task(self._audit())
        finally:
            self._standing.stop()
            for task in self._background:
                task.cancel()
            for target in self.world.targets.values():
                self._watches.stop_target(target)

    async def drain(self, timeout_seconds: float) -> None:
        """Take no more work and finish what is in flight."""
        works = (self._pairs, self._status_work, self._placement_work, self._namespace_work)
        try:
            async with asyncio.timeout(timeout_seconds):
                await asyncio.gather(*(work.drain() for work in works))
        except TimeoutError:
            log.warning("work was still in flight when the time to drain was over")

    async def _start(self) -> None:
        """Learn what the upstream serves and whether our API is the one that placed what is placed."""
        while True:
            try:
                await self.sight.discovery.refresh()
                await self._guard.load()
                break
            except SyncError as error:
                log.warning("waiting for the upstream API server", error=str(error))
                await asyncio.sleep(START_RETRY_SECONDS)
        self.world.acting = await acting.look(self._upstream)
        self.world.left_behind = self._guard.reinstalled
        self.world.frozen = self._guard.problem
        handlers: list[tuple[ResourceInfo, Handler]] = [
            (SYNC_TARGETS, self._target_event),
            (NAMESPACES, self._namespace_event),
            (PLACEMENTS, self._placement_event),
            (CLUSTER_PLACEMENTS, self._placement_event),
        ]
        for info, handler in handlers:
            self._standing.watch(info, handler)

    # Upstream events

    def _source_event(self, info: ResourceInfo, event: InformerEvent) -> None:
        self._catalog.source_event(info, event)
        if event.object is None:
            return
        if info.kind == "HorizontalPodAutoscaler":
            self._telling.autoscaler(info, event)
        elif info.group_kind == JOB:
            self._expiry.seen(self.world.key(info.group_resource, event.object))

    def _placement_event(self, event: InformerEvent) -> None:
        self._catalog.placement_event(event)
        if event.type == "DELETED":
            self._suspected.set()
            if event.object is not None:
                self._telling.forget(event.object.uid)
                self._placement_changed(event.object.uid)

    def _namespace_event(self, event: InformerEvent) -> None:
        self._catalog.namespace_event(event)
        if event.object is not None:
            self._keeper.upstream_changed(event.object.name)
            self._namespace_work.wake()

    def _placement_compiled(self, before: CompiledPlacement | None, after: CompiledPlacement | None) -> None:
        self._keeper.placement_changed(before, after)
        self._namespace_work.wake()

    def _target_event(self, event: InformerEvent) -> None:
        item = event.object
        if item is None:
            if event.type == "SYNCED":
                self._catalog.targets_read()
            return
        if event.type == "DELETED":
            known = self.world.targets.get(item.name)
            if known is None or known.uid == item.uid:
                self._target_gone(item)
            return
        try:
            model = SyncTarget.parse(item.manifest())
        except TerminalError as error:
            log.warning("SyncTarget is not valid", target=item.name, error=str(error))
            return
        runtime = self.world.targets.get(item.name)
        if runtime is None or runtime.uid != item.uid:
            if runtime is not None:
                self._target_gone(item)
            runtime = self.world.targets[item.name] = TargetRuntime(model, self.world.wall())
            self.world.queue.limit(item.name, model.spec.limits.max_concurrent)
            self._metrics.add_target(item.name)
            self._restore_freeze(model)
            cause = Cause(f"SyncTarget {item.name} was added")
        else:
            if same_target(runtime.model, model):
                return  # its status was written
            runtime.update(model)
            limits = model.spec.limits
            runtime.bucket.resize(limits.qps, limits.burst, self.world.clock())
            self.world.queue.limit(item.name, limits.max_concurrent)
            cause = Cause(f"SyncTarget {item.name} was changed", touch=True)
        self._acknowledge(runtime, item)
        self._catalog.targets_changed(cause, only=[item.name] if runtime.state.deleting or cause.touch else [])
        self._watches.changed()

    def _target_gone(self, item: KubeObject) -> None:
        """A SyncTarget disappeared: forget what stood there. Nothing can be deleted where nobody may connect."""
        self._suspected.set()
        runtime = self.world.targets.pop(item.name, None)
        if runtime is None:
            return
        self._watches.stop_target(runtime)
        self.world.queue.drop_lane(item.name)
        self.world.budget.forget(item.name)
        self.world.acknowledged.discard(item.name)  # consent was given for what stood on that one
        self.world.finished.forget_target(runtime.uid)
        self._metrics.remove_target(item.name)
        held = [source for source, _ in self.world.pairs_on(item.name)]
        for source in held:
            self.world.drop_pair(source, item.name)
        self._catalog.targets_changed(Cause(f"SyncTarget {item.name} is gone", verify=True, lost=runtime.lost))
        for source in held:
            self._object_changed(source)
            self.world.forget_if_done(source)

    def _restore_freeze(self, model: SyncTarget) -> None:
        """A target that froze before this engine started stays frozen: a restart is no consent."""
        frozen = model.status.frozen
        if frozen is not None and not frozen.token.startswith(REINSTALLED):
            self.world.budget.freeze(model.metadata.name, self.world.clock(), frozen.token)

    def _acknowledge(self, runtime: TargetRuntime, item: KubeObject) -> None:
        """A person gave up what waits behind a freeze, or behind a re-installation of our CRDs."""
        token = item.annotations.get(ACKNOWLEDGE_ANNOTATION, "")
        if not token:
            return
        thawed = self.world.budget.acknowledge(runtime.name, token, self.world.clock())
        if token == self.reinstall_token(runtime.name) and runtime.name not in self.world.acknowledged:
            self.world.acknowledged.add(runtime.name)
            thawed = True
        if thawed:
            log.info("acknowledged", target=runtime.name)
            for source, _ in self.world.pairs_on(runtime.name):
                self.world.enqueue(SyncKey(source.key, runtime.name))
            self.frozen_changed(runtime.name)

    def reinstall_token(self, target: str) -> str:
        """The token that gives up a target's objects from before our CRDs were installed anew; "" if there are none."""
        if not self.world.left_behind or target in self.world.acknowledged:
            return ""
        runtime = self.world.targets.get(target)
        held = any(pair.outcome.reason == Reason.FROZEN for _, pair in self.world.pairs_on(target))
        return f"{REINSTALLED}{runtime.uid[:8]}-{self._guard.installation}" if runtime is not None and held else ""

    # Targets (called by the SyncTarget controller)

    def attach_target(self, name: str, uid: str, client: ClusterClient, discovery: Discovery) -> None:
        """A connection to the target was verified; attaching again replaces it (new credentials)."""
        runtime = self.world.targets.get(name)
        if runtime is None or runtime.uid != uid:
            return  # its SyncTarget event has not arrived yet; the controller's next probe attaches it
        self._watches.stop_target(runtime)
        runtime.swept = False
        runtime.link = Link(
            client, discovery, NamespaceBook(client, self.world.hub_id, self._keeper.render, self.world.clock)
        )
        self.target_reachable(name, True, self.world.wall(), "")
        self._watches.changed()
        self._spawn(self._sweep(runtime, runtime.link))

    def attached(self, name: str) -> bool:
        """Whether the engine holds a connection to this target."""
        runtime = self.world.targets.get(name)
        return runtime is not None and runtime.link is not None

    def detach_target(self, name: str, reason: str) -> None:
        """The connection is lost or not allowed any more; what stands there is unknown from now on."""
        runtime = self.world.targets.get(name)
        if runtime is None:
            return
        self._watches.stop_target(runtime)
        runtime.link = None
        self.target_reachable(name, False, self.world.wall(), reason)

    def target_reachable(self, name: str, reachable: bool, since: float, message: str) -> None:
        """A probe's result. `since`: wall-clock seconds since when it is so."""
        runtime = self.world.targets.get(name)
        if runtime is None:
            return
        if reachable:
            self.world.answered(runtime)
        if not runtime.set_reachable(reachable and runtime.link is not None, since, message):
            return
        self._metrics.target_ready.labels(name).set(runtime.ready)
        if runtime.ready and runtime.link is not None:
            for watch in runtime.link.watches.values():
                watch.informer.hurry()
        for source, _ in self.world.pairs_on(name):
            if source.aggregator is not None and source.aggregator.stale(name, None if runtime.ready else since):
                self._object_changed(source)
            self.world.enqueue(SyncKey(source.key, name), CATCH_UP)
        cause = Cause(f"SyncTarget {name} is {'' if runtime.ready else 'not '}ready")
        self._catalog.targets_changed(cause, readiness=True)
        for record in self.world.placements.values():
            if record.selection is not None and name in record.selection.selected:
                self._placement_changed(record.manifest.uid)

    def drained(self, name: str) -> bool:
        """Nothing of ours is left on a target that is being drained, as far as it can tell."""
        runtime = self.world.targets.get(name)
        if runtime is None or not runtime.read or self.sight.blind(None):
            return False  # also while a look-up of kinds may still start to watch more of the target
        return all(pair.outcome.state is State.GONE for _, pair in self.world.pairs_on(name))

    def objects(self, name: str) -> int | None:
        """Objects of ours that are on a target; None while nobody has read what is there."""
        runtime = self.world.targets.get(name)
        return runtime.synced if runtime is not None and runtime.read else None

    def moving(self, name: str) -> list[str]:
        """Objects that stay on a target until they are ready on another one, each with where."""
        return sorted(
            f"{source.reference}: {pair.outcome.message}"
            for source, pair in self.world.pairs_on(name)
            if pair.outcome.reason == Reason.RETRYING and pair.unplaced is not None and pair.unplaced.heirs
        )

    def frozen(self, name: str) -> tuple[str, str] | None:
        """(token, message) of a target that is frozen, or None."""
        if self.world.frozen:
            return "", self.world.frozen
        freeze = self.world.budget.frozen(name)
        if freeze is not None:
            return freeze.token, f"{freeze.waiting} deletes wait; nobody was seen asking for each of them"
        token = self.reinstall_token(name)
        return (token, "objects from before the CRDs were installed again wait") if token else None

    async def _sweep(self, runtime: TargetRuntime, link: Link) -> None:
        """Find synced objects of kinds that nothing names any more."""
        while runtime.link is link:
            try:
                await self._watches.find_leftovers(runtime)
                runtime.swept = True
                return
            except SyncError as error:
                log.debug("target not swept yet", target=runtime.name, error=str(error))
                await asyncio.sleep(5.0)

    # What changed

    def _told(self, source: Source, pair: Pair, target: str, outcome: Outcome) -> None:
        """A pair's outcome is news."""
        self._telling.outcome(source, pair, target, outcome)
        self._downstream.not_there(source, pair, target, outcome)
        for uid in source.plan.matched:
            self._placement_changed(uid)
        if source.object is not None and source.object.terminating:
            self._object_changed(source)

    def _object_changed(self, source: Source) -> None:
        if source.object is not None and (
            source.info.has_status or source.object.finalizers or source.plan.assignments
        ):
            self._statuses.changed(source)
            self._status_work.wake()

    def _placement_changed(self, uid: str) -> None:
        self._placements.changed(uid)
        self._placement_work.wake()

    def _keeper_seen(self, target: str, item: KubeObject, deleted: bool) -> None:
        self._keeper.seen(target, item, deleted)
        self._namespace_work.wake()

    def _pods_noted(self, source: Source, target: str, reason: str, message: str) -> None:
        self._object_changed(source)
        if source.placement:
            self._placement_changed(source.placement)
        self._telling.pods(source, target, reason, message)

    # Round and round

    async def _watch_api(self) -> None:
        """Look every few seconds, and at once when objects of our own kinds went: was it the whole API?"""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GUARD_SECONDS):
                    await self._suspected.wait()
            self._suspected.clear()
            await self._check_api()

    async def _check_api(self) -> None:
        await self._guard.check()
        if self._guard.problem != self.world.frozen:
            log.warning("our API changed state", problem=self._guard.problem or "in place again")
            self.world.frozen = self._guard.problem
            if not self.world.frozen:
                for informer in self.sight.standing.values():
                    informer.hurry()
            for name in self.world.targets:
                self.frozen_changed(name)
            for source in list(self.world.sources.values()):
                self.world.touch(source, CATCH_UP)
        self.world.left_behind = self._guard.reinstalled
        if not self.world.frozen and (self._guard.unrecorded or (self._guard.reinstalled and self._settled())):
            await self._record_api()

    def _settled(self) -> bool:
        """Every target was read and nothing from before the re-installation is left without an owner."""
        return (
            bool(self.world.targets)
            and all(
                target.ready and target.read and not self.reinstall_token(name)
                for name, target in self.world.targets.items()
            )
            and not self.sight.blind(None)
            and not len(self.world.queue)
            and not self.world.queue.in_hand  # a pass that asks for evidence may end as one that waits for consent
        )

    async def _record_api(self) -> None:
        try:
            await self._guard.record()
            self.world.acknowledged.clear()  # that was for the leftovers of one re-installation
        except SyncError as error:
            log.debug("CRDs not recorded", error=str(error))
        self.world.left_behind = self._guard.reinstalled

    async def _reselect(self) -> None:
        while True:
            await asyncio.sleep(RESELECT_SECONDS)
            if any(target.state.evict_after_seconds is not None for target in self.world.targets.values()):
                self._catalog.targets_changed(Cause("a target's evictAfter was over"), readiness=True)

    async def _audit(self) -> None:
        """Try again what was refused for good: a schema, a quota or a webhook may have changed without an event."""
        for audit in itertools.count(1):
            await asyncio.sleep(AUDIT_SECONDS)
            for target in self.world.targets.values():
                if target.link is not None:
                    target.link.book.forget_problems()
                freeze = self.world.budget.frozen(target.name)
                sure = target.ready and target.read and not self.sight.blind(None)  # else deletes may not have asked
                if freeze is not None and not freeze.waiting and sure:  # what it held back is not wanted any more
                    self.world.budget.acknowledge(target.name, freeze.token, self.world.clock())
                    self.frozen_changed(target.name)
            for source in list(self.world.sources.values()):
                for target_name, pair in source.pairs.items():
                    if pair.memory.dropped and audit % AUDITS_PER_SCHEMA_LOOK == 0:
                        pair.memory = replace(pair.memory, dropped=(), owned=b"")
                    elif pair.memory.failure is not None:
                        pair.memory = replace(pair.memory, failure=None)
                    else:
                        continue
                    self.world.enqueue(SyncKey(source.key, target_name), CATCH_UP)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
