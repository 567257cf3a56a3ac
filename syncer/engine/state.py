"""What the engine holds in memory: sources, their pairs, placements and targets. Records and small rules, no I/O.

Everything here is rebuilt from the API servers at start; nothing is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from status.aggregator import Aggregator
from status.report import Mode, Report
from syncer.api.keys import ObjectKey
from syncer.conflict.fights import FightHistory
from syncer.engine.guard import Lost
from syncer.engine.pair import ABSENT, Absent, Memory, Observation, Outcome, Present, State, Unknown
from syncer.kube.objects import KubeObject, ResourceInfo
from syncer.placement.compiled import CompiledPlacement
from syncer.placement.targets import Selection
from syncer.transform.pipeline import Pipeline
from syncer.transform.render import Rendered
from syncer.transform.split import Split


@dataclass(frozen=True, slots=True)
class Assignment:
    """A source object goes to one target because of one placement."""

    placement: str  # uid
    split: Split | None = None  # this target's share under Divide
    held: str = ""  # why its share is not known yet: nothing is written until it is


@dataclass(frozen=True, slots=True)
class Refusal:
    """A target that a placement selects but that does not get this object, and why."""

    placement: str  # uid
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Where one source object goes. Equal plans mean that nothing moves."""

    assignments: Mapping[str, Assignment] = field(default_factory=dict)  # by target name
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    outranked: tuple[tuple[str, str, str], ...] = ()  # (placement uid, target, winner uid)
    matched: tuple[str, ...] = ()  # uids of placements that select the object
    skip: str = ""  # why the object is never placed, whatever selects it
    awaits: tuple[str, ...] = ()  # targets whose copies must be read before replicas may move; sorted


NO_PLAN = Plan()


@dataclass(frozen=True, slots=True)
class Unplaced:
    """Why a pair lost its assignment, as seen in this process."""

    why: str
    at: float  # monotonic seconds
    counted: bool = True  # spends the deletion budget
    verify: bool = False  # the cause may be our own API being removed: check that live first
    heirs: frozenset[str] = frozenset()  # targets that got the object by the same change: it lands there first
    lost: Lost | None = None  # with `verify`: the placement or target that went away


class Pair:
    """One source object on one target."""

    __slots__ = (
        "changed_at",
        "fights",
        "finished",
        "gone_version",
        "live",
        "memory",
        "noted",
        "orphan",
        "outcome",
        "rendered",
        "report",
        "since",
        "unplaced",
    )

    def __init__(self) -> None:
        self.memory = Memory()
        self.outcome = Outcome(State.PENDING)
        self.since = 0.0  # wall clock seconds of the last change of outcome
        self.changed_at = 0.0  # monotonic seconds when a change of the source was seen, 0 once the target has it
        self.live: Observation | None = None  # newer than the informer's cache: our own write's answer, or a live GET
        self.gone_version = 0  # resourceVersion of the last DELETED event: older answers are history
        self.unplaced: Unplaced | None = None
        self.orphan = False  # the last assignment's deletion policy was Orphan
        self.finished = ""  # source uid that reached its end here (Job, Pod)
        self.fights: FightHistory | None = None
        self.report: Report | None = None  # what the target said last about the object
        self.rendered: tuple[tuple[object, ...], Rendered] | None = None  # during a pass: (what it was made of, it)
        self.noted = ("", 0.0)  # why its Pods wait, and the wall clock seconds since when that is known

    def observe(self, cached: KubeObject | None, synced: bool, error: str = "") -> Observation:
        """The newest of what the informer holds and what our own requests answered."""
        if isinstance(self.live, Present):
            if cached is None or version(cached) < version(self.live.object):
                return self.live
            self.live = None  # the event came before the answer: one copy is enough
        elif isinstance(self.live, Absent):
            return self.live
        if cached is not None:
            return Present(cached)
        if synced:
            return ABSENT
        return Unknown(error or "the target's objects of this kind have not been read yet", starting=not error)

    def saw_event(self, seen: KubeObject, deleted: bool) -> None:
        """An informer event arrived: answers of our own that are older than it are history."""
        if deleted:
            self.gone_version = max(self.gone_version, version(seen))
        if isinstance(self.live, Present):
            if version(self.live.object) <= version(seen):
                self.live = None
        else:
            self.live = None


def version(item: KubeObject) -> int:
    """resourceVersion as a number, comparable within one resource of one cluster (KEP-5504); 0 where it is none."""
    text = item.resource_version
    return int(text) if text.isascii() and text.isdigit() else 0


class Source:
    """One source object, with everything that depends on it."""

    __slots__ = (
        "aggregated_uid",
        "aggregator",
        "asked_again",
        "created",
        "gone",
        "info",
        "key",
        "left",
        "mode",
        "object",
        "pairs",
        "placement",
        "plan",
        "shares",
        "status_live",
        "status_seen",
    )

    def __init__(self, key: ObjectKey, info: ResourceInfo) -> None:
        self.key = key
        self.info = info
        self.object: KubeObject | None = None
        self.created = ""  # creationTimestamp of the object that is gone
        self.placement = ""  # uid of the placement that holds the object inline; "" for an upstream object
        self.gone = ""  # evidence: "DELETED event of uid …"; "" while present or merely missing
        self.left = ""  # uid of the object that goes with its CRD: its copies stay, and its deletion waits for none
        self.plan: Plan = NO_PLAN
        self.pairs: dict[str, Pair] = {}  # by target name
        self.shares: dict[
            str, Mapping[str, Mapping[str, int]]
        ] = {}  # {placement uid: {field: {target: share}}}: stable rounding
        self.aggregator: Aggregator | None = None
        self.status_live: KubeObject | None = None  # answer to our last status write, until the watch shows it
        self.mode = Mode()  # how `aggregator` merges
        self.asked_again = False  # a second status pass is under way for targets that were silent at the first
        self.aggregated_uid = ""  # source uid that `aggregator` is for
        self.status_seen = 0.0  # monotonic seconds of the oldest status change that is not written yet

    @property
    def reference(self) -> str:
        """`apps/v1/Deployment/shop/web`, as placement errors name it."""
        parts = [self.info.api_version, self.info.kind, self.key.namespace, self.key.name]
        return "/".join(part for part in parts if part)


class PlacementRecord:
    """One Placement or ClusterPlacement as the engine uses it."""

    __slots__ = (
        "compiled",
        "error",
        "had",
        "holds",
        "inline",
        "manifest",
        "objects",
        "pipeline",
        "selection",
        "unknown",
        "unread",
        "unserved",
    )

    def __init__(self, manifest: KubeObject) -> None:
        self.manifest = manifest
        self.compiled: CompiledPlacement | None = None
        self.pipeline: Pipeline | None = None
        self.error: tuple[str, str] | None = None  # (reason, message): the placement itself is at fault
        self.selection: Selection | None = None
        self.objects: set[ObjectKey] = set()
        self.inline: frozenset[ObjectKey] = frozenset()  # sources made of its spec.manifests
        self.unknown: tuple[str, ...] = ()  # why some of its spec.manifests have no source (yet)
        self.unserved: tuple[str, ...] = ()  # kinds that it names and that the upstream does not serve
        self.unread = ""  # why not everything that it selects is known
        # (time, target uids): sources older than that RFC 3339 time had been applied on these targets when we started.
        self.had: tuple[str, frozenset[str]] = ("", frozenset())
        self.holds: frozenset[str] = frozenset()  # targets that its status named when we started

    @property
    def path(self) -> str:
        """`Placement/shop/web`, for messages."""
        parts = [self.manifest.kind, self.manifest.namespace, self.manifest.name]
        return "/".join(part for part in parts if part)


def only_status(before: KubeObject, after: KubeObject) -> bool:
    """True if nothing that is synced can differ: the kind counts generations, and only the status moved."""
    return before.generation > 0 and before.generation == after.generation and same_metadata(before, after)


def same_metadata(before: KubeObject, after: KubeObject) -> bool:
    """Whether all that people write into metadata is equal."""
    return (
        before.labels == after.labels
        and before.annotations == after.annotations
        and before.finalizers == after.finalizers
        and before.deletion_timestamp == after.deletion_timestamp
        and before.owner_references == after.owner_references
    )
