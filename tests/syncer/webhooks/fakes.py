"""An API server's store of webhook configurations, and whoever may answer reviews."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson

from syncer.kube.errors import Conflict, NotFound


class Store:
    """Keeps what is applied, with versions and with defaults of its own; `error` refuses everything."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.items: dict[str, dict[str, Any]] = {}  # {plural: configuration}
        self.calls: list[str] = []
        self._version = 0

    @property
    def writes(self) -> list[str]:
        return [call for call in self.calls if not call.startswith("GET ")]

    def url(self) -> str:
        """Whom the API server asks."""
        webhook = self.items["validatingwebhookconfigurations"]["webhooks"][0]
        return str(webhook["clientConfig"]["url"]).removesuffix("/validate")

    async def request(self, method: str, path: str, *, body: bytes | None = None, **_: Any) -> Any:
        plural = path.split("/")[-2]
        self.calls.append(f"{method} {plural}")
        if self.error is not None:
            raise self.error
        found = self.items.get(plural)
        if method == "PATCH":
            given = orjson.loads(body or b"")
            wanted = given["metadata"].get("resourceVersion")
            if wanted is not None and (found is None or found["metadata"]["resourceVersion"] != wanted):
                raise Conflict(409, "Conflict", "changed meanwhile")
            self._version += 1
            given["metadata"]["resourceVersion"] = str(self._version)
            for webhook in given["webhooks"]:
                webhook["namespaceSelector"] = {}  # as the server's defaults do
            self.items[plural] = found = given
        elif found is None:
            raise NotFound(404, "NotFound", plural)
        elif method == "DELETE":
            del self.items[plural]
        return SimpleNamespace(body=orjson.dumps(found))


class Replicas:
    """Who answers; a `Caller` for registrations."""

    def __init__(self, *urls: str) -> None:
        self.alive = set(urls)
        self.asked: list[str] = []

    async def reviews(self, address: str, hostname: str, ca_bundle: bytes) -> bool:
        return address in self.alive

    async def answers(self, url: str, ca_bundle: bytes) -> bool:
        self.asked.append(url)
        return url.removesuffix("/validate") in self.alive
