"""What a SyncTarget's status says, from what is known of the target. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from syncer.api.common import Condition
from syncer.api.names import Reason
from syncer.api.synctarget import FrozenStatus, SyncedResource, SyncTargetStatus, TunnelStatus
from syncer.controllers.probe import Verdict
from syncer.controllers.rights import MissingRight, describe
from syncer.logs import redact

HEARTBEAT_LIMIT_SECONDS: Final = 60.0  # an older heartbeat is not healthy
HEARTBEAT_WRITE_SECONDS: Final = 60.0  # a heartbeat alone is written at most this often
COUNT_WRITE_SECONDS: Final = 5.0  # the same for the object count alone
MAX_MESSAGE: Final = 1024
OLDEST_KUBERNETES: Final = (1, 30)  # of a target; the charts ask for it too
DUPLICATE: Final = "DuplicateAgent"
TWO_AGENTS: Final = (
    "two agents take turns under this name, and each pushes the other out; stop one of them, or let its cluster join "
    "under a name of its own"
)
Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class TargetFacts:
    """Everything that goes into the status of one target at one moment.

    Attributes:
        heartbeat: UTC time of the last good probe, None if there was none.
        missing_rights: None while unknown.
        unserved: accepted upstream kinds that the target does not serve; None while unknown.
        frozen: deletes are held back until a person acknowledges.
        stopped: why nothing may be written anywhere ("" ordinarily): our own API is being removed.
        tunnel: None for a direct connection.
        registration: generation of the registration that counts, 0 without one.
        duplicate: two agents take turns under the target's name.
        deleting: what the deletion of the SyncTarget waits for, "" while it is not being deleted.
    """

    generation: int
    verdict: Verdict
    heartbeat: datetime | None = None
    cluster_uid: str = ""
    version: str = ""
    missing_rights: tuple[MissingRight, ...] | None = None
    rights_error: str = ""
    resources: tuple[SyncedResource, ...] = ()
    unserved: tuple[str, ...] | None = None
    capacity: dict[str, str] = field(default_factory=dict)
    allocatable: dict[str, str] = field(default_factory=dict)
    objects: int = 0
    frozen: FrozenStatus | None = None
    stopped: str = ""
    tunnel: TunnelStatus | None = None
    registration: int = 0
    duplicate: bool = False
    deleting: str = ""


def build_status(facts: TargetFacts, previous: SyncTargetStatus, *, now: datetime) -> SyncTargetStatus:
    """The whole status; a condition keeps its transition time while its status stands.

    Args:
        now: UTC.
    """
    connected = _connected(facts)
    heartbeat = _heartbeat(facts, now)
    if facts.deleting:
        ready: tuple[Truth, str, str] = ("False", str(Reason.DELETING), facts.deleting)
    elif connected[0] != "True":
        ready = connected
    elif heartbeat[0] != "True":
        ready = heartbeat
    else:
        ready = ("True", "Ready", "connected and healthy")
    told: dict[str, tuple[Truth, str, str]] = {
        "Ready": ready,
        "Connected": connected,
        "HeartbeatHealthy": heartbeat,
        "Authorized": _authorized(facts),
        "ResourcesCompatible": _compatible(facts),
        "Frozen": _frozen(facts),
    }
    if facts.tunnel is not None:
        told[DUPLICATE] = ("True", DUPLICATE, TWO_AGENTS) if facts.duplicate else ("False", "OneAgent", "")
    return SyncTargetStatus(
        observed_generation=facts.generation,
        cluster_uid=facts.cluster_uid,
        # A registration that ended stays the last one: the next counts from there.
        registration_generation=max(facts.registration, previous.registration_generation) if facts.tunnel else 0,
        kubernetes_version=facts.version,
        capacity=facts.capacity,
        allocatable=facts.allocatable,
        last_heartbeat_time=_rfc3339(facts.heartbeat) if facts.heartbeat else "",
        objects=facts.objects,
        reason=_first_trouble(told),
        synced_resources=facts.resources,
        frozen=facts.frozen,
        tunnel=facts.tunnel,
        conditions=tuple(_condition(kind, *what, facts.generation, previous, now) for kind, what in told.items()),
    )


def worth_writing(new: SyncTargetStatus, written: SyncTargetStatus | None, *, age_seconds: float) -> bool:
    """Whether the new status should be sent now.

    Args:
        written: what was sent last, None if nothing was.
        age_seconds: since then. Heartbeats, round trips and counts alone wait; everything else goes at once,
            and so do the first objects of a target.
    """
    if written is None:
        return True
    if _lasting(new) != _lasting(written):
        return True
    if new.objects != written.objects and (age_seconds >= COUNT_WRITE_SECONDS or not written.objects):
        return True
    return new.last_heartbeat_time != written.last_heartbeat_time and age_seconds >= HEARTBEAT_WRITE_SECONDS


def _lasting(status: SyncTargetStatus) -> SyncTargetStatus:
    """Without what changes all the time."""
    # That a round trip is known at all is told at once.
    tunnel = status.tunnel and status.tunnel.model_copy(
        update={"rtt_milliseconds": min(1, status.tunnel.rtt_milliseconds)}
    )
    return status.model_copy(update={"last_heartbeat_time": "", "objects": 0, "tunnel": tunnel})


def _first_trouble(told: Mapping[str, tuple[Truth, str, str]]) -> str:
    """The one word that `kubectl get synctargets` shows."""
    if told["Ready"][0] != "True":
        return told["Ready"][1]
    if told["Frozen"][0] == "True":
        return told["Frozen"][1]
    if told.get(DUPLICATE, ("",))[0] == "True":
        return DUPLICATE
    if told["Authorized"][0] == "False":
        return told["Authorized"][1]
    skew = str(Reason.VERSION_SKEW)
    return skew if told["ResourcesCompatible"][1] == skew else ""


def _connected(facts: TargetFacts) -> tuple[Truth, str, str]:
    verdict = facts.verdict
    if verdict.reachable is None:
        return "Unknown", verdict.reason, verdict.message
    return ("True", "Connected", "") if verdict.reachable else ("False", verdict.reason, verdict.message)


def _heartbeat(facts: TargetFacts, now: datetime) -> tuple[Truth, str, str]:
    if facts.heartbeat is None:
        return "Unknown", "NoHeartbeat", "the target has not answered yet"
    if now - facts.heartbeat > timedelta(seconds=HEARTBEAT_LIMIT_SECONDS):
        return "False", "HeartbeatStale", f"no answer since {_rfc3339(facts.heartbeat)}"
    return "True", "HeartbeatFresh", ""


def _authorized(facts: TargetFacts) -> tuple[Truth, str, str]:
    if facts.verdict.reachable is False and facts.verdict.reason in ("Unauthorized", "Forbidden"):
        return "False", facts.verdict.reason, facts.verdict.message
    if facts.missing_rights is None:
        return "Unknown", "NotChecked", facts.rights_error or "rights are checked once the target is connected"
    if facts.missing_rights:
        return "False", str(Reason.FORBIDDEN), describe(list(facts.missing_rights), tunnelled=facts.tunnel is not None)
    return "True", "Authorized", ""


def _compatible(facts: TargetFacts) -> tuple[Truth, str, str]:
    trouble = []
    if older_than(facts.version, OLDEST_KUBERNETES):
        oldest = ".".join(map(str, OLDEST_KUBERNETES))
        skew = f"the target is Kubernetes {facts.version}, and nothing before v{oldest} is tried with this version"
        trouble.append((Reason.VERSION_SKEW, f"{skew}: upgrade it; syncing goes on meanwhile"))
    if facts.unserved:
        more = f" and {len(facts.unserved) - 5} more" if len(facts.unserved) > 5 else ""
        missing = f"not served by the target: {', '.join(facts.unserved[:5])}{more}; install their CRDs there"
        trouble.append((Reason.API_MISSING, missing))
    if trouble:
        return "False", str(trouble[0][0]), ". ".join(message for _, message in trouble)
    if facts.unserved is None:
        return "Unknown", "NotChecked", "kinds are compared once the target is connected"
    return "True", "Compatible", ""


def older_than(version: str, oldest: tuple[int, int]) -> bool:
    """Whether a `gitVersion` (`v1.36.4`, `v1.29.1-gke.100`) is below a minor version; what cannot be read is not."""
    found = re.match(r"v?(\d{1,4})\.(\d{1,4})", version)
    return found is not None and (int(found[1]), int(found[2])) < oldest


def _frozen(facts: TargetFacts) -> tuple[Truth, str, str]:
    if facts.stopped:
        return "True", "ApiRemoved", f"nothing is written or deleted: {facts.stopped}"
    if facts.frozen:
        return "True", str(Reason.FROZEN), facts.frozen.message
    return "False", "NotFrozen", ""


def _condition(
    kind: str, status: Truth, reason: str, message: str, generation: int, previous: SyncTargetStatus, now: datetime
) -> Condition:
    before = next((c for c in previous.conditions if c.type == kind), None)
    same = before is not None and before.status == status and before.last_transition_time
    shown = redact(message)
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=shown if len(shown) <= MAX_MESSAGE else shown[: MAX_MESSAGE - 1] + "…",
        last_transition_time=before.last_transition_time if before and same else _rfc3339(now),
        observed_generation=generation,
    )


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
