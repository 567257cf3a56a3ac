"""An agent's folder, kept in a Secret of its own cluster too: a Pod's folder is gone with the Pod."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import orjson

from syncer.agent.credentials import FILES, Unusable, open_folder, write_private
from syncer.kube.client import MERGE_PATCH, ClusterClient
from syncer.kube.errors import NotFound


class CredentialsSecret:
    """One Secret. It must exist, so that an agent needs no right but to read and change this one."""

    def __init__(self, client: ClusterClient, namespace: str, name: str) -> None:
        """Args: client: of the agent's own cluster."""
        self._client = client
        self._path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        self._namespace, self._name = namespace, name

    async def restore(self, folder: Path) -> None:
        """Fill the folder from the Secret; one that holds something is the newer of the two, and stays as it is.

        Raises:
            Unusable: there is no such Secret, or it is damaged, or others may look into the folder.
            SyncError: the API server does not answer, or refuses.
        """
        open_folder(folder)
        if any((folder / name).exists() for name in FILES):
            return
        shown = f"Secret {self._namespace}/{self._name}"
        try:
            found: dict[str, Any] = await self._client.get_json(self._path)
        except NotFound:
            make = f"kubectl -n {self._namespace} create secret generic {self._name}"
            raise Unusable(f"{shown} does not exist", f"Make it, empty: {make}") from None
        data = found.get("data") or {}
        for name in FILES:
            if name in data:
                try:
                    write_private(folder / name, base64.b64decode(data[name], validate=True))
                except (binascii.Error, TypeError):
                    raise Unusable(f"{shown} is damaged: {name} is no base64") from None

    async def save(self, folder: Path) -> None:
        """Bring the Secret to what the folder holds.

        Raises:
            SyncError: the API server does not answer, or refuses; the Secret holds what it held before.
        """
        data: dict[str, str | None] = {}
        for name in FILES:
            path = folder / name
            data[name] = base64.b64encode(path.read_bytes()).decode("ascii") if path.exists() else None
        await self._client.request("PATCH", self._path, body=orjson.dumps({"data": data}), content_type=MERGE_PATCH)
