"""What the hub tells of the engine: targets, problems, one object's state and Pods. Reads, changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from status.kinds.pod import waiting_reason
from status.report import Health, Report
from syncer.api.hints import hint
from syncer.api.keys import GroupResource, ObjectKey
from syncer.api.names import Reason
from syncer.api.shapes import (
    Explanation,
    ObjectStatus,
    PodInfo,
    PodList,
    Problem,
    ProblemList,
    TargetInfo,
    TargetList,
    TargetStatus,
)
from syncer.engine.explain import explain
from syncer.engine.pair import State
from syncer.engine.placementstatus import rfc3339
from syncer.engine.podwatch import pods_of
from syncer.engine.sight import Sight
from syncer.engine.state import Pair, PlacementRecord, Source
from syncer.engine.targets import TargetRuntime
from syncer.engine.world import World
from syncer.errors import SyncError
from syncer.kube.client import ClusterClient

MAX_PROBLEMS: Final = 1000  # in one answer; the rest is counted
MAX_PODS: Final = 200  # of one workload on one target
_TEXT: Final = 512  # characters of a message
_NO_COUNTERS: Final = frozenset({"observedGeneration", "collisionCount"})


class View:
    """Answers in the shapes of `syncer.api.shapes`; who may see what is decided by the hub.

    Args:
        upstream: for objects that nothing places, which the world does not hold.
        frozen: (token, message) of a target that is frozen, or None.
    """

    def __init__(
        self,
        world: World,
        sight: Sight,
        upstream: ClusterClient,
        *,
        frozen: Callable[[str], tuple[str, str] | None],
    ) -> None:
        self._world = world
        self._sight = sight
        self._upstream = upstream
        self._frozen = frozen

    def targets(self) -> TargetList:
        """Every target as it is now."""
        return TargetList(items=[self._target(runtime) for _, runtime in sorted(self._world.targets.items())])

    def problems(self) -> ProblemList:
        """Everything that is not in sync."""
        found = sorted(self._problems(), key=lambda item: (item.namespace, item.object, item.placement, item.target))
        return ProblemList(items=found[:MAX_PROBLEMS], omitted=max(0, len(found) - MAX_PROBLEMS))

    def object_status(self, kind: GroupResource, namespace: str, name: str) -> ObjectStatus | None:
        """One object on every target; None if nothing places it."""
        source = self._world.sources.get(ObjectKey(self._world.workspace, kind, namespace, name))
        if source is None or source.object is None:
            return None
        names = sorted(source.plan.assignments.keys() | source.plan.refusals.keys())
        found = [self._status_on(source, target) for target in names]
        return ObjectStatus(object=source.reference, generation=source.object.generation, targets=found)

    async def explain(self, kind: GroupResource, namespace: str, name: str) -> Explanation | None:
        """Why the object is where it is; None if there is no such object upstream."""
        return await explain(self._world, self._sight, self._upstream, kind, namespace, name)

    async def pods(self, kind: GroupResource, namespace: str, name: str) -> PodList | None:
        """Pods of a workload on all its targets; None if nothing places it."""
        source = self._world.sources.get(ObjectKey(self._world.workspace, kind, namespace, name))
        if source is None or source.object is None:
            return None
        found: list[PodInfo] = []
        unreachable: list[str] = []
        omitted = 0
        for target in sorted(source.plan.assignments):
            runtime = self._world.targets.get(target)
            if runtime is None or not runtime.ready:
                unreachable.append(target)
                continue
            try:
                pods = await pods_of(source, runtime, MAX_PODS + 1)
            except SyncError:
                unreachable.append(target)
                continue
            omitted += max(0, len(pods) - MAX_PODS)
            found += [pod_info(target, pod, self._world.wall()) for pod in pods[:MAX_PODS]]
        return PodList(
            items=sorted(found, key=lambda pod: (pod.target, pod.name)), unreachable=unreachable, omitted=omitted
        )

    def _target(self, runtime: TargetRuntime) -> TargetInfo:
        frozen = self._frozen(runtime.name)
        pairs = [pair for _, pair in self._world.pairs_on(runtime.name)]
        return TargetInfo(
            name=runtime.name,
            ready=runtime.ready,
            connected=runtime.link is not None,
            reason=Reason.FROZEN if frozen else "" if runtime.ready else Reason.TARGET_NOT_READY,
            message=frozen[1] if frozen else "" if runtime.ready else runtime.message,
            version=runtime.model.status.kubernetes_version,
            objects=sum(pair.outcome.state is not State.GONE for pair in pairs),
            synced=sum(pair.outcome.state is State.SYNCED for pair in pairs),
            frozen_token=frozen[0] if frozen else "",
            since=rfc3339(runtime.since),
        )

    def _problems(self) -> Iterator[Problem]:
        if self._world.frozen:
            advice = "Install the CRDs of Syncline again: syncline crds | kubectl apply --server-side -f -"
            yield _problem(reason=Reason.FROZEN, message=self._world.frozen, advice=advice)
        for name, runtime in self._world.targets.items():
            frozen = self._frozen(name)
            if frozen and not self._world.frozen:
                yield _problem(target=name, reason=Reason.FROZEN, message=frozen[1])
            if not runtime.ready:
                since = rfc3339(runtime.since)
                yield _problem(target=name, reason=Reason.TARGET_NOT_READY, message=runtime.message, since=since)
        for record in self._world.placements.values():
            yield from _of_placement(record)
        for source in self._world.sources.values():
            if source.object is not None and not source.plan.skip:
                yield from self._of_source(source)

    def _of_source(self, source: Source) -> Iterator[Problem]:
        place = {"object": source.reference, "namespace": source.key.namespace}
        for target, assignment in source.plan.assignments.items():
            about = place | {"target": target, "placement": self._path(assignment.placement)}
            pair = source.pairs.get(target)
            yield from self._of_pair(source, target, pair, about)
        for target, refusal in source.plan.refusals.items():
            about = place | {"target": target, "placement": self._path(refusal.placement)}
            yield _problem(**about, reason=refusal.reason, message=refusal.message)
        for loser, target, winner in source.plan.outranked:
            about = place | {"target": target, "placement": self._path(loser)}
            yield _problem(**about, reason=Reason.CLAIMED_BY_PLACEMENT, message=f"{self._path(winner)} decides")

    def _of_pair(self, source: Source, target: str, pair: Pair | None, about: dict[str, str]) -> Iterator[Problem]:
        if pair is None:
            yield _problem(**about, reason=Reason.RETRYING, message="not looked at yet")
            return
        about["since"] = rfc3339(pair.since)
        outcome = pair.outcome
        if outcome.state is not State.SYNCED or outcome.reason not in ("", Reason.DRIFT_REPAIRED):
            runtime = self._world.targets.get(target)
            if outcome.state is State.FAILED or runtime is None or runtime.ready:  # else the target's own line says it
                yield _problem(**about, reason=outcome.reason or Reason.RETRYING, message=outcome.message)
            if outcome.state is not State.SYNCED:
                return
        slot = next((s for s in source.aggregator.slots() if s.target == target), None) if source.aggregator else None
        if slot is not None and slot.stale_since is None and (slot.note_reason or slot.health is Health.DEGRADED):
            reason = slot.note_reason or (slot.report.reason if slot.report else "") or "Degraded"
            yield _problem(**about, reason=reason, message=slot.note_message or slot.message)

    def _path(self, uid: str) -> str:
        record = self._world.placements.get(uid)
        return record.path if record is not None else ""

    def _status_on(self, source: Source, target: str) -> TargetStatus:
        refusal = source.plan.refusals.get(target)
        if refusal is not None:
            return TargetStatus(name=target, health="Missing", message=f"{refusal.reason}: {refusal.message}"[:_TEXT])
        pair = source.pairs.get(target)
        trouble = ""
        if pair is not None and pair.outcome.wrong:
            trouble = ": ".join(filter(None, (pair.outcome.reason, pair.outcome.message)))[:_TEXT]
        slots = source.aggregator.slots() if source.aggregator is not None else []
        slot = next((slot for slot in slots if slot.target == target), None)
        if slot is None:  # a kind without a status to merge
            return self._plain_status(target, pair, trouble)
        age = None if slot.report is None else 0.0  # a live watch: what it said last holds now
        if slot.stale_since is not None:
            age = max(0.0, self._world.wall() - slot.stale_since)
        return TargetStatus(
            name=target,
            health=slot.health,
            message=trouble or slot.message[:_TEXT],
            counters=_counters(slot.report),
            age_seconds=age,
            stale=slot.stale_since is not None,
        )

    def _plain_status(self, target: str, pair: Pair | None, trouble: str) -> TargetStatus:
        """State of an object whose kind has no status: it is there as wanted, or not."""
        runtime = self._world.targets.get(target)
        if runtime is None or not runtime.ready:
            age = max(0.0, self._world.wall() - runtime.since) if runtime is not None else None
            return TargetStatus(name=target, message=trouble, age_seconds=age, stale=True)
        synced = pair is not None and pair.outcome.state is State.SYNCED
        health = Health.HEALTHY if synced else Health.MISSING
        return TargetStatus(name=target, health=health, message=trouble, age_seconds=0.0)


def _counters(report: Report | None) -> dict[str, int]:
    """The whole numbers of a status, by the kind's own names."""
    status = report.status if report is not None else {}
    return {name: value for name, value in status.items() if type(value) is int and name not in _NO_COUNTERS}


def _of_placement(record: PlacementRecord) -> Iterator[Problem]:
    """What is wrong with a placement as such."""
    about = {"placement": record.path, "namespace": record.manifest.namespace}
    if record.error is not None:
        yield _problem(**about, reason=record.error[0], message=record.error[1])
    for kind in record.unserved:
        advice = "Correct the kind in spec.resources of the placement, or install its CRD upstream."
        yield _problem(**about, reason=Reason.API_MISSING, message=f"upstream does not serve {kind}", advice=advice)
    selection = record.selection
    if selection is None:
        return
    for target in selection.missing:
        yield _problem(**about, target=target, reason=Reason.TARGET_NOT_FOUND, message=f"no SyncTarget {target}")
    for target, (reason, message) in selection.refused.items():
        yield _problem(**about, target=target, reason=reason, message=message)
    if not selection.selected and not selection.missing and not selection.refused:
        yield _problem(**about, reason=Reason.NO_TARGETS, message="spec.targets selects no target")


def _problem(*, reason: str, message: str, advice: str = "", **about: str) -> Problem:
    return Problem(reason=reason, message=message[:_TEXT], hint=advice or hint(reason), **about)


def pod_info(target: str, pod: Mapping[str, Any], now: float) -> PodInfo:
    """One Pod of a target, with the reason why it does not run.

    Args:
        pod: manifest; written by the target, so nothing about its form is taken for granted.
        now: wall-clock seconds.
    """
    metadata, spec, status = (_mapping(pod, key) for key in ("metadata", "spec", "status"))
    containers = [c for c in status.get("containerStatuses") or () if isinstance(c, dict)]
    total = len(spec.get("containers") or ()) or len(containers)
    found = waiting_reason([pod])
    return PodInfo(
        target=target,
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        phase="Terminating" if metadata.get("deletionTimestamp") else str(status.get("phase", "")),
        ready=f"{sum(c.get('ready') is True for c in containers)}/{total}",
        restarts=sum(c["restartCount"] for c in containers if type(c.get("restartCount")) is int),
        reason=found[0] if found else "",
        message=found[1].removeprefix(f"{metadata.get('name')}: ")[:_TEXT] if found else "",
        node=str(spec.get("nodeName", "")),
        age_seconds=_age(metadata.get("creationTimestamp"), now),
    )


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _age(created: object, now: float) -> float | None:
    try:
        return max(0.0, now - datetime.fromisoformat(str(created)).timestamp())
    except ValueError:
        return None
