"""ClusterRegistration: one request of a cluster to join."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from syncer.api.common import (
    MAX_ITEMS,
    ApiModel,
    ApiObject,
    Column,
    Conditions,
    LabelKey,
    LabelValue,
    Rule,
    StatusModel,
    TargetName,
)

CLUSTER_UID_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]{0,62}[a-z0-9])?$"
MAX_REQUEST: Final = 4096  # bytes of a certificate request in PEM; with a key of 4096 bits it has 1,700

Phase = Literal["Pending", "Approved", "Denied", "Expired"]
ClusterUID = Annotated[str, Field(pattern=CLUSTER_UID_PATTERN, max_length=64)]


class ClusterRegistrationSpec(ApiModel):
    """What the cluster asks for, and what a person says to it. Only `decision` can be changed."""

    target_name: TargetName = Field(description="The SyncTarget that it wants to be.")
    cluster_uid: ClusterUID = Field(description="UID of its kube-system namespace.")
    request: Annotated[str, Field(min_length=1, max_length=MAX_REQUEST)] = Field(
        description="Certificate request, PEM. Its private key never leaves the agent."
    )
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=MAX_ITEMS)] = Field(
        default_factory=dict, description="Labels of the SyncTarget, from the bootstrap token."
    )
    decision: Literal["Approved", "Denied"] | None = Field(
        default=None, description="Who may patch this approves clusters. Denied later on cuts the links at once."
    )

    rules = (
        Rule("self.targetName == oldSelf.targetName", "cannot be changed", ".targetName"),
        Rule("self.clusterUID == oldSelf.clusterUID", "cannot be changed", ".clusterUID"),
        Rule("self.request == oldSelf.request", "cannot be changed", ".request"),
        Rule(
            "!has(oldSelf.decision) || oldSelf.decision != 'Denied' || "
            "(has(self.decision) && self.decision == 'Denied')",
            "a denied registration stays denied: join again",
            ".decision",
        ),
    )


class ClusterRegistrationStatus(StatusModel):
    """What became of it; written by the operator only."""

    observed_generation: int = 0
    phase: Phase = "Pending"
    reason: str = Field(default="", description="Why it is in this phase.")
    message: str = Field(default="", description="The same in words; names both clusters when they differ.")
    registration_generation: int = Field(
        default=0, description="Counts the registrations of this target; the highest one that is Approved counts."
    )
    certificate: str = Field(default="", description="The first client certificate, PEM; the agent renews it.")
    target_uid: str = Field(default="", description="UID of the SyncTarget that it became.")
    conditions: Conditions = ()


class ClusterRegistration(ApiObject):
    """One request of a cluster to join as a target."""

    kind: Literal["ClusterRegistration"] = "ClusterRegistration"
    spec: ClusterRegistrationSpec
    status: ClusterRegistrationStatus = ClusterRegistrationStatus()

    plural: ClassVar[str] = "clusterregistrations"
    short_names: ClassVar[tuple[str, ...]] = ("creg",)
    namespaced: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = (
        Column("Target", ".spec.targetName", description="The SyncTarget that it wants to be."),
        Column("Phase", ".status.phase", description="Pending, Approved, Denied or Expired."),
        Column("Generation", ".status.registrationGeneration", "integer", "Which registration of the target it is."),
        Column("Reason", ".status.reason", description="Why it is in this phase."),
        Column("Cluster", ".spec.clusterUID", description="UID of its kube-system namespace."),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Message", ".status.message", description="The reason in words.", priority=1),
    )
