"""`upstream certificates` and `upstream install`: what the chart's Jobs run for an upstream that it hosts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
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
from syncer.api.names import API_VERSION, SYSTEM_NAMESPACE
from syncer.cli.access import choose, open_client
from syncer.cli.cluster import apply, is_ours, patient
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
_INSTALLED: Final = "syncline-installed"  # ConfigMap upstream: what `install` applied last

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
    """Apply the CRDs, and the manifests in the folders, as soon as the upstream answers; note last what was applied.

    Raises:
        CliError: it does not answer in time, or a folder or file holds no manifests.
    """
    manifests = _wanted(folders)
    digest = _digest(manifests)
    if folders:  # they bring the namespace
        metadata = {"name": _INSTALLED, "namespace": SYSTEM_NAMESPACE}
        manifests.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"digest": digest}})
    async with open_client(choose(access.kubeconfig, access.context).access, name="upstream") as client:
        await _until_answered(client, ["/version"], timeout_seconds)
        for manifest in manifests:
            await patient(partial(apply, client, manifest))
            sys.stdout.write(f"applied: {manifest['kind']}/{manifest['metadata']['name']}\n")


async def wait(folders: Sequence[Path], timeout_seconds: float, access: Access) -> None:
    """Return as soon as the upstream has what `install` brings, seen with the operator's own identity.

    Args:
        folders: those of `install`: what it noted must be of the same content. Without, any version of the kinds does.
    Raises:
        CliError: not in time.
    """
    digest = _digest(_wanted(folders)) if folders else ""
    paths = [f"/apis/{API_VERSION}/{model.plural}?limit=1" for model in KINDS]
    async with open_client(choose(access.kubeconfig, access.context).access, name="upstream") as client:
        await _until_answered(client, ["/api/v1/namespaces/kube-system", *paths], timeout_seconds)
        if digest:
            path = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/{_INSTALLED}"
            await _until_answered(client, [path], timeout_seconds, digest=digest)


async def _until_answered(
    client: ClusterClient, paths: Sequence[str], timeout_seconds: float, *, digest: str = ""
) -> None:
    """Ask for one after the other until each is there, with this digest; says on stderr what it waits for."""
    deadline = time.monotonic() + timeout_seconds
    said = ""
    for path in paths:
        while True:
            try:
                answer = await client.get_json(path)
                if not digest or answer.get("data", {}).get("digest") == digest:
                    break
                lacking = "kinds and rights of this release are not applied yet"
            except (TransientError, errors.Forbidden, errors.NotFound) as error:
                lacking = str(error)
            if time.monotonic() > deadline:
                text = f"the upstream was not ready within {timeout_seconds:g} s: {lacking}"
                logs = "Pod syncline-upstream-0, container apiserver, and Job syncline-upstream-install-N"
                raise CliError(text, f"Read the logs of {logs}.")
            if lacking != said:
                said = lacking
                sys.stderr.write(f"waiting: {printable(said)}\n")
            await asyncio.sleep(_AGAIN_SECONDS)


def _wanted(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The CRDs, and all manifests of the folders."""
    manifests = [crd(kind) for kind in KINDS]
    for folder in folders:
        files = sorted(folder.glob("*.yaml"))
        if not files:
            raise CliError(f"--manifests {folder}: no *.yaml files there", "Give a folder of Kubernetes YAML files.")
        for path in files:
            manifests += _manifests(path)
    return manifests


def _digest(manifests: Sequence[Mapping[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(manifests, sort_keys=True).encode()).hexdigest()


def _manifests(path: Path) -> list[dict[str, Any]]:
    try:
        found = [document for document in yaml.safe_load_all(path.read_text()) if document]
        named = all(document["kind"] and document["metadata"]["name"] for document in found)
    except (yaml.YAMLError, KeyError, TypeError):
        named = False
    if not named:
        raise CliError(f"{path} holds something else than manifests", "Give a folder of Kubernetes YAML files.")
    if others := sorted({document["kind"] for document in found if not is_ours(document["kind"])}):
        raise CliError(f"{path}: {', '.join(others)} is nothing that this installs", "kubectl apply -f takes any kind.")
    return found
