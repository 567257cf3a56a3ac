"""Tells people: Events on the source and its placement, metrics, and warnings about what a workload lacks."""

from __future__ import annotations

from syncer import events as ev
from syncer.api.hints import hint
from syncer.api.keys import ObjectKey, SyncKey
from syncer.api.names import Reason
from syncer.engine.needs import Needs
from syncer.engine.pair import Outcome, State
from syncer.engine.placementstatus import worth_telling
from syncer.engine.problems import AWAY, deciding, without_autoscaler
from syncer.engine.state import Pair, Source
from syncer.engine.world import World
from syncer.kube.informer import InformerEvent
from syncer.kube.objects import KubeObject, ResourceInfo
from syncer.metrics import Metrics

_NORMAL = {Reason.DRIFT_REPAIRED}


class Telling:
    """Where outcomes become visible. Nothing here decides anything."""

    def __init__(self, world: World, metrics: Metrics, events: ev.EventRecorder, needs: Needs) -> None:
        self._world = world
        self._metrics = metrics
        self._events = events
        self._needs = needs
        self._scaling: dict[ObjectKey, tuple[str, str, str]] = {}  # `World.scaled` the other way round
        world.inline_changed = self.inline

    def outcome(self, source: Source, pair: Pair, target: str, outcome: Outcome) -> None:
        """A pair came to a new outcome."""
        runtime = self._world.targets.get(target)
        if runtime is not None:
            self._metrics.synced_objects.labels(target).set(runtime.synced)
        told = None
        if outcome.reason in _NORMAL or (worth_telling(outcome) and outcome.reason not in AWAY):
            text = f"{target}: {outcome.message}" if outcome.message else target
            warning = outcome.reason not in _NORMAL
            text = f"{text}. {hint(outcome.reason)}".strip() if warning else text
            told = ev.Outcome(outcome.reason, text, warning=warning)
        self._tell(source, target, told)
        for one in (source, *self._scaled_by(source.key)):
            self._check_autoscaler(one)

    def with_missing(self, source: Source, target: str, outcome: Outcome) -> Outcome:
        """A workload that refers to something that is not placed to the same target is in sync, but will not run."""
        missing = self._needs.missing(source, target)
        self._world.wanting.put(SyncKey(source.key, target), (found[0] for found in missing))
        if not missing:
            return outcome
        text = ", ".join(text for _, text in missing)
        return Outcome(State.SYNCED, Reason.MISSING_REFERENCE, f"{Reason.MISSING_REFERENCE}: {text}")

    def source_trouble(self, source: Source, reason: str, message: str) -> None:
        """Something about the source as a whole, on no single target."""
        self._tell(source, "", ev.Outcome(reason, f"{message}. {hint(reason)}"))

    def status_refused(self, source: Source, target: str) -> None:
        """A target reported a status that cannot be true; told once, for in its own words it could be news for ever."""
        self._metrics.sync_error(target, Reason.INVALID_STATUS)
        told = ev.Outcome(Reason.INVALID_STATUS, f"{target}: {hint(Reason.INVALID_STATUS)}")
        self._tell(source, f"{target}/status", told)

    def pods(self, source: Source, target: str, reason: str, message: str) -> None:
        """Why the Pods of a workload wait on a target; "" when they no longer do."""
        told = ev.Outcome(reason, f"{target}: {message}") if reason else None
        self._tell(source, f"{target}/pods", told)

    def autoscaler(self, info: ResourceInfo, event: InformerEvent) -> None:
        """Keep in mind whose replicas an upstream HorizontalPodAutoscaler sets, and warn where it is not placed."""
        assert event.object is not None
        key = self._world.key(info.group_resource, event.object)
        self._scales(key, None if event.type == "DELETED" else event.object)

    def inline(self, source: Source) -> None:
        """An object that a placement holds came, changed or went; it may be an autoscaler."""
        if source.info.kind == "HorizontalPodAutoscaler":
            self._scales(source.key, source.object)

    def _scales(self, key: ObjectKey, item: KubeObject | None) -> None:
        """Args: item: the autoscaler; None if it is gone."""
        old = self._scaling.pop(key, None)
        if old is not None and self._world.scaled.get(old) == key:
            del self._world.scaled[old]
        if item is None:
            return
        reference = item.field("spec", "scaleTargetRef") or {}
        scaled = (item.namespace, str(reference.get("kind")), str(reference.get("name")))
        self._world.scaled[scaled] = key
        self._scaling[key] = scaled
        for source in self._scaled_by(key):
            self._world.touch(source)
            self._check_autoscaler(source)

    def _scaled_by(self, key: ObjectKey) -> list[Source]:
        """What an autoscaler scales; nothing for any other object."""
        scaled = self._scaling.get(key)
        if scaled is None:
            return []
        kinds = self._world.placed_kinds(scaled[1])
        places = (key.place._replace(group_resource=kind, name=scaled[2]) for kind in kinds)
        return [source for place in places for source in self._world.family(place)]

    def _check_autoscaler(self, source: Source) -> None:
        """`HPANotPlaced`: the autoscaler that should scale the object does not run where the object does."""
        key = self._world.scaled.get((source.key.namespace, source.info.kind, source.key.name))
        if key is None:
            return
        lacking = without_autoscaler(self._world, source)
        told = None
        if lacking:
            message = f"HorizontalPodAutoscaler {key.name} is not placed to {', '.join(lacking)}"
            told = ev.Outcome(Reason.HPA_NOT_PLACED, f"{message}. {hint(Reason.HPA_NOT_PLACED)}")
        self._tell(source, "hpa", told)

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._events.forget(uid)

    def _tell(self, source: Source, slot: str, told: ev.Outcome | None) -> None:
        target = slot.partition("/")[0]
        if source.object is not None and not source.key.origin:
            self._events.outcome(_regarding(source.object), slot, told, target=target)
        record = deciding(self._world, source, target)
        if record is not None:
            about = told._replace(message=f"{source.reference}: {told.message}") if told is not None else None
            self._events.outcome(_regarding(record.manifest), f"{source.reference}/{slot}", about, target=target)


def _regarding(item: KubeObject) -> ev.Regarding:
    return ev.Regarding(item.api_version, item.kind, item.namespace, item.name, item.uid)
