"""One target while the operator runs: its connection, its informers, what keeps it from being asked too much."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from syncer.api.keys import GroupResource
from syncer.api.names import Reason
from syncer.api.synctarget import SyncTarget
from syncer.engine.guard import Lost
from syncer.engine.lanes import BreakerState, CircuitBreaker, TokenBucket
from syncer.engine.namespaces import NamespaceBook
from syncer.engine.sight import LISTS_AT_ONCE
from syncer.engine.situation import Held
from syncer.errors import TransientError
from syncer.kube.client import ClusterClient
from syncer.kube.discovery import Discovery
from syncer.kube.informer import Informer
from syncer.kube.objects import ResourceInfo
from syncer.placement.compile import compile_target
from syncer.placement.policy import ResourcePolicy
from syncer.placement.targets import TargetState
from syncer.transform.target import TargetView


@dataclass
class Watch:
    """A running informer and its task."""

    informer: Informer
    task: asyncio.Task[None]


@dataclass
class Link:
    """A verified connection to a target's API server."""

    client: ClusterClient
    discovery: Discovery
    book: NamespaceBook
    watches: dict[GroupResource, Watch] = field(default_factory=dict)
    swept: set[GroupResource] = field(default_factory=set)  # kinds that were looked at for leftovers
    # Kinds that are needed and not served: True once that was asked after the need arose, for a CRD may be new.
    lacks: dict[GroupResource, bool] = field(default_factory=dict)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LISTS_AT_ONCE))


def find_resource(discovery: Discovery, resource: GroupResource) -> ResourceInfo | None:
    """What the cluster serves under that name; None also where it could not be asked: then nothing is done either."""
    try:
        return discovery.find_resource(resource)
    except TransientError:
        return None


def served_as(discovery: Discovery, info: ResourceInfo) -> ResourceInfo | None:
    """How the cluster serves an upstream kind: in the same version if it can, else in the one that it prefers."""
    try:
        return discovery.find(info.api_version, info.kind) or discovery.find_resource(info.group_resource)
    except TransientError:
        return None


class TargetRuntime:
    """What the engine keeps for one SyncTarget.

    Attributes:
        link: None while nobody could connect; then everything about the target is unknown.
        reachable: whether the last probes were answered.
        since: wall-clock seconds since when `reachable` is as it is.
    """

    def __init__(self, model: SyncTarget, now: float) -> None:
        self.link: Link | None = None
        self.reachable = False
        self.since = now
        self.message = "not connected yet"
        self.breaker = CircuitBreaker()
        self.synced = 0  # pairs that are on the target, for the deletion budget
        self.told = False  # a first probe said whether it answers
        self.swept = False  # kinds that no placement names were looked at for leftovers
        limits = model.spec.limits
        self.bucket = TokenBucket(limits.qps, limits.burst)
        self.update(model)

    def update(self, model: SyncTarget) -> None:
        """Take over a new version of the SyncTarget."""
        self.model = model
        self.name = model.metadata.name
        self.uid = model.metadata.uid
        self.policy = ResourcePolicy.of(model.spec.resources)
        self.view = TargetView(self.name, self.uid, dict(model.metadata.labels), dict(model.metadata.annotations))
        self.state: TargetState = compile_target(model, ready=self.ready)

    @property
    def ready(self) -> bool:
        """Connected and answering."""
        return self.link is not None and self.reachable

    def set_reachable(self, reachable: bool, since: float, message: str) -> bool:
        """Take over a probe's result; True if it changed something."""
        self.told = True
        changed = reachable != self.reachable
        self.reachable, self.message = reachable, message
        if changed:
            self.since = since
        self.state = compile_target(self.model, ready=self.ready)
        return changed

    @property
    def lost(self) -> Lost:
        """The SyncTarget as evidence, should it go."""
        return Lost("synctargets", self.model.metadata.creation_timestamp)

    @property
    def read(self) -> bool:
        """Everything of ours that may stand on it has been seen."""
        link = self.link
        return link is not None and self.swept and all(watch.informer.synced for watch in link.watches.values())

    def holds_unseen(self, resource: GroupResource) -> bool:
        """Whether copies of this kind may stand here that nobody can see now."""
        informer = self.watch(resource)
        if informer is not None:
            return not informer.synced
        return self.link is None or not self.swept  # the sweep starts a watch for every kind of which it finds some

    @property
    def draining(self) -> bool:
        """The SyncTarget is being deleted, and its objects with it."""
        return self.state.deleting and self.model.spec.deletion == "Drain"

    def closed(self, now: float) -> Held | None:
        """Why nothing may be written here now, or None. Whoever then sends something asks the breaker once more."""
        if self.link is None:
            return Held(Reason.TARGET_NOT_READY, f"{self.name} is not connected: {self.message}")
        if self.state.deleting and not self.draining:
            return Held(Reason.DELETING, f"{self.name} is being deleted; its objects stay (deletion: Orphan)")
        if not self.breaker.would_allow(now):
            wait = max(0.1, self.breaker.retry_at() - now)
            return Held(Reason.UNREACHABLE, f"{self.name} does not answer: {self.message}", retry_seconds=wait)
        return None

    def failed(self, now: float, message: str) -> None:
        """A request found the target unreachable or broken."""
        self.breaker.failure(now)
        if self.breaker.state is not BreakerState.CLOSED:
            self.message = message

    def watch(self, resource: GroupResource) -> Informer | None:
        """The informer of a resource, if one runs."""
        if self.link is None:
            return None
        watch = self.link.watches.get(resource)
        return watch.informer if watch is not None else None


def same_target(before: SyncTarget, after: SyncTarget) -> bool:
    """Whether nothing but the status differs."""
    old, new = before.metadata, after.metadata
    return (before.spec, old.labels, old.annotations, old.deletion_timestamp) == (
        after.spec,
        new.labels,
        new.annotations,
        new.deletion_timestamp,
    )
