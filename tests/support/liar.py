"""A client of a real API server that lies about some paths, on command."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import orjson

from syncer.kube.client import ClusterClient, Response
from syncer.kube.errors import BadRequest, ServerError


class Liar(ClusterClient):
    """Tells the truth until told otherwise. Lists come in pages only, so that every list can be lied about.

    Attributes:
        empty: paths whose list shows no object.
        torn: paths whose list breaks off after the first page.
        as_other: requests below these paths are sent by another client, such as one of a user without rights.
        before: {(method, end of the path): what happens just before such a request is sent}; each once.
        lists: how often each path was listed.
        sent: writes so far, method and path.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.empty: set[str] = set()
        self.torn: set[str] = set()
        self.as_other: dict[str, ClusterClient] = {}
        self.before: dict[tuple[str, str], Callable[[], Awaitable[None]]] = {}
        self.lists: dict[str, int] = {}
        self.sent: list[str] = []

    async def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, **options: Any
    ) -> Response:
        if method != "GET":
            self.sent.append(f"{method} {path}")
        other = next((client for below, client in self.as_other.items() if path.startswith(below)), None)
        if other is not None:
            return await other.request(method, path, params=params, **options)
        for due in [key for key in self.before if method == key[0] and path.endswith(key[1])]:
            await self.before.pop(due)()
        if options.get("verb") != "list":
            return await super().request(method, path, params=params, **options)
        self.lists[path] = self.lists.get(path, 0) + 1
        if path in self.torn:
            if (params or {}).get("continue"):
                raise ServerError(500, "InternalError", "etcd is gone")
            params = {**(params or {}), "limit": "1"}
        answer = await super().request(method, path, params=params, **options)
        if path in self.empty:
            page = orjson.loads(answer.body)
            page["items"] = []
            page["metadata"].pop("continue", None)
            return Response(answer.status, answer.headers, orjson.dumps(page))
        return answer

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, str], resource: str = ""
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        if params.get("sendInitialEvents"):
            raise BadRequest(400, "BadRequest", "no streaming lists here")
        client = next((client for below, client in self.as_other.items() if path.startswith(below)), None)
        opened = super().stream if client is None else client.stream
        async with opened(path, params=params, resource=resource) as pieces:
            yield pieces
