"""`https://HUB/targets/NAME/…`: the API of a target, for people and programs that upstream knows.

For each request: the path is read strictly, the caller is authenticated upstream, and may upstream do to
`synctargets/proxy` of that name what the method says (`create` for anything that opens a channel). Then every word of
the caller about identity is erased, the identity that upstream told is stamped, and the exchange is passed on as raw
bytes. What the caller may do on the target, the target's own RBAC says. Source for upgrades: KEP-4006.

aiohttp reads requests and keeps connections; answers are written on its transport, for it would frame them anew. After
a 101 the transport is taken from it: it would read what follows as requests.
"""

from __future__ import annotations

import asyncio
import functools
import re
from typing import Final

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from syncer.api.common import TARGET_NAME_MAX, TARGET_NAME_PATTERN
from syncer.api.keys import GroupResource
from syncer.api.names import GROUP
from syncer.errors import SyncError
from syncer.hub.auth import Access, Authenticator, Authorizer
from syncer.hub.proxy_exchange import (
    Dialer,
    ExchangeFailed,
    RawPeer,
    TargetConnection,
    TargetPool,
    TargetUnavailable,
    UnknownTarget,
)
from syncer.hub.proxy_headers import lowered, passed_on, upgrade_of
from syncer.kube.apirequest import CHANNELS, REMEMBERED_LENGTH, Attributes, Path, attributes, parse_path
from syncer.kube.http1 import BadMessage, Headers, ResponseHead, connection_names, serialize, status_answer

PREFIX: Final = "targets"
TARGETS: Final = GroupResource(GROUP, "synctargets")
_VERBS: Final = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAME: Final = re.compile(TARGET_NAME_PATTERN)
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})

log = structlog.get_logger()


class Refused(Exception):
    """An answer of our own; the target has not seen the request."""

    def __init__(self, status: int, message: str, *, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Written(web.StreamResponse):
    """What a handler returns when the answer is on the wire already."""

    def __init__(self, *, keep: bool) -> None:
        super().__init__()
        self._keep = keep

    @property
    def keep_alive(self) -> bool:
        """Whether the caller may send another request."""
        return self._keep

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class TargetProxy:
    """Requests below `/targets/`. It authenticates by itself and never times out: watches are meant to last."""

    def __init__(self, authenticator: Authenticator, authorizer: Authorizer, dialer: Dialer) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._pool = TargetPool(dialer)

    def add_to(self, app: web.Application) -> None:
        """Serve the paths in an application. Run it with `handler_cancellation`, or quiet watches of callers that
        are gone stay until their target speaks."""
        app.router.add_route("*", f"/{PREFIX}/{{rest:.*}}", self.handle)

    def close(self) -> None:
        """End the connections that wait; those in use end with their exchange."""
        self._pool.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        try:
            return await self._handle(request)
        except BadMessage as error:
            answer = await self._say(request, Refused(error.status, str(error)), close=True)
            request.protocol.force_close()  # nobody knows where the next request begins
            return answer
        except Refused as error:
            return await self._say(request, error, close=request.can_read_body)
        except SyncError as error:
            refused = Refused(503, f"the upstream API server does not answer: {error}", retry_after=1)
            return await self._say(request, refused, close=request.can_read_body)

    async def _say(self, request: web.Request, refused: Refused, *, close: bool) -> web.StreamResponse:
        answer = status_answer(
            refused.status,
            str(refused),
            retry_after=refused.retry_after,
            close=close,
            head=request.method == "HEAD",
            warn=True,
        )
        await request.writer.write(answer)
        return Written(keep=not close and request.keep_alive)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers = lowered(request.raw_headers)
        if request.version != (1, 1):
            raise BadMessage("only HTTP/1.1 is spoken here", 505)
        method, raw = request.method, request.raw_path
        target, path, asked = (_split if len(raw) > REMEMBERED_LENGTH else _remembered)(method, raw)
        upgrade = upgrade_of(headers)
        if any(name == b"origin" for name, _ in headers):
            # No browser is a caller here; one that is made to call brings its user's certificate along.
            raise Refused(403, "requests of web pages are not answered")
        user = await self._authenticator.identify(request)
        if user is None:
            raise Refused(401, "send your upstream credential: a bearer token or a client certificate")
        channel = bool(upgrade) or asked.subresource in CHANNELS
        verb = "create" if channel else _VERBS[request.method]
        access = Access(verb, TARGETS, name=target, subresource="proxy")
        if not await self._authorizer.allows(user, access):
            raise Refused(403, f'user "{user.name}" may not {verb} synctargets/proxy of {target} upstream')
        length = _body_length(request, headers)
        line = b"%b %b HTTP/1.1" % (method.encode("ascii"), path)
        head = serialize(line, passed_on(headers, user, upgrade=upgrade, length=length))
        if channel:
            log.info("channel opened", user=user.name, target=target, asked=str(asked))
        return await self._exchange(request, target, head, upgrade=upgrade, length=length)

    async def _exchange(
        self, request: web.Request, target: str, head: bytes, *, upgrade: bytes, length: int | None
    ) -> web.StreamResponse:
        exchange = _Exchange(request, upgrade, length)
        connection = None if upgrade else self._pool.kept(target)
        if connection is not None:
            try:
                return await self._run(exchange, target, connection, head)
            except ExchangeFailed as error:
                # A kept connection may have ended just now. Only what changes nothing is asked twice.
                if not error.silent or request.method not in _SAFE_METHODS or exchange.wrote:
                    return await self._broken(exchange, target, error)
        try:
            connection = await self._pool.open(target)
        except UnknownTarget:
            raise Refused(404, f"there is no target {target} behind the tunnel") from None
        except TargetUnavailable as error:
            raise Refused(503, f"target {target} cannot be reached: {error}", retry_after=1) from None
        try:
            return await self._run(exchange, target, connection, head)
        except ExchangeFailed as error:
            return await self._broken(exchange, target, error)

    async def _run(
        self, exchange: _Exchange, target: str, connection: TargetConnection, head: bytes
    ) -> web.StreamResponse:
        try:
            keep = await exchange.run(connection, head)
        except BaseException:
            connection.abort()
            raise
        if exchange.upgrade:
            connection.abort()  # never used again, whatever the target made of it
            return Written(keep=False)
        self._pool.give_back(target, connection)
        return Written(keep=keep)

    async def _broken(self, exchange: _Exchange, target: str, error: ExchangeFailed) -> web.StreamResponse:
        """Say so if nothing was said yet, else cut: an answer must not look whole."""
        log.info("exchange with target broken", target=target, reason=str(error))
        if exchange.wrote:
            if exchange.request.transport is not None:
                exchange.request.transport.abort()
            return Written(keep=False)
        return await self._say(exchange.request, Refused(502, f"target {target}: {error}"), close=True)


class _Exchange:
    """One request on its way: its body out, the answer back."""

    def __init__(self, request: web.Request, upgrade: bytes, length: int | None) -> None:
        self.request = request
        self.wrote = False  # bytes of the answer went to the caller
        self.upgrade = upgrade
        self._length = length

    async def run(self, connection: TargetConnection, head: bytes) -> bool:
        """Returns whether the caller's connection may be kept.

        Raises:
            ExchangeFailed.
        """
        connection.start(self.request.method, head, self._on_head)
        sending = None
        if self._length != 0:
            sending = asyncio.get_running_loop().create_task(self._send_body(connection))
        try:
            writer = self.request.writer
            while data := await connection.read():
                self.wrote = True
                await writer.write(data)
                await writer.drain()
            if connection.switched:
                await self._pump(connection)
                return False
            if sending is None:
                return self.request.keep_alive
            if not sending.done():
                return False  # answered before it had read everything: neither side can be used again
            await sending
            return self.request.keep_alive
        finally:
            if sending is not None and not sending.done():
                sending.cancel()
                connection.abort()

    async def _send_body(self, connection: TargetConnection) -> None:
        try:
            async for piece in self.request.content.iter_any():
                if piece:
                    await connection.send(piece if self._length is not None else b"%x\r\n%b\r\n" % (len(piece), piece))
        except Exception:
            # aiohttp has many words for a body that broke off; half of one must not look whole.
            connection.abort()
            return
        if self._length is None:
            await connection.send(b"0\r\n\r\n")

    def _on_head(self, head: ResponseHead) -> bytes:
        if head.status == 101:
            if not self.upgrade or head.header(b"upgrade").lower() != self.upgrade.lower():
                raise BadMessage("it switched to what was not asked for")
            return head.raw
        if self.upgrade:
            line = head.raw[: head.raw.index(b"\r\n")]
            dropped = connection_names(head.headers) - {b"transfer-encoding"}
            kept = [(name, value) for name, value in head.headers if name not in dropped]
            return serialize(line, [*kept, (b"connection", b"close")])
        return head.end_to_end()

    async def _pump(self, connection: TargetConnection) -> None:
        """Everything raw until both sides ended."""
        protocol, transport = self.request.protocol, self.request.transport
        if transport is None:
            raise ExchangeFailed("the caller is gone", silent=False)
        early: bytes = getattr(protocol, "_message_tail", b"")
        peer = RawPeer(transport, connection, protocol, early)
        try:
            await peer.done
        finally:
            connection.abort()


def _split(method: str, raw: str) -> tuple[str, bytes, Attributes]:
    """(target, the request target on it, what it asks for).

    Raises:
        BadMessage: a path that could be read in two ways, or that names no target.
    """
    path = parse_path(raw)
    if path.segments[:1] != (PREFIX,) or len(path.segments) < 2:
        raise BadMessage("the path must be /targets/NAME/...")
    name = path.segments[1]
    if len(name) > TARGET_NAME_MAX or not _NAME.fullmatch(name):
        raise BadMessage("that cannot be the name of a target")
    inner = Path(path.segments[2:], path.slash and len(path.segments) > 2, path.query)
    return name, inner.text().encode("ascii"), attributes(method, inner)


_remembered = functools.lru_cache(maxsize=2048)(_split)  # clients ask for the same few paths again and again


def _body_length(request: web.Request, headers: Headers) -> int | None:
    """Bytes of the body, None for chunks.

    Raises:
        BadMessage: a framing or an encoding that is not passed on.
    """
    coding = [value for name, value in headers if name == b"transfer-encoding"]
    lengths = [value for name, value in headers if name == b"content-length"]
    if coding and (lengths or [value.lower() for value in coding] != [b"chunked"]):
        raise BadMessage("the only transfer coding is chunked, and without Content-Length")
    if len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
        raise BadMessage("Content-Length must be one number")
    if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in headers):
        raise BadMessage("bodies must not be compressed", 415)
    return None if coding else int(lengths[0]) if lengths else 0
