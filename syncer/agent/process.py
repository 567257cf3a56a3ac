"""`syncline agent`: keeps links to two replicas of the hub, and serves its cluster's API to them through the links.

It listens nowhere but on `--http-bind` for probes, holds nothing but the credentials that `syncline join` left, and
writes nothing to the cluster by itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from aiohttp import web

from syncer.agent.credentials import AgentCredentials, keep_renewed
from syncer.agent.credentials_secret import CredentialsSecret
from syncer.agent.hubs import HubChoice
from syncer.agent.kube_api import KubeApi
from syncer.agent.links import REPLICAS_SERVICE, AgentLinks
from syncer.agent.policy import Policy, load_policy
from syncer.agent.policy_file import PolicyFile
from syncer.agent.role import default_policy
from syncer.agent.settings import AgentSettings
from syncer.errors import StartError, SyncError, TerminalError
from syncer.hub.listener import listen
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials, in_pod
from syncer.logs import configure_logs
from tunneler.config import TunnelConfig
from tunneler.core import Role
from tunneler.errors import HandshakeRefused, TunnelError
from tunneler.frames import Hello
from tunneler.links.base import LinkUser
from tunneler.links.dial import DialTarget, dial
from tunneler.links.proxies import Proxy, choose_proxy
from tunneler.ports import Services, StreamRequest
from tunneler.session import TunnelSession

SERVICE: Final = "kube-api"
UID_SECONDS: Final = 5.0  # patience with this cluster's API server before a dial
METADATA_ONLY: Final = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}

log = structlog.get_logger()


def run(settings: AgentSettings, *, version: str) -> int:
    """The whole life of the process; returns its exit code.

    Raises:
        StartError, Unusable: it could not start; cause and hint are for people.
    """
    configure_logs(level=settings.log_level, form=settings.log_format)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(Agent(settings, version=version).main())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


class Agent:
    """One process. `main` may be awaited once."""

    def __init__(self, settings: AgentSettings, *, version: str, environment: Mapping[str, str] | None = None) -> None:
        self._settings = settings
        self._version = version
        self._environment = os.environ if environment is None else environment
        self._instance = uuid.uuid4().hex
        self._stop = asyncio.Event()
        self._cluster_uid = ""  # of this cluster, once it has told
        self._keep: Callable[[], Awaitable[None]] | None = None
        self._links: AgentLinks | None = None  # once it has joined
        self._joining = "starting"  # what it waits for until then

    async def main(self) -> int:
        """Start, serve, end. Raises StartError, Unusable."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        settings = self._settings
        if settings.secret is None and settings.join is None:
            AgentCredentials(settings.credentials)  # what is wrong is told at once
        cluster = cluster_credentials(settings, self._environment)
        self._service = KubeApi(cluster, read_policy(settings.policy))
        self._policy_file = PolicyFile(settings.policy, self._service.use) if settings.policy is not None else None
        self._cluster = ClusterClient(cluster, name="cluster")
        for url in settings.hubs:
            find_proxy(url, self._environment, settings.proxy)
        listener = await listen(self._app(), settings.http_bind, setting="http_bind")
        try:
            if not await self._joined():
                return 0
            hubs = settings.hubs or (self._credentials.hub,)
            self._choice = HubChoice(self._credentials.target, hubs)
            self._links = AgentLinks(self._choice, self._dial, drain_seconds=settings.drain_seconds)
            log.info("agent starts", target=self._credentials.target, hubs=list(hubs), health=str(listener.bind))
            return await self._serve(self._links)
        finally:
            await listener.close()
            await self._cluster.close()

    async def _joined(self) -> bool:
        """Wait until there are credentials; False if it was told to stop before. Raises StartError, SyncError."""
        become = asyncio.create_task(self._become())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({become, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (become, stopping):
            task.cancel()
        await asyncio.gather(become, stopping, return_exceptions=True)
        if become.cancelled():
            return False
        self._credentials = become.result()
        return True

    async def _become(self) -> AgentCredentials:
        """The credentials of the folder, of the Secret, or of a hub that takes the token."""
        settings, folder = self._settings, self._settings.credentials
        if settings.secret is not None:
            secret = CredentialsSecret(self._cluster, *settings.secret)
            await secret.restore(folder)
            self._keep = partial(secret.save, folder)
        token = read_token(settings.join.token_file) if settings.join is not None else ""
        if settings.join is not None and token:
            from syncer.agent.joining import Joining, join  # most agents joined before they started

            try:
                uid = await self._ask_cluster_uid()
            except HandshakeRefused as error:
                raise StartError(str(error), "check --kubeconfig, and the rights of the agent's identity") from error
            asked = Joining(
                hub=settings.hubs[0],
                token=token,
                ca_hash=settings.join.ca_hash,
                target=settings.join.target,
                folder=folder,
                cluster_uid=uid,
                proxy=settings.proxy,
            )
            await join(asked, self._tell, keep=self._keep)
        credentials = AgentCredentials(folder)
        if self._keep is not None:
            await self._keep()  # the folder is the newer one where a process ended between the two
        return credentials

    def _tell(self, said: str) -> None:
        self._joining = said
        log.info("joining", said=said)

    async def _serve(self, links: AgentLinks) -> int:
        work: list[Coroutine[Any, Any, None]] = [links.run()]
        if self._policy_file is not None:
            work.append(self._policy_file.follow())
        hubs, proxy = self._choice.addresses, self._settings.proxy
        work.append(keep_renewed(self._credentials, hubs=hubs, proxy=proxy, keep=self._keep))
        tasks = [asyncio.create_task(one) for one in work]
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            failed = next((task for task in tasks if task.done()), None)
            if failed is not None:
                log.error("the agent failed", exc_info=failed.exception())
                return 1
            log.info("draining", seconds=self._settings.drain_seconds)
            await links.drain()
            return 0
        finally:
            for task in (stopping, *tasks):
                task.cancel()
            await asyncio.gather(stopping, *tasks, return_exceptions=True)
            await asyncio.sleep(0)  # the last words of each link leave at the end of a turn
            log.info("stopped")

    def _signalled(self) -> None:
        if self._stop.is_set():
            log.warning("second signal: ending at once")
            os._exit(130)
        self._stop.set()

    # Links ----------------------------------------------------------------------------------------------------------

    async def _dial(self, link: int, url: str) -> TunnelSession:
        """With the credential and the cluster of this moment. Raises HandshakeRefused."""
        uid = await self._ask_cluster_uid()
        try:
            tls = self._credentials.context()
        except (OSError, SyncError) as error:
            raise HandshakeRefused(0, f"the credentials cannot be read: {error}") from error
        hello = Hello(
            agent=self._credentials.target,
            instance=self._instance,
            software=self._version,
            cluster_uid=uid,
            clock=time.time(),
            links=self._choice.linked(link),
        )
        config = TunnelConfig(drain_seconds=self._settings.drain_seconds)
        proxy = find_proxy(url, self._environment, self._settings.proxy)

        links = self._links
        assert links is not None  # which dials

        def make() -> LinkUser:
            services: Services = {SERVICE: self._accept, REPLICAS_SERVICE: partial(links.replicas, link)}
            return TunnelSession(Role.AGENT, config, peer=url, hello=hello, services=services)

        try:
            made, session = await dial(DialTarget(url, tls=tls, proxy=proxy), make)
        except HandshakeRefused as error:
            # A hub that takes no certificate just closes: TLS has no word for why that reaches us.
            ended = self._credentials.ended(now=datetime.now(UTC))
            if error.status or not ended:
                raise
            raise HandshakeRefused(0, f"{error}; {ended}") from error
        assert isinstance(session, TunnelSession)
        session.attach(made)
        return session

    def _accept(self, _: StreamRequest) -> asyncio.Protocol:
        return self._service.protocol()

    async def _ask_cluster_uid(self) -> str:
        """Which cluster is behind us now; what it said before while it does not answer.

        Raises:
            HandshakeRefused: it never answered; without that no hub takes us.
        """
        try:
            answer = await self._cluster.request(
                "GET", "/api/v1/namespaces/kube-system", headers=METADATA_ONLY, timeout_seconds=UID_SECONDS
            )
            self._cluster_uid = str(orjson.loads(answer.body)["metadata"]["uid"])
        except (SyncError, KeyError, ValueError) as error:
            if not self._cluster_uid:
                raise HandshakeRefused(0, f"this cluster's API server does not tell its UID: {error}") from error
        return self._cluster_uid

    # Health ---------------------------------------------------------------------------------------------------------

    def _app(self) -> web.Application:
        async def healthz(_: web.Request) -> web.Response:
            return web.Response(text="ok\n")

        async def readyz(_: web.Request) -> web.Response:
            if self._links is None:
                return web.Response(status=503, text=f"{self._joining}\n")
            up = self._links.up and not self._stop.is_set()
            states = self._links.states.items()
            lines = "".join(f"{self._choice.address(link)}: {state.value}\n" for link, state in states)
            if self._policy_file is not None and self._policy_file.problem:
                lines += f"policy of before: {self._policy_file.problem}\n"
            return web.Response(status=200 if up else 503, text=lines or "starting\n")

        app = web.Application(client_max_size=4096)
        app.router.add_get("/healthz", healthz)
        app.router.add_get("/readyz", readyz)
        return app


def read_token(path: Path) -> str:
    """The bootstrap token of a file; "" where there is none any more. Raises StartError."""
    from syncer.hub.bootstrap import parse_token

    try:
        token = path.read_text("ascii").strip() if path.exists() else ""
    except (OSError, ValueError):
        raise StartError(f"{path} cannot be read", "give the token's file with --token-file", exit_code=2) from None
    if token and parse_token(token) is None:
        raise StartError(f"{path} holds no bootstrap token", "copy it whole from: syncline token create TARGET")
    return token


def read_policy(path: Path | None) -> Policy:
    """The file, or what an agent allows without one. Raises StartError."""
    if path is None:
        return default_policy()
    try:
        return load_policy(path)
    except TerminalError as error:
        raise StartError(str(error), "docs/agent-policy.md tells what the file may say", exit_code=2) from error


def cluster_credentials(settings: AgentSettings, environment: Mapping[str, str]) -> ClusterCredentials:
    """How this cluster's API server is reached, and as whom. Raises StartError."""
    try:
        if settings.kubeconfig is None and in_pod(environment):
            return ClusterCredentials.in_cluster()
        return ClusterCredentials.from_kubeconfig(settings.kubeconfig, settings.context)
    except TerminalError as error:
        raise StartError(
            str(error), "give this cluster with --kubeconfig FILE and --context NAME", exit_code=2
        ) from error


def find_proxy(url: str, environment: Mapping[str, str], explicit: str | None) -> Proxy | None:
    """Through which proxy a hub is dialled. Raises StartError."""
    if not url.startswith("https://"):
        raise StartError(f"{url[:200]!r} is no address of a hub", "write https://HOST[:PORT] for --hub", exit_code=2)
    try:
        return choose_proxy(url, environment, explicit)
    except TunnelError as error:
        raise StartError(str(error), "correct --proxy or HTTPS_PROXY", exit_code=2) from error
