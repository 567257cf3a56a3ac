"""The informers that every decision needs: our own kinds and Namespaces, with a second look at what they lose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from syncer.engine.sight import Sight
from syncer.engine.world import AUDIT_SECONDS, World
from syncer.errors import SyncError
from syncer.kube.client import ClusterClient
from syncer.kube.errors import NotFound
from syncer.kube.informer import Informer, InformerEvent
from syncer.kube.objects import ResourceInfo

CONFIRM_RETRY_SECONDS = 2.0

Handler = Callable[[InformerEvent], None]

log = structlog.get_logger()


class Standing:
    """Hands events of the standing kinds on; what a list no longer shows is asked for before it is believed.

    One wrong list would else un-place everything.
    """

    def __init__(self, world: World, sight: Sight, upstream: ClusterClient) -> None:
        self._world = world
        self._sight = sight
        self._upstream = upstream
        self._questions: set[asyncio.Task[None]] = set()

    def watch(self, info: ResourceInfo, handler: Handler) -> None:
        """Make the informer of a kind; the engine runs it."""
        self._sight.standing[info.group_resource] = Informer(
            self._upstream,
            info,
            on_event=partial(self._event, info, handler),
            manager=None,
            audit_seconds=AUDIT_SECONDS,
            rng=self._world.rng,
            list_slots=self._sight.slots,
        )

    def stop(self) -> None:
        """Ask nothing more."""
        for task in self._questions:
            task.cancel()

    def _event(self, info: ResourceInfo, handler: Handler, event: InformerEvent) -> None:
        if event.type == "DELETED" and event.proof == "relist":
            task = asyncio.create_task(self._confirm(info, handler, event))
            self._questions.add(task)
            task.add_done_callback(self._questions.discard)
        else:
            handler(event)

    async def _confirm(self, info: ResourceInfo, handler: Handler, event: InformerEvent) -> None:
        """Take over a deletion that was concluded from a list, once the server says so of this very object."""
        item, informer = event.object, self._sight.standing[info.group_resource]
        assert item is not None
        while True:
            try:
                live = await self._upstream.get(info, item.namespace, item.name)
            except NotFound as error:
                if error.kind_of_missing != "resource":
                    break
            except SyncError as error:
                log.debug("deletion not confirmed yet", kind=info.kind, name=item.name, error=str(error))
            else:
                if live.uid != item.uid:
                    break
                if (item.namespace, item.name) not in informer.cache:
                    log.warning("missing from a list but present", kind=info.kind, name=item.name)
                    informer.audit_soon()
                return
            await asyncio.sleep(CONFIRM_RETRY_SECONDS)
        handler(event)
