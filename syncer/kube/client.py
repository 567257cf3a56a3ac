"""Requests to one API server: one session for short requests, one for watches, one way of failing.

No retries here, except one after a 401 with fresh credentials: who asks decides when to ask again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlencode

import aiohttp
import orjson
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from yarl import URL

from syncer.api.keys import GroupResource
from syncer.api.names import SPEC_MANAGER
from syncer.errors import SyncError
from syncer.kube.connector import TcpConnector
from syncer.kube.credentials import ClusterCredentials, Grant
from syncer.kube.errors import MalformedAnswer, Unreachable, error_from_status, parse_status
from syncer.kube.objects import KubeObject, ResourceInfo, decode_document, decode_object

APPLY_PATCH: Final = "application/apply-patch+yaml"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
JSON: Final = "application/json"

Propagation = Literal["Background", "Foreground", "Orphan"]
Observe = Callable[[str, str, int, float], None]

CONNECT_TIMEOUT_SECONDS: Final = 10.0
LIST_LIMIT: Final = 512 * 1024 * 1024  # bytes; 500 objects of the largest size that etcd takes are below it
OBJECT_LIMIT: Final = 8 * 1024 * 1024  # bytes; API servers take 3 MiB, and JSON escapes make it longer
ITEM_LIMIT: Final = 2 * 1024 * 1024  # bytes of one item of a page, on average
SMALL_LIMIT: Final = 64 * 1024  # bytes, for documents that are hundreds of bytes long
ERROR_LIMIT: Final = 1024 * 1024  # bytes of a refusal that are read; a conflict names each of thousands of fields
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_BELOW_HTTP: Final = (aiohttp.ClientError, OSError, TimeoutError)
_CLOSED: Final = "the client was closed"
_KEEPALIVE_SECONDS: Final = 30.0  # below the idle timeouts of API servers and load balancers


class Response(NamedTuple):
    """A whole answer of status below 300, or 304 to a question that carried an `If-None-Match`."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ClusterClient:
    """One cluster, as seen by one identity. Belongs to the loop that first uses it; `close()` it there.

    Every method raises the classes of `syncer.kube.errors`, and `NotLeadingError` if the guard does.
    """

    def __init__(
        self,
        credentials: ClusterCredentials,
        *,
        name: str,
        user_agent: str = "",
        guard: Callable[[], None] | None = None,
        observe: Observe | None = None,
        max_connections: int = 32,
        connector: Callable[[int, float], aiohttp.BaseConnector] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is dialled yet.

        Args:
            name: what the cluster is called in messages and metrics.
            guard: called before each write is queued and again just before its bytes leave; may raise to stop it.
            observe: receives (name, verb, HTTP status or 0, seconds) for every finished request; of watches, the start.
            max_connections: short requests in flight; watches do not count.
            connector: makes the transport out of (connections at a time, seconds an idle one is kept); None is TCP.
        """
        self.name = name
        self._credentials = credentials
        self._user_agent = user_agent or _default_user_agent()
        self._guard = guard
        self._observe = observe
        self._max_connections = max_connections
        self._connector = connector or self._tcp
        self._clock = clock
        # Kinds that this server does not list as a stream; remembered here because informers come and go.
        self.refused_streams: set[GroupResource] = set()
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # {for watches: session}
        self._closed = False

    @property
    def server(self) -> str:
        return self._credentials.server

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str | None = None,
        timeout_seconds: float = 30.0,
        headers: Mapping[str, str] | None = None,
        verb: str = "",
        resource: str = "",
        answer_limit: int | None = None,
    ) -> Response:
        """Send one request and read the whole answer.

        Args:
            method: anything but GET, HEAD and OPTIONS is a write and passes the guard.
            path: percent-encoded, begins with a slash.
            timeout_seconds: for everything, waiting for a free connection included.
            verb: for metrics; default is the method.
            resource: plural that is asked for; makes errors precise (see `error_from_status`).
            answer_limit: bytes of the longest answer that is taken; None: one object's, or a page's if `params` ask for
                one (`limit`). Targets are not trusted: what is held in memory is bounded for each call.
        Raises:
            ApiError: any other status, or no answer. MalformedAnswer: too long an answer.
        """
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=CONNECT_TIMEOUT_SECONDS)
        arguments = _Arguments(
            method, path, params, body, content_type, headers, timeout, verb or method.lower(), resource
        )
        async with self._open(arguments, watch=False) as answer:
            content = await self._read(answer, answer_limit or _limit_for(params))
            return Response(answer.status, answer.headers, content)

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, str], resource: str = ""
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch; yields its bytes as they come, in pieces of any size.

        Only connecting has a time limit: how long silence may last is up to the caller, with `asyncio.timeout`.

        Raises:
            ApiError: as `request`; the iterator raises `Unreachable` for a broken connection.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS)
        arguments = _Arguments("GET", path, params, None, None, None, timeout, "watch", resource)
        opened = self._open(arguments, watch=True)
        answer = await opened.__aenter__()
        try:
            async with contextlib.aclosing(self._pieces(answer)) as pieces:
                yield pieces
        finally:
            await opened.__aexit__(None, None, None)  # what the block raises is not the connection's fault

    async def _pieces(self, answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in answer.content.iter_any():
                yield piece
        except _BELOW_HTTP as error:
            raise self._unreachable(explain(error)) from error

    async def get(self, info: ResourceInfo, namespace: str, name: str) -> KubeObject:
        """Read one object, fresh from storage. Raises NotFound with what is missing."""
        answer = await self.request("GET", info.path(namespace, name), resource=info.resource)
        return decode_object(answer.body)

    async def get_json(
        self, path: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Read any path as a JSON object, with `managedFields` and all."""
        answer = await self.request("GET", path, params=params, headers=headers)
        return decode_document(answer.body, f"{self.name}: {path}")

    async def apply(
        self,
        info: ResourceInfo,
        namespace: str,
        name: str,
        body: bytes,
        *,
        force: bool,
        manager: str = SPEC_MANAGER,
        subresource: str = "",
        dry_run: bool = False,
    ) -> tuple[KubeObject, int]:
        """Server-side apply.

        Args:
            body: the manifest as JSON.
            force: take fields from other managers; without it such fields answer `Conflict`.
        Returns:
            the object as it is now (its `owned` is always the spec manager's), and 201 if it was created, else 200.
        """
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        if dry_run:
            params["dryRun"] = "All"
        answer = await self.request(
            "PATCH",
            info.path(namespace, name, subresource),
            params=params,
            body=body,
            content_type=APPLY_PATCH,
            verb="apply",
            resource=info.resource,
        )
        return decode_object(answer.body), answer.status

    async def create(
        self, info: ResourceInfo, namespace: str, body: bytes, *, manager: str = SPEC_MANAGER
    ) -> KubeObject:
        """POST a new object. Raises AlreadyExists, or NotFound for a missing namespace."""
        return await self._write("POST", "create", info, info.path(namespace), body, JSON, manager)

    async def patch(
        self,
        info: ResourceInfo,
        namespace: str,
        name: str,
        body: bytes,
        content_type: str,
        *,
        subresource: str = "",
        manager: str = SPEC_MANAGER,
    ) -> KubeObject:
        """PATCH with a merge patch or JSON patch."""
        path = info.path(namespace, name, subresource)
        return await self._write("PATCH", "patch", info, path, body, content_type, manager)

    async def _write(
        self, method: str, verb: str, info: ResourceInfo, path: str, body: bytes, content_type: str, manager: str
    ) -> KubeObject:
        answer = await self.request(
            method,
            path,
            params={"fieldManager": manager},
            body=body,
            content_type=content_type,
            verb=verb,
            resource=info.resource,
        )
        return decode_object(answer.body)

    async def delete(
        self,
        info: ResourceInfo,
        namespace: str,
        name: str,
        *,
        uid: str,
        resource_version: str | None = None,
        propagation: Propagation = "Background",
    ) -> None:
        """DELETE exactly the object of that UID; it may live on until its finalizers are gone.

        Raises:
            NotFound: nothing of that name. Conflict: another UID, or another version than `resource_version`.
        """
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": preconditions,
            "propagationPolicy": propagation,
        }
        await self.request(
            "DELETE",
            info.path(namespace, name),
            body=orjson.dumps(options),
            content_type=JSON,
            verb="delete",
            resource=info.resource,
        )

    async def close(self) -> None:
        """End all connections, also where who waits for that is cancelled; requests in flight and later ones fail as
        `Unreachable`."""
        self._closed = True
        sessions, self._sessions = self._sessions, {}
        if endings := [asyncio.ensure_future(session.close()) for session in sessions.values()]:
            await asyncio.wait(endings)

    @contextlib.asynccontextmanager
    async def _open(self, arguments: _Arguments, *, watch: bool) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer of status below 300, or 304; everything else is raised, foreign exceptions as ours."""
        started, status = self._clock(), 0
        body = None if arguments.body is None else _Body(arguments.body, self._guard, arguments.content_type)
        write = arguments.method not in _READS
        try:
            grant = await self._credentials.grant()
            while True:
                if write and self._guard is not None:
                    self._guard()
                async with self._send(arguments, grant, body, watch=watch) as answer:
                    status = answer.status
                    if status < 300 or status == 304:
                        if watch:
                            self._report(arguments.verb, status, started)
                        yield answer
                        return
                    if status != 401 or (fresh := await self._credentials.grant(rejected=grant)) is grant:
                        raise await self._refusal(answer, arguments.resource)
                grant = fresh
        except _BELOW_HTTP as error:
            if body is not None and body.stopped is not None:
                raise body.stopped from None
            raise self._unreachable(explain(error)) from error
        except asyncio.CancelledError:
            # aiohttp ends those that wait for a connection this way; a task that nobody cancelled must not end by it.
            if self._closed and (task := asyncio.current_task()) is not None and not task.cancelling():
                raise self._unreachable(_CLOSED) from None
            raise
        finally:
            if not (watch and 0 < status < 300):
                self._report(arguments.verb, status, started)

    def _send(
        self, arguments: _Arguments, grant: Grant, body: Payload | None, *, watch: bool
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        query = f"?{urlencode(arguments.params)}" if arguments.params else ""
        headers = dict(arguments.headers or {})
        if grant.authorization is not None:
            headers["Authorization"] = grant.authorization
        return self._session(watch=watch).request(
            arguments.method,
            URL(f"{self.server}{arguments.path}{query}", encoded=True),
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=arguments.timeout,
            ssl=grant.context if grant.context is not None else True,
            server_hostname=self._credentials.tls_server_name if grant.context is not None else None,
            proxy=self._credentials.proxy,
        )

    def _session(self, *, watch: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(watch)
        if session is None:
            if self._closed:
                raise self._unreachable(_CLOSED)
            session = self._sessions[watch] = aiohttp.ClientSession(
                connector=self._connector(0 if watch else self._max_connections, _KEEPALIVE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": self._user_agent, "Accept": JSON, "Accept-Encoding": "identity"},
                trust_env=False,
            )
        return session

    def _tcp(self, limit: int, keepalive_seconds: float) -> aiohttp.BaseConnector:
        return TcpConnector(limit=limit, keepalive_timeout=keepalive_seconds, untrusted=self._credentials.untrusted)

    async def _refusal(self, answer: aiohttp.ClientResponse, resource: str) -> SyncError:
        content = await self._read(answer, ERROR_LIMIT, cut=True)
        if answer.status < 400:
            return MalformedAnswer(
                answer.status, "MalformedAnswer", f"{self.name}: redirected, which no API server does"
            )
        return error_from_status(
            answer.status,
            parse_status(content),
            resource=resource,
            retry_after=answer.headers.get("Retry-After"),
            fallback=content[:200].decode("utf-8", "replace").strip(),
        )

    async def _read(self, answer: aiohttp.ClientResponse, limit: int, *, cut: bool = False) -> bytes:
        """The whole body. Where it passes the limit, its beginning if `cut`; raises MalformedAnswer otherwise."""
        pieces: list[bytes] = []
        size = 0
        async for piece in answer.content.iter_any():
            size += len(piece)
            pieces.append(piece)
            if size > limit:
                answer.close()
                if cut:
                    return b"".join(pieces)[:limit]
                text = f"{self.name}: answer larger than {limit} bytes"
                raise MalformedAnswer(answer.status, "MalformedAnswer", text)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _unreachable(self, why: str) -> Unreachable:
        return Unreachable(0, "Unreachable", f"{self.name} ({self.server}): {why}")

    def _report(self, verb: str, status: int, started: float) -> None:
        if self._observe is not None:
            self._observe(self.name, verb, status, self._clock() - started)


class _Arguments(NamedTuple):
    """One request, so that it can be sent twice."""

    method: str
    path: str
    params: Mapping[str, str] | None
    body: bytes | None
    content_type: str | None
    headers: Mapping[str, str] | None
    timeout: aiohttp.ClientTimeout
    verb: str
    resource: str


class _Body(Payload):
    """Bytes of a request; the guard looks once more just before they are written.

    Waiting for a connection and the TLS handshake may take seconds, in which a lease can end. A request whose body
    never arrives is no request to the server.
    """

    _value: bytes

    def __init__(self, value: bytes, guard: Callable[[], None] | None, content_type: str | None) -> None:
        super().__init__(value, content_type=content_type or JSON)
        self._size = len(value)
        self._check = guard
        self.stopped: SyncError | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        if self._check is not None:
            try:
                self._check()
            except SyncError as error:
                self.stopped = error
                raise
        await writer.write(self._value)


def _limit_for(params: Mapping[str, str] | None) -> int:
    """Bytes that an answer may have: an object's, or as many objects' as the page that was asked for holds."""
    page = int((params or {}).get("limit") or 0)
    return min(LIST_LIMIT, max(OBJECT_LIMIT, page * ITEM_LIMIT))


def explain(error: BaseException) -> str:
    """One line without credentials for what went wrong below HTTP."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        inner = error.certificate_error
        return f"its certificate is not trusted: {getattr(inner, 'verify_message', type(inner).__name__)}"
    if isinstance(error, aiohttp.ClientConnectorError):
        inner = error.os_error
        reason = inner.reason if isinstance(inner, ssl.SSLError) else inner.strerror
        return f"cannot connect: {reason or type(inner).__name__}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError | aiohttp.ClientPayloadError):
        return "the connection broke"
    return type(error).__name__


def _default_user_agent() -> str:
    try:
        return f"syncline/{version('syncline')}"
    except PackageNotFoundError:
        return "syncline"
