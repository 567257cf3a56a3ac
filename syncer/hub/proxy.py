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

from syncer.api.common import TARGET_NAME_MAX, TARGET_NAME_PATTERN
from syncer.api.keys import GroupResource
from syncer.api.names import GROUP
from syncer.errors import SyncError
from syncer.hub.auth import Access, Authenticator, Authorizer
from syncer.hub.callers import Written
from syncer.hub.proxy_exchange import (
    Dialer,
    ExchangeFailed,
    RawPeer,
    TargetConnection,
    TargetPool,
    TargetUnavailable,
    UnknownTarget,
)
from syncer.hub.proxy_headers import from_web_page, lowered, passed_back, passed_on, upgrade_of
from syncer.kube.apirequest import CHANNELS, REMEMBERED_LENGTH, Attributes, Path, attributes, parse_path
from syncer.kube.http1 import HEAD_LIMIT, BadMessage, Headers, ResponseHead, body_length, serialize, status_answer

PREFIX: Final = "targets"
TARGETS: Final = GroupResource(GROUP, "synctargets")
_VERBS: Final = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAME: Final = re.compile(TARGET_NAME_PATTERN)
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
OPEN_SECONDS: Final = 15.0  # for a link, and its agent's yes to a stream
ANSWER_SECONDS: Final = 65.0  # from a whole request to the head of its answer; API servers give up after 60

log = structlog.get_logger()


class Refused(Exception):
    """An answer of our own; the target has not seen the request."""

    def __init__(self, status: int, message: str, *, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class TargetProxy:
    """Requests below `/targets/`. It authenticates by itself; an answer that has begun may last for ever."""

    def __init__(
        self,
        authenticator: Authenticator,
        authorizer: Authorizer,
        dialer: Dialer,
        *,
        open_seconds: float = OPEN_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._pool = TargetPool(dialer)
        self._open_seconds = open_seconds
        self._answer_seconds = answer_seconds

    def add_to(self, app: web.Application) -> None:
        """Serve the paths in an application. Run it with `handler_cancellation`, or quiet watches of callers that
        are gone stay until their target speaks."""
        app.router.add_route("*", rf"/{PREFIX}/{{rest:[\s\S]*}}", self.handle, expect_handler=_expect)

    def close(self) -> None:
        """End the connections that wait; those in use end with their exchange."""
        self._pool.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        try:
            return await self._answer(request)
        except ConnectionError:
            return Written(keep=False)  # the caller is gone

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._handle(request)
        except BadMessage as error:
            answer = await self._say(request, Refused(error.status, str(error)), close=True)
            request.protocol.force_close()  # nobody knows where the next request begins
            return answer
        except Refused as error:
            # Whom nobody knows keeps no connection: those cost memory.
            return await self._say(request, error, close=request.can_read_body or error.status == 401)
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
        )
        await request.writer.write(answer)
        return Written(keep=not close and request.keep_alive)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers = lowered(request.raw_headers)
        if request.version != (1, 1):
            raise BadMessage("only HTTP/1.1 is spoken here", 505)
        method, raw = request.method, request.raw_path
        if sum(len(name) + len(value) + 4 for name, value in headers) + len(raw) > HEAD_LIMIT:
            raise BadMessage("the head of the request is too long", 431)
        target, path, asked = (_split if len(raw) > REMEMBERED_LENGTH else _remembered)(method, raw)
        if sum(name == b"host" for name, _ in headers) != 1:
            raise BadMessage("there must be exactly one Host")
        upgrade, length = upgrade_of(headers), _body_length(headers)
        if upgrade and length != 0:
            raise BadMessage("an upgrade cannot have a body")
        if from_web_page(headers):
            raise Refused(403, "requests of web pages are not answered")
        user = await self._authenticator.identify(request)
        if user is None:
            raise Refused(401, "send your upstream credential: a bearer token or a client certificate")
        channel = bool(upgrade) or asked.subresource in CHANNELS
        verb = "create" if channel else _VERBS[request.method]
        access = Access(verb, TARGETS, name=target, subresource="proxy")
        if not await self._authorizer.allows(user, access):
            raise Refused(403, f'user "{user.name}" may not {verb} synctargets/proxy of {target} upstream')
        await _invite_body(request, headers)
        line = b"%b %b HTTP/1.1" % (method.encode("ascii"), path)
        head = serialize(line, passed_on(headers, user, upgrade=upgrade, length=length))
        if channel:
            log.info("channel opened", user=user.name, target=target, asked=str(asked))
        exchange = _Exchange(request, upgrade, length, None if _lasts(asked) else self._answer_seconds)
        return await self._exchange(exchange, target, head)

    async def _exchange(self, exchange: _Exchange, target: str, head: bytes) -> web.StreamResponse:
        request, upgrade = exchange.request, exchange.upgrade
        connection = None if upgrade else self._pool.kept(target)
        if connection is not None:
            try:
                return await self._run(exchange, target, connection, head)
            except ExchangeFailed as error:
                # A kept connection may have ended just now. Only what changes nothing is asked twice.
                if not error.silent or request.method not in _SAFE_METHODS or exchange.wrote:
                    return await self._broken(exchange, target, error)
        try:
            async with asyncio.timeout(self._open_seconds):
                connection = await self._pool.open(target)
        except TimeoutError:
            why = f"its agent did not answer within {self._open_seconds:g} s"
            raise Refused(504, f"target {target} cannot be reached: {why}", retry_after=1) from None
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
        return await self._say(exchange.request, Refused(error.status, f"target {target}: {error}"), close=True)


class _Exchange:
    """One request on its way: its body out, the answer back."""

    def __init__(self, request: web.Request, upgrade: bytes, length: int | None, answer_seconds: float | None) -> None:
        """Args: answer_seconds: how long the target may take to begin its answer; None: for ever."""
        self.request = request
        self.wrote = False  # bytes of the answer went to the caller
        self.upgrade = upgrade
        self._length = length
        self._answer_seconds = answer_seconds

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
            data = await self._first(connection, sending)
            while data:
                self.wrote = True
                await writer.write(data)
                await writer.drain()
                data = await connection.read()
            if connection.switched:
                await self._pump(connection)
                return False
            if sending is not None:
                if not sending.done():
                    return False  # answered before it had read everything: neither side can be used again
                await sending
            # Where the end of the connection is the end of the answer, the caller must see it.
            return self.request.keep_alive and connection.framed
        finally:
            if sending is not None and not sending.done():
                sending.cancel()
                connection.abort()

    async def _first(self, connection: TargetConnection, sending: asyncio.Task[None] | None) -> bytes:
        """As `TargetConnection.read`, but not for ever once the whole request is sent."""
        seconds = self._answer_seconds
        if seconds is None:
            return await connection.read()
        loop, waiting = asyncio.get_running_loop(), True

        def sent(_: object) -> None:
            if waiting:  # the answer may have come in the same turn
                limit.reschedule(loop.time() + seconds)

        try:
            async with asyncio.timeout(None if sending is not None else seconds) as limit:
                if sending is not None:
                    sending.add_done_callback(sent)
                try:
                    return await connection.read()
                finally:
                    waiting = False
        except TimeoutError:
            raise ExchangeFailed(f"it did not answer within {seconds:g} s", silent=False, status=504) from None

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
        return passed_back(head, upgrade=self.upgrade)

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


def _body_length(headers: Headers) -> int | None:
    """Bytes of the body, None for chunks.

    Raises:
        BadMessage: a framing or an encoding that is not passed on.
    """
    if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in headers):
        raise BadMessage("bodies must not be compressed", 415)
    length = body_length(headers)
    return 0 if length == -1 else length


def _lasts(asked: Attributes) -> bool:
    """Whether nobody knows when the target will have something to say: a watch, a channel, a log that is followed."""
    return asked.verb == "watch" or asked.subresource in CHANNELS or asked.subresource in ("log", "proxy")


async def _expect(request: web.Request) -> None:
    """Not yet: who sends `Expect: 100-continue` is told to go on once it is known who that is."""


async def _invite_body(request: web.Request, headers: Headers) -> None:
    """Answer `Expect`, which ends here."""
    expected = [value.lower() for name, value in headers if name == b"expect"]
    if not expected:
        return
    if expected != [b"100-continue"]:
        raise Refused(417, "the only expectation that is met is 100-continue")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
