"""JSON that the hub answers and the CLI reads, under `/api/v1/`. Pure words: no I/O.

| GET | answers |
|---|---|
| `/api/v1/targets` | `TargetList` |
| `/api/v1/problems?namespace=NS` | `ProblemList`; without `namespace`: every namespace that the caller may see |
| `/api/v1/explain/<kind>/<namespace>/<name>` | `Explanation` |
| `/api/v1/status/<kind>/<namespace>/<name>` | `ObjectStatus` |
| `/api/v1/pods/<kind>/<namespace>/<name>` | `PodList` |

`<kind>` is a group-resource in its text form (`deployments.apps`, `configmaps`); `<namespace>` of a cluster-scoped
object is `-`. An object is written `apps/v1/Deployment/shop/web`, without a namespace `v1/Namespace/shop`. Times are
RFC 3339 in UTC, `""` where unknown. An error is a Kubernetes `Status`. Fields are only ever added, and every field has
a default, so that an older CLI reads a newer hub.
"""

from __future__ import annotations

import msgspec

CLUSTER_SCOPED = "-"  # the <namespace> of cluster-scoped objects in a path; no namespace may have this name


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not in sync."""

    object: str = ""  # "" where the problem is the target's or the placement's own
    namespace: str = ""
    target: str = ""  # "" where it concerns no single target
    placement: str = ""  # `Placement/shop/web`, `ClusterPlacement/base`
    reason: str = ""  # one of syncer.api.names.Reason
    message: str = ""
    since: str = ""
    hint: str = ""  # what to do next; syncer.api.hints


class ProblemList(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is not in sync, sorted by namespace, object, target."""

    items: list[Problem] = []
    omitted: int = 0  # problems beyond what one answer holds
    filtered: bool = False  # the caller may not see everything, so there may be others


class PlacementMatch(msgspec.Struct, frozen=True, kw_only=True):
    """What one placement says about an object."""

    name: str = ""  # `Placement/shop/web`
    matched: bool = False
    why_not: str = ""  # the term that failed; only where not matched
    nearest: bool = False  # matched nothing, but came closest
    priority: int = 0
    wins_on: list[str] = []  # targets where this placement decides
    loses_on: list[str] = []  # targets where another one has more priority or is older


class FieldOwner(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns one field of a synced object, as far as it is of interest: shared, ceded or foreign fields."""

    field: str = ""  # /spec/replicas
    manager: str = ""


class TargetExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """What one target gets of an object, or why not."""

    name: str = ""
    selected: bool = False
    why_not: str = ""  # only where not selected
    placement: str = ""  # the one that decides here
    state: str = ""  # Synced | Pending | Failed | Deleting | Gone | Unknown (the target cannot be asked)
    reason: str = ""
    message: str = ""
    hint: str = ""
    applied_generation: int | None = None  # of the source object; None before the first apply
    observed: str = "unknown"  # present | absent | unknown
    owners: list[FieldOwner] = []
    transforms: list[str] = []  # `[0] image registry=mirror.example`, those that apply here, in order


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Which placement matched an object, what each target gets, who owns which field, what blocks."""

    object: str = ""
    generation: int = 0
    skip_reason: str = ""  # why the object is never placed; "" where it may be
    placements: list[PlacementMatch] = []
    targets: list[TargetExplanation] = []
    hints: list[str] = []


class TargetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One object's state on one target."""

    name: str = ""
    health: str = "Unknown"  # Healthy | Progressing | Degraded | Suspended | Missing | Unknown
    message: str = ""
    counters: dict[str, int] = {}  # {readyReplicas: 2, replicas: 3}: the kind's own names
    age_seconds: float | None = None  # of what is told here; None where nothing was collected yet
    stale: bool = False  # the target cannot be asked at present


class ObjectStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One object's state on every target that holds or should hold it, sorted by target."""

    object: str = ""
    generation: int = 0
    targets: list[TargetStatus] = []


class PodInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One Pod of a workload, on one target."""

    target: str = ""
    namespace: str = ""
    name: str = ""
    phase: str = ""
    ready: str = ""  # `1/2` containers
    restarts: int = 0
    reason: str = ""  # ImagePullBackOff, CrashLoopBackOff, Unschedulable, …
    message: str = ""
    node: str = ""
    age_seconds: float | None = None


class PodList(msgspec.Struct, frozen=True, kw_only=True):
    """Pods of one workload on all targets, sorted by target and name."""

    items: list[PodInfo] = []
    unreachable: list[str] = []  # targets that could not be asked; their Pods are unknown, not absent
    omitted: int = 0


class TargetInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One target as the operator sees it now."""

    name: str = ""
    ready: bool = False
    connected: bool = False
    reason: str = ""
    message: str = ""
    version: str = ""  # v1.36.4
    objects: int = 0  # that it should hold
    synced: int = 0  # of these, those that it holds
    frozen_token: str = ""  # set while Frozen; `syncline ack` sends it back
    since: str = ""  # of the present Ready condition


class TargetList(msgspec.Struct, frozen=True, kw_only=True):
    """Every target, sorted by name."""

    items: list[TargetInfo] = []


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`POST /registrations/v1` with a bootstrap token: the same request asks again how the registration stands."""

    target: str
    cluster_uid: str = msgspec.field(name="clusterUID")
    request: str  # certificate request, PEM


class JoinAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How a registration stands."""

    registration: str = ""  # name of the ClusterRegistration
    phase: str = "Pending"  # Pending | Approved | Denied | Expired
    reason: str = ""
    message: str = ""
    generation: int = 0
    certificate: str = ""  # PEM; only where Approved


class RenewRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`POST /registrations/v1/renew` with the present client certificate."""

    cluster_uid: str = msgspec.field(name="clusterUID")
    request: str  # certificate request for a new key, PEM


class RenewAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The next certificate, and what to trust from now on to reach the hub; both PEM."""

    certificate: str = ""
    authority: str = ""
