"""Which informers run: one per placed kind upstream, one per placed kind and target downstream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson
import structlog
from msgspec.structs import replace

from syncer.api.keys import GroupKind, GroupResource, SyncKey
from syncer.api.names import GROUP, MANAGED_BY_LABEL, SYNCED_FINALIZER, Reason
from syncer.engine.namespaces import NAMESPACES
from syncer.engine.sight import LOOKING_UP, Sight
from syncer.engine.state import PlacementRecord
from syncer.engine.targets import Link, TargetRuntime, Watch, find_resource
from syncer.engine.world import AUDIT_SECONDS, World
from syncer.errors import SyncError, TerminalError, TransientError
from syncer.kube.client import ClusterClient
from syncer.kube.discovery import Discovery
from syncer.kube.errors import NotFound
from syncer.kube.informer import Informer, InformerEvent
from syncer.kube.objects import ResourceInfo
from syncer.placement.compiled import ANY
from syncer.transform.operations.replicas import SCALABLE

AUTOSCALERS = GroupKind("autoscaling", "HorizontalPodAutoscaler")
WATCHED = frozenset({"list", "watch"})
LACKING_RETRY_SECONDS = 2.0
REFRESH_SECONDS = 30.0
REFRESH_TIMEOUT_SECONDS = 10.0
DEBOUNCE_SECONDS = 0.02  # many placements that arrive together are looked at once
_METADATA_LIST = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"}

log = structlog.get_logger()

SourceHandler = Callable[[ResourceInfo, InformerEvent], None]
TargetHandler = Callable[[str, ResourceInfo, InformerEvent], None]


class Watches:
    """Keeps the running informers equal to what placements and leftovers need.

    Args:
        on_source: takes events of upstream objects.
        on_target: takes events of synced objects, with the target's name.
    """

    def __init__(
        self, world: World, sight: Sight, upstream: ClusterClient, on_source: SourceHandler, on_target: TargetHandler
    ) -> None:
        self._world = world
        self._sight = sight
        self._upstream = upstream
        self._on_source = on_source
        self._on_target = on_target
        self._tasks: dict[GroupResource, asyncio.Task[None]] = {}
        self._leftovers: dict[str, set[GroupResource]] = {}  # by target: kinds of which something of ours was found
        self._lacking: set[str] = set()  # names of targets that do not serve a placed kind; "" is the upstream
        self._newly_lacking = False  # something is not served that nobody has asked for since it is needed
        self._unsure = ""  # why a kind that a placement names could not be looked up
        self._refreshing: dict[str, asyncio.Task[None]] = {}  # by cluster, "" is the upstream
        self._changed = asyncio.Event()
        self._changed.set()

    def changed(self) -> None:
        """Placements, targets or served kinds may differ: look again soon."""
        self._sight.unsettled = LOOKING_UP
        self._changed.set()

    async def run(self) -> None:
        """Work until cancelled."""
        refresh_at = self._world.clock() + REFRESH_SECONDS
        try:
            while True:
                now = self._world.clock()
                lacking = bool(self._lacking or self._sight.unsettled)
                at = min(refresh_at, now + LACKING_RETRY_SECONDS) if lacking else refresh_at
                try:
                    async with asyncio.timeout(max(0.0, at - now)):
                        await self._changed.wait()
                except TimeoutError:
                    everything = self._world.clock() >= refresh_at
                    if everything:
                        refresh_at = self._world.clock() + REFRESH_SECONDS
                    self._refresh(everything=everything)
                await asyncio.sleep(DEBOUNCE_SECONDS)
                self._changed.clear()
                self._reconcile()
        finally:
            for task in [*self._tasks.values(), *self._refreshing.values()]:
                task.cancel()

    def _refresh(self, *, everything: bool) -> None:
        """Begin to ask clusters what they serve: all, or those that lack a placed kind. None waits for another."""
        clusters = {"": self._sight.discovery}
        for target in self._world.targets.values():
            if target.reachable and target.link is not None and (everything or target.name in self._lacking):
                clusters[target.name] = target.link.discovery
        for name, discovery in clusters.items():
            if name not in self._refreshing:
                task = asyncio.create_task(self._refresh_one(name, discovery), name=f"discovery {name or 'upstream'}")
                self._refreshing[name] = task

    async def _refresh_one(self, name: str, discovery: Discovery) -> None:
        """Ask one cluster what it serves. Silence leaves what was known."""
        target = self._world.targets.get(name)
        link = target.link if target is not None else None
        asked = list(link.lacks) if link is not None else []
        try:
            async with asyncio.timeout(REFRESH_TIMEOUT_SECONDS):
                changed = await discovery.refresh()
            if link is not None:
                link.lacks.update(dict.fromkeys((kind for kind in asked if kind in link.lacks), True))
            if changed and name:
                self._served_anew(name)
            if changed or (not name and self._unsure):
                self._changed.set()
        except (SyncError, TimeoutError) as error:
            log.debug("discovery failed", cluster=name or "upstream", error=str(error) or "no answer in time")
        except Exception:
            log.exception("discovery failed", cluster=name or "upstream")
        finally:
            del self._refreshing[name]

    def _served_anew(self, target: str) -> None:
        """A target serves other kinds than before: look again at what it could not take, or took only in part."""
        for source, pair in self._world.pairs_on(target):
            if pair.outcome.reason in (Reason.API_MISSING, Reason.FIELD_PRUNED, Reason.INVALID):
                pair.memory = replace(pair.memory, failure=None, dropped=(), owned=b"")
                self._world.enqueue(SyncKey(source.key, target))

    def _reconcile(self) -> None:
        unknown = self._world.look_up()
        wanted, unserved = self._wanted_upstream()
        self._lacking = {""} if unserved or unknown else set()
        if unknown:
            self._lacking |= self._world.targets.keys()
        if not self._unsure:
            for resource in self._tasks.keys() - wanted.keys():
                self._stop_upstream(resource)
        for resource, info in wanted.items():
            if resource in self._tasks and self._sight.infos[resource] != info:
                self._stop_upstream(resource)  # served in another version than before
                for source in self._world.sources.values():
                    if source.key.group_resource == resource and not source.key.origin:
                        source.info = info
            if resource not in self._tasks:
                self._start_upstream(info)
        self._tell_unserved(unserved)
        self._sight.unsettled = self._unsure
        self._newly_lacking = False
        for target in list(self._world.targets.values()):
            self._reconcile_target(target, wanted)
        if self._newly_lacking:
            self._refresh(everything=False)

    # Upstream

    def _wanted_upstream(self) -> tuple[dict[GroupResource, ResourceInfo], dict[GroupKind, list[PlacementRecord]]]:
        """Kinds that placements name, as the upstream serves them; and those that it does not serve."""
        wanted: dict[GroupResource, ResourceInfo] = {}
        unserved: dict[GroupKind, list[PlacementRecord]] = {}
        self._unsure = ""
        for record in self._world.placements.values():
            if record.compiled is None:
                continue
            for kind in record.compiled.kinds():
                if ANY in kind:
                    found = self._matching_kinds(record, kind)
                else:
                    try:
                        info = self._sight.discovery.find(kind.group, kind.kind)
                    except TransientError as error:
                        self._unsure = str(error)
                        continue
                    found = [info] if info is not None else []
                    if info is None:
                        unserved.setdefault(kind, []).append(record)
                wanted.update((info.group_resource, info) for info in found)
        wanted |= self._held()
        if any(info.group_kind in SCALABLE for info in wanted.values()):
            scaler = self._find(AUTOSCALERS)
            if scaler is not None:
                wanted[scaler.group_resource] = scaler
        return wanted, unserved

    def _held(self) -> dict[GroupResource, ResourceInfo]:
        """Kinds that no placement may name any more, but that have copies, a last status to tell, or our finalizer."""
        held: dict[GroupResource, ResourceInfo] = {}
        for source in self._world.sources.values():
            resource = source.key.group_resource
            if resource in held or resource in self._sight.standing or source.key.origin:
                continue
            finalizer = source.object is not None and SYNCED_FINALIZER in source.object.finalizers
            if source.pairs or source.aggregator is not None or finalizer:
                info = find_resource(self._sight.discovery, resource)
                if info is not None and info.verbs >= WATCHED:
                    held[resource] = info
        return held

    def _find(self, kind: GroupKind) -> ResourceInfo | None:
        try:
            return self._sight.discovery.find(kind.group, kind.kind)
        except TransientError:
            return None

    def _matching_kinds(self, record: PlacementRecord, kind: GroupKind) -> list[ResourceInfo]:
        """What `*` stands for: every kind that can be watched and that a target accepts."""
        assert record.compiled is not None
        return [
            info
            for info in self._sight.discovery.resources()
            if info.verbs >= WATCHED
            and info.group != GROUP
            and (info.namespaced or record.compiled.kind == "ClusterPlacement")
            and kind.group in (ANY, info.group)
            and kind.kind in (ANY, info.kind)
            and any(target.policy.accepts(info.group_resource) for target in self._world.targets.values())
        ]

    def _start_upstream(self, info: ResourceInfo) -> None:
        informer = Informer(
            self._upstream,
            info,
            on_event=lambda event: self._on_source(info, event),
            manager=None,
            audit_seconds=AUDIT_SECONDS,
            rng=self._world.rng,
            list_slots=self._sight.slots,
        )
        resource = info.group_resource
        self._sight.infos[resource] = info
        self._sight.informers[resource] = informer
        self._tasks[resource] = asyncio.create_task(informer.run(), name=f"informer upstream {resource}")

    def _stop_upstream(self, resource: GroupResource) -> None:
        self._tasks.pop(resource).cancel()
        del self._sight.informers[resource], self._sight.infos[resource]

    def _tell_unserved(self, unserved: dict[GroupKind, list[PlacementRecord]]) -> None:
        names: dict[str, list[str]] = {}
        for kind, records in unserved.items():
            for record in records:
                names.setdefault(record.manifest.uid, []).append(str(kind))
        for uid, record in self._world.placements.items():
            now = tuple(sorted(names.get(uid, ())))
            if now != record.unserved:
                record.unserved = now
                self._world.placement_changed(uid)

    # Targets

    def _reconcile_target(self, target: TargetRuntime, wanted: dict[GroupResource, ResourceInfo]) -> None:
        link = target.link
        if link is None:
            return
        needed = {NAMESPACES.group_resource, *self._leftovers.get(target.name, ())}
        for record in self._world.placements.values():
            if record.selection is None or target.name not in record.selection.selected or record.compiled is None:
                continue
            rules = record.compiled.rules
            needed |= {key.group_resource for key in record.inline}
            needed |= {r for r, info in wanted.items() if any(rule.matches_kind(info.group_kind) for rule in rules)}
        needed |= self._world.kinds_on(target.name)
        for resource in link.watches.keys() - needed:
            link.watches.pop(resource).task.cancel()
        for resource, watch in list(link.watches.items()):
            info = find_resource(link.discovery, resource)
            if info is not None and info != watch.informer.info:  # served in another version than before
                link.watches.pop(resource).task.cancel()
        for resource in link.lacks.keys() - needed:
            del link.lacks[resource]
        for resource in needed - link.watches.keys():
            info = find_resource(link.discovery, resource)
            if info is None:
                self._lacking.add(target.name)
                self._newly_lacking |= link.lacks.setdefault(resource, False) is False
            else:
                link.lacks.pop(resource, None)
                link.watches[resource] = self._start_target(target, info)

    def _start_target(self, target: TargetRuntime, info: ResourceInfo) -> Watch:
        assert target.link is not None
        name = target.name
        informer = Informer(
            target.link.client,
            info,
            on_event=lambda event: self._on_target(name, info, event),
            label_selector=f"{MANAGED_BY_LABEL}={self._world.hub_id}",
            audit_seconds=AUDIT_SECONDS,
            rng=self._world.rng,
            list_slots=target.link.slots,
        )
        return Watch(informer, asyncio.create_task(informer.run(), name=f"informer {name} {info.group_resource}"))

    async def find_leftovers(self, target: TargetRuntime) -> None:
        """Look once for synced objects of kinds that no placement names any more, so that they too are taken care of.

        A kind that is refused or not served cannot hold anything that we could touch.

        Raises:
            TransientError: some kinds could not be asked; call again later, and only those are asked again.
        """
        link = target.link
        if link is None:
            return
        found = self._leftovers.setdefault(target.name, set())
        silent: list[str] = []
        for info in link.discovery.resources():
            resource = info.group_resource
            watched = resource in link.watches or resource in link.swept or not info.verbs >= WATCHED
            if watched or not target.policy.accepts(resource):
                continue
            try:
                holds = await self._holds_ours(target.name, link, info)
            except TransientError as error:
                log.debug("kind not swept yet", target=target.name, kind=str(resource), error=str(error))
                silent.append(str(resource))
                continue
            link.swept.add(resource)
            if holds and resource not in found:
                found.add(resource)
                self.changed()
        if silent:
            raise TransientError(f"{target.name}: not swept yet: {', '.join(silent[:5])}")

    async def _holds_ours(self, target: str, link: Link, info: ResourceInfo) -> bool:
        """Whether a target has synced objects of a kind, as far as it lets us see.

        Raises:
            TransientError: it could not be asked.
        """
        params = {"labelSelector": f"{MANAGED_BY_LABEL}={self._world.hub_id}", "limit": "1"}
        try:
            answer = await link.client.request("GET", info.path(), params=params, headers=_METADATA_LIST)
            return bool(orjson.loads(answer.body)["items"])
        except (TerminalError, NotFound) as error:  # 403, 404, 405, …
            log.info("kind not looked at for leftovers", target=target, kind=info.resource, error=str(error))
            return False
        except (ValueError, TypeError, KeyError) as error:
            raise TransientError(f"{target}: not a list of {info.group_resource}") from error

    def stop_target(self, target: TargetRuntime) -> None:
        """The connection is gone or replaced; the sweep of the next one finds again what is left over."""
        self._leftovers.pop(target.name, None)
        if target.link is not None:
            for watch in target.link.watches.values():
                watch.task.cancel()
            target.link.watches.clear()
