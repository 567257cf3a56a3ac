"""What workloads refer to: Secrets, ConfigMaps, ServiceAccounts and claims, and which of them a target lacks."""

from __future__ import annotations

from syncer.api.keys import GroupResource, ObjectKey
from syncer.engine.state import Source
from syncer.engine.world import World
from syncer.kube.objects import KubeObject
from syncer.transform.references import references

_RESOURCES = {
    "Secret": GroupResource("", "secrets"),
    "ConfigMap": GroupResource("", "configmaps"),
    "ServiceAccount": GroupResource("", "serviceaccounts"),
    "PersistentVolumeClaim": GroupResource("", "persistentvolumeclaims"),
}
_NOBODY: frozenset[GroupResource] = frozenset(_RESOURCES.values())  # these refer to nothing themselves

Need = tuple[ObjectKey, str]  # the object, and `v1/Secret/shop/regcred` for people


class Needs:
    """Answers for the sources of one world. Each version of a source is read once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._read: dict[ObjectKey, tuple[tuple[str, int | str], tuple[Need, ...]]] = {}  # by source, with its version

    def missing(self, source: Source, target: str) -> list[Need]:
        """References of a workload to objects that are not placed to this target. Optional ones do not count."""
        found: list[Need] = []
        for need in self._of(source):
            if not any(target in other.plan.assignments for other in self._world.family(need[0])):
                found.append(need)
        return found

    def _of(self, source: Source) -> tuple[Need, ...]:
        item = source.object
        if item is None or source.key.group_resource in _NOBODY:
            self._read.pop(source.key, None)
            return ()
        version = (item.uid, item.generation or item.resource_version)
        known = self._read.get(source.key)
        if known is None or known[0] != version:
            if len(self._read) > 2 * len(self._world.sources) + 64:
                self._read = {key: value for key, value in self._read.items() if key in self._world.sources}
            known = self._read[source.key] = (version, self._find(source, item))
        return known[1]

    def _find(self, source: Source, item: KubeObject) -> tuple[Need, ...]:
        return tuple(
            (
                ObjectKey(self._world.workspace, _RESOURCES[found.kind], found.namespace, found.name),
                str(found),
            )
            for found in references(item.manifest(), source.info.group_kind)
            if not found.optional
        )
