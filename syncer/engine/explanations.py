"""One object explained: which placements select it, what each target gets or why not, who owns which field.

Pure but for `look`, which asks one target for the object with its managed fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from status.sanitize import clean_text
from status.values import mapping, objects, text
from syncer.api.hints import hint
from syncer.api.keys import GroupKind
from syncer.api.names import GROUP, SPEC_MANAGER, Reason
from syncer.api.shapes import Explanation, FieldOwner, PlacementMatch, TargetExplanation
from syncer.engine.complaints import Word, reports
from syncer.engine.intents import downstream
from syncer.engine.needs import Needs
from syncer.engine.pair import Present, State
from syncer.engine.problems import MAX_MESSAGE, Problems, lacking, not_chosen, without_autoscaler
from syncer.engine.sight import Sight
from syncer.engine.state import Assignment, PlacementRecord, Source
from syncer.engine.targets import TargetRuntime, served_as
from syncer.engine.world import World
from syncer.errors import SyncError
from syncer.kube.errors import NotFound
from syncer.kube.fields import FieldSet
from syncer.kube.objects import KubeObject, decode_object
from syncer.kube.paths import pointer
from syncer.placement.compiled import NAMESPACE_KIND, is_protected_object
from syncer.placement.explain import nearest
from syncer.transform.mark import read_mark
from syncer.transform.skip import skip_reason

LOOK_SECONDS: Final = 3.0  # for one target to answer; all are asked at once
MAX_OWNERS: Final = 50
UNKNOWN: Final = "Unknown"
_SHOWN_CHARACTERS: Final = 80  # of one value of a transform
_CLOSED: Final = frozenset({"args", "command", "jsonPatch", "mergePatch"})  # their values are nobody's business here


class Look(NamedTuple):
    """What one target shows of the object."""

    observed: str = "unknown"  # present | absent | unknown
    item: KubeObject | None = None  # the newest that is known; None where nothing is
    owners: tuple[FieldOwner, ...] = ()


async def look(source: Source, target: TargetRuntime) -> Look:
    """Ask a target for the object; what it does not answer in time stays unknown, and the cache tells the rest."""
    pair = source.pairs.get(target.name)
    seen = downstream(source, pair, target) if pair is not None else None
    unknown = Look(item=seen.object if isinstance(seen, Present) else None)
    info = served_as(target.link.discovery, source.info) if target.link is not None else None
    if target.link is None or info is None:
        return unknown
    path = info.path(source.key.namespace, source.key.name)
    try:
        answer = await target.link.client.request("GET", path, timeout_seconds=LOOK_SECONDS, resource=info.resource)
        return Look("present", decode_object(answer.body), tuple(field_owners(orjson.loads(answer.body))))
    except NotFound:
        return Look("absent")
    except (SyncError, ValueError):  # no answer, or managed fields that no API server writes
        return unknown


def field_owners(live: Mapping[str, Any]) -> list[FieldOwner]:
    """Fields that somebody else owns together with us, or in the spec and beside it alone; in order, at most 50.

    Args:
        live: a full GET, `managedFields` included. It is the target's word and may hold anything.
    """
    entries = [
        (clean_text(text(entry, "manager"), 128), FieldSet.parse(orjson.dumps(mapping(entry, "fieldsV1"))))
        for entry in objects(mapping(live, "metadata"), "managedFields")
        if text(entry, "subresource") != "status"
    ]
    found: dict[str, dict[str, None]] = {}
    ours = [fields for manager, fields in entries if manager == SPEC_MANAGER]
    for manager, fields in entries:
        for path in fields.leaves() if manager != SPEC_MANAGER else ():
            shared = any(path in own for own in ours)
            if path[0] in ("status", "metadata") and not shared:
                continue  # every controller annotates what it handles
            managers = found.setdefault(clean_text(pointer(path, live), 512), {})
            if shared:
                managers[SPEC_MANAGER] = None
            managers[manager] = None
    owners = [FieldOwner(field=field, manager=", ".join(managers)) for field, managers in sorted(found.items())]
    return owners[:MAX_OWNERS]


class Explainer:
    """Puts an explanation together from the records and from what targets answered."""

    def __init__(self, world: World, sight: Sight, needs: Needs, problems: Problems) -> None:
        self._world = world
        self._sight = sight
        self._needs = needs
        self._problems = problems

    def concerned(self, source: Source) -> list[TargetRuntime]:
        """Targets that hold the object or should hold it: those worth asking."""
        names = source.pairs.keys() | source.plan.assignments.keys()
        return [self._world.targets[name] for name in sorted(names) if name in self._world.targets]

    def explain(self, source: Source, looks: Mapping[str, Look]) -> Explanation:
        """Everything about one object.

        Args:
            source: one of the world's, or made for an object that no placement selects.
            looks: by target name, for those that were asked.
        """
        item = source.object
        skip = self._skip(source)
        matched = self._matching(source)
        missed = self._nearest(source) if item is not None and not matched else []
        targets = [] if skip and not source.pairs else list(self._targets(source, matched, looks))
        return Explanation(
            object=source.reference,
            generation=item.generation if item is not None else 0,
            skip_reason=skip,
            placements=[self._match(source, record) for record in matched] + missed,
            targets=targets,
            hints=list(dict.fromkeys(self._hints(source, skip, matched, missed, looks))),
        )

    def _skip(self, source: Source) -> str:
        item, kind = source.object, source.info.group_kind
        if item is None:
            return ""
        if kind.group == GROUP:
            return f"objects of {GROUP} stay upstream"
        if is_protected_object(kind, item.namespace, item.name):
            return f"namespace {item.namespace or item.name} is protected"
        return skip_reason(item, kind) or ""

    # Placements

    def _matching(self, source: Source) -> list[PlacementRecord]:
        """Placements that select the object, the first to decide first."""
        uids: Iterable[str] = source.plan.matched
        item = source.object
        if item is not None and not source.key.origin:
            found = self._world.index.match(source.info.group_kind, item.namespace, item.name, item.labels)
            uids = [compiled.uid for compiled in found]
        return [self._world.placements[uid] for uid in uids if uid in self._world.placements]

    def _match(self, source: Source, record: PlacementRecord) -> PlacementMatch:
        plan, uid = source.plan, record.manifest.uid
        deciders = {target: chosen.placement for target, chosen in plan.assignments.items()}
        deciders |= {target: refusal.placement for target, refusal in plan.refusals.items()}
        return PlacementMatch(
            name=record.path,
            matched=True,
            priority=record.compiled.priority if record.compiled is not None else 0,
            wins_on=sorted(target for target, decider in deciders.items() if decider == uid),
            loses_on=sorted(target for loser, target, _ in plan.outranked if loser == uid),
        )

    def _nearest(self, source: Source) -> list[PlacementMatch]:
        """The placement that comes closest to selecting the object, and those at fault that might have."""
        item = source.object
        assert item is not None
        kind, namespace = source.info.group_kind, item.namespace
        covering, broken = [], []
        for record in self._world.placements.values():
            if record.manifest.namespace not in ("", namespace):
                continue  # other namespaces are nobody's business here
            if record.compiled is not None:
                covering.append(record.compiled)
            elif record.error is not None:
                why = f"{record.error[0]}: {record.error[1]}"
                broken.append(PlacementMatch(name=record.path, why_not=why))
        labels = self._world.index.namespace_labels(namespace)
        miss = nearest(covering, kind, namespace, item.name, item.labels, labels)
        if miss is None:
            return broken
        record = self._world.placements[miss.placement.uid]
        found = PlacementMatch(
            name=record.path, why_not=miss.text, nearest=True, priority=miss.placement.conflict.priority
        )
        return [found, *broken]

    # Targets

    def _targets(
        self, source: Source, matched: list[PlacementRecord], looks: Mapping[str, Look]
    ) -> Iterator[TargetExplanation]:
        whys: dict[str, list[str]] = {}
        for record in matched:
            prefix = f"{record.path}: " if len(matched) > 1 else ""
            for name, why in not_chosen(self._world, record).items():
                whys.setdefault(name, []).append(prefix + why)
            for name in record.selection.missing if record.selection is not None else ():
                whys.setdefault(name, []).append(f"{prefix}there is no such SyncTarget")
        said = reports(source)
        for name in sorted(self._world.targets.keys() | source.pairs.keys() | whys.keys()):
            seen = looks.get(name, Look())
            assignment = source.plan.assignments.get(name)
            if assignment is not None:
                yield self._assigned(source, name, assignment, seen, said.get(name))
            elif name in source.plan.refusals:
                refusal = source.plan.refusals[name]
                why = f"{refusal.reason}: {refusal.message}"
                yield TargetExplanation(name=name, why_not=why, reason=refusal.reason, observed=seen.observed)
            elif name in source.pairs:
                yield self._leaving(source, name, seen, whys.get(name, []))
            elif matched:
                yield TargetExplanation(name=name, why_not="; ".join(whys.get(name, ["not planned yet"])))

    def _assigned(
        self, source: Source, name: str, assignment: Assignment, seen: Look, said: Word | None
    ) -> TargetExplanation:
        pair = source.pairs.get(name)
        words = list(self._problems.of_pair(source, name, pair)) if pair is not None else []
        missing = self._needs.missing(source, name)
        repeated = bool(missing) and pair is not None and pair.outcome.reason == Reason.MISSING_REFERENCE
        if pair is not None and not words and pair.outcome.reason and not repeated:
            words.append((pair.outcome.reason, pair.outcome.message))  # what the list of problems leaves out
        if missing:
            words.append((Reason.MISSING_REFERENCE, lacking(missing, name)))
        if said is not None:
            words.append(said)
        state: str = pair.outcome.state if pair is not None else State.PENDING
        target = self._world.targets.get(name)
        if target is not None and not target.ready:
            words.append((Reason.TARGET_NOT_READY, f"{name} is not Ready: {target.message}"))
            state = UNKNOWN if state == State.SYNCED else state  # it was, when the target was heard of last
        reason, message = words[0] if words else ("", "")
        record = self._world.placements.get(assignment.placement)
        return TargetExplanation(
            name=name,
            selected=True,
            placement=record.path if record is not None else "",
            state=state,
            reason=reason,
            message="; ".join([message, *(f"{also}: {told}" for also, told in words[1:])])[:MAX_MESSAGE],
            hint=" ".join(filter(None, dict.fromkeys(hint(reason) for reason, _ in words))),
            applied_generation=_generation(source, seen),
            observed=seen.observed,
            owners=list(seen.owners),
            transforms=self._transforms(source, name, assignment, record),
        )

    def _leaving(self, source: Source, name: str, seen: Look, whys: list[str]) -> TargetExplanation:
        """It is there, or was, and no placement gives it to this target any more."""
        pair = source.pairs[name]
        why = pair.unplaced.why if pair.unplaced is not None else ""
        if source.object is None:
            why = source.gone or "the object is gone upstream"
        words = next(self._problems.of_pair(source, name, pair), ("", ""))
        return TargetExplanation(
            name=name,
            why_not="; ".join(filter(None, [why or "; ".join(whys) or "no placement selects it here", words[1]])),
            state=pair.outcome.state,
            reason=words[0],
            message=words[1],
            hint=hint(words[0]),
            applied_generation=_generation(source, seen),
            observed=seen.observed,
        )

    def _transforms(
        self, source: Source, name: str, assignment: Assignment, record: PlacementRecord | None
    ) -> list[str]:
        """The share of a division, then the steps that are meant for this kind and target."""
        lines = []
        if assignment.split is not None:
            share = {field: value for field, value in assignment.split._asdict().items() if value is not None}
            lines.append("Divide " + " ".join(f"{field}={value}" for field, value in share.items()))
        target = self._world.targets.get(name)
        if record is None or record.compiled is None or record.pipeline is None or target is None:
            return lines
        for index in record.pipeline.applying(source.info.group_kind, target.view):
            step = record.compiled.transforms[index]
            value = step.to_wire()[step.operation]
            lines.append(f"[{index}] {step.operation} {described(step.operation, value)}".rstrip())
        return lines

    # What to do

    def _hints(
        self,
        source: Source,
        skip: str,
        matched: list[PlacementRecord],
        missed: list[PlacementMatch],
        looks: Mapping[str, Look],
    ) -> Iterator[str]:
        if skip:
            yield hint(Reason.SKIPPED)
        elif source.object is None:
            yield "It is gone upstream; what is left on targets is being removed."
        elif not matched:
            yield self._how_to_place(source, missed)
        for refusal in source.plan.refusals.values():
            yield hint(refusal.reason)
        for record in matched:
            yield from self._about_placement(record)
        if matched and source.plan.outranked:
            yield hint(Reason.CLAIMED_BY_PLACEMENT)
        if without_autoscaler(self._world, source):
            yield hint(Reason.HPA_NOT_PLACED)
        blind = self._sight.blind(source.key.group_resource) if matched else self._sight.blind(None)
        if blind:
            yield f"Wait: the upstream is not read completely ({blind})."
        silent = sorted(name for name, seen in looks.items() if seen.observed == "unknown")
        if silent:
            yield f"{', '.join(silent)} could not be asked just now; what is told of it is what was seen last."

    def _how_to_place(self, source: Source, missed: list[PlacementMatch]) -> str:
        kind, namespace = source.info.group_kind, source.key.namespace
        if kind == NAMESPACE_KIND:
            return "Nothing to do: a target gets the namespace as soon as something in it is placed there."
        if missed:
            return f"Change {missed[0].name} or the object so that the named terms fit, or add another placement."
        return f"No placement is there for it: create {_placement_for(kind, namespace)} whose spec.resources names it."

    def _about_placement(self, record: PlacementRecord) -> Iterator[str]:
        if record.error is not None:
            yield f"{record.path} has an error and works as it was before it: {record.error[1]}"
        if record.selection is not None and not record.selection.selected:
            yield f"{record.path} uses no target. {hint(Reason.NO_TARGETS)}"
        if record.selection is not None and record.selection.missing:
            yield hint(Reason.TARGET_NOT_FOUND)


def _generation(source: Source, seen: Look) -> int | None:
    """Generation of this very source object that the target carries; None where there is none, or the kind has none."""
    if seen.item is None or source.object is None:
        return None
    mark = read_mark(seen.item)
    return mark.generation or None if mark is not None and mark.uid == source.object.uid else None


def _placement_for(kind: GroupKind, namespace: str) -> str:
    return f"a Placement in namespace {namespace}" if namespace else f"a ClusterPlacement for {kind}"


def described(operation: str, value: Any) -> str:
    """A transform's parameters in a few words: `registry=mirror.example`.

    Values that may be secret stay out: of maps only the keys are shown, of arguments and patches only how many.
    """
    if not isinstance(value, dict):
        return _word(value) if operation not in _CLOSED else _amount(value)
    word = _amount if operation in _CLOSED else _word
    return " ".join(f"{key}={word(entry)}" for key, entry in value.items() if entry and entry != ["*"])


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return _cut(",".join(str(key) for key in value))
    if isinstance(value, list):
        return _cut(",".join(value)) if all(isinstance(entry, str) for entry in value) else _amount(value)
    return _cut(str(value))


def _amount(value: Any) -> str:
    if isinstance(value, dict):
        return _cut(",".join(str(key) for key in value))
    return f"({len(value)})" if isinstance(value, list) else "(given as text)"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
