"""What the engine knows, wherever it runs: the replica that leads answers the others, `GET /replicas/v1/views/WHAT`.

People ask any replica. The one that is asked checks who they are and what they may see, as ever; the leader answers
replicas alone, and from its own engine alone, so a question takes one hop. No user's name or credential travels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import web

from syncer.api.keys import GroupKind, GroupResource
from syncer.errors import SyncError
from syncer.hub.api import ApiFailure, EngineView, Leading, parse_kind, plain
from syncer.hub.identity import peer_certificate
from syncer.hub.members import Members
from syncer.hub.replica_identity import ReplicaIdentity
from syncer.kube.connector import TcpConnector
from syncer.kube.objects import ResourceInfo

PATH: Final = "/replicas/v1/views/"
KINDS_AT_ONCE: Final = 20  # names of at most 317 characters each; a request's first line holds 8 KiB
CONNECT_SECONDS: Final = 5.0  # TLS included; a replica that is frozen accepts and says nothing
ASK_SECONDS: Final = 25.0  # below the time that the hub has for the whole answer


class SharedView:
    """`Leading` for every replica: its own engine, or that of the leader. Also the door for the other replicas."""

    def __init__(
        self,
        own: Leading,
        identity: ReplicaIdentity,
        members: Members,
        *,
        find_kind: Callable[[GroupKind], ResourceInfo | None],
    ) -> None:
        """Args:
        own: of this process.
        identity: what it shows to others.
        members: the others.
        find_kind: which resource a kind is upstream, while this process leads.
        """
        self._own = own
        self._find_kind = find_kind
        self._identity = identity
        self._members = members

    @property
    def engine(self) -> EngineView | None:
        """None while nobody leads, or nobody that this replica knows."""
        return self._own.engine or self._remote

    @property
    def leader(self) -> str:
        return self._own.leader

    @property
    def _remote(self) -> _RemoteView | None:
        url = self._members.url_of(self._own.leader)
        return _RemoteView(url, self._identity) if url else None

    async def find_kinds(self, kinds: Collection[GroupKind]) -> dict[GroupKind, GroupResource]:
        """Which resources kinds are upstream; without those that the leader does not know."""
        if self._own.engine is None and (remote := self._remote) is not None:
            return await remote.kinds(kinds)
        return self._own_kinds(kinds)

    def _own_kinds(self, kinds: Collection[GroupKind]) -> dict[GroupKind, GroupResource]:
        return {kind: info.group_resource for kind in kinds if (info := self._find_kind(kind)) is not None}

    def add_to(self, app: web.Application) -> None:
        """Its one route."""
        app.router.add_get(PATH + "{what}", self.handle)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer another replica."""
        if not self._identity.replica(peer_certificate(request)):
            return web.Response(status=403, text="only replicas of this hub are answered here")
        engine = self._own.engine
        if engine is None:
            return web.Response(status=503, text="it does not lead any more")
        what = request.match_info["what"]
        if what == "kinds":
            parts = (kind.partition(".") for kind in request.query.getall("kind", []))
            found = self._own_kinds([GroupKind(group, kind) for kind, _, group in parts])
            return _json([(*kind, *resource) for kind, resource in found.items()])
        query = {name: request.query.get(name, "") for name in ("kind", "namespace", "name")}
        try:
            answer = await plain(_ask(engine, what, **query))
        except ApiFailure as error:
            return web.Response(status=error.status, text=str(error))
        except SyncError as error:
            return web.Response(status=503, text=f"an API server does not answer: {error}")
        return _json(answer)


def _json(answer: Any) -> web.Response:
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


def _ask(engine: EngineView, what: str, *, kind: str, namespace: str, name: str) -> Any:
    match what:
        case "targets":
            return engine.targets()
        case "problems":
            return engine.problems(namespace or None)
        case "explain":
            return engine.explain(parse_kind(kind), namespace, name)
        case "status":
            return engine.object_status(parse_kind(kind), namespace, name)
        case "pods":
            return engine.pods(parse_kind(kind), namespace, name)
    raise ApiFailure(404, f"no view {what[:64]!r}; are the replicas of one version?")


class _RemoteView:
    """`EngineView` of the replica at an address. Every answer is plain JSON.

    Raises:
        ApiFailure: 503, there is no answer now.
    """

    def __init__(self, url: str, identity: ReplicaIdentity) -> None:
        self._url = url
        self._identity = identity

    async def targets(self) -> Any:
        return await self._get("targets")

    async def problems(self, namespace: str | None = None) -> Any:
        return await self._get("problems", namespace=namespace or "")

    async def explain(self, kind: GroupResource, namespace: str, name: str) -> Any:
        return await self._get("explain", kind=str(kind), namespace=namespace, name=name)

    async def object_status(self, kind: GroupResource, namespace: str, name: str) -> Any:
        return await self._get("status", kind=str(kind), namespace=namespace, name=name)

    async def pods(self, kind: GroupResource, namespace: str, name: str) -> Any:
        return await self._get("pods", kind=str(kind), namespace=namespace, name=name)

    async def kinds(self, kinds: Collection[GroupKind]) -> dict[GroupKind, GroupResource]:
        """Which resources they are upstream."""
        names = [str(kind) for kind in kinds]
        found = {}
        for start in range(0, len(names), KINDS_AT_ONCE):
            for item in await self._get("kinds", kind=names[start : start + KINDS_AT_ONCE]):
                found[GroupKind(*item[:2])] = GroupResource(*item[2:])
        return found

    async def _get(self, what: str, **query: str | list[str]) -> Any:
        url, tls = f"{self._url}{PATH}{what}", self._identity.context()
        limits = aiohttp.ClientTimeout(total=ASK_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(connector=TcpConnector(), timeout=limits) as session,
                session.get(url, params=query, ssl=tls, allow_redirects=False) as answer,
            ):
                body = await answer.read()
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            why = str(error) or type(error).__name__
            raise ApiFailure(503, f"the replica that leads does not answer: {why}; try again") from error
        if answer.status != 200:
            text = body.decode(errors="replace")[:300]
            raise ApiFailure(503, f"the replica that leads answered {answer.status}: {text}; try again")
        return orjson.loads(body)
