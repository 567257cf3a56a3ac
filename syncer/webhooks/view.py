"""What every replica knows of our kinds, for admission: the leader's engine is not asked, so anybody can answer."""

from __future__ import annotations

import asyncio
from typing import Final, Generic, TypeVar

import structlog

from syncer.api.common import ApiObject
from syncer.api.names import GROUP, VERSION
from syncer.api.placement import AnyPlacement, ClusterPlacement, Placement
from syncer.api.synctarget import SyncTarget
from syncer.errors import SyncError, TerminalError, TransientError
from syncer.kube.client import ClusterClient
from syncer.kube.discovery import Discovery
from syncer.kube.informer import Informer
from syncer.kube.objects import ResourceInfo

KINDS_SECONDS: Final = 10.0  # between two looks at what upstream serves; costs next to nothing where nothing changed
RETRY_SECONDS: Final = 1.0

M = TypeVar("M", bound=ApiObject)

log = structlog.get_logger(__name__)


class _Table(Generic[M]):
    """The objects of one kind of ours, parsed when they are asked for."""

    def __init__(self, client: ClusterClient, model: type[M]) -> None:
        info = ResourceInfo(GROUP, VERSION, model.plural, model.__name__, namespaced=model.namespaced)
        self.informer = Informer(client, info, on_event=lambda event: None, manager=None)
        self._model = model
        self._parsed: dict[str, tuple[str, M]] = {}  # {uid: (resourceVersion, model)}

    def valid(self) -> list[M]:
        """Those that can be parsed. Raises TransientError before they were read."""
        if not self.informer.synced:
            raise TransientError(f"{self._model.plural} are still being read")
        parsed: dict[str, tuple[str, M]] = {}
        for item in list(self.informer.cache.values()):
            known = self._parsed.get(item.uid)
            if known is None or known[0] != item.resource_version:
                try:
                    known = item.resource_version, self._model.parse(item.manifest())
                except TerminalError:
                    continue
            parsed[item.uid] = known
        self._parsed = parsed
        return [model for _, model in parsed.values()]


class AdmissionView:
    """SyncTargets, placements and served kinds of the upstream.

    `run` belongs to the main loop; the questions are asked in kopf's thread. They take whole copies of the main loop's
    tables, which is one step of the interpreter, and change nothing there.
    """

    def __init__(self, client: ClusterClient) -> None:
        self._discovery = Discovery(client)
        self._looked = False
        self._targets = _Table(client, SyncTarget)
        self._placements = _Table(client, Placement)
        self._cluster_placements = _Table(client, ClusterPlacement)
        self._informers = [table.informer for table in (self._targets, self._placements, self._cluster_placements)]

    @property
    def problem(self) -> str:
        """What was not read yet; "" once everything was."""
        missing = [informer.info.resource for informer in self._informers if not informer.synced]
        if not self._looked:
            missing.append("served kinds")
        return f"not read yet: {', '.join(missing)}" if missing else ""

    async def run(self) -> None:
        """Follow upstream until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run(), name=f"admission {informer.info.resource}")
            group.create_task(self._follow_kinds(), name="admission kinds")

    def targets(self) -> dict[str, SyncTarget]:
        """By name. Raises TransientError before they were read."""
        return {target.metadata.name: target for target in self._targets.valid()}

    def placements(self) -> list[AnyPlacement]:
        """The valid ones. Raises TransientError before they were read."""
        return [*self._placements.valid(), *self._cluster_placements.valid()]

    def resolve(self, api_version: str, kind: str) -> ResourceInfo | None:
        """The kind as upstream serves it. Raises TransientError where that is unknown."""
        return self._discovery.find(api_version, kind)

    async def _follow_kinds(self) -> None:
        while True:
            try:
                await self._discovery.refresh()
                self._looked = True
            except SyncError as error:
                log.debug("served kinds not read", error=str(error))
            except Exception:  # a bug, or an answer that nobody foresaw: what was known stays, and admission goes on
                log.exception("served kinds not read")
            await asyncio.sleep(KINDS_SECONDS if self._looked else RETRY_SECONDS)
