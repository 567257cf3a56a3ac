"""The JSON API that the CLI reads: `/api/v1/…`, shapes in `syncer.api.shapes`.

Order of every answer: who asks (401), may they see it (403), is there such a thing (404). Nothing is told before that,
not even whether a path exists.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import orjson
import structlog
from aiohttp import web

from syncer.api.keys import GroupKind, GroupResource
from syncer.api.names import GROUP
from syncer.api.shapes import CLUSTER_SCOPED
from syncer.errors import SyncError
from syncer.hub.auth import Access, Authenticator, Authorizer, User

MAX_NAMES: Final = 253
EVERYTHING: Final = Access("get", GroupResource("*", "*"))
TARGETS: Final = GroupResource(GROUP, "synctargets")
ANSWER_SECONDS: Final = 30.0
_REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    500: "InternalError",
    503: "ServiceUnavailable",
}

_USER: Final = web.RequestKey("user", User)

log = structlog.get_logger()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
FindKinds = Callable[[Collection[GroupKind]], Awaitable[Mapping[GroupKind, GroupResource]]]


class EngineView(Protocol):
    """What the hub reads from the engine. Answers are dicts or structs in the shapes; they may be awaitable."""

    def targets(self) -> Any: ...
    def problems(self, namespace: str | None = None) -> Any: ...
    def explain(self, kind: GroupResource, namespace: str, name: str) -> Any: ...
    def object_status(self, kind: GroupResource, namespace: str, name: str) -> Any: ...
    def pods(self, kind: GroupResource, namespace: str, name: str) -> Any: ...


class Door(Protocol):
    """Another part of the hub behind the same address, which sees to credentials, rights and time limits by itself."""

    def add_to(self, app: web.Application) -> None:
        """Add its routes."""


class Leading(Protocol):
    """What the hub knows of the election."""

    @property
    def engine(self) -> EngineView | None:
        """None while another replica leads."""

    @property
    def leader(self) -> str:
        """Identity of the replica that leads, "" if unknown."""


class ApiFailure(Exception):
    """An answer that is not 200; the text is for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def failure(status: int, message: str) -> web.Response:
    """A Kubernetes `Status`."""
    body = {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": status,
        "reason": _REASONS.get(status, "Unknown"),
        "message": message,
    }
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json", headers=headers)


def parse_kind(text: str) -> GroupResource:
    """`deployments.apps` or `configmaps`."""
    resource, _, group = text.partition(".")
    if not resource or len(text) > MAX_NAMES:
        raise ApiFailure(400, "the kind must be a group-resource such as deployments.apps or configmaps")
    return GroupResource(group, resource)


class HubApi:
    """Routes and checks of the API."""

    def __init__(
        self,
        authenticator: Authenticator,
        authorizer: Authorizer,
        leading: Leading,
        *,
        find_kinds: FindKinds,
    ) -> None:
        """Args: find_kinds: which resources kinds are upstream; what cannot be found is not shown."""
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._leading = leading
        self._find_kinds = find_kinds
        self._doors: frozenset[web.AbstractRoute] = frozenset()

    def app(self, doors: Sequence[Door] = ()) -> web.Application:
        """The application behind `--hub-bind`.

        Args:
            doors: what else is served there; of its routes only those of this class are guarded here.
        """
        app = web.Application(middlewares=[self._guard], client_max_size=4096)
        for door in doors:
            door.add_to(app)
        self._doors = frozenset(app.router.routes())
        app.router.add_get("/api/v1/targets", self._targets)
        app.router.add_get("/api/v1/problems", self._problems)
        for what in ("explain", "status", "pods"):
            app.router.add_get(f"/api/v1/{what}/{{kind}}/{{namespace}}/{{name}}", self._object)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.route in self._doors:
            return await handler(request)
        try:
            user = await self._authenticator.identify(request)
            if user is None:
                return failure(401, "send your upstream credential: a bearer token or a client certificate")
            request[_USER] = user
            async with asyncio.timeout(ANSWER_SECONDS):
                return await handler(request)
        except ApiFailure as error:
            return failure(error.status, str(error))
        except web.HTTPException as error:
            return failure(error.status, error.reason)
        except TimeoutError:
            return failure(503, "no answer in time; try again")
        except SyncError as error:
            return failure(503, f"an API server does not answer: {error}")
        except Exception:  # one request's bug must not show its text to the caller, nor end the hub
            log.exception("hub request failed", path=request.path)
            return failure(500, "the hub failed; its log says why")

    async def _targets(self, request: web.Request) -> web.Response:
        await self._require(request[_USER], Access("list", TARGETS))
        targets = await plain(self._engine().targets())
        return _json({"items": sorted(_items(targets), key=lambda item: item.get("name", ""))})

    async def _problems(self, request: web.Request) -> web.Response:
        namespace = request.query.get("namespace", "")
        if len(namespace) > MAX_NAMES:
            raise ApiFailure(400, "namespace is too long")
        found = await plain(self._engine().problems(namespace or None))
        omitted = found.get("omitted", 0) if isinstance(found, dict) else 0
        items = [item for item in _items(found) if not namespace or item.get("namespace") == namespace]
        if await self._authorizer.allows(request[_USER], EVERYTHING):
            return _json({"items": items, "omitted": omitted, "filtered": False})
        return _json({"items": await self._visible(request[_USER], items), "omitted": omitted, "filtered": True})

    async def _object(self, request: web.Request) -> web.Response:
        info = request.match_info
        resource = parse_kind(info["kind"])
        namespace = "" if info["namespace"] == CLUSTER_SCOPED else info["namespace"]
        name = info["name"]
        if len(namespace) > MAX_NAMES or len(name) > MAX_NAMES:
            raise ApiFailure(400, "namespace or name is too long")
        await self._require(request[_USER], Access("get", resource, namespace, name))
        engine = self._engine()
        ask = {"explain": engine.explain, "status": engine.object_status, "pods": engine.pods}
        answer = await plain(ask[request.path.split("/")[3]](resource, namespace, name))
        if answer is None:
            raise ApiFailure(404, f"{resource} {f'{namespace}/' if namespace else ''}{name} is not known to the engine")
        return _json(answer)

    def _engine(self) -> EngineView:
        engine = self._leading.engine
        if engine is None:
            leader = self._leading.leader or "nobody yet"
            raise ApiFailure(
                503,
                f"this replica does not lead, and knows no way to the one that does: {leader}. Try again in a moment",
            )
        return engine

    async def _require(self, user: User, access: Access) -> None:
        if not await self._authorizer.allows(user, access):
            where = f" in namespace {access.namespace}" if access.namespace else ""
            raise ApiFailure(403, f'user "{user.name}" may not {access.verb} {access.resource}{where} upstream')

    async def _visible(self, user: User, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The problems about objects that the user may get; about a target alone, that they may list targets."""
        kinds = {kind for item in items if (kind := _kind(item)) is not None}
        resources = await self._find_kinds(kinds) if kinds else {}
        asked = [(item, _question(item, resources)) for item in items]
        questions = {question for _, question in asked if question is not None}
        answers = dict(
            zip(questions, await asyncio.gather(*(self._authorizer.allows(user, q) for q in questions)), strict=True)
        )
        return [item for item, question in asked if question is not None and answers[question]]


def _kind(item: Mapping[str, Any]) -> GroupKind | None:
    """Of the object that a problem is about, if it is about one."""
    if not item.get("object"):
        return None
    parts = item["object"].split("/")
    # apps/v1/Deployment/shop/web, v1/ConfigMap/shop/web, v1/Namespace/shop: kind after the version.
    tail = 2 if item.get("namespace") else 1
    if len(parts) < tail + 2:
        return None
    return GroupKind(parts[0] if len(parts) == tail + 3 else "", parts[-tail - 1])


def _question(item: Mapping[str, Any], resources: Mapping[GroupKind, GroupResource]) -> Access | None:
    """What somebody must be allowed to see this problem; None if nobody can tell."""
    namespace = item.get("namespace") or ""
    if item.get("object"):
        kind = _kind(item)
        resource = resources.get(kind) if kind is not None else None
        return Access("get", resource, namespace) if resource is not None else None
    if item.get("placement"):
        cluster = item["placement"].startswith("ClusterPlacement/")
        resource = GroupResource(GROUP, "clusterplacements" if cluster else "placements")
        return Access("get", resource, "" if cluster else namespace)
    return Access("list", TARGETS)


def _items(answer: Any) -> list[dict[str, Any]]:
    return list(answer["items"] if isinstance(answer, dict) else answer)


async def plain(answer: Any) -> Any:
    """Dicts and lists from whatever the engine gives, awaited where need be."""
    if inspect.isawaitable(answer):
        answer = await answer
    return msgspec.to_builtins(answer)


def _json(answer: Any) -> web.Response:
    return web.Response(body=orjson.dumps(answer), content_type="application/json")
