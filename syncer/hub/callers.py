"""aiohttp's side of a connection, made fit for strangers: few of them, short heads, and one answer to what is no HTTP.

aiohttp limits each header, not a head, and not how many callers wait without a word; each may cost memory before
anybody knows who it is.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from syncer.kube.http1 import HEAD_LIMIT, status_answer

HEAD_SECONDS: Final = 10.0  # for TLS, and again to the end of the first head
STRANGERS: Final = 1024  # connections without a request, 60 KiB each; beyond it the oldest goes
BUSY_SECONDS: Final = 1.0  # after a connection that could not be accepted: no descriptors are left, perhaps
_LOOK_SECONDS: Final = 1.0
_UNKNOWN: Final = frozenset({401, 403, 426, 429})  # answers to somebody whose connection is not worth its memory

FindContext = Callable[[], ssl.SSLContext]
"""The TLS context of this moment."""

log = structlog.get_logger()


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


class Stranger(Protocol):
    """A connection that has asked nothing yet."""

    def cut(self) -> None:
        """End it at once."""


class Strangers:
    """Connections of one listener that have sent no whole head yet, TLS handshakes included, the oldest first.

    Attributes:
        limit: how many there may be.
    """

    def __init__(self, *, limit: int = STRANGERS, seconds: float = HEAD_SECONDS) -> None:
        self.limit = limit
        self._seconds = seconds
        self._since: OrderedDict[Stranger, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._since)

    def add(self, one: Stranger) -> None:
        """One more has connected."""
        loop = asyncio.get_running_loop()
        self._since[one] = loop.time()
        if len(self._since) > self.limit:
            self._since.popitem(last=False)[0].cut()
        if self._timer is None:
            self._timer = loop.call_later(_LOOK_SECONDS, self._look)

    def discard(self, one: Stranger) -> None:
        """It has asked something, or is gone."""
        self._since.pop(one, None)

    def cut_all(self) -> None:
        """End them all."""
        while self._since:
            self._since.popitem(last=False)[0].cut()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while self._since and loop.time() - next(iter(self._since.values())) > self._seconds:
            self._since.popitem(last=False)[0].cut()
        self._timer = loop.call_later(_LOOK_SECONDS, self._look) if self._since else None


class Caller(web.RequestHandler):
    """One connection.

    Attributes:
        handshake: what stood for it among the strangers until now.
    """

    __slots__ = ("_head", "_strangers", "handshake")

    def __init__(self, manager: web.Server, strangers: Strangers, **options: Any) -> None:
        super().__init__(manager, **options)
        self.handshake: _Handshake | None = None
        self._strangers = strangers
        self._head = 0  # bytes of a head that is not whole

    def cut(self) -> None:
        """End the connection at once."""
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def retire(self) -> None:
        """Take no further request: what is being answered is the last."""
        if self._waits:
            self.cut()
        else:
            self.close()

    @property
    def _waits(self) -> bool:
        """For a request, of which a part may have come."""
        return self._waiter is not None and not self._waiter.done()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.handshake is not None:
            self._strangers.discard(self.handshake)
            if not self.handshake.counts():
                self.cut()
            self.handshake = None
        self._strangers.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._strangers.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._request_count:
            self._strangers.discard(self)
        if not self._waits:
            self._head = 0  # a request is in hand: these were its bytes
            return
        self._head += len(data)
        if self._head > HEAD_LIMIT and self.transport is not None:
            self.transport.write(status_answer(431, "the head of the request is too long", close=True))
            self.force_close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if resp.status in _UNKNOWN or request.version < (1, 1):
            resp.force_close()
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP is the caller's fault, and anybody's: it fills no log. All else is a fault of ours."""
        if status == 400:
            log.debug("not HTTP", remote=request.remote, why=type(exc).__name__)  # its text holds what was sent
            message = "the request is not HTTP/1.1, or above a limit"
        else:
            log.error("request failed", path=request.path, status=status, exc_info=exc)
            message = "the request could not be answered; the log says why"
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if self.transport is not None:
            self.transport.write(status_answer(status, message, close=True))
        return Written(keep=False)


class _Handshake:
    """A connection whose TLS is not up yet. asyncio's servers accept those without end, and nobody can end them.

    Attributes:
        counts: whether it began with the context of this moment; else it trusted who may count no more.
    """

    def __init__(
        self, connection: socket.socket, make: Callable[[], Caller], tls: FindContext | None, strangers: Strangers
    ) -> None:
        self.counts: Callable[[], bool] = lambda: True
        self._strangers = strangers
        self._untouched: socket.socket | None = connection
        strangers.add(self)
        self._task = asyncio.get_running_loop().create_task(self._run(connection, make, tls))

    def cut(self) -> None:
        if self._untouched is not None:
            self._untouched.close()  # a task that is cancelled before it began runs not one line
        self._task.cancel()

    async def _run(self, connection: socket.socket, make: Callable[[], Caller], tls: FindContext | None) -> None:
        self._untouched = None
        context, seconds = (None, None) if tls is None else (tls(), HEAD_SECONDS)
        self.counts = lambda: tls is None or tls() is context

        def caller() -> Caller:
            made = make()
            made.handshake = self
            return made

        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                caller, connection, ssl=context, ssl_handshake_timeout=seconds
            )
        except OSError as error:  # TimeoutError and ssl.SSLError are some
            log.debug("connection not made", why=type(error).__name__)
        except Exception:
            log.exception("connection not made")
        finally:
            self._strangers.discard(self)


async def accept(
    listening: socket.socket, make: Callable[[], Caller], tls: FindContext | None, strangers: Strangers
) -> None:
    """Take connections until cancelled.

    Args:
        listening: not blocking.
        make: from `factory`.
        tls: asked for each connection, and again behind its handshake.
    """
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, _ = await loop.sock_accept(listening)
        except OSError as error:
            log.warning("a connection was not accepted", error=str(error))
            await asyncio.sleep(BUSY_SECONDS)
            continue
        _Handshake(connection, make, tls, strangers)


def factory(server: web.Server, strangers: Strangers) -> Callable[[], Caller]:
    """What makes the protocol of each new connection to `server`."""
    loop, options = asyncio.get_running_loop(), server._kwargs
    return lambda: Caller(server, strangers, loop=loop, **options)
