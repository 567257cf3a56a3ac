"""Starting and ending HTTP listeners."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from syncer.binds import Bind, flag_name
from syncer.errors import StartError
from syncer.hub.callers import Caller, FindContext, Strangers, accept, factory

# A caller that sends nothing, or reads nothing, is let go.
KEEPALIVE_SECONDS: Final = 30.0
SHUTDOWN_SECONDS: Final = 1.0
MAX_HEADER: Final = 32_768  # bytes of one header line; a bearer token fits
BACKLOG: Final = 1024  # connections that wait to be accepted: agents of a whole fleet may come at once


@dataclass
class Listener:
    """A running listener; `bind` has the real port."""

    runner: web.AppRunner
    bind: Bind
    strangers: Strangers
    accepting: list[asyncio.Task[None]]
    sockets: list[socket.socket]

    def retire_certified(self) -> None:
        """Whoever showed a certificate has to show it again: trust has changed since the handshake."""
        assert self.runner.server is not None
        for caller in self.runner.server.connections:
            assert isinstance(caller, Caller)
            if caller.transport is not None and caller.transport.get_extra_info("peercert"):
                caller.retire()

    async def close(self) -> None:
        """Stop listening; requests in hand get a moment."""
        for task in self.accepting:
            task.cancel()
        await asyncio.gather(*self.accepting, return_exceptions=True)
        for listening in self.sockets:
            listening.close()
        self.strangers.cut_all()
        await self.runner.cleanup()


async def listen(
    app: web.Application,
    bind: Bind,
    *,
    setting: str,
    tls: FindContext | None = None,
    cancel_handlers: bool = False,
    strangers: Strangers | None = None,
) -> Listener:
    """Serve `app`.

    Args:
        setting: name of the setting that gave `bind`, for the message.
        tls: gives the context of each new connection; None: no TLS.
        cancel_handlers: a handler whose caller goes away is cancelled; for answers that may last for ever.
        strangers: limits for callers that nobody knows yet.
    Raises:
        StartError: the address cannot be used.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        handler_cancellation=cancel_handlers,
        keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=SHUTDOWN_SECONDS,
        max_line_size=MAX_HEADER,
        max_field_size=MAX_HEADER,
    )
    await runner.setup()
    assert runner.server is not None
    strangers = Strangers() if strangers is None else strangers
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in await asyncio.get_running_loop().getaddrinfo(
            bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            sockets.append(listening := socket.socket(family, kind, protocol))
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
    except OSError as error:
        for listening in sockets:
            listening.close()
        await runner.cleanup()
        what = os.strerror(error.errno) if error.errno else type(error).__name__
        taken = error.errno == errno.EADDRINUSE
        hint = "another process listens there" if taken else "the address must be one of this machine"
        raise StartError(
            f"cannot listen on {bind}: {what}", f"{hint}; choose another with --{flag_name(setting)}"
        ) from None
    make = factory(runner.server, strangers)
    accepting = [asyncio.create_task(accept(listening, make, tls, strangers)) for listening in sockets]
    host, port = sockets[0].getsockname()[:2]
    return Listener(runner, Bind(str(host), int(port)), strangers, accepting, sockets)
