"""What the engine can see upstream right now. Decisions that remove things ask here first."""

from __future__ import annotations

import asyncio

import structlog

from syncer.api.keys import GroupResource
from syncer.engine.state import PlacementRecord
from syncer.errors import TransientError
from syncer.kube.discovery import Discovery
from syncer.kube.informer import Informer
from syncer.kube.objects import ResourceInfo

LISTS_AT_ONCE = 5  # per cluster: an API server that comes back is not asked everything in the same moment

AUDIT_AGAIN_SECONDS = 4.0
LOOKING_UP = "the kinds that placements name are being looked up"

log = structlog.get_logger()


class Sight:
    """The upstream informers, by resource, and which of them every decision needs.

    Attributes:
        discovery: what the upstream API server serves.
        unsettled: why not every kind that placements name is watched yet; "" once it is.
        slots: shared by the upstream informers.
        infos: the watched kinds, by resource.
        standing: those of our own kinds and of Namespaces; all must have been read completely.
        informers: those of placed kinds.
    """

    def __init__(self, discovery: Discovery) -> None:
        self.discovery = discovery
        self.unsettled = LOOKING_UP
        self.slots = asyncio.Semaphore(LISTS_AT_ONCE)
        self.infos: dict[GroupResource, ResourceInfo] = {}
        self.standing: dict[GroupResource, Informer] = {}
        self.informers: dict[GroupResource, Informer] = {}
        self._audited: dict[GroupResource, float] = {}  # when a list was found to lie

    def blind(self, resource: GroupResource | None) -> str:
        """Why absence upstream cannot be trusted now; "" when it can (then a live check still follows).

        Args:
            resource: the kind of the source whose absence matters; None: only placements and targets matter.
        """
        if self.unsettled:
            return self.unsettled
        for name, informer in self.standing.items():
            reason = _unsure(informer)
            if reason:
                return f"upstream {name}: {reason}"
        if resource is None:
            return ""
        watched = self.informers.get(resource)
        if watched is None:  # nothing places this kind any more; but a kind that is gone says nothing about its objects
            try:
                served = self.discovery.find_resource(resource) is not None
            except TransientError as error:
                return str(error)
            return "" if served else f"upstream does not serve {resource}"
        reason = _unsure(watched)
        return f"upstream {resource}: {reason}" if reason else ""

    def unread(self, record: PlacementRecord) -> tuple[str, bool]:
        """What is not known yet of the objects that a placement selects, and whether people should hear of it.

        ("", False) once all of its kinds were read: only then its counts mean something. Before the targets are known
        there is nothing to tell at all.
        """
        for informer in self.standing.values():
            if not informer.synced:
                return f"upstream {informer.info.group_resource}: {_unsure(informer)}", False
        if self.unsettled:
            return self.unsettled, self.unsettled != LOOKING_UP
        for resource, informer in self.informers.items():
            kind = self.infos[resource].group_kind
            if informer.synced or record.compiled is None:
                continue
            if any(rule.matches_kind(kind) for rule in record.compiled.rules):
                return f"upstream {resource}: {_unsure(informer)}", informer.error is not None
        return "", False

    def audit_soon(self, resource: GroupResource, now: float) -> None:
        """A list did not show what is there: take another one, but not one for each object that it hid."""
        informer = self.informers.get(resource)
        if informer is not None and now >= self._audited.get(resource, float("-inf")) + AUDIT_AGAIN_SECONDS:
            self._audited[resource] = now
            log.warning("missing from a list but present upstream", kind=str(resource))
            informer.audit_soon()


def _unsure(informer: Informer) -> str:
    if not informer.synced:
        return informer.error or "not read completely yet"
    if informer.rewound:
        return "the server went back to an older state (restored from a backup?)"
    return informer.error or ""
