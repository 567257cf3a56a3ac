"""Starting and ending HTTP listeners."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from syncer.hub.callers import HEAD_SECONDS, Strangers, factory
from syncer.settings import Bind, StartError, flag_name

# A caller that sends nothing, or reads nothing, is let go.
KEEPALIVE_SECONDS: Final = 30.0
SHUTDOWN_SECONDS: Final = 1.0
MAX_HEADER: Final = 32_768  # bytes of one header line; a bearer token fits
BACKLOG: Final = 1024  # connections that wait to be accepted: agents of a whole fleet may come at once


@dataclass
class Listener:
    """A running listener; `bind` has the real port."""

    runner: web.AppRunner
    server: asyncio.Server
    bind: Bind
    strangers: Strangers

    async def close(self) -> None:
        """Stop listening; requests in hand get a moment."""
        self.server.close()
        await self.runner.cleanup()


async def listen(
    app: web.Application,
    bind: Bind,
    *,
    setting: str,
    tls: ssl.SSLContext | None = None,
    cancel_handlers: bool = False,
    strangers: Strangers | None = None,
) -> Listener:
    """Serve `app`.

    Args:
        setting: name of the setting that gave `bind`, for the message.
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
    try:
        server = await asyncio.get_running_loop().create_server(
            factory(runner.server, strangers),
            bind.host,
            bind.port,
            ssl=tls,
            ssl_handshake_timeout=HEAD_SECONDS if tls is not None else None,
            reuse_address=True,
            backlog=BACKLOG,
        )
    except OSError as error:
        await runner.cleanup()
        what = os.strerror(error.errno) if error.errno else type(error).__name__
        taken = error.errno == errno.EADDRINUSE
        hint = "another process listens there" if taken else "the address must be one of this machine"
        raise StartError(
            f"cannot listen on {bind}: {what}", f"{hint}; choose another with --{flag_name(setting)}"
        ) from None
    host, port = server.sockets[0].getsockname()[:2]
    return Listener(runner, server, Bind(str(host), int(port)), strangers)
