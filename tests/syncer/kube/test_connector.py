"""Connections that fail half way take nothing else with them, and a name may have several addresses."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import aiohttp
import pytest
import uvloop
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from syncer.kube.connector import TcpConnector

ASKING_SECONDS = 3.0  # aiohttp's own connector aborts the process within one


@pytest.fixture
def dying() -> Iterator[int]:
    """The port of a server that comes, resets each connection during its TLS handshake, and goes, 10 times a second."""
    over = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    port: int = listening.getsockname()[1]

    def accept() -> None:
        with contextlib.suppress(TimeoutError):
            connection, _ = listening.accept()
            with connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def serve() -> None:
        nonlocal listening
        while not over.is_set():
            listening.settimeout(0.05)
            ends = time.monotonic() + 0.05
            with listening:
                while time.monotonic() < ends:
                    accept()
            over.wait(0.05)
            listening = socket.create_server(("127.0.0.1", port), backlog=64)
        listening.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield port
    over.set()
    thread.join()


def test_a_server_that_dies_during_handshakes_costs_no_descriptor_of_others(dying: int) -> None:
    """In a process of its own, which libuv would abort."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.syncer.kube.asking", str(dying), str(ASKING_SECONDS)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    refused, alive = map(int, done.stdout.split())
    assert refused > 100
    assert alive > 10


class Several(AbstractResolver):
    """Every name has two addresses; at the first nobody listens."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in ("127.0.0.2", "127.0.0.1")
        ]

    async def close(self) -> None:
        return


def test_a_name_with_several_addresses_is_reached_at_the_one_that_answers() -> None:
    async def ask() -> str:
        async def hello(_: web.Request) -> web.Response:
            return web.Response(text="hello")

        app = web.Application()
        app.router.add_get("/", hello)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            connector = TcpConnector()
            connector._resolver = Several()
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get(f"http://several.test:{port}/") as answer,
            ):
                assert answer.status == 200
                return await answer.text()
        finally:
            await runner.cleanup()

    assert uvloop.run(ask()) == "hello"


def test_where_no_address_answers_the_last_error_is_told() -> None:
    async def ask() -> None:
        with socket.create_server(("127.0.0.3", 0)) as taken:
            port = taken.getsockname()[1]  # which nobody has at the two addresses
            connector = TcpConnector()
            connector._resolver = Several()
            async with aiohttp.ClientSession(connector=connector) as session:
                with pytest.raises(aiohttp.ClientConnectorError, match=r"several\.test"):
                    await session.get(f"http://several.test:{port}/")

    uvloop.run(ask())
