"""A server that ends leaves no socket open, whatever its peers do."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import psutil
import pytest
import trustme
from aiohttp import web

from syncer.serving import clean_up


@pytest.mark.parametrize("tls", [True, False], ids=["TLS", "plain"])
async def test_a_peer_that_says_no_goodbye_is_not_waited_for(tls: bool) -> None:
    authority, trust, own = trustme.CA(), ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(trust)
    authority.issue_cert("127.0.0.1").configure_cert(own)
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=own if tls else None).start()
    port = runner.addresses[0][1]

    def connect() -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", port))
        peer = trust.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain
        peer.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert peer.recv(100).startswith(b"HTTP/1.1 404")
        return peer

    with await asyncio.to_thread(connect):
        assert len(sockets(port)) == 3  # it listens, and a connection has two ends
        await clean_up(runner)
        assert [found for found in sockets(port) if found.laddr.port == port] == []


def sockets(port: int) -> list[Any]:
    """Of this process, at that port."""
    found = psutil.Process().net_connections(kind="tcp")
    return [one for one in found if port in (one.laddr.port, one.raddr.port if one.raddr else 0)]
