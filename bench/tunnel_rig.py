"""A tunnel for load tools: ``python -m bench.tunnel_rig --listen 127.0.0.1:A --target 127.0.0.1:B``.

Hub and agent run as two processes with one link between them. Each TCP connection accepted at A becomes one stream
to B. Prints ``ready`` when connections are taken; ends with SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import ssl
import sys
import tempfile
from collections.abc import Awaitable
from pathlib import Path

import trustme
import uvloop
from aiohttp import web

from tunneler.config import TunnelConfig
from tunneler.core import Role
from tunneler.errors import StreamCode, StreamRefused
from tunneler.frames import Hello, HelloOk
from tunneler.links.aio import dial_aiohttp
from tunneler.links.base import Link, LinkUser
from tunneler.links.dial import DialTarget, client_tls, dial
from tunneler.links.listen import Peer, TunnelListener
from tunneler.ports import StreamRequest
from tunneler.relay import SocketEnd, StreamEnd, dial_tcp
from tunneler.session import TunnelSession

# A load tool opens connections faster than any hub of ours opens streams: the open rate is no subject here.
CONFIG = TunnelConfig(open_rate_per_second=100_000, open_burst=100_000)


def address(text: str) -> tuple[str, int]:
    """``host:port``."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


async def hub(listen: tuple[str, int], tls_dir: str, link_kind: str) -> None:
    """Accept one agent, then connections at ``listen``. Says ``port N``, then ``ready``."""
    loop = asyncio.get_running_loop()
    sessions: list[TunnelSession] = []
    up = asyncio.Event()

    def admit(session: TunnelSession, hello: Hello) -> HelloOk:
        sessions.append(session)
        up.set()
        return HelloOk(session="rig")

    async def authenticate(request: web.Request) -> Peer:
        return Peer("rig")

    app = web.Application()
    TunnelListener(CONFIG, authenticate, admit, own_transport=link_kind == "websockets").add_to(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    context = None
    if tls_dir:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(f"{tls_dir}/hub.pem")
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    say(f"port {runner.addresses[0][1]}")
    await up.wait()

    class Accepted(SocketEnd):
        """One connection of the load tool."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            try:
                sessions[-1].open_stream_nowait(lambda: StreamEnd(self), "tcp")
            except StreamRefused:
                transport.close()

    await loop.create_server(Accepted, *listen, backlog=1024)
    say("ready")
    await sessions[-1].closed


async def agent(url: str, target: tuple[str, int], tls_dir: str, link_kind: str) -> None:
    """Dial the hub and serve ``tcp`` until the session ends."""

    async def connect() -> StreamEnd:
        try:
            return await dial_tcp(*target)
        except OSError as error:
            raise StreamRefused(StreamCode.DIAL_FAILED, str(error)) from error

    def tcp(request: StreamRequest) -> Awaitable[asyncio.Protocol]:
        return connect()

    def make() -> LinkUser:
        return TunnelSession(
            Role.AGENT, CONFIG, peer="hub", hello=Hello(agent="rig", instance=str(os.getpid())), services={"tcp": tcp}
        )

    tls = client_tls(f"{tls_dir}/ca.pem") if tls_dir else None
    link: Link
    if link_kind == "websockets":
        link, session = await dial(DialTarget(url, tls=tls), make)
    else:
        link, session = await dial_aiohttp(DialTarget(url, tls=tls), make)
    assert isinstance(session, TunnelSession)
    session.attach(link)
    await session.closed


async def parent(arguments: argparse.Namespace) -> int:
    """Start both, pass on ``ready``, end both."""
    me = [sys.executable, "-m", "bench.tunnel_rig", "--listen", arguments.listen, "--target", arguments.target]
    me += ["--link", arguments.link]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.tls:
            authority = trustme.CA()
            authority.cert_pem.write_to_path(f"{folder}/ca.pem")
            authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(f"{folder}/hub.pem")
            me += ["--tls-dir", folder]
        one = await asyncio.create_subprocess_exec(*me, "--role", "hub", stdout=asyncio.subprocess.PIPE)
        assert one.stdout is not None
        port = (await one.stdout.readline()).split()[1].decode()
        url = f"{'https' if arguments.tls else 'http'}://127.0.0.1:{port}"
        two = await asyncio.create_subprocess_exec(*me, "--role", "agent", "--url", url)
        say((await one.stdout.readline()).decode().strip())
        say(f"pids {one.pid} {two.pid}")
        done = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, done.set)
        waits = {asyncio.ensure_future(wait) for wait in (done.wait(), one.wait(), two.wait())}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for process in (one, two):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
        for wait in waits:
            wait.cancel()
    return 0 if done.is_set() else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tunnel_rig", description=__doc__)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--target", required=True, metavar="HOST:PORT")
    parser.add_argument("--link", choices=["websockets", "aiohttp"], default="websockets")
    parser.add_argument("--tls", action="store_true", help="TLS 1.3 between hub and agent")
    parser.add_argument("--role", choices=["hub", "agent"], help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--tls-dir", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role == "hub":
        work = hub(address(arguments.listen), arguments.tls_dir, arguments.link)
    elif arguments.role == "agent":
        work = agent(arguments.url, address(arguments.target), arguments.tls_dir, arguments.link)
    else:
        return uvloop.run(parent(arguments))
    profile = os.environ.get("SYNCLINE_RIG_PROFILE")  # a folder: cProfile of each process goes there
    if profile:
        import cProfile

        profiler = cProfile.Profile()
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            profiler.runcall(uvloop.run, work)
        profiler.dump_stats(Path(profile) / f"{arguments.role}.prof")
        return 0
    uvloop.run(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
