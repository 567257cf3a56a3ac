"""Objects that placements hold themselves, `spec.manifests`: each becomes a source, as if an informer had shown it.

Its uid is made of the placement's uid and the object's own kind and name. So it is the same after a restart, another
one for a placement that was made anew, and the several Jobs of a placement come to their ends one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

import orjson

from syncer.api.keys import GroupKind, ObjectKey
from syncer.api.names import Reason
from syncer.engine.pair import Outcome, State
from syncer.engine.sight import Sight
from syncer.engine.state import PlacementRecord, Source
from syncer.engine.world import World
from syncer.errors import TransientError
from syncer.kube.discovery import Discovery
from syncer.kube.objects import KubeObject, ResourceInfo, decode_object
from syncer.placement.compiled import is_protected_object
from syncer.transform.mark import group_kind
from syncer.transform.prune import SERVER_METADATA

_LEFT_OUT: Final = SERVER_METADATA - {"ownerReferences"}  # an owner that controls is a reason not to place it

Resolve = Callable[[str, str], ResourceInfo | None]  # api version, kind


def inline_uid(placement_uid: str, kind: GroupKind, namespace: str, name: str) -> str:
    """The uid of an inline object: equal for equal arguments, unlike any other."""
    return str(uuid5(NAMESPACE_OID, f"{placement_uid}/{kind}/{namespace}/{name}"))


def inline_object(manifest: Mapping[str, Any], *, uid: str, namespace: str) -> KubeObject:
    """An inline object as an informer would show it. Its resource version follows from its content.

    Args:
        namespace: "" for a cluster-scoped object.
    """
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in _LEFT_OUT}
    metadata.pop("namespace", None)
    if namespace:
        metadata["namespace"] = namespace
    body = {**manifest, "metadata": metadata}
    digest = blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
    body["metadata"] = {**metadata, "uid": uid, "resourceVersion": f"inline-{digest}"}
    return decode_object(orjson.dumps(body), manager=None)


class InlineSources:
    """Keeps the sources of `spec.manifests` equal to what the placements say."""

    def __init__(self, world: World, sight: Sight) -> None:
        self._world = world
        self._sight = sight
        # A kind that was found stays known: silence of an API server later takes nothing away.
        self._kinds: dict[tuple[str, str], ResourceInfo] = {}  # by api version and kind

    def take(self, record: PlacementRecord) -> None:
        """Read a placement's manifests anew; its `objects` then name what is to be planned."""
        compiled = record.compiled
        assert compiled is not None
        found: set[ObjectKey] = set()
        unknown: dict[str, None] = {}
        for entry in compiled.manifests:
            info = self._resolve(entry.api_version, entry.kind)
            if info is None:
                text = f"neither the upstream nor a connected target serves {entry.api_version} {entry.kind}"
                unknown[text] = None
                continue
            if not info.namespaced and compiled.kind == "Placement":
                unknown[f"{entry.kind} is cluster-scoped; a ClusterPlacement may hold it"] = None
                continue
            namespace = (entry.metadata.namespace or compiled.namespace) if info.namespaced else ""
            if info.namespaced and not namespace:
                unknown[f"{entry.kind} {entry.metadata.name}: say its metadata.namespace"] = None
                continue
            if compiled.kind == "Placement" and namespace != compiled.namespace:
                unknown[f"a Placement reaches only its own namespace, not {namespace}"] = None
                continue
            if is_protected_object(info.group_kind, namespace, entry.metadata.name):
                unknown[f"namespace {namespace or entry.metadata.name} is protected"] = None
                continue
            uid = inline_uid(compiled.uid, info.group_kind, namespace, entry.metadata.name)
            item = inline_object(entry.manifest(), uid=uid, namespace=namespace)
            key = ObjectKey(self._world.workspace, info.group_resource, namespace, entry.metadata.name, uid)
            self._put(key, info, item, compiled.uid)
            found.add(key)
        self._drop(record.inline - found)
        record.inline = frozenset(found)
        record.objects |= found
        record.unknown = tuple(unknown)

    def drop(self, record: PlacementRecord) -> None:
        """The placement is gone, and what it held with it."""
        self._drop(record.inline)
        record.inline = frozenset()

    def _put(self, key: ObjectKey, info: ResourceInfo, item: KubeObject, placement: str) -> None:
        source = self._world.sources.get(key) or self._world.add(Source(key, info))
        before, source.object = source.object, item
        source.info, source.placement = info, placement
        if before is not None and before.resource_version != item.resource_version:
            self._outdated(source)
        if before is None or before.resource_version != item.resource_version:
            self._world.inline_changed(source)

    def _outdated(self, source: Source) -> None:
        """What was settled was about the earlier content: without a generation nothing else says so."""
        for name, pair in source.pairs.items():
            pair.changed_at = self._world.clock()
            if pair.outcome.state is State.SYNCED:
                target = self._world.targets.get(name)
                if target is not None:
                    target.synced -= 1
                pair.outcome = Outcome(State.PENDING, Reason.RETRYING, "its new content is not applied yet")

    def _drop(self, keys: Iterable[ObjectKey]) -> None:
        for key in keys:
            source = self._world.sources.get(key)
            if source is None or source.object is None:
                continue
            self._world.finished.forget_source(source.object.uid)
            source.object = None
            self._world.inline_changed(source)

    # Kinds

    def _resolve(self, api_version: str, kind: str) -> ResourceInfo | None:
        """How the upstream or, where it has no such kind, a connected target serves it; None while nobody does."""
        known = self._kinds.get((api_version, kind))
        if known is not None:
            return known
        links = (target.link for _, target in sorted(self._world.targets.items()))
        for discovery in (self._sight.discovery, *(link.discovery for link in links if link is not None)):
            info = _served(discovery, api_version, kind)
            if info is not None:
                found = info._replace(version=api_version.rpartition("/")[2])
                self._kinds[api_version, kind] = found
                return found
        return None


def _served(discovery: Discovery, api_version: str, kind: str) -> ResourceInfo | None:
    """A kind in this version, else in any."""
    try:
        return discovery.find(api_version, kind) or discovery.find(group_kind(api_version, kind).group, kind)
    except TransientError:
        return None
