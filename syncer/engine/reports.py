"""What the hub tells people: problems, explanations, status, Pods and targets, from what the engine knows now.

Reading order: `Reports` (the questions), `problems` (everything that is not in sync), `explanations` (one object).
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from status.collector import waiting_reason
from status.kinds import rules_for
from status.report import Health, Slot
from status.sanitize import clean_text
from status.values import count, mapping, objects, text, time_text
from syncer.api.keys import GroupResource, ObjectKey
from syncer.api.names import GROUP, Reason
from syncer.api.shapes import Explanation, ObjectStatus, PodInfo, PodList, ProblemList, TargetInfo, TargetList
from syncer.api.shapes import TargetStatus as StatusOnTarget
from syncer.engine.explanations import LOOK_SECONDS, Explainer, look
from syncer.engine.intents import downstream
from syncer.engine.needs import Needs
from syncer.engine.pair import Absent, State
from syncer.engine.podwatch import pods_of
from syncer.engine.problems import Frozen, Problems
from syncer.engine.sight import Sight
from syncer.engine.state import Pair, Source
from syncer.engine.targets import TargetRuntime
from syncer.engine.world import World
from syncer.errors import SyncError
from syncer.kube.client import ClusterClient
from syncer.kube.errors import NotFound
from syncer.kube.objects import KubeObject, ResourceInfo, decode_object

MAX_PODS: Final = 500  # asked of one target
MAX_PODS_TOLD: Final = 2000  # in one answer
SYNC_TARGETS: Final = GroupResource(GROUP, "synctargets")


class Reports:
    """The engine's answers, in the shapes of `syncer.api.shapes`. None means: no such object."""

    def __init__(self, world: World, sight: Sight, upstream: ClusterClient, needs: Needs, *, frozen: Frozen) -> None:
        """Args: frozen: (token, message) of a target that waits for a person, or None."""
        self._world = world
        self._sight = sight
        self._upstream = upstream
        self._frozen = frozen
        self._problems = Problems(world, sight, needs, frozen)
        self._explainer = Explainer(world, sight, needs, self._problems)

    def problems(self, namespace: str | None = None) -> ProblemList:
        """Everything that is not in sync; with a namespace only its objects and placements."""
        return self._problems.listed(namespace)

    async def explain(self, kind: GroupResource, namespace: str, name: str) -> Explanation | None:
        """Why one object is where it is. Targets that do not answer in 3 s are told as unknown.

        Raises:
            SyncError: the object is not known here, and the upstream could not be asked for it.
        """
        source = self._source(kind, namespace, name) or await self._unplaced(kind, namespace, name)
        if source is None:
            return None
        targets = self._explainer.concerned(source)
        seen = await asyncio.gather(*(look(source, target) for target in targets))
        return self._explainer.explain(source, {t.name: found for t, found in zip(targets, seen, strict=True)})

    def object_status(self, kind: GroupResource, namespace: str, name: str) -> ObjectStatus | None:
        """How one object does on every target that holds it or should hold it."""
        source = self._source(kind, namespace, name)
        if source is None:
            return None
        slots = {slot.target: slot for slot in source.aggregator.slots()} if source.aggregator is not None else {}
        names = sorted(source.pairs.keys() | source.plan.assignments.keys())
        generation = source.object.generation if source.object is not None else 0
        targets = [self._status(source, target, slots.get(target)) for target in names]
        return ObjectStatus(object=source.reference, generation=generation, targets=targets)

    async def pods(self, kind: GroupResource, namespace: str, name: str) -> PodList | None:
        """The Pods of a workload on all its targets, all asked at once; who is silent for 3 s is named."""
        source = self._source(kind, namespace, name)
        if source is None:
            return None
        targets = self._explainer.concerned(source)
        found = await asyncio.gather(*(self._pods_on(source, target) for target in targets))
        items = [pod for pods in found if pods is not None for pod in pods]
        items.sort(key=lambda pod: (pod.target, pod.name))
        silent = [target.name for target, pods in zip(targets, found, strict=True) if pods is None]
        return PodList(items=items[:MAX_PODS_TOLD], unreachable=silent, omitted=max(0, len(items) - MAX_PODS_TOLD))

    def targets(self) -> TargetList:
        """Every target as it is seen now."""
        objects_on = dict.fromkeys(self._world.targets, 0)
        for source in self._world.sources.values():
            for name in source.plan.assignments:
                if name in objects_on:
                    objects_on[name] += 1
        return TargetList(items=[self._target(t, objects_on[name]) for name, t in sorted(self._world.targets.items())])

    # Finding the object

    def _source(self, kind: GroupResource, namespace: str, name: str) -> Source | None:
        """A source that some placement selects, or of which something is left on a target."""
        found = self._world.family(ObjectKey(self._world.workspace, kind, namespace, name))
        return next((one for one in found if one.plan.assignments), found[0] if found else None)

    async def _unplaced(self, kind: GroupResource, namespace: str, name: str) -> Source | None:
        """An upstream object that no placement selects, as a source that is nobody's; None if there is none."""
        info = self._sight.discovery.find_resource(kind)
        if info is None or info.namespaced != bool(namespace):
            return None
        source = Source(ObjectKey(self._world.workspace, kind, namespace, name), info)
        source.object = await self._read(info, namespace, name)
        return source if source.object is not None else None

    async def _read(self, info: ResourceInfo, namespace: str, name: str) -> KubeObject | None:
        informer = self._sight.informers.get(info.group_resource)
        cached = informer.cache.get((namespace, name)) if informer is not None else None
        if cached is not None:
            return cached
        path = info.path(namespace, name)
        try:
            answer = await self._upstream.request("GET", path, timeout_seconds=LOOK_SECONDS, resource=info.resource)
        except NotFound:
            return None
        return decode_object(answer.body, manager=None)

    # One target

    def _status(self, source: Source, name: str, slot: Slot | None) -> StatusOnTarget:
        pair, target = source.pairs.get(name), self._world.targets.get(name)
        words = next(self._problems.of_pair(source, name, pair), None) if pair is not None else None
        trouble = f"{words[0]}: {words[1]}" if words is not None and words[1] else words[0] if words is not None else ""
        if slot is None:
            health = self._presence(source, pair, target)
            age = None if health is Health.UNKNOWN else self._age(source, target, None)
            return StatusOnTarget(
                name=name, health=health, message=trouble, age_seconds=age, stale=_silent(source, target)
            )
        report = slot.report
        status = report.status if report is not None else {}
        names = rules_for(*source.info.group_kind).counter_names(dict(status))
        return StatusOnTarget(
            name=name,
            health=slot.health,
            message="; ".join(filter(None, [slot.message, trouble])),
            counters={field: count(status, field) for field in names if field in status},
            age_seconds=self._age(source, target, report.collected_at) if report is not None else None,
            stale=slot.stale_since is not None or _silent(source, target),
        )

    def _presence(self, source: Source, pair: Pair | None, target: TargetRuntime | None) -> Health:
        """Health of an object of a kind that says nothing of itself: it is there, or it is not."""
        if pair is None or target is None:
            return Health.UNKNOWN
        if pair.outcome.state is State.DELETING:
            return Health.PROGRESSING
        if pair.outcome.state is State.SYNCED:
            return Health.HEALTHY
        return Health.MISSING if isinstance(downstream(source, pair, target), Absent) else Health.UNKNOWN

    def _age(self, source: Source, target: TargetRuntime | None, collected_at: float | None) -> float | None:
        """Seconds since the target last spoke, about the object or in the watch that would have told of it."""
        informer = target.watch(source.key.group_resource) if target is not None else None
        ages = [self._world.wall() - collected_at] if collected_at is not None else []
        if informer is not None and informer.synced:
            ages.append(self._world.clock() - informer.last_contact)
        return max(0.0, min(ages)) if ages else None

    async def _pods_on(self, source: Source, target: TargetRuntime) -> list[PodInfo] | None:
        """None if the target could not be asked."""
        informer = target.watch(source.key.group_resource)
        if not target.ready or informer is None or not informer.synced:
            return None
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                pods = await pods_of(source, target, MAX_PODS)
        except (SyncError, TimeoutError):
            return None
        return [pod_info(target.name, pod, self._world.wall()) for pod in pods]

    def _target(self, target: TargetRuntime, expected: int) -> TargetInfo:
        reason, message, token = "", "", ""
        frozen = self._frozen(target.name)
        if frozen is not None:
            reason, (token, message) = Reason.FROZEN, frozen
        elif target.state.deleting:
            reason, message = Reason.DELETING, "the SyncTarget is being deleted"
        elif not target.ready:
            reason, message = Reason.TARGET_NOT_READY, target.message
        standing = self._sight.standing.get(SYNC_TARGETS)
        item = standing.cache.get(("", target.name)) if standing is not None else None
        return TargetInfo(
            name=target.name,
            ready=target.ready,
            connected=target.link is not None,
            reason=reason,
            message=message,
            version=str((item.field("status", "kubernetesVersion") if item is not None else "") or ""),
            objects=expected,
            synced=target.synced,
            frozen_token=token,
            since=time_text(target.since),
        )


def _silent(source: Source, target: TargetRuntime | None) -> bool:
    """Nobody would hear of a change there: no connection, or a broken watch."""
    if target is None or not target.ready:
        return True
    informer = target.watch(source.key.group_resource)
    return informer is not None and bool(informer.error)


def pod_info(target: str, pod: dict[str, Any], now: float) -> PodInfo:
    """One Pod as its target shows it; what it says is untrusted text.

    Args:
        now: seconds since the epoch.
    """
    metadata, status = mapping(pod, "metadata"), mapping(pod, "status")
    name, phase = text(metadata, "name"), clean_text(text(status, "phase"), 64)
    containers = objects(status, "containerStatuses")
    wanted = len(objects(mapping(pod, "spec"), "containers"))
    reason, message = waiting_reason([pod]) or ("", "")
    if not reason and text(metadata, "deletionTimestamp"):
        reason = "Terminating"
    return PodInfo(
        target=target,
        namespace=text(metadata, "namespace"),
        name=name,
        phase=phase,
        ready=f"{sum(one.get('ready') is True for one in containers)}/{max(wanted, len(containers))}",
        restarts=sum(count(one, "restartCount") for one in containers),
        reason=reason,
        message=message.removeprefix(f"{name}: ") if message != name else "",
        node=text(mapping(pod, "spec"), "nodeName"),
        age_seconds=_age_of(text(metadata, "creationTimestamp"), now),
    )


def _age_of(created: str, now: float) -> float | None:
    try:
        return max(0.0, now - datetime.fromisoformat(created).timestamp())
    except ValueError:
        return None
