"""One hop between replicas: a stream to a target whose agent has its link at another replica.

`GET /replicas/v1/targets/NAME/SERVICE` with `Upgrade: syncline-stream`, over TLS 1.3, with the certificate that only
replicas have. After the 101 the connection is that one stream, byte for byte; it is never used for another. The replica
that is asked uses its own links alone, so nothing is forwarded twice. Who the user is stands in the bytes: the replica
that was asked first has checked it, and replicas believe each other as they believe themselves.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from syncer.hub.identity import peer_certificate
from syncer.hub.members import Record
from syncer.hub.replica_identity import ReplicaIdentity
from syncer.kube import tls
from syncer.metrics import Metrics
from tunneler.errors import HandshakeRefused, LinkLost, NoLink, StreamCode, StreamRefused, TunnelError
from tunneler.links.dial import AnswerHead
from tunneler.ports import P, StreamTransport
from tunneler.relay import SocketEnd, StreamEnd
from tunneler.session import TunnelSession

PATH: Final = "/replicas/v1/targets/"
PROTOCOL: Final = "syncline-stream"
FORWARD_SECONDS: Final = 2.0  # until another replica answered; two that are silent leave room within five
AVOID_SECONDS: Final = 10.0  # one that did not answer is asked last for so long
IDLE_SECONDS: Final = 5  # of a connection, before the kernel asks whether the other side lives, and between questions

log = structlog.get_logger()


class NotForwarded(TunnelError):
    """That replica did not take the stream, and nothing of it reached the agent: another one may be asked."""


def elsewhere(error: TunnelError) -> bool:
    """Whether another way may be tried: this one is closed or full, and nothing of the stream reached the target."""
    if isinstance(error, StreamRefused):
        return error.code is StreamCode.BUSY
    return isinstance(error, NoLink | LinkLost | NotForwarded)


class Forwarder:
    """Asks other replicas for streams.

    Attributes:
        patience_seconds: until another replica must have answered.
    """

    def __init__(self, identity: ReplicaIdentity, metrics: Metrics) -> None:
        self.patience_seconds = FORWARD_SECONDS
        self._identity = identity
        self._count = metrics.tunnel_forwarded_total.labels("out")
        self._open: dict[str, set[asyncio.Transport]] = {}  # {replica: connections to it}
        self._avoided: dict[str, float] = {}  # {replica: until when, by the loop's clock}

    def avoided(self, holder: Record) -> bool:
        """It did not answer a moment ago."""
        return self._avoided.get(holder.replica, 0.0) > asyncio.get_running_loop().time()

    async def open(
        self, holder: Record, target: str, factory: Callable[[], P], service: str
    ) -> tuple[asyncio.Transport, P]:
        """A stream to a target through another replica, after `connection_made`.

        Raises:
            NotForwarded. TunnelError: the agent refused.
        """
        try:
            async with asyncio.timeout(self.patience_seconds):
                transport, head = await self._ask(holder, f"{PATH}{target}/{service}")
        except (TimeoutError, OSError, ValueError, HandshakeRefused) as error:
            why = str(error) or type(error).__name__
            if holder.replica not in self._avoided:
                log.warning("replica does not answer", replica=holder.replica, url=holder.url, reason=why)
            self._avoided[holder.replica] = asyncio.get_running_loop().time() + AVOID_SECONDS
            raise NotForwarded(f"replica {holder.replica} does not answer: {why}") from error
        self._avoided.pop(holder.replica, None)
        connections = self._open.setdefault(holder.replica, set())
        connections.difference_update([one for one in connections if one.is_closing()])
        connections.add(transport)
        self._count.inc()
        protocol = factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if head.rest:
            protocol.data_received(bytes(head.rest))
        return transport, protocol

    def drop(self, replica: str) -> None:
        """A replica is gone: what still waits for it ends."""
        for transport in self._open.pop(replica, ()):
            transport.abort()
        self._avoided.pop(replica, None)

    async def _ask(self, holder: Record, path: str) -> tuple[asyncio.Transport, AnswerHead]:
        parts = urlsplit(holder.url)
        host, port = parts.hostname or "", parts.port or 443
        head = AnswerHead()
        transport = await tls.connect(head, host, port, context=self._identity.context(), server_hostname=host)
        try:
            _watch(transport)
            lines = (f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", "Connection: Upgrade")
            transport.write(("\r\n".join((*lines, f"Upgrade: {PROTOCOL}")) + "\r\n\r\n").encode("ascii"))
            status, reason, _ = await head.read()
            if status == 101:
                if head.lost:  # nobody who comes now would hear of it
                    raise HandshakeRefused(0, "it hung up right behind its answer")
                return transport, head
            text = await head.body()
        except BaseException:
            transport.abort()
            raise
        transport.abort()
        if status == 502:
            raise TunnelError(text)
        raise NotForwarded(f"replica {holder.replica} answered {status} {reason}: {text}")


class ReplicaDoor:
    """Takes streams of other replicas onto links of this one. A door of `HubApi`."""

    def __init__(
        self, identity: ReplicaIdentity, metrics: Metrics, session: Callable[[str], TunnelSession | None]
    ) -> None:
        """Args: session: the link of this replica that a stream to a target may use now."""
        self._identity = identity
        self._count = metrics.tunnel_forwarded_total.labels("in")
        self._session = session

    def add_to(self, app: web.Application) -> None:
        """Its one route."""
        app.router.add_get(PATH + "{target}/{service}", self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One stream, from its request to its end."""
        replica = self._identity.replica(peer_certificate(request))
        if not replica:
            return web.Response(status=403, text="only replicas of this hub are answered here")
        if request.headers.get("Upgrade") != PROTOCOL:
            return web.Response(status=426, text=f"only {PROTOCOL} is spoken here", headers={"Upgrade": PROTOCOL})
        target = request.match_info["target"]
        session = self._session(target)
        if session is None:
            return web.Response(status=503, text=f"no link to {target[:64]} here")
        end = _CallerEnd(request)
        try:
            await session.open_stream(lambda: _AgentEnd(end), request.match_info["service"])
        except TunnelError as error:
            return web.Response(status=503 if elsewhere(error) else 502, text=str(error))
        self._count.inc()
        log.debug("stream of another replica", replica=replica, target=target)
        try:
            await asyncio.shield(end.lost)
        finally:
            end.cut()
        return web.Response()


class _CallerEnd(SocketEnd):
    """The other replica's connection, once it is a stream. TLS ends both directions at once."""

    def __init__(self, request: web.Request) -> None:
        super().__init__()
        self._request = request
        self._former = request.protocol
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take_over(self) -> None:
        """Answer 101; from here on everything is the stream's."""
        transport = self._request.transport
        if transport is None:  # the caller is gone already
            self.lost.set_result(None)
            return
        transport.write(
            f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n".encode()
        )
        _watch(transport)
        transport.set_protocol(self)
        self.connection_made(transport)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._former.connection_lost(exc)
        if not self.lost.done():
            self.lost.set_result(None)

    def cut(self) -> None:
        """End the connection so that nobody takes what was sent for complete."""
        if self.transport is not None:
            _reset(self.transport)


class _AgentEnd(StreamEnd):
    """The stream on our link."""

    def __init__(self, end: _CallerEnd) -> None:
        super().__init__(end)
        self._caller = end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, StreamTransport)
        self._caller.take_over()
        super().connection_made(transport)

    def eof_received(self) -> bool:
        if self._caller.transport is not None:
            self._caller.transport.close()  # sends what is waiting
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._caller.cut()
        super().connection_lost(exc)


def _watch(transport: asyncio.Transport) -> None:
    """No delay, and an end to a connection whose other side is gone without a word."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_NODELAY": 1,
        "TCP_KEEPIDLE": IDLE_SECONDS,
        "TCP_KEEPINTVL": IDLE_SECONDS,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 3000 * IDLE_SECONDS,
    }
    for name, value in options.items():
        if hasattr(socket, name):  # not every system has all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _reset(transport: asyncio.Transport) -> None:
    """End a connection with RST: a plain close could be taken for the end of an answer."""
    if not transport.is_closing():
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
