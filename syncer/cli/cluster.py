"""The few requests to an API server that several commands make."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from syncer.api.names import API_VERSION
from syncer.cli.identity import MANAGER, Manifest
from syncer.kube import errors
from syncer.kube.objects import decode_document

if TYPE_CHECKING:
    from syncer.kube.client import ClusterClient

T = TypeVar("T")
POLL_SECONDS: Final = 0.3
PATIENCE_SECONDS: Final = 10.0  # with a busy API server
_APPLY_PATCH: Final = "application/apply-patch+yaml"
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
_PATHS: Final[Mapping[str, str]] = {
    "Namespace": "/api/v1/namespaces/{name}",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts/{name}",
    "Secret": "/api/v1/namespaces/{namespace}/secrets/{name}",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps/{name}",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}",
    "Role": _RBAC + "/namespaces/{namespace}/roles/{name}",
    "RoleBinding": _RBAC + "/namespaces/{namespace}/rolebindings/{name}",
    "ClusterRole": _RBAC + "/clusterroles/{name}",
    "ClusterRoleBinding": _RBAC + "/clusterrolebindings/{name}",
    "ClusterRegistration": "/apis/" + API_VERSION + "/clusterregistrations/{name}",
    "SyncTarget": "/apis/" + API_VERSION + "/synctargets/{name}",
}


def is_ours(kind: str) -> bool:
    """Whether `path_of` knows the kind."""
    return kind in _PATHS


def path_of(kind: str, name: str, namespace: str = "") -> str:
    """Path of one object of the kinds that we write."""
    return _PATHS[kind].format(name=quote(name, safe=""), namespace=quote(namespace, safe=""))


async def cluster_uid(client: ClusterClient) -> str:
    """Identity of a cluster: UID of its kube-system namespace."""
    return str((await client.get_json("/api/v1/namespaces/kube-system"))["metadata"]["uid"])


async def apply(client: ClusterClient, manifest: Manifest) -> dict[str, Any]:
    """Server-side apply one of our manifests, and give back what the server has now."""
    metadata = manifest["metadata"]
    send = partial(
        client.request,
        "PATCH",
        path_of(manifest["kind"], metadata["name"], metadata.get("namespace", "")),
        params={"fieldManager": MANAGER, "force": "true"},
        body=json.dumps(manifest).encode(),
        content_type=_APPLY_PATCH,
        resource="secrets" if manifest["kind"] == "Secret" else "",
    )
    return decode_document((await patient(send)).body)


async def patient(ask: Callable[[], Awaitable[T]], seconds: float = PATIENCE_SECONDS) -> T:
    """Ask, and ask again while the server is busy: it says 429 for a moment after a CRD was installed."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await ask()
        except errors.TooManyRequests as error:
            pause = error.retry_after_seconds or 1.0
            if time.monotonic() + pause > deadline:
                raise
            await asyncio.sleep(pause)


async def poll(ask: Callable[[], Awaitable[T | None]], seconds: float) -> T | None:
    """The first answer that is not None, or None when the time is over; asked at least once."""
    deadline = time.monotonic() + seconds
    while (found := await ask()) is None and time.monotonic() < deadline:  # noqa: ASYNC110 - a cluster sets no event
        await asyncio.sleep(POLL_SECONDS)
    return found


async def delete(client: ClusterClient, path: str) -> None:
    """Delete; what is gone already is fine."""
    try:
        await client.request("DELETE", path)
    except errors.NotFound:
        return
