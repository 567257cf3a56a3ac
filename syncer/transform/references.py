"""Which Secrets, ConfigMaps, ServiceAccounts and PersistentVolumeClaims a workload needs beside itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from syncer.api.keys import GroupKind
from syncer.transform.draft import Manifest
from syncer.transform.podspec import CONTAINER_LISTS, pod_spec

# Every namespace has these without being told.
_EVERYWHERE: Final = frozenset({("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")})
# Volume sources that take a Secret, and where they name it.
_VOLUME_SECRETS: Final = (
    ("azureFile", "secretName"),
    ("cephfs", "secretRef"),
    ("csi", "nodePublishSecretRef"),
    ("cinder", "secretRef"),
    ("flexVolume", "secretRef"),
    ("iscsi", "secretRef"),
    ("rbd", "secretRef"),
    ("scaleIO", "secretRef"),
    ("storageos", "secretRef"),
)


class Reference(NamedTuple):
    """An object in the workload's own namespace."""

    api_version: str
    kind: str
    namespace: str
    name: str
    optional: bool  # pods start without it

    def __str__(self) -> str:
        return f"{self.api_version}/{self.kind}/{self.namespace}/{self.name}"


def references(manifest: Manifest, kind: GroupKind) -> list[Reference]:
    """All that the pod template uses, sorted, each once; needed wins over optional."""
    spec = pod_spec(manifest, kind)
    if spec is None:
        return []
    namespace = (manifest.get("metadata") or {}).get("namespace") or ""
    found: dict[tuple[str, str], bool] = {}
    for what, name, optional in _in_pod_spec(spec):
        if isinstance(name, str) and name and (what, name) not in _EVERYWHERE:
            found[what, name] = found.get((what, name), True) and optional
    return sorted(Reference("v1", what, namespace, name, optional) for (what, name), optional in found.items())


_Found = tuple[str, Any, bool]


def _in_pod_spec(spec: Manifest) -> Iterator[_Found]:
    yield "ServiceAccount", spec.get("serviceAccountName") or spec.get("serviceAccount"), False
    for secret in _objects(spec.get("imagePullSecrets")):
        yield "Secret", secret.get("name"), False
    for volume in _objects(spec.get("volumes")):
        yield from _in_volume(volume)
    for key in CONTAINER_LISTS:
        for container in _objects(spec.get(key)):
            yield from _in_container(container)


def _in_volume(volume: Manifest) -> Iterator[_Found]:
    yield from _secret_or_config(volume, "secretName")
    claim = _object(volume.get("persistentVolumeClaim"))
    yield "PersistentVolumeClaim", claim.get("claimName"), False
    for source in _objects(_object(volume.get("projected")).get("sources")):
        yield from _secret_or_config(source, "name")
    for kind, field in _VOLUME_SECRETS:
        value = _object(volume.get(kind)).get(field)
        yield "Secret", value.get("name") if isinstance(value, dict) else value, False


def _in_container(container: Manifest) -> Iterator[_Found]:
    for entry in _objects(container.get("env")):
        source = _object(entry.get("valueFrom"))
        for kind, key in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
            reference = _object(source.get(key))
            yield kind, reference.get("name"), bool(reference.get("optional"))
    for entry in _objects(container.get("envFrom")):
        for kind, key in (("Secret", "secretRef"), ("ConfigMap", "configMapRef")):
            reference = _object(entry.get(key))
            yield kind, reference.get("name"), bool(reference.get("optional"))


def _secret_or_config(source: Manifest, secret_field: str) -> Iterator[_Found]:
    for kind, key, field in (("Secret", "secret", secret_field), ("ConfigMap", "configMap", "name")):
        reference = _object(source.get(key))
        yield kind, reference.get(field), bool(reference.get("optional"))


def _object(value: Any) -> Manifest:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> Iterator[Manifest]:
    return (entry for entry in (value if isinstance(value, list) else ()) if isinstance(entry, dict))
