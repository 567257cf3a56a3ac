"""The life of namespaces that we made: their labels follow upstream, and they go when the upstream ones are gone."""

from __future__ import annotations

import structlog

from syncer.engine.guard import ApiGuard, NotProven
from syncer.engine.namespaces import NAMESPACES
from syncer.engine.sight import Sight
from syncer.engine.targets import Link, TargetRuntime
from syncer.engine.workqueue import CATCH_UP, KeyedQueue
from syncer.engine.world import World
from syncer.errors import SyncError
from syncer.kube.client import ClusterClient
from syncer.kube.errors import NotFound
from syncer.kube.objects import KubeObject
from syncer.placement.compiled import CompiledPlacement, Globs, NamespaceRule
from syncer.transform.mark import SourceRef
from syncer.transform.render import Rendered, render_namespace

BUSY_SECONDS = 2.0  # our own objects are still leaving
KEPT_SECONDS = 300.0  # somebody else's objects are in it

NamespaceKey = tuple[str, str]  # target, namespace

log = structlog.get_logger()


class NamespaceKeeper:
    """Work per (target, namespace): refresh its labels, or remove it with proof that nobody needs it."""

    def __init__(self, world: World, sight: Sight, upstream: ClusterClient, guard: ApiGuard) -> None:
        self._world = world
        self._sight = sight
        self._upstream = upstream
        self._guard = guard
        self.queue: KeyedQueue[NamespaceKey] = KeyedQueue(lambda key: key[0], lane_limit=4)

    def render(self, name: str) -> Rendered | None:
        """What our namespace of this name holds on a target; None while the upstream one is not known."""
        upstream = self._world.namespaces.get(name)
        if upstream is None:
            return None
        globs: dict[str, None] = {}
        for record in self._world.placements.values():
            if record.compiled is not None and record.compiled.covers_namespace(name, upstream.labels):
                globs.update((text, None) for text in record.compiled.namespace_labels.texts)
        source = SourceRef(self._world.hub_id, self._world.workspace, "v1", "Namespace", "", name, upstream.uid, 0)
        return render_namespace(
            upstream.manifest(), name=name, label_globs=sorted(globs), source=source, deletion_policy="Delete"
        )

    def seen(self, target: str, item: KubeObject, deleted: bool) -> None:
        """A namespace with our marks was seen on a target."""
        if not deleted and not item.terminating:
            self.queue.add((target, item.name), priority=CATCH_UP)

    def upstream_changed(self, name: str) -> None:
        """An upstream namespace was changed or deleted."""
        for target in self._world.targets.values():
            informer = target.watch(NAMESPACES.group_resource)
            if informer is not None and ("", name) in informer.cache:
                self.queue.add((target.name, name))

    def placement_changed(self, before: CompiledPlacement | None, after: CompiledPlacement | None) -> None:
        """A placement came, changed or went: namespaces that it labels, or labelled, may look different now."""
        if _labelling(before) == _labelling(after):
            return
        for name, upstream in self._world.namespaces.items():
            if any(
                one is not None and one.namespace_labels.texts and one.covers_namespace(name, upstream.labels)
                for one in (before, after)
            ):
                self.upstream_changed(name)

    async def run(self, key: NamespaceKey) -> None:
        """One pass over one namespace on one target. Never raises."""
        name = key[1]
        target = self._world.targets.get(key[0])
        link = target.link if target is not None else None
        informer = target.watch(NAMESPACES.group_resource) if target is not None else None
        found = informer.cache.get(("", name)) if informer is not None else None
        if target is None or link is None or found is None or found.terminating:
            self.queue.forget(key)
            return
        now = self._world.clock()
        if self._world.frozen or target.closed(now) is not None or self._sight.blind(None):
            self.queue.add(key, at=now + BUSY_SECONDS)
            return
        try:
            if name in self._world.namespaces:
                await link.book.refresh(found)
                self.queue.forget(key)
            else:
                self.queue.add(key, at=now + await self._remove(target, link, found))
        except (SyncError, NotProven) as error:
            log.debug("namespace pass failed", target=key[0], namespace=name, error=str(error))
            self.queue.retry(key, now, self._world.rng)
        except Exception:  # a malformed answer must not lose the namespace
            log.exception("namespace pass failed", target=key[0], namespace=name)
            self.queue.retry(key, now, self._world.rng, floor_seconds=BUSY_SECONDS)

    async def _remove(self, target: TargetRuntime, link: Link, found: KubeObject) -> float:
        """Try to remove a namespace whose upstream one is not in the cache; seconds until the next look."""
        if self._needed(target, found.name) or not target.read:
            return BUSY_SECONDS
        try:
            await self._upstream.get(NAMESPACES, "", found.name)
        except NotFound:
            pass
        else:
            return BUSY_SECONDS  # it is there: our cache will learn of it
        await self._guard.verify(self._world.clock())
        blocker = await link.book.remove_if_empty(found, link.discovery, lambda: self._needed(target, found.name))
        if blocker:
            log.info("namespace kept", target=target.name, namespace=found.name, because=blocker)
            return KEPT_SECONDS
        log.info(
            "delete",
            target=target.name,
            namespace=found.name,
            evidence="upstream namespace answers 404, nothing left in it",
        )
        return KEPT_SECONDS

    def _needed(self, target: TargetRuntime, name: str) -> bool:
        """Whether the upstream namespace is there, or an object of ours is or should be in it."""
        return name in self._world.namespaces or self._world.uses(target.name, name)


def _labelling(placement: CompiledPlacement | None) -> tuple[str, NamespaceRule | None, Globs] | None:
    """Which labels a placement gives to which namespaces; None if it gives none."""
    if placement is None or not placement.namespace_labels.texts:
        return None
    return placement.namespace, placement.namespaces, placement.namespace_labels
