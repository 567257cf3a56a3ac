"""Placement and ClusterPlacement: which objects go to which targets, and how."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from syncer.api.common import (
    MAX_ITEMS,
    ApiModel,
    ApiObject,
    Column,
    Conditions,
    Globs,
    LabelSelector,
    Later,
    NonEmpty,
    Pointer,
    Rule,
    StatusModel,
    TargetName,
    Toleration,
)
from syncer.api.transforms import Transform

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_GROUP_VERSION = rf"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?{_LABEL}"
API_VERSION_PATTERN = rf"^(\*|{_GROUP_VERSION})$"
INLINE_API_VERSION_PATTERN = rf"^{_GROUP_VERSION}$"
_KIND = r"[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?"
KIND_PATTERN = rf"^(\*|{_KIND})$"
INLINE_KIND_PATTERN = rf"^{_KIND}$"
MAX_INLINE_BYTES = 1 << 20  # of all manifests of a placement as JSON: etcd takes 1.5 MiB of everything
MAX_ERRORS = 10  # errors listed per target; the rest is a count
MAX_COMPLETED_RUNS = 1000


class ObjectSelector(ApiModel):
    """Objects by kind, and within it by name and labels, ANDed."""

    api_version: Annotated[str, Field(pattern=API_VERSION_PATTERN, max_length=253)] = Field(
        description='"v1", "apps/v1", or "*" for every group and version.'
    )
    kind: Annotated[str, Field(pattern=KIND_PATTERN, max_length=63)] = Field(
        description='"ConfigMap", or "*" for every accepted kind of that apiVersion.'
    )
    names: Globs = ()
    label_selector: LabelSelector | None = None

    rules = (
        Rule(
            "size(self.names) > 0 || has(self.labelSelector)",
            'say names or labelSelector; names: ["*"] means every object of this kind',
        ),
    )


class SpreadConstraint(ApiModel):
    """How targets are spread over the values of one target label."""

    topology_key: NonEmpty
    max_skew: Annotated[int, Field(ge=1)] | None = None
    min_groups: Annotated[int, Field(ge=1)] | None = None
    max_groups: Annotated[int, Field(ge=1)] | None = None


class TargetSelector(ApiModel):
    """Targets by name and labels, ANDed; `all: true` says every target on purpose."""

    names: Annotated[tuple[TargetName, ...], Field(max_length=MAX_ITEMS)] = ()
    label_selector: LabelSelector | None = None
    all: bool = Field(default=False, description="Every target, on purpose.")
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=MAX_ITEMS)] = ()
    spread: Annotated[tuple[SpreadConstraint, ...], Field(max_length=MAX_ITEMS), Later()] = ()
    max_targets: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Unset means every target that fits."
    )

    rules = (
        Rule(
            "self.all || size(self.names) > 0 || has(self.labelSelector)",
            "say names, labelSelector or all: true; an empty selector selects nothing",
        ),
        Rule(
            "!self.all || (size(self.names) == 0 && !has(self.labelSelector))",
            "all: true stands alone; remove names and labelSelector, or all",
            ".all",
        ),
    )


Weight = Annotated[int, Field(ge=0, le=1_000_000)]


class Weights(ApiModel):
    """Shares of a divided placement. A target that `static` does not list has weight 0; 0 means not placed there."""

    static: Annotated[dict[TargetName, Weight], Field(max_length=MAX_ITEMS)] = Field(default_factory=dict)
    by: Annotated[Literal["Allocatable"] | None, Later()] = None

    rules = (Rule("size(self.static) == 0 || !has(self.by)", "say static or by, not both"),)


class Replicas(ApiModel):
    """Every target gets the source's replicas (Duplicate), or a share of them (Divide; even shares without weights)."""

    mode: Literal["Duplicate", "Divide"] = "Duplicate"
    weights: Weights | None = None

    rules = (Rule("self.mode == 'Divide' || !has(self.weights)", "weights belong to mode Divide", ".weights"),)


class ConflictPolicy(ApiModel):
    """What happens when somebody else has an object or a field."""

    existing: Literal["Abort", "Adopt", "Overwrite"] = "Abort"
    fields: Annotated[Literal["UpstreamWins", "DownstreamWins", "Manual"], Later(("Manual",))] = "UpstreamWins"
    on_immutable: Literal["Fail", "Recreate"] = "Fail"
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = Field(
        default=0,
        description="The highest placement of an object wins on a target; then the oldest, then the lowest uid.",
    )


DriftMode = Literal["Enforce", "Warn", "Ignore", "CreateOnly", "Pause"]


class DriftPath(ApiModel):
    """Drift mode of one field and everything below it."""

    path: Pointer
    mode: DriftMode


class DriftPolicy(ApiModel):
    """What happens when a synced object is edited downstream."""

    mode: DriftMode = "Enforce"
    paths: Annotated[tuple[DriftPath, ...], Field(max_length=MAX_ITEMS)] = ()


class DeletionPolicy(ApiModel):
    """What happens to synced objects when they are no longer placed."""

    policy: Literal["Delete", "Orphan"] = "Delete"
    wait: bool = Field(default=False, description="Keep the source object until every target is clean, by a finalizer.")
    offline: Annotated[Literal["Wait", "Detach"], Later(("Detach",))] = "Wait"


class Rollout(ApiModel):
    """In which order targets get a change."""

    strategy: Annotated[Literal["AllAtOnce", "Waves", "Atomic"], Later(("Waves", "Atomic"))] = "AllAtOnce"


class StatusPolicy(ApiModel):
    """How the targets' statuses become one."""

    mode: Literal["Sum", "Worst", "Single"] = "Sum"
    target: TargetName | None = Field(default=None, description="Whose status is shown; mode Single only.")

    rules = (
        Rule(
            "(self.mode == 'Single') == has(self.target)", "mode Single needs target, the others take none", ".target"
        ),
    )


class InlineMetadata(ApiModel):
    """Metadata of an object in `manifests`; what only a server sets is left out on the way."""

    model_config = ConfigDict(extra="allow")

    name: NonEmpty
    namespace: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Of a namespaced kind. Unset means the Placement's own, the only one it may name."
    )
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class InlineObject(ApiModel):
    """A whole object that stands on the targets and not upstream, as one would write it for `kubectl apply`."""

    model_config = ConfigDict(extra="allow")

    api_version: Annotated[str, Field(pattern=INLINE_API_VERSION_PATTERN, max_length=253)]
    kind: Annotated[str, Field(pattern=INLINE_KIND_PATTERN, max_length=63)]
    metadata: InlineMetadata

    def manifest(self) -> dict[str, Any]:
        """As it was written."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class PlacementSpec(ApiModel):
    """What is placed, where, and how."""

    resources: Annotated[tuple[ObjectSelector, ...], Field(max_length=MAX_ITEMS)] = Field(
        default=(), description="Objects upstream; may be left out where `manifests` says what is placed."
    )
    exclude: Annotated[tuple[ObjectSelector, ...], Field(max_length=MAX_ITEMS)] = Field(
        default=(), description="What is left out; an object labelled syncline.io/skip=true always is."
    )
    targets: TargetSelector
    replicas: Replicas = Replicas()
    transforms: Annotated[tuple[Transform, ...], Field(max_length=MAX_ITEMS)] = ()
    conflict: ConflictPolicy = ConflictPolicy()
    drift: DriftPolicy = DriftPolicy()
    deletion: DeletionPolicy = DeletionPolicy()
    rollout: Rollout = Rollout()
    dependencies: Annotated[bool, Later()] = Field(
        default=False, description="Follow what pod templates refer to; a missing reference is reported either way."
    )
    status: StatusPolicy = StatusPolicy()
    namespace_labels: Globs = Field(
        default=(),
        description="Namespace labels copied to namespaces that we make; pod-security.kubernetes.io/* always are.",
    )
    suspend: bool = Field(default=False, description="Stop writing; statuses stay live.")
    manifests: Annotated[tuple[InlineObject, ...], Field(max_length=MAX_ITEMS)] = Field(
        default=(), description="Whole objects that stand on the targets and not upstream; 1 MiB of JSON together."
    )
    upsync: Annotated[tuple[ObjectSelector, ...], Field(max_length=MAX_ITEMS), Later()] = Field(
        default=(), description="Objects of the targets that are shown upstream."
    )

    rules = (
        Rule(
            "size(self.resources) > 0 || size(self.manifests) > 0",
            "say what is placed: resources, manifests, or both",
            ".resources",
        ),
        Rule(
            "self.replicas.mode != 'Divide' || !self.transforms.exists(t, has(t.replicas))",
            "a replicas transform cannot be combined with replicas.mode Divide",
            ".transforms",
        ),
    )


class NamespaceSelector(ApiModel):
    """Namespaces whose namespaced objects a ClusterPlacement places; ANDed. Protected namespaces never match."""

    names: Globs = ()
    label_selector: LabelSelector | None = None

    rules = (
        Rule(
            "size(self.names) > 0 || has(self.labelSelector)",
            'say names or labelSelector; names: ["*"] means every namespace',
        ),
    )


class ClusterPlacementSpec(PlacementSpec):
    """Cluster-scoped objects, and with `namespaces` namespaced objects of many namespaces."""

    namespaces: NamespaceSelector | None = None


class PlacementError(StatusModel):
    """One object that is not right on one target."""

    object: str = Field(description="apiVersion/Kind/namespace/name.")
    reason: str
    message: str = ""
    since: str = ""


class SelectedTarget(StatusModel):
    """One target of the placement, counted in objects."""

    name: str
    uid: str = ""
    objects: int = 0
    synced: int = 0
    ready: int = 0
    failed: int = 0
    errors: Annotated[tuple[PlacementError, ...], Field(max_length=MAX_ERRORS)] = ()
    more_errors: int = Field(default=0, description="How many errors are not listed.")


class RefusedTarget(StatusModel):
    """One target that was asked for and not taken."""

    name: str
    reason: str
    message: str = ""


class CompletedRun(StatusModel):
    """Mark of a Job or Pod that reached its end on a target: never created there again."""

    uid: str = Field(description="UID of the source object.")
    target: str = Field(description="UID of the SyncTarget.")


class PlacementStatus(StatusModel):
    """What became of the placement; written by the operator only."""

    observed_generation: int = 0
    objects: int = 0
    targets_summary: str = Field(default="", description='Targets with everything synced of all selected ones: "2/2".')
    reason: str = Field(
        default="",
        description="First reason why it is not in sync, or why an inline object does not run.",
    )
    selected_targets: Annotated[
        tuple[SelectedTarget, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = ()
    refused_targets: Annotated[tuple[RefusedTarget, ...], Field(max_length=MAX_ITEMS)] = ()
    conditions: Conditions = ()
    completed_runs: Annotated[tuple[CompletedRun, ...], Field(max_length=MAX_COMPLETED_RUNS)] = ()


PLACEMENT_COLUMNS = (
    Column("Targets", ".status.targetsSummary", description="Targets in sync of targets selected."),
    Column("Objects", ".status.objects", "integer", "Source objects that the placement selects."),
    Column("Synced", '.status.conditions[?(@.type=="Synced")].status', description="Everything is applied everywhere."),
    Column("Ready", '.status.conditions[?(@.type=="Ready")].status', description="Everything runs everywhere."),
    Column("Reason", ".status.reason", description="First reason why it is not in sync."),
    Column("Age", ".metadata.creationTimestamp", "date"),
)


class Placement(ApiObject):
    """Objects of one namespace, placed on targets."""

    kind: Literal["Placement"] = "Placement"
    spec: PlacementSpec
    status: PlacementStatus = PlacementStatus()

    plural: ClassVar[str] = "placements"
    short_names: ClassVar[tuple[str, ...]] = ("pl",)
    namespaced: ClassVar[bool] = True
    columns: ClassVar[tuple[Column, ...]] = PLACEMENT_COLUMNS


class ClusterPlacement(ApiObject):
    """Cluster-scoped objects, and namespaced objects of many namespaces, placed on targets."""

    kind: Literal["ClusterPlacement"] = "ClusterPlacement"
    spec: ClusterPlacementSpec
    status: PlacementStatus = PlacementStatus()

    plural: ClassVar[str] = "clusterplacements"
    short_names: ClassVar[tuple[str, ...]] = ("cpl",)
    namespaced: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = PLACEMENT_COLUMNS


AnyPlacement = Placement | ClusterPlacement
