"""Writes merged statuses to a real upstream, the way the engine does."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from deploy.local.fleet import Cluster
from deploy.local.kubeconfigs import current, load
from status.aggregator import STATUS_MANAGER, Aggregator
from status.patch import CONTENT_TYPE, status_patch


class Refusal(Exception):
    """An API server said no; the text is what it said."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status


class Api:
    """One connection to an API server as admin; kubectl would need 100 ms for every request."""

    def __init__(self, cluster: Cluster) -> None:
        endpoint, user = current(load(cluster.kubeconfig))
        authority = base64.b64decode(endpoint["certificate-authority-data"]).decode()
        tls = ssl.create_default_context(cadata=authority)
        with TemporaryDirectory() as folder:  # ssl reads certificates from files only
            certificate = Path(folder) / "pair.pem"
            certificate.touch(mode=0o600)
            pair = (base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key"))
            certificate.write_bytes(b"\n".join(pair))
            tls.load_cert_chain(certificate)
        address = urlsplit(endpoint["server"])
        assert address.hostname
        self._connection = http.client.HTTPSConnection(address.hostname, address.port, timeout=20, context=tls)

    def close(self) -> None:
        self._connection.close()

    def request(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> Any:
        """The answer as JSON; raises `Refusal` for everything from 400 up."""
        self._connection.request(method, path, body or None, {"Content-Type": content_type})
        answer = self._connection.getresponse()
        said = json.loads(answer.read())
        if answer.status >= 400:
            raise Refusal(answer.status, said["message"])
        return said


class Source:
    """One source object upstream; `write` does what the engine's status writer does."""

    def __init__(self, api: Api, manifest: Mapping[str, Any]) -> None:
        self.api = api
        group_version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
        root = "/api/v1" if group_version == "v1" else f"/apis/{group_version}"
        plural = kind.lower() + ("es" if kind == "Ingress" else "s")
        listed = f"{root}/namespaces/{metadata['namespace']}/{plural}"
        group = group_version.rpartition("/")[0]
        self.scope = (f"{plural}.{group}" if group else plural, metadata["name"], "-n", metadata["namespace"])
        self.path = f"{listed}/{metadata['name']}"
        self.present: dict[str, Any] = api.request("POST", listed, json.dumps(manifest).encode())

    @property
    def uid(self) -> str:
        uid: str = self.present["metadata"]["uid"]
        return uid

    @property
    def generation(self) -> int:
        return int(self.present["metadata"].get("generation", 0))

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.present.get("status", {})
        return status

    def reread(self) -> None:
        self.present = self.api.request("GET", self.path)

    def patch_spec(self, spec: Mapping[str, Any]) -> None:
        body = json.dumps({"spec": spec}).encode()
        self.present = self.api.request("PATCH", self.path, body, "application/merge-patch+json")

    def patch_status(
        self, body: bytes, content_type: str = CONTENT_TYPE, manager: str = STATUS_MANAGER
    ) -> dict[str, Any]:
        said: dict[str, Any] = self.api.request(
            "PATCH", f"{self.path}/status?fieldManager={manager}", body, content_type
        )
        return said

    def write(self, aggregator: Aggregator) -> bool:
        """Write what the aggregator says; False when it has nothing to say. Raises `Refusal`."""
        wanted = aggregator.status(self.present, now=datetime.now(UTC))
        if wanted is None:
            return False
        self.present = self.patch_status(status_patch(self.present, wanted))
        aggregator.wrote(wanted, self.present)
        return True

    def refusal(self, status: Mapping[str, Any]) -> str:
        """What the server says to a status written by hand; "" when it takes it."""
        try:
            self.patch_status(status_patch({"metadata": {"uid": self.uid}}, status))
        except Refusal as refusal:
            return str(refusal)
        return ""
