"""Synced objects, reports and sources for tests of the status room."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from status.aggregator import Aggregator
from status.collector import collect
from status.report import Expected, Mode, Report

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
DEPLOYMENT = ("apps", "Deployment")
JOB = ("batch", "Job")
WIDGET = ("example.com", "Widget")


def condition(kind: str, status: str, reason: str = "", message: str = "", **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, **more}


def deployment(
    replicas: int = 3,
    *,
    available: int | None = None,
    updated: int | None = None,
    generation: int = 1,
    observed: int | None = None,
    **status: Any,
) -> dict[str, Any]:
    """A Deployment as a target shows it; by default all of its replicas are up."""
    ready = replicas if available is None else available
    good = ready >= replicas
    return {
        "metadata": {"name": "web", "uid": "d-1", "generation": generation},
        "spec": {"replicas": replicas},
        "status": {
            "observedGeneration": generation if observed is None else observed,
            "replicas": replicas,
            "updatedReplicas": replicas if updated is None else updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": replicas - ready,
            "conditions": [
                condition(
                    "Available",
                    "True" if good else "False",
                    "MinimumReplicasAvailable" if good else "MinimumReplicasUnavailable",
                    "from the target",
                ),
                condition("Progressing", "True", "NewReplicaSetAvailable" if good else "ReplicaSetUpdated", "moving"),
            ],
            **status,
        },
    }


def reported(
    target: str,
    manifest: Mapping[str, Any],
    kind: tuple[str, str] = DEPLOYMENT,
    *,
    generation: int = 1,
    source_uid: str = "u-1",
) -> Report:
    """What the collector makes of a manifest; fails when it refuses."""
    report = collect(
        manifest,
        group_kind=kind,
        target=target,
        target_uid=f"uid-{target}",
        source_uid=source_uid,
        source_generation=generation,
        now=NOW.timestamp(),
    )
    assert isinstance(report, Report), report
    return report


def source(status: Mapping[str, Any] | None = None, *, generation: int = 1, **spec: Any) -> dict[str, Any]:
    """A source object with its present status."""
    return {
        "metadata": {"name": "web", "uid": "u-1", "generation": generation},
        "spec": spec,
        "status": dict(status or {}),
    }


def aggregator(
    *targets: str,
    kind: tuple[str, str] = DEPLOYMENT,
    generation: int = 1,
    mode: Mode | None = None,
    replicas: int | None = None,
) -> Aggregator:
    """An aggregator that expects these targets."""
    made = Aggregator(kind, "u-1", mode)
    made.expect({target: Expected(generation, replicas) for target in targets})
    return made


def merged(made: Aggregator, origin: Mapping[str, Any], now: datetime = NOW) -> dict[str, Any]:
    """The status to write; fails when there is nothing to write."""
    status = made.status(origin, now=now)
    assert status is not None
    return status


def conditions(status: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{type: condition}."""
    return {item["type"]: item for item in status.get("conditions", [])}
