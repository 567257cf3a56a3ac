"""The processes of a run: `hub` makes the calls, `agent` keeps two links, one of each kind, and serves them; `asker`.

``python -m tests.nightly.ends hub|agent|asker FOLDER [PORT [SILENCE]]``; they obey `tests.support.commanded`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import uvloop
from aiohttp import web

from syncer.kube.connector import TcpConnector
from tests.nightly.calls import CALLS, SERVICES
from tests.nightly.flat import Sample, take
from tests.support.commanded import obey
from tunneler.config import TunnelConfig
from tunneler.connections import LinkState
from tunneler.core import Role
from tunneler.errors import HandshakeRefused, LinkLost, NoLink, StreamCode, StreamRefused
from tunneler.frames import Hello, HelloOk
from tunneler.links.aio import dial_aiohttp
from tunneler.links.base import Link, LinkUser
from tunneler.links.dial import DialTarget, client_tls, dial
from tunneler.links.listen import Peer, TunnelListener
from tunneler.links.raw import LINGER_SECONDS
from tunneler.manager import ConnectionManager, LinkKeeper
from tunneler.session import TunnelSession

Dial = Callable[[DialTarget, Callable[[], LinkUser]], Awaitable[tuple[Link, LinkUser]]]
LINKS: Final[dict[str, Dial]] = {"raw": dial, "aiohttp": dial_aiohttp}  # {target: how its agent dials}
WORKERS: Final = 8  # of each target
STUCK_SECONDS: Final = 90.0  # more than any call takes, whatever happens to its link
CALM_SECONDS: Final = 45.0  # until all is at rest: links are up again, streams are over
SHORT_WAITS: Final = 0.05  # the part of each wait between tries that is waited: links are to be up, to be broken again


async def until(check: Any) -> bool:
    """Whether it came to be true."""
    end = time.monotonic() + CALM_SECONDS
    while not check() and time.monotonic() < end:  # noqa: ASYNC110 - what is waited for makes no event
        await asyncio.sleep(0.02)
    return bool(check())


async def calm(sessions: set[TunnelSession]) -> Sample:
    """A sample, once only the links that are to be are up, and their streams are over."""

    def streams() -> int:
        return sum(session.statistics().streams_open for session in sessions)

    await until(lambda: len(sessions) == len(LINKS) and not streams())
    await asyncio.sleep(2 * LINGER_SECONDS)  # for the last word of those that were
    return take(len(sessions), streams())


class Hub:
    """Calls all targets through whatever link they have."""

    def __init__(self, manager: ConnectionManager) -> None:
        self._manager = manager
        self._sessions: set[TunnelSession] = set()  # those that were replaced as well
        self._stop = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def admit(self, session: TunnelSession, hello: Hello) -> HelloOk:
        answer = self._manager.admit(session, hello)
        self._sessions.add(session)
        session.closed.add_done_callback(lambda _: self._sessions.discard(session))
        return answer

    def call(self, seed: str) -> None:
        """Begin to call."""
        self._stop.clear()
        for target in LINKS:
            for number in range(WORKERS):
                work = self._work(target, random.Random(f"{seed} {target} {number}"))
                self._workers.append(asyncio.create_task(work))

    async def _work(self, target: str, chance: random.Random) -> None:
        opener = self._manager.opener(target)
        while not self._stop.is_set():
            call = chance.choice(CALLS)
            try:
                async with asyncio.timeout(STUCK_SECONDS):
                    await call(chance, opener)
            except (LinkLost, NoLink):
                self.counts["lost"] += 1
            except StreamRefused as error:
                if error.code not in (StreamCode.BUSY, StreamCode.TIMEOUT):
                    self._note(call.__name__, error)
                self.counts[error.code.name] += 1
            except Exception as error:
                self._note(call.__name__, error)
            else:
                self.counts[call.__name__] += 1

    def _note(self, call: str, error: Exception) -> None:
        if len(self.wrong) < 100:
            self.wrong.append(f"{call}: {type(error).__name__}: {error}")

    async def rest(self) -> dict[str, Any]:
        """Let all calls end; then a sample, the counts so far, and what was wrong."""
        self._stop.set()
        await asyncio.gather(*self._workers)
        self._workers.clear()
        await until(lambda: all(self._manager.state(target) is LinkState.CONNECTED for target in LINKS))
        return {"sample": (await calm(self._sessions)).json(), "counts": dict(self.counts), "wrong": self.wrong}


class Agent:
    """One link for each target."""

    def __init__(self, url: str, tls: ssl.SSLContext, config: TunnelConfig) -> None:
        self._url, self._tls, self._config = url, tls, config
        self._keepers = {target: self._keeper(target) for target in LINKS}
        self._sessions: set[TunnelSession] = set()
        self._running = [asyncio.create_task(keeper.run()) for keeper in self._keepers.values()]

    def _keeper(self, target: str) -> LinkKeeper:
        async def connect(reload: bool) -> TunnelSession:
            def make() -> LinkUser:
                hello = Hello(agent=target, instance=target)
                return TunnelSession(Role.AGENT, self._config, peer="hub", hello=hello, services=SERVICES)

            link, session = await LINKS[target](DialTarget(self._url, {"X-Target": target}, self._tls), make)
            assert isinstance(session, TunnelSession)
            session.attach(link)
            self._sessions.add(session)
            session.closed.add_done_callback(lambda _: self._sessions.discard(session))
            return session

        return LinkKeeper(connect, chance=lambda: random.random() * SHORT_WAITS)

    async def rest(self) -> dict[str, Any]:
        return {"sample": (await calm(self._sessions)).json()}

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


class Asker:
    """Somebody who asks the hub something else, again and again, on a new connection each time."""

    def __init__(self, url: str, tls: ssl.SSLContext) -> None:
        self._url, self._tls = url, tls
        self._taken: list[float] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        while True:
            began = time.monotonic()
            async with (
                aiohttp.ClientSession(connector=TcpConnector()) as session,
                session.get(self._url, ssl=self._tls) as answer,
            ):
                answer.raise_for_status()
            self._taken.append(time.monotonic() - began)
            await asyncio.sleep(0.01)

    async def stop(self) -> list[float]:
        """Seconds that the answers took, the shortest first. Raises what went wrong."""
        assert self._task is not None
        asked = len(self._taken)
        while len(self._taken) == asked and not self._task.done():  # noqa: ASYNC110 - the one on its way counts too
            await asyncio.sleep(0.01)
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.result()
        return sorted(self._taken)


async def hub(folder: Path, port: int, config: TunnelConfig) -> None:
    """Listen with the certificate in the folder; says its port."""
    manager = ConnectionManager(config, replica="hub")
    made = Hub(manager)

    async def authenticate(request: web.Request) -> Peer:
        if request.transport is None or not request.transport.get_extra_info("peercert"):
            raise HandshakeRefused(401, "a client certificate is required")
        return Peer(request.headers["X-Target"])

    async def health(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    TunnelListener(config, authenticate, made.admit).add_to(app)
    app.router.add_get("/healthz", health)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "hub.pem")
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, reuse_address=True, backlog=2048).start()
    await obey(made, runner.addresses[0][1])
    await manager.close()
    await runner.cleanup()


def agent_tls(folder: Path) -> ssl.SSLContext:
    """What an agent of these hubs shows and trusts."""
    return client_tls(str(folder / "ca.pem"), certificate=(str(folder / "agent.pem"), str(folder / "agent.pem")))


async def agent(folder: Path, port: int, config: TunnelConfig) -> None:
    """Keep links to the hub at a port of this machine."""
    made = Agent(f"https://127.0.0.1:{port}", agent_tls(folder), config)
    await obey(made, port)
    await made.close()


async def asker(folder: Path, port: int, config: TunnelConfig) -> None:
    """Ask the hub at a port of this machine."""
    await obey(Asker(f"https://127.0.0.1:{port}/healthz", agent_tls(folder)), port)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    roles = {"hub": hub, "agent": agent, "asker": asker}
    parser.add_argument("role", choices=roles)
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int, nargs="?", default=0)
    parser.add_argument("silence", type=float, nargs="?", default=15.0, help="seconds after which a link is lost")
    given = parser.parse_args()
    limits = TunnelConfig(
        ping_interval_seconds=given.silence / 3,
        dead_after_seconds=given.silence,
        open_rate_per_second=2000,
        open_burst=4000,
    )
    uvloop.run(roles[given.role](given.folder, given.port, limits))
