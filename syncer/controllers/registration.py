"""What becomes of one ClusterRegistration: from everything registered to one step. Pure.

| phase | ends by |
|---|---|
| Pending | Approved by a person or the policy; Denied by a person or a rule; Expired after an hour |
| Approved | Denied by a person; Expired by a newer registration of the target, or because the SyncTarget is gone |
| Denied, Expired | nothing: join again |
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncer.api.registration import ClusterRegistration, ClusterRegistrationSpec, Phase
from syncer.api.synctarget import SyncTarget
from syncer.hub.agent_certificates import RequestDenied, check_request
from syncer.hub.identity import counts, mismatch

PENDING: Final = timedelta(hours=1)  # how long a registration waits for somebody to say yes


@dataclass(frozen=True)
class ApprovalPolicy:
    """Which registrations need no person. Without any glob: none.

    Attributes:
        names: globs; one of them must fit the target's name, if there are any.
        labels: globs of label values, all of which must fit. Labels come from the token, never from the agent.
    """

    names: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, terms: Sequence[str]) -> ApprovalPolicy:
        """`["edge-*", "region=eu*"]`: with a `=` it is a label's glob, else a name's."""
        names = tuple(term for term in terms if "=" not in term)
        pairs = (term.partition("=") for term in terms if "=" in term)
        return cls(names, tuple((key, glob) for key, _, glob in pairs))

    def allows(self, spec: ClusterRegistrationSpec) -> bool:
        """Whether a registration is approved without a person."""
        if not self.names and not self.labels:
            return False
        if self.names and not any(fnmatch.fnmatchcase(spec.target_name, glob) for glob in self.names):
            return False
        return all(key in spec.labels and fnmatch.fnmatchcase(spec.labels[key], glob) for key, glob in self.labels)


@dataclass(frozen=True)
class Known:
    """Everything that is registered, as read at one moment."""

    registrations: Mapping[str, ClusterRegistration]
    targets: Mapping[str, SyncTarget]


@dataclass(frozen=True)
class Wait:
    """Nothing to do; look again after `seconds`, None: when something changes."""

    seconds: float | None = None


@dataclass(frozen=True)
class Settle:
    """Write this phase."""

    phase: Phase
    reason: str
    message: str


@dataclass(frozen=True)
class Approve:
    """Sign the certificate and write phase Approved."""

    generation: int
    reason: str
    message: str


@dataclass(frozen=True)
class CreateTarget:
    """Create the SyncTarget with a tunnel."""


@dataclass(frozen=True)
class Bind:
    """Write which SyncTarget it became."""

    target_uid: str


Step = Wait | Settle | Approve | CreateTarget | Bind


def decide(one: ClusterRegistration, known: Known, policy: ApprovalPolicy, *, now: datetime) -> Step:
    """The next step of one registration; after its result is written, `decide` comes to rest.

    Args:
        now: UTC.
    """
    if one.metadata.deletion_timestamp is not None or one.status.phase in ("Denied", "Expired"):
        return Wait()
    if one.spec.decision == "Denied":
        return Settle("Denied", "DeniedByPerson", "somebody denied it; its certificate is useless")
    return _approved(one, known) if one.status.phase == "Approved" else _pending(one, known, policy, now)


def _pending(one: ClusterRegistration, known: Known, policy: ApprovalPolicy, now: datetime) -> Step:
    name = one.spec.target_name
    try:
        check_request(one.spec.request, name)
    except RequestDenied as error:
        return Settle("Denied", "RequestDenied", str(error))
    conflict = identity_conflict(one, known)
    if conflict:
        return Settle("Denied", "IdentityMismatch", conflict)
    target = known.targets.get(name)
    if target is not None and target.spec.connection.tunnel is None:
        message = f"SyncTarget {name} exists and is reached directly; remove it first, or join under another name"
        return Settle("Denied", "TargetIsDirect", message)
    if target is not None and target.metadata.deletion_timestamp is not None:
        return Settle("Denied", "TargetIsDeleted", f"SyncTarget {name} is being removed; join again when it is gone")
    age = now - _created(one, now)
    if age > PENDING:
        return Settle("Expired", "NotApproved", "nobody approved it within an hour: create a token and join again")
    if one.spec.decision == "Approved":
        return Approve(_generation(one, known), "ApprovedByPerson", "somebody approved it")
    if policy.allows(one.spec):
        return Approve(_generation(one, known), "ApprovedByPolicy", "the operator's approve-registrations allows it")
    if not one.status.reason:
        return Settle("Pending", "WaitsForApproval", f"cluster {one.spec.cluster_uid}: syncline approve {name}")
    return Wait((PENDING - age).total_seconds() + 1)


def _approved(one: ClusterRegistration, known: Known) -> Step:
    name = one.spec.target_name
    newest = max(
        (other for other in _of_target(one, known) if counts(other)),
        key=lambda other: (other.status.registration_generation, other.metadata.name),
        default=one,
    )
    if newest.metadata.uid != one.metadata.uid:
        generation = newest.status.registration_generation
        return Settle("Expired", "Superseded", f"registration {generation} of target {name} took its place")
    target = known.targets.get(name)
    if one.status.target_uid:
        if target is None or target.metadata.uid != one.status.target_uid:
            return Settle("Expired", "TargetRemoved", f"SyncTarget {name} was removed: join again to have it back")
        return Wait()
    if target is None:
        return CreateTarget()
    if target.spec.connection.tunnel is None:
        return Settle("Expired", "TargetIsDirect", f"SyncTarget {name} is reached directly now")
    return Bind(target.metadata.uid)


def identity_conflict(one: ClusterRegistration, known: Known) -> str:
    """Why this cluster cannot have this name, with both identities; "" if it can (B40)."""
    name, cluster_uid = one.spec.target_name, one.spec.cluster_uid
    others = [other for other in known.registrations.values() if counts(other)]
    for other in others:
        theirs = other.spec
        if theirs.target_name == name and theirs.cluster_uid != cluster_uid:
            return _other_cluster(name, theirs.cluster_uid, cluster_uid)
        if theirs.target_name != name and theirs.cluster_uid == cluster_uid:
            return _other_name(cluster_uid, theirs.target_name, name)
    for target in known.targets.values():
        theirs_uid = target.status.cluster_uid
        if target.metadata.name == name and theirs_uid and theirs_uid != cluster_uid:
            return _other_cluster(name, theirs_uid, cluster_uid)
        if target.metadata.name != name and theirs_uid == cluster_uid:
            return _other_name(cluster_uid, target.metadata.name, name)
    return ""


def _other_cluster(name: str, known_uid: str, asked_uid: str) -> str:
    return (
        f"{mismatch(name, known_uid, asked_uid)}; if it was built anew: syncline target remove {name}, then join again"
    )


def _other_name(cluster_uid: str, known_name: str, asked_name: str) -> str:
    return (
        f"cluster {cluster_uid} is target {known_name} already, and asks to be target {asked_name}; "
        f"to rename it: syncline target remove {known_name}, then join again"
    )


def _generation(one: ClusterRegistration, known: Known) -> int:
    target = known.targets.get(one.spec.target_name)
    used = [other.status.registration_generation for other in _of_target(one, known)]
    return max([*used, target.status.registration_generation if target is not None else 0], default=0) + 1


def _of_target(one: ClusterRegistration, known: Known) -> list[ClusterRegistration]:
    return [other for other in known.registrations.values() if other.spec.target_name == one.spec.target_name]


def _created(one: ClusterRegistration, now: datetime) -> datetime:
    try:
        return datetime.fromisoformat(one.metadata.creation_timestamp.replace("Z", "+00:00"))
    except ValueError:
        return now
