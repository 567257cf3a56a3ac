"""Follows ClusterRegistrations and SyncTargets upstream, in every replica, and keeps `Identities` up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from syncer.api.common import ApiObject
from syncer.api.names import GROUP, VERSION
from syncer.api.registration import ClusterRegistration
from syncer.api.synctarget import SyncTarget
from syncer.errors import TerminalError
from syncer.events import Regarding
from syncer.hub.identity import Identities
from syncer.kube.client import ClusterClient
from syncer.kube.informer import Informer, InformerEvent
from syncer.kube.objects import KubeObject, ResourceInfo

REGISTRATIONS: Final = ResourceInfo(
    GROUP, VERSION, ClusterRegistration.plural, "ClusterRegistration", namespaced=False, has_status=True
)
SYNC_TARGETS: Final = ResourceInfo(GROUP, VERSION, SyncTarget.plural, "SyncTarget", namespaced=False, has_status=True)

M = TypeVar("M", bound=ApiObject)

log = structlog.get_logger()


class Registered:
    """Both kinds as models, by name.

    Attributes:
        on_change: called after each change.
    """

    def __init__(self, client: ClusterClient, identities: Identities) -> None:
        """Args: client: read through only."""
        self.identities = identities
        self.registrations: dict[str, ClusterRegistration] = {}
        self.targets: dict[str, SyncTarget] = {}
        self.on_change: list[Callable[[], None]] = []
        self._informers = (
            Informer(client, REGISTRATIONS, on_event=self._registration, manager=None),
            Informer(client, SYNC_TARGETS, on_event=self._target, manager=None),
        )

    async def run(self) -> None:
        """Follow upstream until cancelled; no error ends it."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run(), name=f"identities {informer.info.resource}")
            for informer in self._informers:
                await informer.wait_synced()
            self.identities.problem = ""
            self._changed()

    def generation(self, target: str) -> int:
        """Of the registration that a target stands on; 0 without one."""
        bound = self.identities.bindings.of(target)
        return bound.generation if bound is not None else 0

    @property
    def synced(self) -> bool:
        """Whether everything that was registered at the start is known."""
        return not self.identities.problem

    def tunnelled(self, target: str) -> bool:
        """Whether a SyncTarget of that name is reached through a tunnel."""
        found = self.targets.get(target)
        return found is not None and found.spec.connection.tunnel is not None

    def _registration(self, event: InformerEvent) -> None:
        found = event.object
        if found is not None:
            model = None if event.type == "DELETED" else parse(ClusterRegistration, found)
            _put(self.registrations, found.name, model)
            self.identities.bindings.registration(found.name, model)
            self._changed()

    def _target(self, event: InformerEvent) -> None:
        found = event.object
        if found is not None:
            model = None if event.type == "DELETED" else parse(SyncTarget, found)
            _put(self.targets, found.name, model)
            self.identities.bindings.sync_target(found.name, model)
            self._changed()

    def _changed(self) -> None:
        for listener in list(self.on_change):
            listener()


def regarding(name: str, uid: str) -> Regarding:
    """A ClusterRegistration, for Events."""
    return Regarding(REGISTRATIONS.api_version, REGISTRATIONS.kind, "", name, uid)


def parse(model: type[M], found: KubeObject) -> M | None:
    """The object as a model; None, with a word in the log, if it cannot be understood: it then counts as not there."""
    try:
        return model.parse(found.manifest())
    except TerminalError as error:
        log.warning("not understood", kind=found.kind, name=found.name, error=str(error))
        return None


def _put(table: dict[str, M], name: str, model: M | None) -> None:
    if model is None:
        table.pop(name, None)
    else:
        table[name] = model
