"""Service `kube-api`: HTTP/1.1 requests from a stream of the tunnel, answered by this cluster's own API server.

One protocol object per stream, and one connection to the API server for it, kept for as long as the stream. Heads are
read and judged (`policy`), bodies pass raw, and neither side can make the other buffer: a full side pauses the other.
After a 101 everything is raw in both directions. Where requests go is a constant of this process; nothing of a request
chooses it. No credential comes in (any `Authorization` is dropped), and ours never goes out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

import structlog

from syncer.agent.api_connection import ApiConnection
from syncer.agent.headers import forwarded
from syncer.agent.policy import BadIdentity, Identity, Policy, read_identity
from syncer.agent.streams import Streams
from syncer.errors import SyncError
from syncer.kube import tls
from syncer.kube.apirequest import Attributes, read_request
from syncer.kube.credentials import ClusterCredentials, Grant
from syncer.kube.http1 import (
    END,
    HEAD_LIMIT,
    BadMessage,
    Chunks,
    RequestHead,
    ResponseHead,
    ResponseReader,
    parse_request_head,
    serialize,
    status_answer,
)

CONNECT_SECONDS: Final = 10.0
GRANT_SECONDS: Final = 5.0  # how long a grant is used without asking whether it is still the one to use
JUDGED: Final = 2048  # answers of the policy that are remembered
JUDGED_HEAD: Final = 4096  # bytes; what a longer head asks for is judged anew, so that memory stays bounded
LINGER_SECONDS: Final = 2.0  # for what is on its way back, once the hub ended a raw stream and TLS cannot say so
log = structlog.get_logger()


class KubeApi:
    """The API server of this cluster, as the hub may use it. Makes one protocol for each stream."""

    def __init__(
        self, credentials: ClusterCredentials, policy: Policy, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Args: credentials: the agent's own; they say where the API server is."""
        self._policy = policy
        self._judged: dict[tuple[Attributes, Identity | None], str] = {}
        self._credentials = credentials
        self._clock = clock
        parts = urlsplit(credentials.server)
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.authority = parts.netloc.encode("ascii")
        self.prefix = parts.path.rstrip("/")
        self._streams: Streams[KubeApiStream] = Streams()
        self._grant: Grant | None = None
        self._asked = 0.0

    @property
    def open_streams(self) -> int:
        """How many the hub has open."""
        return len(self._streams)

    def use(self, policy: Policy) -> bool:
        """Judge by this policy from now on, what is under way too: what it does not allow ends.

        Returns:
            False if it is the one in use.
        """
        if policy == self._policy:
            return False
        self._policy = policy
        self._judged.clear()
        for stream in self._streams:
            stream.judge_again()
        return True

    def refusal(self, asked: Attributes, identity: Identity | None, *, remember: bool = False) -> str:
        """Why a request may not pass, "" if it may."""
        if not remember:
            return self._policy.refusal(asked, identity)
        key = (asked, identity)
        known = self._judged.get(key)
        if known is None:
            if len(self._judged) >= JUDGED:
                self._judged.clear()
            known = self._judged[key] = self._policy.refusal(asked, identity)
        return known

    def protocol(self) -> KubeApiStream:
        """What serves the next stream."""
        return KubeApiStream(self, self._streams)

    def grant_nowait(self) -> Grant | None:
        """The grant in use, None if it is time to ask for it."""
        return self._grant if self._clock() - self._asked < GRANT_SECONDS else None

    async def grant(self) -> Grant:
        """The grant to use now. Raises SyncError: there is none."""
        self._grant = await self._credentials.grant()
        self._asked = self._clock()
        return self._grant

    def rejected(self, grant: Grant) -> None:
        """The API server refused the grant: the next request gets another one."""
        if self._grant is not grant:
            return
        self._grant = None
        task = asyncio.get_running_loop().create_task(self._renew(grant))
        task.add_done_callback(lambda done: None if done.cancelled() else done.exception())

    async def _renew(self, rejected: Grant) -> None:
        self._grant = await self._credentials.grant(rejected)
        self._asked = self._clock()

    async def connect(self, protocol: asyncio.Protocol, grant: Grant) -> asyncio.Transport:
        """A new connection to the API server. Raises OSError or TimeoutError."""
        async with asyncio.timeout(CONNECT_SECONDS):
            if grant.context is not None:
                name = self._credentials.tls_server_name
                return await tls.connect(protocol, self.host, self.port, context=grant.context, server_hostname=name)
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(lambda: protocol, self.host, self.port)
            return transport


class KubeApiStream(asyncio.Protocol):
    """One stream: requests one after another, or one upgrade."""

    def __init__(self, service: KubeApi, streams: Streams[KubeApiStream]) -> None:
        """Args: streams: those that are open; it sees to its own place there."""
        self._service = service
        self._streams = streams
        self._transport: asyncio.Transport | None = None
        self._buffer = b""  # what came and is not yet wanted: a head in pieces, or the next request
        self._searched = 0  # no head ends in the buffer before this
        self._request: RequestHead | None = None  # in hand
        self._asked: tuple[Attributes, Identity | None] | None = None  # with it; stays while the stream is raw
        self._answer: ResponseReader | None = None
        self._left = 0  # bytes of the request's body still to come
        self._chunks: Chunks | None = None
        self._body_done = True
        self._sent = False  # the head has gone to the API server
        self._last = False  # its answer says that none follows on this stream
        self._opening: asyncio.Task[None] | None = None
        self._api: asyncio.Transport | None = None
        self._connection: ApiConnection | None = None
        self._grant: Grant | None = None
        self._raw = False
        self._ended = [False, False]  # raw: the hub, the API server will send no more
        self._api_is_full = False
        self._hub_is_full = False
        self._reading = True
        self._linger: asyncio.TimerHandle | None = None

    # From the hub.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._streams.add(self)

    def data_received(self, data: bytes) -> None:
        if self._raw:
            assert self._api is not None
            self._api.write(data)
            return
        if self._request is not None and self._sent and not self._body_done:
            self._body(data)
        else:
            self._buffer += data
            if self._request is None:
                self._next()
        self._pace()

    def eof_received(self) -> bool:
        if self._raw:
            self._ended[0] = True
            self._end_towards_api()
            return True
        # As with Go's server: who asks and then ends is gone. Else a quiet watch would stay for ever.
        self._close(abort=self._request is not None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._streams.discard(self)
        self._transport = None
        self._close(abort=exc is not None or not self._raw)

    def pause_writing(self) -> None:
        self._hub_is_full = True
        if self._api is not None:
            self._api.pause_reading()
        self._pace()

    def resume_writing(self) -> None:
        self._hub_is_full = False
        if self._api is not None:
            self._api.resume_reading()
        self._next()
        self._pace()

    def judge_again(self) -> None:
        """The policy changed."""
        if self._asked is not None and (refusal := self._service.refusal(*self._asked)):
            self._audit(*self._asked, refusal)
            self._close(abort=True)

    # The link's drain.

    @property
    def rests(self) -> bool:
        """Nothing is asked, not even in part, and nothing new should be: the link drains."""
        return self._request is None and not self._buffer and self._drains

    def leave(self) -> None:
        """End what rests."""
        self._close()

    @property
    def _drains(self) -> bool:
        return self._transport is not None and bool(self._transport.get_extra_info("draining"))

    # Requests.

    def _next(self) -> None:
        """Take the next request out of the buffer, if it is whole, and if its answer would be read."""
        while self._request is None and self._buffer and self._transport is not None and not self._hub_is_full:
            end = self._buffer.find(END, self._searched)
            if end > HEAD_LIMIT or (end < 0 and len(self._buffer) > HEAD_LIMIT):
                self._refuse(431, "the head of the request is too long", close=True)
                return
            if end < 0:
                self._searched = max(0, len(self._buffer) - len(END) + 1)
                return
            head, self._buffer, self._searched = self._buffer[: end + 4], self._buffer[end + 4 :], 0
            self._accept(head)

    def _accept(self, data: bytes) -> None:
        try:
            request = parse_request_head(data)
            target, asked = read_request(request.method, request.target)
            identity = read_identity(request.headers)
        except BadMessage as error:
            self._refuse(error.status, str(error), close=True)
            return
        except BadIdentity as error:
            self._refuse(400, str(error), close=True)
            return
        if refusal := self._service.refusal(asked, identity, remember=len(data) <= JUDGED_HEAD):
            self._audit(asked, identity, refusal)
            close = request.has_body or bool(request.upgrade) or not request.keep_alive
            self._refuse(403, refusal, close=close, head=request.method == "HEAD")
            return
        self._request, self._asked = request, (asked, identity)
        self._answer = ResponseReader(request.method, self._on_head)
        self._left = request.length or 0
        self._chunks = Chunks(self._chunk) if request.length is None else None
        self._body_done = request.length == 0
        self._sent = False
        grant = self._service.grant_nowait()
        target = self._service.prefix + target
        if grant is not None and self._api is not None and not self._api.is_closing():
            self._send(request, target, grant)
        else:
            self._opening = asyncio.get_running_loop().create_task(self._open(request, target))

    async def _open(self, request: RequestHead, target: str) -> None:
        """Get what is missing: a grant, a connection."""
        try:
            grant = await self._service.grant()
            if self._api is None or self._api.is_closing():
                self._connection = ApiConnection(self)
                self._api = await self._service.connect(self._connection, grant)
        except (SyncError, OSError, TimeoutError) as error:
            log.warning("the API server cannot be reached", server=self._service.authority.decode(), error=str(error))
            self._refuse(503, "the agent cannot reach its API server", retry_after=1, close=True)
            return
        finally:
            self._opening = None
        if self._transport is None or self._transport.is_closing():
            self._api.abort()
            return
        self._send(request, target, grant)
        self._pace()

    def _send(self, request: RequestHead, target: str, grant: Grant) -> None:
        assert self._api is not None
        self._grant = grant
        line = b"%b %b HTTP/1.1" % (request.method.encode("ascii"), target.encode("ascii"))
        self._sent = True
        self._api.write(serialize(line, forwarded(request, self._service.authority, grant.authorization)))
        if self._buffer and not self._body_done:
            buffer, self._buffer = self._buffer, b""
            self._body(buffer)

    def _body(self, data: bytes) -> None:
        """Bytes of the request's body, and perhaps the beginning of the next request."""
        assert self._api is not None
        if self._chunks is not None:
            try:
                self._chunks.feed(data)
            except BadMessage as error:
                self._fail(error)
                return
            if self._chunks.done:
                self._body_done = True
                self._api.write(b"0\r\n\r\n")
        else:
            part = data[: self._left]
            self._left -= len(part)
            self._api.write(part)
            self._body_done = self._left == 0
            self._buffer += data[len(part) :]
        self._finish()

    def _chunk(self, data: bytes) -> None:
        # Written anew: extensions and trailers are where two readers part ways.
        assert self._api is not None
        self._api.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _refuse(
        self, status: int, message: str, *, retry_after: int = 0, close: bool = False, head: bool = False
    ) -> None:
        """Answer in place of the API server; the request has not reached it."""
        if self._transport is None:
            return
        head = head or (self._request is not None and self._request.method == "HEAD")
        self._transport.write(status_answer(status, message, retry_after=retry_after, close=close, head=head))
        if close:
            self._close()

    def _audit(self, asked: Attributes, identity: Identity | None, why: str) -> None:
        who = identity or Identity("")
        log.warning("request refused", asked=str(asked), user=who.user[:256], groups=who.groups[:32], reason=why)

    # From the API server.

    def api_data(self, data: bytes) -> None:
        """Bytes of the answer."""
        if self._transport is None:
            return
        if self._raw:
            self._transport.write(data)
            return
        if self._answer is None or not self._sent:
            self._close(abort=True)  # it speaks without being asked
            return
        try:
            passed = self._answer.feed(data)
        except BadMessage as error:
            self._fail(error)
            return
        if passed and self._transport is not None:
            self._transport.write(passed)
        if self._answer is not None and self._answer.switched:
            self._switch()
        else:
            self._finish()

    def _on_head(self, head: ResponseHead) -> bytes:
        request = self._request
        assert request is not None
        if head.status == 101:
            if not request.upgrade or head.header(b"upgrade").lower() != request.upgrade.lower():
                raise BadMessage("the API server switched to what was not asked for")
            return head.raw
        if head.status == 401 and self._grant is not None:
            self._service.rejected(self._grant)
            raise _OwnCredentialRefused("the API server refuses the agent's own credential")
        # The connection of an upgrade is never used again, whatever the API server makes of it.
        self._last = bool(request.upgrade) or self._drains
        return head.end_to_end(closing=self._last)

    def _switch(self) -> None:
        assert self._api is not None
        self._raw = True
        buffer, self._buffer = self._buffer, b""
        if buffer:
            self._api.write(buffer)
        self._pace()

    def _finish(self) -> None:
        """Go on once the answer is whole."""
        answer, request = self._answer, self._request
        if answer is None or request is None or not answer.complete:
            return
        again = answer.reusable and self._body_done and request.keep_alive and not self._last
        self._request = self._answer = self._chunks = self._asked = None
        if not again:
            self._close()
            return
        self._next()
        self._pace()

    def _fail(self, error: BadMessage) -> None:
        """An exchange that cannot be completed: said if nothing was said yet, else cut."""
        answer = self._answer
        if isinstance(error, _OwnCredentialRefused):
            log.warning("the agent's credential is refused", server=self._service.authority.decode())
            self._refuse(503, str(error), retry_after=1, close=True)
        elif answer is None or answer.head is None or answer.switched:
            log.warning("exchange broken", error=str(error))
            self._refuse(502, str(error), close=True)
        else:
            self._close(abort=True)

    def api_eof(self) -> bool:
        """The API server sends no more. True keeps our direction open."""
        if self._transport is None:
            return False
        if self._raw:
            self._ended[1] = True
            if self._transport.can_write_eof() and not self._ended[0]:
                self._transport.write_eof()
                return self._api is not None and self._api.can_write_eof()  # TLS ends both directions at once
            return False
        if self._answer is not None and self._answer.feed_eof():
            self._finish()
        return False

    def api_lost(self, connection: ApiConnection) -> None:
        """The connection to the API server is gone."""
        if connection is not self._connection:
            return
        self._api = self._connection = None
        if self._transport is None or self._transport.is_closing():
            return
        if self._request is None or self._raw:
            self._close()
        elif self._answer is not None and self._answer.head is None:
            # It may have acted before it went: no Retry-After, for clients repeat writes on that.
            self._refuse(502, "the API server closed the connection before it answered", close=True)
        else:
            self._close(abort=True)

    def api_full(self, full: bool) -> None:
        """The API server takes no more for now, or takes it again."""
        self._api_is_full = full
        self._pace()

    # Both.

    def _pace(self) -> None:
        """Read from the hub only what can be passed on or is a request's head."""
        unread = self._hub_is_full and self._request is None  # answers wait for the hub: no further questions
        wanted = not self._api_is_full and not unread and len(self._buffer) <= HEAD_LIMIT
        if self._transport is None or self._transport.is_closing() or wanted == self._reading:
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _end_towards_api(self) -> None:
        assert self._api is not None
        if self._ended[1]:
            self._close()
        elif self._api.can_write_eof():
            self._api.write_eof()
        elif self._linger is None:  # TLS ends both directions at once
            self._linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._close)

    def _close(self, *, abort: bool = False) -> None:
        """End both sides; without `abort` what was written still leaves."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._opening is not None and asyncio.current_task() is not self._opening:
            self._opening.cancel()
        self._request = self._answer = self._asked = None
        self._buffer = b""
        api, self._api, self._connection = self._api, None, None
        if api is not None and not api.is_closing():
            if self._raw and not abort:
                api.close()
            else:
                api.abort()
        if self._transport is not None and not self._transport.is_closing():
            if abort:
                self._transport.abort()
            else:
                self._transport.close()


class _OwnCredentialRefused(BadMessage):
    """401 from our own API server: not the hub's fault, and not the user's."""
