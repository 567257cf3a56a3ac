"""Why one object is where it is: its placements, its targets, the owners of its fields. Reads, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from syncer.api.hints import hint
from syncer.api.keys import GroupResource, ObjectKey
from syncer.api.names import CEDED_MANAGER, SPEC_MANAGER, Reason
from syncer.api.shapes import Explanation, FieldOwner, PlacementMatch, TargetExplanation
from syncer.api.transforms import Transform
from syncer.engine.pair import Absent, Present
from syncer.engine.sight import Sight
from syncer.engine.state import Pair, PlacementRecord, Source
from syncer.engine.targets import TargetRuntime, served_as
from syncer.engine.world import World
from syncer.errors import SyncError
from syncer.kube.client import ClusterClient
from syncer.kube.errors import NotFound
from syncer.kube.fields import FieldSet
from syncer.kube.objects import KubeObject, ResourceInfo
from syncer.kube.paths import pointer
from syncer.placement.compiled import NAMESPACE_KIND, NO_LABELS
from syncer.placement.explain import nearest
from syncer.transform.mark import read_mark
from syncer.transform.skip import skip_reason

MAX_OWNERS: Final = 20  # fields of others that are named per target
_TEXT: Final = 512


async def explain(
    world: World, sight: Sight, upstream: ClusterClient, kind: GroupResource, namespace: str, name: str
) -> Explanation | None:
    """Everything that decides about one object; None if there is no such object upstream.

    Raises:
        SyncError: upstream cannot be asked.
    """
    source = world.sources.get(ObjectKey(world.workspace, kind, namespace, name))
    info = source.info if source is not None else sight.discovery.find_resource(kind)
    if info is None:
        return None
    item = source.object if source is not None else None
    if item is None:
        try:
            item = await upstream.get(info, namespace, name)
        except NotFound:
            return None
    about = _About(world, info, item, source)
    matches = list(about.placements())
    targets = [await about.target(runtime) for _, runtime in sorted(world.targets.items())]
    targets += about.missing_targets()
    skip = skip_reason(item, info.group_kind) or (source.plan.skip if source is not None else "")
    if info.group_kind == NAMESPACE_KIND:
        skip = "namespaces are made on a target as soon as something is placed there in them"
    return Explanation(
        object="/".join(part for part in (info.api_version, info.kind, namespace, name) if part),
        generation=item.generation,
        skip_reason=skip or "",
        placements=matches,
        targets=targets if source is not None and source.plan.matched else [],
        hints=_hints(skip or "", matches, targets, namespace),
    )


class _About:
    """One object while it is being explained."""

    def __init__(self, world: World, info: ResourceInfo, item: KubeObject, source: Source | None) -> None:
        self._world = world
        self._info = info
        self._item = item
        self._source = source
        self._matched = [
            world.placements[uid] for uid in (source.plan.matched if source else ()) if uid in world.placements
        ]

    def placements(self) -> Iterator[PlacementMatch]:
        """Those that select the object, those that are broken and might, and the nearest of the others."""
        for record in sorted(self._matched, key=lambda record: record.path):
            yield self._match(record)
        others = [record for record in self._world.placements.values() if record not in self._matched]
        for record in sorted(others, key=lambda record: record.path):
            here = record.manifest.namespace in ("", self._item.namespace)
            if here and record.compiled is None and record.error is not None:
                yield PlacementMatch(name=record.path, why_not=f"{record.error[0]}: {record.error[1]}"[:_TEXT])
        if not self._matched:
            labels = NO_LABELS
            upstream_namespace = self._world.namespaces.get(self._item.namespace)
            if upstream_namespace is not None:
                labels = upstream_namespace.labels
            compiled = [record.compiled for record in others if record.compiled is not None]
            item = self._item
            miss = nearest(compiled, self._info.group_kind, item.namespace, item.name, item.labels, labels)
            if miss is not None:
                path = "/".join(part for part in miss.placement.key if part)
                priority = miss.placement.conflict.priority
                yield PlacementMatch(name=path, why_not=miss.text[:_TEXT], nearest=True, priority=priority)

    def _match(self, record: PlacementRecord) -> PlacementMatch:
        plan = self._source.plan if self._source is not None else None
        uid = record.manifest.uid
        wins = sorted(t for t, a in plan.assignments.items() if a.placement == uid) if plan is not None else []
        loses = sorted(target for loser, target, _ in plan.outranked if loser == uid) if plan is not None else []
        priority = record.compiled.conflict.priority if record.compiled is not None else 0
        return PlacementMatch(name=record.path, matched=True, priority=priority, wins_on=wins, loses_on=loses)

    async def target(self, runtime: TargetRuntime) -> TargetExplanation:
        """What one target gets of the object, or why not."""
        source, name = self._source, runtime.name
        assignment = source.plan.assignments.get(name) if source is not None else None
        if source is None or assignment is None:
            return TargetExplanation(name=name, why_not=self._why_not(runtime)[:_TEXT])
        record = self._world.placements.get(assignment.placement)
        pair = source.pairs.get(name) or Pair()
        watch = runtime.watch(source.key.group_resource)
        cached = watch.cache.get((self._item.namespace, self._item.name)) if watch is not None else None
        seen = pair.observe(cached, watch is not None and watch.synced and runtime.ready)
        mark = read_mark(seen.object) if isinstance(seen, Present) else None
        observed = "present" if isinstance(seen, Present) else "absent" if isinstance(seen, Absent) else "unknown"
        message = pair.outcome.message
        if not runtime.ready:
            message = "; ".join(filter(None, (message, f"{name} is not Ready: {runtime.message}")))
        return TargetExplanation(
            name=name,
            selected=True,
            placement=record.path if record is not None else "",
            state=pair.outcome.state if runtime.ready else "Unknown",
            reason=pair.outcome.reason or ("" if runtime.ready else Reason.TARGET_NOT_READY),
            message=message[:_TEXT],
            hint=hint(pair.outcome.reason),
            applied_generation=mark.generation if mark is not None else None,
            observed=observed,
            owners=await self._owners(runtime) if observed == "present" else [],
            transforms=self._transforms(record, runtime) if record is not None else [],
        )

    def missing_targets(self) -> list[TargetExplanation]:
        """Names in matching placements that no target has."""
        names = {n for record in self._matched if record.selection is not None for n in record.selection.missing}
        return [
            TargetExplanation(name=n, why_not=f"{Reason.TARGET_NOT_FOUND}: no SyncTarget {n}") for n in sorted(names)
        ]

    def _why_not(self, runtime: TargetRuntime) -> str:
        name = runtime.name
        refusal = self._source.plan.refusals.get(name) if self._source is not None else None
        if refusal is not None:
            return f"{refusal.reason}: {refusal.message}"
        for record in self._matched:
            if record.selection is None:
                continue
            if name in record.selection.refused:
                reason, message = record.selection.refused[name]
                return f"{reason}: {message}"
            if name in record.selection.left_out:
                return record.selection.left_out[name]
        if not self._matched:
            return "no placement selects the object"
        return f"spec.targets of {', '.join(record.path for record in self._matched)} does not select it"

    def _transforms(self, record: PlacementRecord, runtime: TargetRuntime) -> list[str]:
        """`[0] env`: the steps that are for this kind and target, without their values."""
        found = record.compiled.transforms if record.compiled is not None else ()
        return [f"[{i}] {step.operation}" for i, step in enumerate(found) if self._applies(step, runtime)]

    def _applies(self, step: Transform, runtime: TargetRuntime) -> bool:
        kind = self._info.group_kind
        if step.kinds and kind.kind not in step.kinds and str(kind) not in step.kinds:
            return False
        wanted = step.targets
        if wanted is None:
            return True
        if wanted.names and runtime.name not in wanted.names:
            return False
        return wanted.label_selector is None or wanted.label_selector.matches(runtime.view.labels)

    async def _owners(self, runtime: TargetRuntime) -> list[FieldOwner]:
        """Fields on the target that others own, of what we might care about; [] where the target cannot be asked."""
        if runtime.link is None:
            return []
        info = served_as(runtime.link.discovery, self._info)
        if info is None:
            return []
        try:
            path = info.path(self._item.namespace, self._item.name)
            answer = await runtime.link.client.request("GET", path, resource=info.resource, timeout_seconds=5.0)
        except SyncError:
            return []
        return field_owners(orjson.loads(answer.body))


def field_owners(live: Mapping[str, Any]) -> list[FieldOwner]:
    """Fields outside metadata and status whose owner is somebody else than our spec manager, at most 20.

    Args:
        live: a full GET, `managedFields` included.
    """
    found: list[FieldOwner] = []
    for entry in live.get("metadata", {}).get("managedFields") or ():
        manager = str(entry.get("manager", ""))
        if manager == SPEC_MANAGER or entry.get("subresource") == "status":
            continue
        fields = FieldSet.parse(orjson.dumps(entry.get("fieldsV1") or {}))
        shown = f"{manager} (left to it by Syncline)" if manager == CEDED_MANAGER else manager
        for path in fields.leaves():
            if path and path[0] not in ("metadata", "status"):
                found.append(FieldOwner(field=pointer(path, live), manager=shown))
    return found[:MAX_OWNERS]


def _hints(skip: str, matches: list[PlacementMatch], targets: list[TargetExplanation], namespace: str) -> list[str]:
    """What to do, where no target's own line says it."""
    if skip:
        return [hint(Reason.SKIPPED)]
    if not any(match.matched for match in matches):
        near = next((match for match in matches if match.nearest), None)
        where = f"a Placement in namespace {namespace}" if namespace else "a ClusterPlacement"
        if near is not None:
            return [f"Change {near.name} so that it selects the object, or write {where} that does."]
        return [f"Write {where} that selects it."]
    if not any(target.selected for target in targets):
        return [hint(Reason.NO_TARGETS)]
    return []
