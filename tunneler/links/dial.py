"""Dial the hub: TCP, maybe a proxy, TLS 1.3 with a checked certificate, WebSocket handshake."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from tunneler.config import PATH, SUBPROTOCOL
from tunneler.errors import HandshakeRefused
from tunneler.links.base import LinkUser
from tunneler.links.proxies import Proxy
from tunneler.links.raw import RawLink

MAX_HEAD_BYTES = 16 * 1024
MAX_REFUSAL_BYTES = 1024
REFUSAL_SECONDS = 1.0  # for the text of a refusal that does not tell its length, and does not end
DIAL_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class DialTarget:
    """Where to and how.

    Attributes:
        url: ``https://host[:port]``; ``http`` only for loopback, in tests and benchmarks.
        headers: what proves who dials, usually ``Authorization``.
        tls: from `client_tls`; None for ``http``.
        proxy: see `proxies.choose_proxy`.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None


def client_tls(ca_file: str | None = None, *, certificate: tuple[str, str] | None = None) -> ssl.SSLContext:
    """TLS 1.3, the hub's certificate and name checked; ``certificate`` is (chain file, key file) of the agent."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


async def dial(target: DialTarget, make_user: Callable[[], LinkUser]) -> tuple[RawLink, LinkUser]:
    """A raw link to the hub; the user gets messages as soon as it is attached.

    Raises:
        HandshakeRefused: with the hub's or the proxy's HTTP status, or 0 if there was none.
    """
    secure, host, port = hub_address(target.url)
    try:
        async with asyncio.timeout(DIAL_TIMEOUT_SECONDS):
            transport, head = await _connect(target, secure, host, port)
            try:
                return await _upgrade(target, transport, head, make_user)
            except BaseException:
                transport.abort()
                raise
    except TimeoutError as error:
        raise HandshakeRefused(0, f"{host}:{port} did not answer within {DIAL_TIMEOUT_SECONDS:g} s") from error
    except OSError as error:  # ssl.SSLError is one
        raise HandshakeRefused(
            0, f"{host}:{port}: {error!s:.200}" if str(error) else f"{host}:{port}: {type(error).__name__}"
        ) from error


def hub_address(url: str) -> tuple[bool, str, int]:
    """(by TLS, host, port) of a hub's URL.

    Raises:
        HandshakeRefused: no URL of a hub, or plain HTTP to anything but this machine.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or parts.scheme not in ("http", "https"):
        raise HandshakeRefused(0, f"no address of a hub: {url}")
    secure = parts.scheme == "https"
    if not secure and host not in ("127.0.0.1", "::1", "localhost"):
        raise HandshakeRefused(0, "a hub is reached by https only")
    return secure, host, port or (443 if secure else 80)


def refused(status: int, reason: str, headers: Mapping[str, str]) -> HandshakeRefused:
    """The hub answered something else than 101; its Retry-After counts if it is a number of seconds."""
    wait = headers.get("Retry-After", "")
    seconds = float(wait) if wait.isascii() and wait.isdigit() else None
    return HandshakeRefused(status, f"the hub answered {status} {reason}".rstrip(), retry_after_seconds=seconds)


async def _connect(target: DialTarget, secure: bool, host: str, port: int) -> tuple[asyncio.Transport, AnswerHead]:
    loop = asyncio.get_running_loop()
    tls = target.tls or (client_tls() if secure else None)
    if target.proxy is None:
        return await loop.create_connection(
            AnswerHead, host, port, ssl=tls if secure else None, server_hostname=host if secure else None
        )
    transport, head = await loop.create_connection(AnswerHead, target.proxy.host, target.proxy.port)
    try:
        await _pass_proxy(target.proxy, transport, head, host, port)
        if tls is None or not secure:
            return transport, head
        if transport.is_closing():  # start_tls would tell that to the loop's exception handler
            raise ConnectionResetError(errno.ECONNRESET, "the proxy hung up")
        head = AnswerHead()
        upgraded = await loop.start_tls(transport, head, tls, server_hostname=host)
        assert upgraded is not None
        return upgraded, head
    except BaseException:
        transport.abort()
        raise


async def _pass_proxy(proxy: Proxy, transport: asyncio.Transport, head: AnswerHead, host: str, port: int) -> None:
    """CONNECT. Raises HandshakeRefused with the proxy's status."""
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {name} HTTP/1.1", f"Host: {name}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    transport.write(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
    status, reason, _ = await head.read()
    if status != 200:
        raise HandshakeRefused(status, f"proxy {proxy.host}:{proxy.port} answered {status} {reason}")


async def _upgrade(
    target: DialTarget, transport: asyncio.Transport, head: AnswerHead, make_user: Callable[[], LinkUser]
) -> tuple[RawLink, LinkUser]:
    scheme, _, rest = target.url.rstrip("/").partition("://")
    uri = parse_uri(f"{'wss' if scheme == 'https' else 'ws'}://{rest}{PATH}")
    client = ClientProtocol(uri, subprotocols=[Subprotocol(SUBPROTOCOL)])
    request = client.connect()
    for name, value in target.headers.items():
        request.headers[name] = value
    transport.write(request.serialize())
    status, reason, headers = await head.read()
    if status != 101:
        body = await head.body()
        raise refused(status, f"{reason}{': ' + body if body else ''}", headers)
    try:
        client.process_response(Response(status, reason, headers))
    except InvalidHandshake as error:
        raise HandshakeRefused(status, f"no WebSocket of ours: {error}") from error
    if client.subprotocol != SUBPROTOCOL:
        raise HandshakeRefused(status, f"the hub does not speak {SUBPROTOCOL}")
    user = make_user()
    link = RawLink(user, client=True)
    link.take_over(transport)
    if head.rest:
        link.data_received(bytes(head.rest))
    return link, user


class AnswerHead(asyncio.Protocol):
    """Collects the head of one HTTP answer.

    Attributes:
        rest: what came behind it.
        lost: the connection is over.
    """

    def __init__(self) -> None:
        self.rest = bytearray()
        self._changed = asyncio.Event()
        self.lost = False
        self._length = MAX_REFUSAL_BYTES  # of the body as far as it is wanted
        self._why = ""

    def data_received(self, data: bytes) -> None:
        self.rest += data
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._why = f": {exc!s:.200}" if exc is not None else ""
        self._changed.set()

    async def read(self) -> tuple[int, str, Headers]:
        """(status, reason, headers); raises `HandshakeRefused`."""
        while (end := self.rest.find(b"\r\n\r\n")) < 0:
            if self.lost:
                raise HandshakeRefused(0, f"the connection was closed before an answer{self._why}")
            if len(self.rest) > MAX_HEAD_BYTES:
                raise HandshakeRefused(0, "the answer's head is above 16 KiB")
            self._changed.clear()
            await self._changed.wait()
        lines = bytes(self.rest[:end]).decode("latin-1").split("\r\n")
        del self.rest[: end + 4]
        version, _, line = lines[0].partition(" ")
        number, _, reason = line.partition(" ")
        if not version.startswith("HTTP/1.") or len(number) != 3 or not number.isascii() or not number.isdigit():
            raise HandshakeRefused(0, "the answer is no HTTP/1.1")
        headers = Headers()
        for header in lines[1:]:
            name, _, value = header.partition(":")
            headers[name.strip()] = value.strip()
        length = headers.get_all("Content-Length")
        if len(length) == 1 and length[0].isascii() and length[0].isdigit():
            self._length = min(int(length[0]), MAX_REFUSAL_BYTES)
        return int(number), reason, headers

    async def body(self) -> str:
        """The first KiB of what follows, for people; waits a second at most. The connection may be kept behind it."""
        try:
            async with asyncio.timeout(REFUSAL_SECONDS):
                while len(self.rest) < self._length and not self.lost:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        return bytes(self.rest[: self._length]).decode(errors="replace").strip()
