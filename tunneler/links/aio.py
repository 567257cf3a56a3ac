"""A link through aiohttp's own WebSocket: the alternative, where owning the transport is not possible.

Dearer for large messages, equal for small ones. One task reads, one writes, and neither waits for the other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import web

from tunneler.config import MAX_MESSAGE_BYTES, PATH, SUBPROTOCOL
from tunneler.errors import HandshakeRefused
from tunneler.links.base import LinkUser
from tunneler.links.dial import DIAL_TIMEOUT_SECONDS, DialTarget, client_tls, hub_address, refused
from tunneler.links.raw import HIGH_WATER_BYTES, LINGER_SECONDS

WebSocket = aiohttp.ClientWebSocketResponse | web.WebSocketResponse


class AiohttpLink:
    """One WebSocket of aiohttp, of a client or a server; `run` lives as long as it."""

    def __init__(self, user: LinkUser, socket: WebSocket) -> None:
        self._user = user
        self._socket = socket
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._wake = asyncio.Event()
        self._close: tuple[int, str] | None = None
        self._paused = False
        self._reason = "connection closed"

    def send_message(self, message: bytes) -> None:
        if self._close is not None:
            return
        self._queue.append(message)
        self._queued += len(message)
        self._wake.set()
        if self._queued > HIGH_WATER_BYTES and not self._paused:
            self._paused = True
            self._user.pause_writing()

    def close(self, code: int, reason: str) -> None:
        if self._close is None:
            self._close = (code, reason)
            self._reason = reason
            self._wake.set()

    def get_extra_info(self, name: str) -> Any:
        return self._socket.get_extra_info(name)

    async def run(self) -> None:
        """Read until the end; then the session hears `link_lost`."""
        writer = asyncio.create_task(self._write())
        reader = asyncio.create_task(self._read())
        try:
            done, _ = await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (error := task.exception()) is not None:
                    self._reason = f"{type(error).__name__}: {error}"
        finally:
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
            self._user.link_lost(self._reason)

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                self._reason = f"a WebSocket message of type {message.type.name}"
                return
            self._user.message_received(message.data)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                message = self._queue.popleft()
                await self._socket.send_bytes(message)
                self._queued -= len(message)
                if self._paused and self._queued <= HIGH_WATER_BYTES // 4:
                    self._paused = False
                    self._user.resume_writing()
            if self._close is not None:
                code, reason = self._close
                async with asyncio.timeout(LINGER_SECONDS):
                    await self._socket.close(code=code, message=reason.encode()[:120])
                return


def server_socket() -> web.WebSocketResponse:
    """The server's end, to be prepared with the request."""
    return web.WebSocketResponse(protocols=(SUBPROTOCOL,), max_msg_size=MAX_MESSAGE_BYTES + 1, compress=False)


async def dial_aiohttp(target: DialTarget, make_user: Callable[[], LinkUser]) -> tuple[AiohttpLink, LinkUser]:
    """As `dial.dial`, by aiohttp's client.

    Raises:
        HandshakeRefused: with the hub's HTTP status, or 0 if there was none.
    """
    hub_address(target.url)
    tls = target.tls or client_tls()
    proxy = target.proxy
    client = aiohttp.ClientSession(trust_env=False)
    try:
        async with asyncio.timeout(DIAL_TIMEOUT_SECONDS):
            socket = await client.ws_connect(
                target.url.rstrip("/") + PATH,
                protocols=(SUBPROTOCOL,),
                headers=target.headers,
                ssl=tls,
                compress=0,
                max_msg_size=MAX_MESSAGE_BYTES + 1,
                proxy=f"http://{proxy.host}:{proxy.port}" if proxy is not None else None,
                proxy_headers={"Proxy-Authorization": proxy.authorization}
                if proxy is not None and proxy.authorization
                else None,
            )
    except aiohttp.WSServerHandshakeError as error:
        await client.close()
        raise refused(error.status, "", error.headers or {}) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        await client.close()
        raise HandshakeRefused(0, f"{type(error).__name__}: {error}") from error
    except BaseException:
        await client.close()
        raise
    user = make_user()
    link = AiohttpLink(user, socket)

    async def run() -> None:
        async with client:
            await link.run()

    task = asyncio.create_task(run())
    _RUNNING.add(task)
    task.add_done_callback(_RUNNING.discard)
    return link, user


_RUNNING: set[asyncio.Task[None]] = set()
"""Tasks of links that live; the loop itself holds them weakly."""
