"""Our kinds on a real API server, over plain HTTP calls: faster than one kubectl process per case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

PLURALS = {"SyncTarget": "synctargets", "Placement": "placements", "ClusterPlacement": "clusterplacements"}


class Answer(Exception):
    """A refusal of the API server."""

    def __init__(self, status: dict[str, Any]) -> None:
        super().__init__(status["message"])
        self.code: int = status["code"]
        self.message: str = status["message"]
        self.fields = [cause.get("field", "") for cause in (status.get("details") or {}).get("causes") or []]


class Server:
    """Creates and reads objects of our kinds as the user of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._objects = client.CustomObjectsApi(config.new_client_from_config(str(kubeconfig)))  # type: ignore[no-untyped-call]

    def create(self, manifest: dict[str, Any], *, keep: bool = False) -> dict[str, Any]:
        """The object as the server would store it; stored only with `keep`. Raises Answer."""
        options: dict[str, str] = {} if keep else {"dry_run": "All"}
        return self._call("create", manifest, manifest, field_validation="Strict", **options)

    def replace(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Update a stored object. Raises Answer."""
        return self._call("replace", manifest, manifest["metadata"]["name"], manifest)

    def get(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Read the stored object of that name."""
        return self._call("get", manifest, manifest["metadata"]["name"])

    def delete(self, manifest: dict[str, Any]) -> None:
        """Delete the stored object of that name."""
        self._call("delete", manifest, manifest["metadata"]["name"])

    def put_status(self, manifest: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        """Write the status of a stored object."""
        name = manifest["metadata"]["name"]
        body = self.get(manifest) | {"status": status}
        return self._call("replace", manifest, name, body, suffix="_status")

    def _call(
        self, verb: str, manifest: dict[str, Any], *arguments: Any, suffix: str = "", **options: Any
    ) -> dict[str, Any]:
        namespace = manifest["metadata"].get("namespace")
        scope = "namespaced" if namespace else "cluster"
        call = getattr(self._objects, f"{verb}_{scope}_custom_object{suffix}")
        place = [namespace] if namespace else []
        try:
            answer: dict[str, Any] = call(
                "syncline.io", "v1alpha1", *place, PLURALS[manifest["kind"]], *arguments, **options
            )
            return answer
        except ApiException as error:
            raise Answer(json.loads(error.body or "{}")) from None
