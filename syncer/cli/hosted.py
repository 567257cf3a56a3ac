"""`upstream certificates` and `upstream install`: what the chart's Jobs run for an upstream that it hosts."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import yaml

from syncer.api.crds import KINDS, crd
from syncer.api.names import API_VERSION
from syncer.cli.access import choose, open_client
from syncer.cli.cluster import apply, patient
from syncer.cli.errors import CliError, printable
from syncer.cli.options import Access
from syncer.errors import TransientError
from syncer.hub.hosted import AUTHORITY, NAMES, secrets
from syncer.kube import errors
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials

_LABELS: Final = {"app.kubernetes.io/part-of": "syncline", "app.kubernetes.io/component": "upstream"}
_TRIES: Final = 5  # another Job may write at the same time
_AGAIN_SECONDS: Final = 0.5

Secret = dict[str, Any]


async def write_certificates(namespace: str, names: Sequence[str], access: Access) -> None:
    """Bring the Secrets of a hosted upstream to what they should hold; says which ones it wrote.

    Raises:
        CliError: the authority is not usable, or others write the same Secrets all the time.
    """
    async with _cluster(access) as client:
        for _ in range(_TRIES):
            try:
                written = await _write(client, namespace, names)
            except errors.Conflict:
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            sys.stdout.write(f"written: {', '.join(written)}\n" if written else "nothing is due\n")
            return
    raise CliError(f"Secrets in namespace {namespace} keep changing", "Does something else write them? Try again.")


@asynccontextmanager
async def _cluster(access: Access) -> AsyncIterator[ClusterClient]:
    """The cluster of the Pod that this runs in, or the one that a kubeconfig names."""
    if access.kubeconfig is not None or access.context is not None:
        async with open_client(choose(access.kubeconfig, access.context).access, name="the cluster") as client:
            yield client
        return
    client = ClusterClient(ClusterCredentials.in_cluster(), name="this cluster")
    try:
        yield client
    finally:
        await client.close()


async def _write(client: ClusterClient, namespace: str, names: Sequence[str]) -> list[str]:
    present = {name: await _read(client, namespace, name) for name in NAMES}
    held = {name: _data(secret) for name, secret in present.items() if secret is not None}
    try:
        wanted = secrets(held, namespace=namespace, now=datetime.now(UTC), names=names)
    except ValueError as error:
        hint = f"Restore Secret {AUTHORITY}; or delete all syncline-upstream-* and hand kubeconfigs out anew."
        raise CliError(str(error), hint) from None
    written = []
    for name, data in wanted.items():
        if held.get(name) != data:
            await _put(client, namespace, name, data, present[name])
            written.append(name)
    return written


async def _read(client: ClusterClient, namespace: str, name: str) -> Secret | None:
    try:
        return await client.get_json(f"{_path(namespace)}/{name}")
    except errors.NotFound:
        return None


async def _put(
    client: ClusterClient, namespace: str, name: str, data: Mapping[str, bytes], present: Secret | None
) -> None:
    """Create, or replace the very version that was read."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": _LABELS}
    if present is not None:
        metadata["resourceVersion"] = present["metadata"]["resourceVersion"]
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": (present or {}).get("type", "Opaque"),
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    method, path = ("PUT", f"{_path(namespace)}/{name}") if present is not None else ("POST", _path(namespace))
    await client.request(
        method, path, body=json.dumps(body).encode(), content_type="application/json", resource="secrets"
    )


def _path(namespace: str) -> str:
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets"


def _data(secret: Secret) -> dict[str, bytes]:
    """Decoded; what is no base64 counts as not there."""
    found = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value, validate=True)
        except ValueError:
            continue
    return found


async def install(folders: Sequence[Path], timeout_seconds: float, access: Access) -> None:
    """Apply the CRDs, and the manifests in the folders, as soon as the upstream answers.

    Raises:
        CliError: it does not answer in time, or a file holds no manifests.
    """
    manifests = [crd(kind) for kind in KINDS]
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")):
            manifests += _manifests(path)
    async with open_client(choose(access.kubeconfig, access.context).access, name="upstream") as client:
        await _until_answered(client, ["/version"], timeout_seconds)
        for manifest in manifests:
            await patient(partial(apply, client, manifest))
            sys.stdout.write(f"applied: {manifest['kind']}/{manifest['metadata']['name']}\n")


async def wait(timeout_seconds: float, access: Access) -> None:
    """Return as soon as the upstream has what `install` brings, seen with the operator's own identity.

    Raises:
        CliError: not in time.
    """
    paths = [f"/apis/{API_VERSION}/{model.plural}?limit=1" for model in KINDS]
    async with open_client(choose(access.kubeconfig, access.context).access, name="upstream") as client:
        await _until_answered(client, ["/api/v1/namespaces/kube-system", *paths], timeout_seconds)


async def _until_answered(client: ClusterClient, paths: Sequence[str], timeout_seconds: float) -> None:
    """Ask for one after the other until each is there; says on stderr what it waits for."""
    deadline = time.monotonic() + timeout_seconds
    said = ""
    for path in paths:
        while True:
            try:
                await client.get_json(path)
                break
            except (TransientError, errors.Forbidden, errors.NotFound) as error:
                if time.monotonic() > deadline:
                    text = f"the upstream was not ready within {timeout_seconds:g} s: {error}"
                    raise CliError(text, "Read its log: kubectl logs syncline-upstream-0 -c apiserver") from error
                if str(error) != said:
                    said = str(error)
                    sys.stderr.write(f"waiting: {printable(said)}\n")
                await asyncio.sleep(_AGAIN_SECONDS)


def _manifests(path: Path) -> list[dict[str, Any]]:
    try:
        found = [document for document in yaml.safe_load_all(path.read_text()) if document]
        named = all(document["kind"] and document["metadata"]["name"] for document in found)
    except (yaml.YAMLError, KeyError, TypeError):
        named = False
    if not named:
        raise CliError(f"{path} holds something else than manifests", "Give a folder of Kubernetes YAML files.")
    return found
