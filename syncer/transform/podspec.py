"""Where pods are described: the pod spec of every kind that has one, and its containers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import translate
from typing import Any, Final

from syncer.api.keys import GroupKind
from syncer.transform.draft import Draft, Manifest

Path = tuple[str, ...]
Matcher = Callable[[str], bool]

CONTAINER_LISTS: Final = ("containers", "initContainers", "ephemeralContainers")

# Path of the object that holds the pod's `metadata` and `spec`.
_TEMPLATE: Final[Path] = ("spec", "template")
_KNOWN: Final[Mapping[GroupKind, Path]] = {
    GroupKind("", "Pod"): (),
    GroupKind("", "PodTemplate"): ("template",),
    GroupKind("", "ReplicationController"): _TEMPLATE,
    GroupKind("apps", "Deployment"): _TEMPLATE,
    GroupKind("apps", "StatefulSet"): _TEMPLATE,
    GroupKind("apps", "DaemonSet"): _TEMPLATE,
    GroupKind("apps", "ReplicaSet"): _TEMPLATE,
    GroupKind("batch", "Job"): _TEMPLATE,
    GroupKind("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
}


def template_path(manifest: Manifest, kind: GroupKind) -> Path | None:
    """Path of the pod template in this object; None for objects that describe no pods.

    Custom kinds count when they carry a pod template in the usual place (`spec.template.spec.containers`).
    """
    known = _KNOWN.get(kind)
    if known is not None:
        return known
    template = _member(_member(manifest, "spec"), "template")
    return _TEMPLATE if type(_member(_member(template, "spec"), "containers")) is list else None


def pod_spec(manifest: Manifest, kind: GroupKind) -> Manifest | None:
    """The pod spec to read from, or None."""
    path = template_path(manifest, kind)
    if path is None:
        return None
    value: Any = manifest
    for key in (*path, "spec"):
        value = _member(value, key)
    return value if type(value) is dict else None


def name_matcher(globs: list[str] | None) -> Matcher | None:
    """One predicate for shell globs over container names; None means every name."""
    if globs is None or "*" in globs:
        return None
    pattern = re.compile("|".join(translate(glob) for glob in globs) or r"(?!)")
    return lambda name: pattern.match(name) is not None


def containers(draft: Draft, spec: Manifest, matches: Matcher | None) -> Iterator[Manifest]:
    """Writable containers of a writable pod spec, init and ephemeral ones included."""
    for key in CONTAINER_LISTS:
        entries = draft.items(spec, key)
        for index, entry in enumerate(entries or ()):
            if entries is not None and type(entry) is dict and (matches is None or matches(str(entry.get("name", "")))):
                yield draft.child(entries, index)


def _member(value: Any, key: str) -> Any:
    return value.get(key) if type(value) is dict else None
