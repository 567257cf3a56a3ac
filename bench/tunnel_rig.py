"""A tunnel for load tools: ``python -m bench.tunnel_rig --listen 127.0.0.1:A --target 127.0.0.1:B``.

Hub and agent run as two processes with one link between them. Each TCP connection accepted at A becomes one stream
to B. Prints ``ready`` when connections are taken, then the two process ids; ends with SIGINT or SIGTERM.
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
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Literal

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
from tunneler.ports import Services, StreamRequest
from tunneler.relay import SocketEnd, StreamEnd, dial_tcp
from tunneler.session import TunnelSession

LinkKind = Literal["websockets", "aiohttp"]
LINKS: tuple[LinkKind, ...] = ("websockets", "aiohttp")
END_SECONDS = 10.0

# A load tool opens connections faster than any hub of ours opens streams: the open rate is no subject here.
CONFIG = TunnelConfig(open_rate_per_second=100_000, open_burst=100_000)


def address(text: str) -> tuple[str, int]:
    """``host:port``."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


# ---- one link


async def accept_agent(tls_dir: str, link: LinkKind) -> asyncio.Future[TunnelSession]:
    """Listen on a free port and say ``port N``; the first agent's session."""
    admitted: asyncio.Future[TunnelSession] = asyncio.get_running_loop().create_future()

    def admit(session: TunnelSession, hello: Hello) -> HelloOk:
        admitted.set_result(session)
        return HelloOk(session="rig")

    async def authenticate(request: web.Request) -> Peer:
        return Peer("rig")

    app = web.Application()
    TunnelListener(CONFIG, authenticate, admit, own_transport=link == "websockets").add_to(app)
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
    return admitted


async def dial_hub(url: str, tls_dir: str, link: LinkKind, services: Services) -> TunnelSession:
    """A session that serves ``services``."""

    def make() -> LinkUser:
        return TunnelSession(
            Role.AGENT, CONFIG, peer="hub", hello=Hello(agent="rig", instance=str(os.getpid())), services=services
        )

    target = DialTarget(url, tls=client_tls(f"{tls_dir}/ca.pem") if tls_dir else None)
    made: Link
    made, session = await (dial(target, make) if link == "websockets" else dial_aiohttp(target, make))
    assert isinstance(session, TunnelSession)
    session.attach(made)
    return session


def make_certificates(folder: str) -> None:
    """What ``tls_dir`` holds: the hub's certificate, and the authority that the agent trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(f"{folder}/ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(f"{folder}/hub.pem")


# ---- the two processes


async def hub(listen: tuple[str, int], tls_dir: str, link: LinkKind) -> None:
    """Accept one agent, then connections at ``listen``. Says ``ready`` behind ``port N``; ends with the link."""
    session = await (await accept_agent(tls_dir, link))

    class Accepted(SocketEnd):
        """One connection of the load tool."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            try:
                session.open_stream_nowait(lambda: StreamEnd(self), "tcp")
            except StreamRefused:
                transport.close()

    await asyncio.get_running_loop().create_server(Accepted, *listen, backlog=1024)
    say("ready")
    await session.closed


async def agent(url: str, target: tuple[str, int], tls_dir: str, link: LinkKind) -> None:
    """Dial the hub and serve ``tcp`` until the session ends."""

    async def connect() -> StreamEnd:
        try:
            return await dial_tcp(*target)
        except OSError as error:
            raise StreamRefused(StreamCode.DIAL_FAILED, str(error)) from error

    def tcp(request: StreamRequest) -> Awaitable[asyncio.Protocol]:
        return connect()

    await (await dial_hub(url, tls_dir, link, {"tcp": tcp})).closed


async def start_pair(
    command: Sequence[str],
    *,
    tls: bool,
    through: Callable[[int], Awaitable[int]] | None = None,
    stdin: int | None = None,
) -> tuple[Process, Process]:
    """Start hub and agent, and wait until the hub says ``ready``.

    Args:
        command: of both; ``--role``, ``--url`` and ``--tls-dir`` are added.
        through: puts something between the two: port of the hub → port that the agent dials.
        stdin: of the hub.
    Raises:
        RuntimeError: one of them ended before that.
    """
    with tempfile.TemporaryDirectory() as folder:  # read at the start, and not needed afterwards
        command = [sys.executable, *command, "--tls-dir", folder if tls else ""]
        if tls:
            make_certificates(folder)
        one = await asyncio.create_subprocess_exec(
            *command, "--role", "hub", stdin=stdin, stdout=asyncio.subprocess.PIPE
        )
        assert one.stdout is not None
        words = (await one.stdout.readline()).split()
        if len(words) != 2:
            raise RuntimeError("the hub of the rig ended before it listened; its error is above")
        port = int(words[1])
        port = await through(port) if through is not None else port
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        two = await asyncio.create_subprocess_exec(*command, "--role", "agent", "--url", url)
        ready = asyncio.ensure_future(one.stdout.readline())
        ended = asyncio.ensure_future(two.wait())
        await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not ready.done() or ready.result().strip() != b"ready":
            ready.cancel()
            await end(one, two)
            raise RuntimeError("the agent of the rig has no link; its error is above")
    return one, two


async def end(*processes: Process) -> None:
    """SIGTERM, and SIGKILL for those that do not end."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    for process in processes:
        try:
            await asyncio.wait_for(process.wait(), END_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


async def parent(arguments: argparse.Namespace) -> int:
    """Start both, pass on ``ready``, end both."""
    me = ["-m", "bench.tunnel_rig", "--listen", arguments.listen, "--target", arguments.target]
    one, two = await start_pair([*me, "--link", arguments.link], tls=arguments.tls)
    say("ready")
    say(f"pids {one.pid} {two.pid}")
    done = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, done.set)
    waits = {asyncio.ensure_future(wait) for wait in (done.wait(), one.wait(), two.wait())}
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    await end(one, two)
    for wait in waits:
        wait.cancel()
    return 0 if done.is_set() else 1


def run_role(role: str, work: Coroutine[Any, Any, None]) -> None:
    """Run one of the processes; with SYNCLINE_RIG_PROFILE, a folder, cProfile leaves ``ROLE.prof`` there."""
    profile = os.environ.get("SYNCLINE_RIG_PROFILE")
    if not profile:
        uvloop.run(work)
        return
    import cProfile

    profiler = cProfile.Profile()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        profiler.runcall(uvloop.run, work)
    profiler.dump_stats(Path(profile) / f"{role}.prof")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tunnel_rig", description=__doc__)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--target", required=True, metavar="HOST:PORT")
    parser.add_argument("--link", choices=LINKS, default="websockets")
    parser.add_argument("--tls", action="store_true", help="TLS 1.3 between hub and agent")
    parser.add_argument("--role", choices=["hub", "agent"], help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--tls-dir", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role == "hub":
        run_role("hub", hub(address(arguments.listen), arguments.tls_dir, arguments.link))
    elif arguments.role == "agent":
        run_role("agent", agent(arguments.url, address(arguments.target), arguments.tls_dir, arguments.link))
    else:
        return uvloop.run(parent(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
