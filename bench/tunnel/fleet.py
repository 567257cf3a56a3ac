"""A thousand agents at one hub: what idle links cost (L03), and how they come back when the hub was killed.

`python -m bench.tunnel.fleet --role hub|agents` are the two processes. The hub's is the real path of a handshake and a
session (`Hub`'s listener, `Tunnels`, `ConnectionManager`), TLS with a client certificate that is checked; left out is
what is known from upstream (registrations, rights of callers): here a table says yes to everybody. The agents are a
thousand `LinkKeeper`s in one process, with the defaults of an agent: a heartbeat each 5 s, reconnects with jitter.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import ssl
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
import trustme
import uvloop
from aiohttp import web

from bench.figures import Goal, Line, percentile
from bench.tunnel.bed import MIB, Bed, Way
from bench.tunnel.load import LoadFailed
from bench.tunnel.report import Row
from bench.tunnel_rig import end, say
from deploy.local import ports
from syncer.binds import Bind
from syncer.hub.api import HubApi
from syncer.hub.auth import Authenticator, Authorizer, User
from syncer.hub.certificates import make_authority, server_context
from syncer.hub.listener import listen
from syncer.hub.members import Members
from syncer.hub.replica_identity import ReplicaIdentity
from syncer.hub.tunnels import Tunnels
from syncer.kube.connector import TcpConnector
from syncer.logs import configure_logs
from syncer.metrics import Metrics
from tunneler.config import TunnelConfig
from tunneler.connections import LinkState
from tunneler.core import Role
from tunneler.errors import HandshakeRefused
from tunneler.frames import Hello
from tunneler.links.base import LinkUser
from tunneler.links.dial import DialTarget, client_tls, dial
from tunneler.links.listen import Peer
from tunneler.manager import LinkKeeper
from tunneler.session import TunnelSession

AGENTS: Final = 1000
IDLE_SECONDS: Final = 20.0
SETTLE_SECONDS: Final = 3.0
UP_LIMIT_SECONDS: Final = 60.0
ASK_SECONDS: Final = 0.02
API: Final = "/api/v1/targets"


# ---- the hub


class Table:
    """`Gate`, identities and the engine of this hub: everything it would have read upstream."""

    leader = "bench"

    @property
    def engine(self) -> Any:
        return self

    def targets(self) -> list[dict[str, str]]:
        return [{"name": f"edge-{number}", "phase": "Ready"} for number in range(AGENTS)]

    async def authenticate(self, request: web.Request) -> Peer:
        certificate = request.get_extra_info("peercert")
        if not certificate:
            raise HandshakeRefused(401, "no client certificate")
        return Peer(request.headers["X-Target"])

    def admit(self, proof: object, hello: Hello) -> None:
        return

    def refusal(self, proof: object) -> str:
        return ""

    async def identify(self, request: web.Request) -> User | None:
        return User("bench")

    async def allows(self, user: User, access: Any) -> bool:
        return True

    async def find_kinds(self, kinds: object) -> dict[Any, Any]:
        return {}


async def hub(port: int, folder: str) -> None:
    """Serve until ended. Says ``ready``."""
    table = Table()
    alone = ReplicaIdentity(make_authority(now=datetime.now(UTC)), "bench")
    tunnels = Tunnels(table, Metrics(), Members("bench"), alone, known=lambda _: True, version="0")
    api = HubApi(cast(Authenticator, table), cast(Authorizer, table), table, find_kinds=table.find_kinds)
    context = server_context()
    context.load_cert_chain(f"{folder}/hub.pem")
    context.load_verify_locations(f"{folder}/ca.pem")
    bind = Bind("127.0.0.1", port)
    await listen(api.app([tunnels]), bind, setting="hub_bind", tls=lambda: context, cancel_handlers=True)
    say("ready")
    await tunnels.run()


# ---- the agents


async def agents(port: int, folder: str) -> None:
    """Keep all links. Says ``up T`` whenever all are, T being the clock that both processes share."""
    tls = client_tls(f"{folder}/ca.pem", certificate=(f"{folder}/agent.pem", f"{folder}/agent.pem"))
    config = TunnelConfig()
    connected: set[str] = set()

    def keeper(name: str) -> LinkKeeper:
        def make() -> LinkUser:
            return TunnelSession(Role.AGENT, config, peer="hub", hello=Hello(agent=name, instance=name))

        async def connect(reload: bool) -> TunnelSession:
            target = DialTarget(f"https://127.0.0.1:{port}", headers={"X-Target": name}, tls=tls)
            link, session = await dial(target, make)
            assert isinstance(session, TunnelSession)
            session.attach(link)
            return session

        def told(state: LinkState, reason: str) -> None:
            if state is not LinkState.CONNECTED:
                connected.discard(name)
                return
            connected.add(name)
            if len(connected) == AGENTS:
                say(f"up {time.monotonic()}")

        return LinkKeeper(connect, on_state=told)

    keepers = [keeper(f"edge-{number}") for number in range(AGENTS)]
    await asyncio.gather(*(one.run() for one in keepers))


# ---- the lines


class Fleet:
    """Both processes, and what they say."""

    def __init__(self, folder: str) -> None:
        (self.port,) = ports.choose(1, rng=random.Random())  # noqa: S311 - no secret
        self._folder = folder

    async def start(self, role: str) -> Process:
        """Start one."""
        command = ["-m", "bench.tunnel.fleet", "--role", role, "--port", str(self.port), "--folder", self._folder]
        return await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE)

    def make_certificates(self) -> ssl.SSLContext:
        """For hub and agents; what a caller of the hub's API trusts."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(f"{self._folder}/ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(f"{self._folder}/hub.pem")
        authority.issue_cert("agent.example").private_key_and_cert_chain_pem.write_to_path(f"{self._folder}/agent.pem")
        return client_tls(f"{self._folder}/ca.pem")


async def heard(process: Process, word: str, seconds: float) -> list[str]:
    """The next line that begins with a word.

    Raises:
        LoadFailed: it did not come in time.
    """
    assert process.stdout is not None
    try:
        async with asyncio.timeout(seconds):
            while line := await process.stdout.readline():
                if (words := line.decode().split())[:1] == [word]:
                    return words
    except TimeoutError:
        pass
    raise LoadFailed(f"no {word!r} within {seconds:g} s")


async def fleet(bed: Bed) -> list[Row]:
    """Idle links, then a hub that is killed and started again."""
    with tempfile.TemporaryDirectory() as folder:
        these = Fleet(folder)
        tls = these.make_certificates()
        running = [await these.start("hub")]
        try:
            await heard(running[0], "ready", 20)
            way = Way("hub", these.port, (running[0],))
            empty = way.rss_bytes()
            running.append(await these.start("agents"))
            await heard(running[1], "up", UP_LIMIT_SECONDS)
            await asyncio.sleep(SETTLE_SECONDS)
            each = (way.rss_bytes() - empty) / AGENTS / 1024
            before, began = way.cpu_seconds(), time.monotonic()
            await asyncio.sleep(IDLE_SECONDS)
            busy = (way.cpu_seconds() - before) / (time.monotonic() - began) * 100
            rss = way.rss_bytes() / MIB
            back, waits = await _restart(these, running, tls)
        finally:
            await end(*running)
    return [
        Row(Line("fleet", f"{AGENTS} idle links with TLS: hub RSS each", "KiB", each, None, Goal(100)), rss_mib=rss),
        Row(
            Line(
                "fleet", "the same, with a heartbeat each 5 s: hub CPU", "% of a core", busy, None, Goal(10),
                "four times the pings that the goal speaks of",
            )
        ),
        Row(
            Line(
                "fleet", f"hub killed and started again: until all {AGENTS} are up", "s", back, None, Goal(30),
                "from the kill; the start of the process is in it; every agent shows a certificate",
            )
        ),
        Row(
            Line(
                "fleet", "p99 of GETs of the hub's API meanwhile", "ms", percentile(waits, 99), None, Goal(1000),
                f"{len(waits)} GETs of {AGENTS} targets, from when it listens until all are up",
            )
        ),
    ]  # fmt: skip


async def _restart(these: Fleet, running: list[Process], tls: ssl.SSLContext) -> tuple[float, list[float]]:
    """Seconds until all are up again; how long each GET took meanwhile, in ms."""
    waits: list[float] = []

    async def ask(session: aiohttp.ClientSession) -> None:
        while True:
            began = time.monotonic()
            async with session.get(f"https://127.0.0.1:{these.port}{API}") as answer:
                await answer.read()
                if answer.status != 200:
                    raise LoadFailed(f"the hub's API answered {answer.status}")
            waits.append((time.monotonic() - began) * 1e3)
            await asyncio.sleep(ASK_SECONDS)

    running[0].kill()
    killed = time.monotonic()
    await running[0].wait()
    running[0] = await these.start("hub")
    await heard(running[0], "ready", 20)
    async with aiohttp.ClientSession(connector=TcpConnector(ssl=tls)) as session:
        asking = asyncio.create_task(ask(session))
        words = await heard(running[1], "up", UP_LIMIT_SECONDS)
        if asking.done():
            await asking  # raises what ended it
        asking.cancel()
    return float(words[1]) - killed, waits


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tunnel.fleet", description=__doc__)
    parser.add_argument("--role", choices=["hub", "agents"], required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", required=True, help="with the certificates")
    given = parser.parse_args()
    if given.role == "agents":
        uvloop.run(agents(given.port, given.folder))
        return
    with Path(given.folder, "hub.log").open("w") as log:  # a thousand agents make many lines: they cost what they cost
        configure_logs(form="json", stream=log)
        uvloop.run(hub(given.port, given.folder))


if __name__ == "__main__":
    main()
