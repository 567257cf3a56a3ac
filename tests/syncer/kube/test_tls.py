"""What a peer sent before it hung up arrives, however slowly it is read: uvloop's own TLS transports lose the end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trustme
import uvloop

from syncer.kube.tls import connect

ATTEMPTS = 600
SIZE = 200_000  # below what a TLS transport reads ahead


def serve_and_hang_up(listening: socket.socket, context: ssl.SSLContext) -> None:
    connection, _ = listening.accept()
    with context.wrap_socket(connection, server_side=True) as peer:
        peer.sendall(b"x" * SIZE)
        peer.shutdown(socket.SHUT_WR)  # as Go does: nobody waits for a goodbye
        peer.settimeout(10)
        while peer.recv(1024):
            pass


class Slow(asyncio.Protocol):
    """Pauses at the first bytes."""

    def __init__(self) -> None:
        self.received = 0
        self.over = asyncio.Event()
        self.pause: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self.pause is not None:
            self.pause()
            self.pause = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_nothing_is_lost_when_the_peer_hangs_up_on_a_paused_reader(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """`kubectl cp` from a Pod lost its last bytes by that."""
    authority = trustme.CA()
    here, there = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(here)
    authority.issue_cert("127.0.0.1").configure_cert(there)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]

    async def read() -> int:
        slow = Slow()
        transport = await connect(slow, "127.0.0.1", port, context=here, server_hostname=None)
        if slow.received:
            transport.pause_reading()
        else:
            slow.pause = transport.pause_reading
        await asyncio.sleep(0.3)
        assert not slow.over.is_set()
        transport.resume_reading()
        await asyncio.wait_for(slow.over.wait(), 10)
        return slow.received

    serving = threading.Thread(target=serve_and_hang_up, args=(listening, there), daemon=True)
    serving.start()
    coroutine: Coroutine[Any, Any, int] = read()
    with asyncio.Runner(loop_factory=loop) as runner, listening:
        assert runner.run(coroutine) == SIZE
    serving.join(10)


def test_a_peer_that_hangs_up_before_tls_is_an_error_of_the_caller_alone() -> None:
    """The loop's exception handler, which writes a traceback into the log, hears nothing of it."""
    told: list[dict[str, Any]] = []
    trust = ssl.create_default_context()
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    port = listening.getsockname()[1]

    def hang_up() -> None:
        for _ in range(ATTEMPTS):
            connection, _ = listening.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    async def attempt() -> None:
        with pytest.raises(OSError):  # noqa: PT011 - whichever the system tells
            await connect(asyncio.Protocol(), "127.0.0.1", port, context=trust, server_hostname="a")

    async def attempts() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        for _ in range(ATTEMPTS // 10):
            await asyncio.gather(*(attempt() for _ in range(10)))

    serving = threading.Thread(target=hang_up, daemon=True)
    serving.start()
    with listening:
        uvloop.run(attempts())
        serving.join(10)
    assert told == []
