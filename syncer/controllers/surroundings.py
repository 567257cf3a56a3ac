"""What all targets share: the process around the sessions of SyncTargets."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from syncer.controllers.ports import TargetEngine, TunnelLinks
from syncer.controllers.probe import ProbeSettings
from syncer.controllers.secrets import SecretWatch
from syncer.events import EventRecorder
from syncer.kube.client import ClusterClient
from syncer.kube.objects import ResourceInfo
from syncer.metrics import Metrics

if TYPE_CHECKING:
    from syncer.controllers.target import TargetSession


@dataclass(frozen=True)
class Surroundings:
    """What all targets share."""

    upstream: ClusterClient
    upstream_kinds: Callable[[], list[ResourceInfo]]
    engine: TargetEngine
    secrets: SecretWatch
    links: TunnelLinks
    metrics: Metrics
    events: EventRecorder
    generation: Callable[[str], int]  # of the registration that a target stands on, 0 without one
    hub_id: str
    guard: Callable[[], None]
    probe: ProbeSettings
    claim: Callable[[str, TargetSession], str | None]  # (cluster uid, session) → name of the older target, or None
    release: Callable[[TargetSession], None]  # takes the session's claims back
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
