"""Where kopf runs: in a thread with a loop of its own, supervised, writing nothing.

kopf watches SyncTargets and serves the admission reviews. Its handlers pass names on and return. It has its own thread
because an operator that ends cancels every task of its loop, and because one ERROR event in a watch ends an operator:
here it is started again, and the process is not ready meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import kopf
import structlog

from syncer.api.names import GROUP, VERSION
from syncer.kube.client import ClusterClient
from syncer.kube.connector import TcpConnector
from syncer.kube.credentials import ClusterCredentials, Grant

FIRST_PAUSE_SECONDS: Final = 1.0  # before kopf is started again; doubled up to the longest
LONGEST_PAUSE_SECONDS: Final = 10.0
HEALTHY_SECONDS: Final = 60.0  # a run this long forgets earlier failures
STOP_SECONDS: Final = 5.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Admission:
    """What kopf needs to serve admission reviews."""

    server: Any  # kopf's WebhookServerProtocol
    register: Callable[[Any], None]  # puts the handlers on kopf's registry


class KopfEdge:
    """kopf in its thread.

    Args:
        credentials: makes credentials of the upstream cluster; called in kopf's thread, for they belong to a loop.
        admission: makes the webhooks' server and handlers from a client in kopf's loop; None without webhooks.
        loop: the process's main loop.
        loop_factory: makes kopf's own loop; None for asyncio's.
    """

    def __init__(
        self,
        *,
        credentials: Callable[[], ClusterCredentials],
        admission: Callable[[ClusterClient], Admission] | None,
        loop: asyncio.AbstractEventLoop,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials = credentials
        self._on_target: Callable[[str], None] | None = None
        self._targets: set[str] = set()  # names of the SyncTargets that are there; the main loop's
        self._admission = admission
        self._loop = loop
        self._loop_factory = loop_factory
        self._clock = clock
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self._problem = "not started"
        self._kopf_loop: asyncio.AbstractEventLoop | None = None
        self._stop_kopf: asyncio.Event | None = None

    @property
    def dead(self) -> str:
        """Why only a new process would help; "" while kopf runs or is about to be started again. For `/healthz`."""
        started = self._thread.ident is not None
        return "its thread ended" if started and not self._thread.is_alive() and not self._stop.is_set() else ""

    @property
    def problem(self) -> str:
        """Why kopf is not up now; "" once it is. For `/readyz`: it is started again by itself."""
        return self.dead or self._problem or ("" if self._ready.is_set() else "is starting")

    def start(self) -> None:
        self._thread.start()

    def follow(self, on_target: Callable[[str], None] | None) -> None:
        """From now on tell the name of each SyncTarget that comes, changes or goes; those that are there at once.

        Call on the main loop, where `on_target` is called too; None tells nobody any more.
        """
        self._on_target = on_target
        if on_target is not None:
            self._hurry.set()  # who leads was elected just now, so upstream answers
            for name in sorted(self._targets):
                on_target(name)

    def _heard(self, name: str, gone: bool) -> None:
        (self._targets.discard if gone else self._targets.add)(name)
        if self._on_target is not None:
            self._on_target(name)

    async def stop(self) -> None:
        """End kopf; gives up waiting after a few seconds, since the thread cannot outlive the process."""
        self._stop.set()
        self._hurry.set()
        with suppress(RuntimeError):  # its loop is closed already
            if self._kopf_loop is not None and self._stop_kopf is not None:
                self._kopf_loop.call_soon_threadsafe(self._stop_kopf.set)
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join, STOP_SECONDS)

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stop.is_set():
            started = self._clock()
            self._problem = ""
            try:
                with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                    runner.run(self._operate())
                why = "ended by itself"
            except BaseException as error:  # whatever ended it: it is started again, and the reason is told
                why = f"{type(error).__name__}: {error}"
            self._ready.clear()
            if self._stop.is_set():
                return
            self._problem = f"ended: {why[:300]}"
            if self._clock() - started > HEALTHY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            log.error("kopf ended and is started again", reason=why, pause_seconds=pause)
            self._hurry.clear()
            if not self._stop.is_set():  # which may have been set, and hurried, just before
                self._hurry.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _operate(self) -> None:
        """One run of kopf, until stopped or failed."""
        # An event of this loop: kopf waits for a thread's event in an executor, which then holds up the end of a run
        # that ends by itself.
        self._kopf_loop, self._stop_kopf = asyncio.get_running_loop(), asyncio.Event()
        if self._stop.is_set():
            return
        credentials = self._credentials()
        registry = kopf.OperatorRegistry()
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False  # Events are ours, see syncer.events
        settings.peering.standalone = True  # the election is ours, see syncer.lease
        settings.watching.chunk_size = 500
        settings.watching.server_timeout = 300
        settings.process.ultimate_exiting_timeout = None  # it would kill the process, we are a thread of it
        settings.networking.error_backoffs = [0.5, 1, 2, 4]
        grants: list[Grant] = []

        async def login(**_: Any) -> Any:
            # Called at start, and again after a 401: then the last grant is the rejected one.
            grant = await credentials.grant(rejected=grants.pop() if grants else None)
            grants.append(grant)
            return kopf.AiohttpSession(server=credentials.server, aiohttp_session=open_session(credentials, grant))

        async def target_event(name: str, event: Any, **_: Any) -> None:
            self._loop.call_soon_threadsafe(self._heard, name, event["type"] == "DELETED")

        kopf.on.login(registry=registry)(login)
        kopf.on.event(GROUP, VERSION, "synctargets", registry=registry)(target_event)
        client: ClusterClient | None = None
        try:
            if self._admission is not None:
                client = ClusterClient(self._credentials(), name="upstream")
                admission = self._admission(client)
                settings.admission.server = admission.server
                admission.register(registry)
            await kopf.operator(
                registry=registry,
                settings=settings,
                clusterwide=True,
                standalone=True,
                stop_flag=self._stop_kopf,
                ready_flag=self._ready,
            )
        finally:
            if client is not None:
                await client.close()


def open_session(credentials: ClusterCredentials, grant: Grant) -> aiohttp.ClientSession:
    """A session for kopf with what a grant holds; kopf closes it."""
    headers = {"Authorization": grant.authorization} if grant.authorization is not None else {}
    return aiohttp.ClientSession(
        connector=TcpConnector(limit=0, ssl=grant.context if grant.context is not None else True),
        headers=headers,
        proxy=credentials.proxy,
        trust_env=False,
    )


# It says at each start that signals are not its business, which is so on purpose.
logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
