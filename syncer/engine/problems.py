"""Everything that is not in sync, gathered from the engine's records. No I/O.

One rule of taste: what a person asked for is no problem. A cordoned target that a placement merely could use, or a
placement that gives way to one of higher priority, is told by `explain`, not here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from status.report import Health
from status.values import time_text
from syncer.api.hints import hint
from syncer.api.names import Reason
from syncer.api.shapes import Problem, ProblemList
from syncer.engine.complaints import Word, reports
from syncer.engine.intents import downstream
from syncer.engine.lanes import BreakerState
from syncer.engine.needs import Needs
from syncer.engine.pair import Present, State
from syncer.engine.placementstatus import worth_telling
from syncer.engine.sight import Sight
from syncer.engine.state import Pair, PlacementRecord, Source
from syncer.engine.targets import TargetRuntime
from syncer.engine.world import World
from syncer.placement.explain import why_not_target

MAX_PROBLEMS: Final = 2000  # in one answer, about 600 KiB
MAX_MESSAGE: Final = 512  # characters; servers say more
_SHOWN: Final = 3  # examples in one message
_CALM: Final = (Health.HEALTHY, Health.SUSPENDED)
_UNSERVED_HINT: Final = (
    "Correct apiVersion and kind in spec.resources of the placement, or install the CRD upstream; "
    "syncing begins by itself once the kind is served."
)
_UNKNOWN_HINT: Final = "Correct the entry of spec.manifests, or install the CRD on a target; it goes on by itself then."
_CRDS_HINT: Final = "Install the CRDs of Syncline again: syncline crds | kubectl apply --server-side -f -"

Frozen = Callable[[str], tuple[str, str] | None]  # target name -> (token, message); None: not frozen

AWAY: Final = (Reason.TARGET_NOT_READY, Reason.UNREACHABLE)  # told once per placement and target, not per object


class Trouble(NamedTuple):
    """One problem in the making; sorts in the order in which problems are shown."""

    namespace: str = ""
    object: str = ""
    target: str = ""
    placement: str = ""
    reason: str = ""
    message: str = ""
    since: float = 0.0  # wall-clock seconds; 0: unknown
    hint: str = ""  # only where the reason's own does not fit

    def problem(self) -> Problem:
        """In the shape of the hub."""
        return Problem(
            object=self.object,
            namespace=self.namespace,
            target=self.target,
            placement=self.placement,
            reason=self.reason,
            message=self.message[:MAX_MESSAGE],
            since=time_text(self.since) if self.since else "",
            hint=self.hint or hint(self.reason),
        )


Waiting = dict[Trouble, tuple[int, float]]  # {what waits, without its object: (how many objects, since when)}


class Problems:
    """Finds what is wrong with pairs, sources, placements, targets and the upstream."""

    def __init__(self, world: World, sight: Sight, needs: Needs, frozen: Frozen) -> None:
        self._world = world
        self._sight = sight
        self._needs = needs
        self._frozen = frozen
        self._paths: dict[str, str] = {}  # of placements, by uid; made anew for each answer

    def listed(self, namespace: str | None) -> ProblemList:
        """All of it, sorted; with a namespace only what belongs to its objects and placements."""
        self._paths.clear()
        found = sorted(self._everything(namespace))
        items = [trouble.problem() for trouble in found[:MAX_PROBLEMS]]
        return ProblemList(items=items, omitted=len(found) - len(items))

    def _everything(self, namespace: str | None) -> Iterator[Trouble]:
        waiting: Waiting = {}
        for source in self._world.sources.values():
            if namespace is None or source.key.namespace == namespace:
                yield from self._of_source(source, waiting)
        for about, (count, since) in waiting.items():
            objects = "1 object waits" if count == 1 else f"{count} objects wait"
            yield about._replace(message=f"{objects} for the target; what is there stays as it is", since=since)
        for record in self._world.placements.values():
            if namespace is None or record.manifest.namespace == namespace:
                yield from self._of_placement(record)
        if namespace is None:
            yield from self._of_upstream()
            for target in self._world.targets.values():
                yield from self._of_target(target)

    # Objects

    def _of_source(self, source: Source, waiting: Waiting) -> Iterator[Trouble]:
        plan = source.plan
        spoken: set[str] = set()
        for target, pair in source.pairs.items():
            for reason, message in self.of_pair(source, target, pair):
                spoken.add(target)
                if reason == Reason.FROZEN and self._world.frozen:
                    continue  # so is everything; it is said once, of the upstream
                trouble = self._about(source, target, reason, message, pair.since)
                if trouble.placement and reason in AWAY and pair.outcome.state is State.PENDING:
                    about = trouble._replace(object="", message="", since=0.0)
                    count, since = waiting.get(about, (0, pair.since))
                    waiting[about] = count + 1, min(since, pair.since)
                else:
                    yield trouble
        for target, refusal in plan.refusals.items():
            if target not in spoken:
                yield self._about(source, target, refusal.reason, refusal.message)
        if any(_may_complain(pair) for pair in source.pairs.values()):
            for target, words in reports(source).items():
                noted, since = source.pairs[target].noted if target in source.pairs else ("", 0.0)
                yield self._about(source, target, *words, since if noted == words[0] else 0.0)
        if source.object is not None:
            for target in plan.assignments:
                missing = self._needs.missing(source, target)
                if missing:
                    known = source.pairs.get(target)
                    since = known.since if known and known.outcome.reason == Reason.MISSING_REFERENCE else 0.0
                    yield self._about(source, target, Reason.MISSING_REFERENCE, lacking(missing, target), since)
            if plan.outranked:
                yield from self._claims(source)
            if self._world.scaled and plan.assignments:
                yield from self._autoscaler(source)

    def of_pair(self, source: Source, target: str, pair: Pair) -> Iterator[Word]:
        """Why the object is not in sync on one target, in at most one word; what it lacks there is asked of `Needs`."""
        outcome = pair.outcome
        match outcome.state:
            case State.PENDING:
                if outcome.reason != Reason.SUSPENDED or not self._suspended(source, target):
                    yield outcome.reason or Reason.RETRYING, outcome.message or "not applied yet"
            case State.DELETING:
                yield Reason.DELETING, self._deleting(source, target, pair)
            case State.FAILED:
                yield outcome.reason, outcome.message
            case State.SYNCED if worth_telling(outcome) and outcome.reason != Reason.MISSING_REFERENCE:
                yield outcome.reason, outcome.message

    def _suspended(self, source: Source, target: str) -> bool:
        """The placement as a whole is; it is listed itself."""
        record = deciding(self._world, source, target)
        return record is not None and record.compiled is not None and record.compiled.suspend

    def _deleting(self, source: Source, target: str, pair: Pair) -> str:
        runtime = self._world.targets.get(target)
        seen = downstream(source, pair, runtime) if runtime is not None else None
        held = seen.object.finalizers if isinstance(seen, Present) else ()
        return f"being deleted on the target{'; it waits for finalizer ' + ', '.join(held) if held else ''}"

    def _claims(self, source: Source) -> Iterator[Trouble]:
        """Placements that lose the object to one of the same priority: nobody said which of them decides."""
        lost: dict[tuple[str, str], list[str]] = {}
        for loser, target, winner in source.plan.outranked:
            if loser not in source.plan.matched:
                continue  # told of the object that it claims
            lost.setdefault((loser, winner), []).append(target)
        for (loser, winner), targets in lost.items():
            one, other = self._world.placements.get(loser), self._world.placements.get(winner)
            if one is None or other is None or one.compiled is None or other.compiled is None:
                continue
            if one.compiled.priority == other.compiled.priority:
                message = f"{other.path} comes before {one.path} on {_some(targets)}; both have the same priority"
                trouble = self._about(source, "", Reason.CLAIMED_BY_PLACEMENT, message)
                yield trouble._replace(placement=one.path)

    def _autoscaler(self, source: Source) -> Iterator[Trouble]:
        lacking_on = without_autoscaler(self._world, source)
        if lacking_on:
            message = f"its HorizontalPodAutoscaler is not placed to {_some(lacking_on)}"
            yield self._about(source, "", Reason.HPA_NOT_PLACED, message)

    def _about(self, source: Source, target: str, reason: str, message: str, since: float = 0.0) -> Trouble:
        record = deciding(self._world, source, target)
        path = ""
        if record is not None:
            uid = record.manifest.uid
            path = self._paths.get(uid) or self._paths.setdefault(uid, record.path)
        return Trouble(source.key.namespace, source.reference, target, path, reason, message, since)

    # Placements

    def _of_placement(self, record: PlacementRecord) -> Iterator[Trouble]:
        about = Trouble(namespace=record.manifest.namespace, placement=record.path)
        if record.error is not None:
            reason, message = record.error
            kept = "; the last valid version is in force" if record.compiled is not None else ""
            yield about._replace(reason=reason, message=message + kept)
        for kind in record.unserved:
            message = f"the upstream serves no kind {kind}{self._alike(kind)}"
            yield about._replace(reason=Reason.API_MISSING, message=message, hint=_UNSERVED_HINT)
        for message in record.unknown:
            yield about._replace(reason=Reason.API_MISSING, message=f"spec.manifests: {message}", hint=_UNKNOWN_HINT)
        if record.compiled is None or record.selection is None:
            return
        if record.compiled.suspend:
            yield about._replace(reason=Reason.SUSPENDED, message="nothing is written while spec.suspend is true")
        for name in record.selection.missing:
            message = f"there is no SyncTarget {name}{_did_you_mean(name, self._world.targets)}"
            yield about._replace(target=name, reason=Reason.TARGET_NOT_FOUND, message=message)
        for name, (reason, message) in record.selection.refused.items():
            if name in record.compiled.targets.names:
                yield about._replace(target=name, reason=reason, message=message)
        if not record.selection.selected and not record.selection.missing:
            yield about._replace(reason=Reason.NO_TARGETS, message=f"no target fits{self._unfit(record)}")

    def _alike(self, kind: str) -> str:
        """A kind that is spelled like an unknown one, as it is written in a placement."""
        served = {str(info.group_kind): info for info in self._sight.discovery.resources()}
        name = kind.partition(".")[0]
        same = [text for text, info in served.items() if info.kind.lower() == name.lower()]
        close = same or difflib.get_close_matches(kind, served, 1)
        if not close:
            return ""
        info = served[close[0]]
        return f"; did you mean {{apiVersion: {info.api_version}, kind: {info.kind}}}?"

    def _unfit(self, record: PlacementRecord) -> str:
        """The first few targets and what keeps each away."""
        whys = [f"{name}: {why}" for name, why in not_chosen(self._world, record).items()]
        if not whys:
            return ": there are no targets" if not self._world.targets else ""
        more = f" (and {len(whys) - _SHOWN} more)" if len(whys) > _SHOWN else ""
        return ": " + "; ".join(whys[:_SHOWN]) + more

    # Clusters

    def _of_upstream(self) -> Iterator[Trouble]:
        if self._world.frozen:
            message = f"nothing is written anywhere: {self._world.frozen}"
            yield Trouble(reason=Reason.FROZEN, message=message, hint=_CRDS_HINT)
            return  # the rest follows from it
        blind = self._sight.blind(None)
        if blind:
            yield Trouble(reason=Reason.RETRYING, message=blind)
            return  # the same would be said for every kind
        for resource in self._sight.informers:
            why = self._sight.blind(resource)
            if why:
                yield Trouble(reason=Reason.RETRYING, message=why)

    def _of_target(self, target: TargetRuntime) -> Iterator[Trouble]:
        about = Trouble(target=target.name, since=target.since)
        frozen = None if self._world.frozen else self._frozen(target.name)
        if frozen is not None:
            token, message = frozen
            text = f"{message}; to let them go: syncline ack {target.name} (token {token})"
            yield about._replace(reason=Reason.FROZEN, message=text, since=0.0)
        if target.state.deleting:
            what = "its objects are being removed" if target.draining else "its objects stay (deletion: Orphan)"
            yield about._replace(reason=Reason.DELETING, message=f"the SyncTarget is being deleted; {what}", since=0.0)
        if not target.ready:
            yield about._replace(reason=Reason.TARGET_NOT_READY, message=target.message)
        elif target.breaker.state is not BreakerState.CLOSED:
            yield about._replace(reason=Reason.UNREACHABLE, message=target.message, since=0.0)
        elif target.link is not None:
            broken = [f"{r}: {w.informer.error}" for r, w in target.link.watches.items() if w.informer.error]
            if broken:
                message = f"what stands there may have changed unseen; {_some(broken, '; ')}"
                yield about._replace(reason=Reason.UNREACHABLE, message=message, since=0.0)


# Questions that `explain` asks too


def deciding(world: World, source: Source, target: str) -> PlacementRecord | None:
    """The placement that decides about an object on a target; the first that selects it where none does."""
    chosen = source.plan.assignments.get(target) or source.plan.refusals.get(target)
    uid = chosen.placement if chosen is not None else next(iter(source.plan.matched), "")
    return world.placements.get(uid)


def _may_complain(pair: Pair) -> bool:
    """Cheap look before `reports`: slots cost much more, and most objects are well."""
    return pair.outcome.state is State.SYNCED if pair.report is None else pair.report.health not in _CALM


def lacking(missing: Iterable[tuple[object, str]], target: str) -> str:
    """The message of a missing reference."""
    return f"{_some([text for _, text in missing])} is not placed to {target}"


def without_autoscaler(world: World, source: Source) -> list[str]:
    """Targets where the object runs, but not the HorizontalPodAutoscaler that scales it upstream."""
    key = world.scaled.get((source.key.namespace, source.info.kind, source.key.name))
    if key is None:
        return []
    scaler = world.sources.get(key)
    placed = scaler.plan.assignments.keys() if scaler is not None else set()
    return sorted(source.plan.assignments.keys() - placed)


def not_chosen(world: World, record: PlacementRecord) -> dict[str, str]:
    """Why a valid placement does not use each of the other targets, by name in order."""
    selection, compiled = record.selection, record.compiled
    if selection is None or compiled is None:
        return {}
    found: dict[str, str] = {}
    for name, target in sorted(world.targets.items()):
        if name in selection.refused:
            found[name] = selection.refused[name][1]
        elif name in selection.left_out:
            found[name] = selection.left_out[name]
        elif name not in selection.selected:
            found[name] = "; ".join(why_not_target(compiled, target.state)) or "not selected yet"
    return found


def _some(texts: list[str], separator: str = ", ") -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return separator.join(texts[:_SHOWN]) + more


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""
