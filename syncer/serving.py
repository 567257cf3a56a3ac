"""The end of an aiohttp server."""

from __future__ import annotations

import asyncio

from aiohttp import web


async def clean_up(runner: web.BaseRunner) -> None:
    """`runner.cleanup()`, behind which no connection is left.

    With TLS aiohttp leaves its side of each connection to wait up to 30 s for the peer's goodbye. Whoever ends the loop
    meanwhile leaves sockets open, and nobody holds them any more. For servers of short answers: of one that its peer
    reads slowly, what is not in the socket yet is lost.
    """
    transports = [one.transport for one in runner.server.connections] if runner.server is not None else []
    await runner.cleanup()
    for transport in transports:
        if transport is not None:
            transport.abort()
    await asyncio.sleep(0)  # they close at the loop's next turn
