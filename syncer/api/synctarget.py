"""SyncTarget: one cluster that runs things."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from syncer.api.common import (
    MAX_ITEMS,
    ApiModel,
    ApiObject,
    Column,
    Conditions,
    Duration,
    LabelKey,
    LabelValue,
    Later,
    NonEmpty,
    ObjectMeta,
    Rule,
    StatusModel,
    TargetName,
)
from syncer.api.names import SYSTEM_NAMESPACE


class SecretRef(ApiModel):
    """One key of one Secret upstream. Without a name it is the Secret named like the SyncTarget."""

    namespace: NonEmpty = SYSTEM_NAMESPACE
    name: NonEmpty | None = Field(default=None, description="Unset means the name of the SyncTarget.")
    key: NonEmpty = "kubeconfig"


class DirectConnection(ApiModel):
    """The operator reaches the target's API server by itself."""

    kubeconfig_secret_ref: SecretRef = SecretRef()


class TunnelConnection(ApiModel):
    """The target's agent dials the hub; no credential of the target is stored upstream."""


class Connection(ApiModel):
    """How the target is reached: exactly one way."""

    direct: DirectConnection | None = None
    tunnel: TunnelConnection | None = None

    rules = (Rule("has(self.direct) != has(self.tunnel)", "say exactly one of direct, tunnel"),)


class Taint(ApiModel):
    """Keeps placements without a matching toleration away (NoSchedule) or takes them away (NoExecute)."""

    key: LabelKey
    value: LabelValue = ""
    effect: Literal["NoSchedule", "NoExecute"]


GroupResourceGlob = Annotated[
    str, Field(pattern=r"^(\*|[a-z][-a-z0-9]*)(\.[a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=253)
]


class AcceptedResources(ApiModel):
    """Kinds the target takes, as group-resources "deployments.apps", "*.example.com"; allow adds, deny wins."""

    preset: Literal["Workloads", "All", "None"] = Field(
        default="Workloads", description="Workloads: the built-in workload, config, networking and policy kinds."
    )
    allow: Annotated[tuple[GroupResourceGlob, ...], Field(max_length=MAX_ITEMS)] = ()
    deny: Annotated[tuple[GroupResourceGlob, ...], Field(max_length=MAX_ITEMS)] = ()


class Limits(ApiModel):
    """What the target's API server is asked to bear: requests a second, requests at once, requests in flight."""

    qps: Annotated[int, Field(ge=1, le=100_000)] = 200
    burst: Annotated[int, Field(ge=1, le=100_000)] = 400
    max_concurrent: Annotated[int, Field(ge=1, le=10_000)] = 32


class SyncTargetSpec(ApiModel):
    """How the target is reached and what it takes."""

    connection: Connection
    namespace_mapping: Annotated[Literal["Same", "Hashed"], Later(("Hashed",))] = Field(
        default="Same", description="Names of downstream namespaces."
    )
    unschedulable: bool = Field(default=False, description="No new placements; what is there stays.")
    taints: Annotated[tuple[Taint, ...], Field(max_length=MAX_ITEMS)] = ()
    evict_after: Duration | None = Field(
        default=None, description="How long not Ready before a replacement is used; unset means never."
    )
    resources: AcceptedResources = AcceptedResources()
    limits: Limits = Limits()
    deletion: Literal["Drain", "Orphan"] = Field(
        default="Drain", description="What happens to synced objects when this SyncTarget is deleted."
    )


class TunnelStatus(StatusModel):
    """The links of the target's agents, at all replicas."""

    links: int = 0
    replica: str = Field(default="", description="The replicas that hold them.")
    since: str = Field(default="", description="Since when the oldest of them is up.")
    rtt_milliseconds: int = Field(
        default=0, description="Shortest round trip to the replica that leads, at least 1; 0 until it is measured."
    )


class SyncedResource(StatusModel):
    """Whether one resource can be synced to the target."""

    group: str = ""
    resource: str
    versions: tuple[str, ...] = ()
    state: Literal["Pending", "Accepted", "Incompatible"] = "Pending"
    message: str = ""


class FrozenStatus(StatusModel):
    """Deletes are held back; `syncline ack TARGET` or the annotation syncline.io/acknowledge: TOKEN lets them run."""

    token: str
    since: str = ""
    message: str = ""
    deletes: int = Field(default=0, description="How many deletes wait.")


class SyncTargetStatus(StatusModel):
    """What is known of the target; written by the operator only."""

    observed_generation: int = 0
    cluster_uid: str = Field(default="", description="UID of the target's kube-system namespace.")
    registration_generation: int = 0
    kubernetes_version: str = ""
    capacity: dict[str, str] = Field(default_factory=dict)
    allocatable: dict[str, str] = Field(default_factory=dict)
    requested: dict[str, str] = Field(default_factory=dict)
    last_heartbeat_time: str = ""
    objects: int = Field(default=0, description="Objects that Syncline holds there.")
    reason: str = Field(default="", description="Why it is not Ready, or holds something back; empty when all is well.")
    tunnel: TunnelStatus | None = None
    synced_resources: tuple[SyncedResource, ...] = ()
    view_url: str = Field(default="")
    frozen: FrozenStatus | None = None
    conditions: Conditions = ()


class SyncTargetMeta(ObjectMeta):
    """Metadata with a target's name: a DNS label of at most 40 characters."""

    name: TargetName


class SyncTarget(ApiObject):
    """One downstream cluster."""

    metadata: SyncTargetMeta
    kind: Literal["SyncTarget"] = "SyncTarget"
    spec: SyncTargetSpec
    status: SyncTargetStatus = SyncTargetStatus()

    plural: ClassVar[str] = "synctargets"
    short_names: ClassVar[tuple[str, ...]] = ("st",)
    namespaced: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "Ready",
            '.status.conditions[?(@.type=="Ready")].status',
            description="Connected, and its heartbeat is fresh.",
        ),
        Column("Connected", '.status.conditions[?(@.type=="Connected")].status', description="Its API server answers."),
        Column("Version", ".status.kubernetesVersion", description="Kubernetes version."),
        Column("Objects", ".status.objects", "integer", "Objects that Syncline holds there."),
        Column("Reason", ".status.reason", description="Why it is not Ready, or holds something back."),
        Column("Links", ".status.tunnel.links", "integer", "Links of its agent; empty for a direct connection."),
        Column("RTT-ms", ".status.tunnel.rttMilliseconds", "integer", "Round trip to its agent."),
        Column("Linked", ".status.tunnel.since", "date", "Since when a link is up."),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Cordoned", ".spec.unschedulable", "boolean", "Takes no new placements.", priority=1),
        Column("Heartbeat", ".status.lastHeartbeatTime", "date", "Last sign of life.", priority=1),
        Column("Cluster", ".status.clusterUID", description="UID of its kube-system namespace.", priority=1),
    )

    def kubeconfig_secret(self) -> SecretRef | None:
        """The Secret of a direct connection, its name filled in; None for a tunnel."""
        direct = self.spec.connection.direct
        if direct is None:
            return None
        ref = direct.kubeconfig_secret_ref
        return ref.model_copy(update={"name": ref.name or self.metadata.name})
