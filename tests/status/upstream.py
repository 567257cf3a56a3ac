"""Writes merged statuses to a real upstream, the way the engine does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from status.aggregator import STATUS_MANAGER, Aggregator
from status.patch import status_patch
from tests.support.fleet import Kubectl


class Source:
    """One source object upstream and the aggregator that writes its status."""

    def __init__(self, kubectl: Kubectl, manifest: Mapping[str, Any], resource: str) -> None:
        self.kubectl = kubectl
        self.resource = resource
        name, namespace = manifest["metadata"]["name"], manifest["metadata"].get("namespace", "")
        self.scope = (resource, name, *(("-n", namespace) if namespace else ()))
        self.present: dict[str, Any] = json.loads(
            kubectl("upstream", "create", "-f", "-", "-o", "json", stdin=json.dumps(manifest))
        )

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
        self.present = json.loads(self.kubectl("upstream", "get", *self.scope, "-o", "json"))

    def patch_spec(self, spec: Mapping[str, Any]) -> None:
        body = json.dumps({"spec": spec})
        self.present = json.loads(
            self.kubectl("upstream", "patch", *self.scope, "--type=merge", "-p", body, "-o", "json")
        )

    def write(self, aggregator: Aggregator) -> bool:
        """Write what the aggregator says; False when it has nothing to say. Fails when the server refuses."""
        wanted = aggregator.status(self.present, now=datetime.now(UTC))
        if wanted is None:
            return False
        self.present = json.loads(
            self.kubectl(
                *("upstream", "patch", *self.scope, "--subresource=status", f"--field-manager={STATUS_MANAGER}"),
                *("--type=json", "-p", status_patch(self.present, wanted).decode(), "-o", "json"),
            )
        )
        aggregator.wrote(wanted, self.present)
        return True

    def refusal(self, status: Mapping[str, Any]) -> str:
        """What the server says to a status written by hand; "" when it takes it."""
        said = self.kubectl.attempt(
            *("upstream", "patch", *self.scope, "--subresource=status", "--type=json"),
            *("-p", status_patch({"metadata": {"uid": self.uid}}, status).decode()),
        )
        return said.stderr if said.returncode else ""
