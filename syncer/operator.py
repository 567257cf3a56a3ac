"""`syncline operator`: builds everything, runs it, and ends it in order.

Reading order: `run` (the process), `Operator.start` (what must be there), `Operator.serve` (election, terms, signals),
`syncer.leading` (what runs while this replica leads), `syncer.replica` (what runs in every replica).
"""

from __future__ import annotations

import syncer.lean_kopf  # isort: skip  # noqa: F401  # first: decides what the libraries below load

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import orjson
import structlog

from syncer.api.keys import GroupKind
from syncer.api.names import GROUP, SYSTEM_NAMESPACE
from syncer.errors import StartError, SyncError, TerminalError
from syncer.events import EventRecorder
from syncer.hub.api import EngineView, HubApi
from syncer.hub.auth import Authenticator, Authorizer
from syncer.hub.gate import IdentityGate
from syncer.hub.health import Health, health_app
from syncer.hub.hub import AGENT_CA_SECRET, Hub, ensure_authority, publish_hub
from syncer.hub.identity import Identities
from syncer.hub.listener import Listener, listen
from syncer.hub.proxy import TargetProxy
from syncer.hub.registered import Registered
from syncer.hub.registrations import RegistrationEndpoint
from syncer.hub.registry import Registry
from syncer.hub.replica_identity import ReplicaIdentity
from syncer.hub.tunnel_targets import TunnelDialer
from syncer.hub.tunnels import Tunnels
from syncer.hub.views import SharedView
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials, in_pod
from syncer.kube.errors import AlreadyExists, ApiError, Forbidden, NotFound, Unauthorized
from syncer.kube.objects import ResourceInfo, decode_document
from syncer.leading import Process, Term
from syncer.lease import AlwaysLeading, Lease, LeaseTiming
from syncer.logs import configure_logs
from syncer.metrics import Metrics
from syncer.replica import Replica
from syncer.settings import OperatorSettings, unknown_variables
from syncer.watchdog import LoopWatchdog

CRDS: Final = ("synctargets", "placements", "clusterplacements", "clusterregistrations")
START_SECONDS: Final = 5.0  # how long an upstream may stay silent before the start fails
RETRY_SECONDS: Final = 0.5
METADATA_ONLY: Final = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}

log = structlog.get_logger()


def run(settings: OperatorSettings) -> int:
    """The whole life of the process; returns its exit code.

    Raises:
        StartError: it could not start; cause and hint are for people.
    """
    configure_logs(level=settings.log_level, form=settings.log_format)
    for name in unknown_variables(os.environ):
        log.warning("unknown variable ignored", variable=name)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(Operator(settings).main())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where there is one: asyncio's own TLS costs 300 KiB per connection, uvloop's 60."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


class Operator:
    """One process. `main` may be awaited once."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._health = Health()
        self._stop = asyncio.Event()
        self._broken = False
        self._term: Term | None = None
        self._replica: Replica | None = None
        self._closers: list[Callable[[], object]] = []
        self._listeners: list[Listener] = []

    @property
    def engine(self) -> EngineView | None:
        """For the hub: None while another replica leads."""
        return self._term.engine.reports if self._term is not None and self._lease.leads else None

    @property
    def leader(self) -> str:
        """For the hub: who leads."""
        return self._lease.holder

    async def main(self) -> int:
        """Start, serve, end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        try:
            await self.start()
            return await self.serve()
        finally:
            await self._close()

    async def start(self) -> None:
        """Everything that must be there before the election.

        Raises:
            StartError: with cause and hint.
        """
        settings = self._settings
        credentials = self._make_credentials()
        # The lease is written while not leading, so that client has no guard; nothing else writes through it but what
        # every replica may write: our namespace, the hub's authority and address. (Webhook configurations too are
        # written without a guard, in kopf's thread.)
        self._control = self._client(credentials)
        timing = LeaseTiming(settings.lease_seconds, settings.lease_renew_seconds, settings.lease_retry_seconds)
        self._lease: Lease | AlwaysLeading = (
            Lease(self._control, self._metrics, timing=timing)
            if settings.leader_elect
            else AlwaysLeading(self._metrics)
        )
        self._upstream = self._client(credentials, guard=self._lease.check)
        self._hub_id = await self._reach_upstream()
        await self._prepare()
        authenticator, authorizer = Authenticator(self._control), Authorizer(self._control)
        await self._serve_health(authenticator, authorizer)
        authority = await ensure_authority(self._control, now=datetime.now(UTC))
        self._agents = await ensure_authority(self._control, now=datetime.now(UTC), secret=AGENT_CA_SECRET)
        self._registered = Registered(self._control, Identities(self._agents.bundle))
        self._events = EventRecorder(self._control, self._metrics)
        registrations = RegistrationEndpoint(
            self._control,
            self._registered.identities,
            agents=self._agents,
            hub_authority=authority.bundle,
            events=self._events,
            metrics=self._metrics,
        )
        self._hub = Hub(
            self._control,
            authority,
            url=settings.hub_url,
            replica_url=settings.replica_url,
            agent_url=settings.agent_url,
            names=settings.hub_names,
            clients=self._agents.bundle + b"\n" + authority.bundle,
        )
        self._registry = Registry(
            self._control, self._metrics, replica=self._lease.identity, links=lambda: self._tunnels.links()
        )
        identity = ReplicaIdentity(authority, self._lease.identity)
        self._tunnels = Tunnels(
            IdentityGate(self._registered.identities),
            self._metrics,
            self._registry.members,
            identity,
            known=self._registered.tunnelled,
            version=own_version(),
            drain_seconds=settings.drain_seconds,
        )
        self._tunnels.on_links = self._registry.changed
        self._registry.on_change.append(self._tunnels.members_changed)
        self._registered.identities.on_closed.append(lambda ended: self._tunnels.cut(ended.target, ended.reason))
        self._proxy = TargetProxy(authenticator, authorizer, TunnelDialer(self._tunnels.opener))
        views = SharedView(self, identity, self._registry.members, find_kind=self._find_kind)
        api = HubApi(authenticator, authorizer, views, find_kinds=views.find_kinds)
        await self._hub.start(api.app([registrations, self._tunnels, self._proxy, views]), settings.hub_bind)
        self._tunnels.url = self._hub.url
        self._replica = Replica(
            settings,
            control=self._control,
            hub_id=self._hub_id,
            credentials=self._make_credentials,
            authority=authority,
            leads=lambda: self._lease.leads,
            loop_factory=_loop_factory(),
        )
        # What was built up to here stays for ever; the collector need not look at it again and again.
        gc.collect()
        gc.freeze()

    async def serve(self) -> int:
        """Take part in the election until stopped, and lead while elected. Returns the exit code."""
        watchdog = LoopWatchdog(
            asyncio.get_running_loop(),
            self._metrics,
            limit_seconds=self._settings.lease_renew_seconds,
            on_stall=self._lease.step_down,
        )
        watchdog.start()
        assert self._replica is not None
        background = [
            asyncio.create_task(self._hub.keep_fresh(), name="hub"),
            asyncio.create_task(self._replica.run(), name="replica"),
            asyncio.create_task(self._registered.run(), name="registered"),
            asyncio.create_task(self._events.run(), name="events"),
            asyncio.create_task(self._tunnels.run(), name="tunnels"),
            asyncio.create_task(self._registry.run(self._hub.replica_url, self._hub.agent_url), name="registry"),
        ]
        for part in background:
            part.add_done_callback(self._part_ended)
        election = asyncio.create_task(self._lease.run(), name="election")
        code = 0
        try:
            while not self._stop.is_set() and code == 0:
                if await self._first(self._lease.wait_leading(), election):
                    code = await self._lead(election)
                if election.done():
                    log.error("the election ended", exc_info=election.exception())
                    code = 1
        finally:
            for task in (*background, election):
                task.cancel()
            await asyncio.gather(*background, election, return_exceptions=True)
            await self._lease.release()
            await self._registry.leave()
            self._proxy.close()
            await self._tunnels.drain()  # what this replica wrote through them has left by now
            await self._replica.close()  # the last to go: reviews are answered while work is drained
            watchdog.stop()
        code = code or int(self._broken)
        log.info("stopped", exit_code=code)
        return code

    def _part_ended(self, part: asyncio.Task[None]) -> None:
        """No error may end what every replica runs: a new process is better than one without it that looks alive."""
        if not part.cancelled() and (error := part.exception()) is not None:
            log.error("a part of the process ended", part=part.get_name(), exc_info=error)
            self._broken = True
            self._stop.set()

    async def _lead(self, election: asyncio.Task[None]) -> int:
        """One term; over when the election is. Returns a non-zero exit code if the process should end."""
        assert self._replica is not None
        process = Process(
            self._settings,
            self._metrics,
            self._upstream,
            self._hub_id,
            self._lease.check,
            self._publish,
            self._replica.edge,
            self._registered,
            self._agents,
            self._tunnels,
        )
        self._term = term = Term(process)
        running = asyncio.create_task(term.run(), name="term")
        lost = asyncio.create_task(self._lease.wait_lost(), name="lost")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait({running, lost, stopping, election}, return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set() and self._lease.leads and not running.done():
                log.info("draining", seconds=self._settings.drain_seconds)
                await term.drain(self._settings.drain_seconds)
            if running.done() and self._lease.leads:
                log.error("the engine ended", exc_info=running.exception())
                return 1
            return 0  # told to stop, or the lease is lost: whatever ended with it ended because of it
        finally:
            for task in (running, lost, stopping):
                task.cancel()
            await asyncio.gather(running, lost, stopping, return_exceptions=True)
            await term.close()
            self._term = None

    async def _first(self, waiting: Coroutine[Any, Any, object], election: asyncio.Task[None]) -> bool:
        """Await something, the stop signal or an end of the election; True if it was the something."""
        task = asyncio.create_task(waiting)
        stopping = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait({task, stopping, election}, return_when=asyncio.FIRST_COMPLETED)
        for mine in (task, stopping):
            mine.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)
        return task in done and not self._stop.is_set()

    def _signalled(self) -> None:
        if self._stop.is_set():
            log.warning("second signal: ending at once")
            os._exit(130)
        self._stop.set()

    # Start ----------------------------------------------------------------------------------------------------------

    def _make_credentials(self) -> ClusterCredentials:
        settings = self._settings
        try:
            if settings.kubeconfig is None and in_pod(os.environ):
                return ClusterCredentials.in_cluster()
            return ClusterCredentials.from_kubeconfig(settings.kubeconfig, settings.context)
        except TerminalError as error:
            raise StartError(
                str(error), "give the upstream cluster with --kubeconfig FILE and --context NAME", exit_code=2
            ) from error

    def _client(self, credentials: ClusterCredentials, *, guard: Callable[[], None] | None = None) -> ClusterClient:
        observe = self._metrics.observe_request
        client = ClusterClient(
            credentials,
            name="upstream",
            guard=guard,
            observe=lambda _, verb, code, seconds: observe("upstream", verb, code, seconds),
        )
        self._closers.append(client.close)
        return client

    async def _reach_upstream(self) -> str:
        """The hub id: UID of the upstream's `kube-system` namespace. Waits a little for a server that is starting."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_SECONDS
        while True:
            try:
                answer = await self._control.request(
                    "GET", "/api/v1/namespaces/kube-system", headers=METADATA_ONLY, timeout_seconds=5
                )
                return str(decode_document(answer.body)["metadata"]["uid"])
            except (Unauthorized, Forbidden) as error:
                raise StartError(
                    f"upstream {self._control.server} refuses this identity: {error}",
                    "bind ClusterRole syncline-operator of deploy/rbac/operator.yaml to it",
                ) from error
            except (SyncError, KeyError) as error:
                if loop.time() > deadline or self._stop.is_set():
                    raise StartError(
                        f"upstream {self._control.server} does not answer: {error}",
                        "check that it runs, and that --kubeconfig and --context lead to it",
                    ) from error
            await asyncio.sleep(RETRY_SECONDS)

    async def _prepare(self) -> None:
        """Our namespace is made; our CRDs must be there."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}}
        namespaces = ResourceInfo("", "v1", "namespaces", "Namespace", namespaced=False)
        try:
            try:
                await self._control.get(namespaces, "", SYSTEM_NAMESPACE)
            except NotFound:
                with suppress(AlreadyExists):
                    await self._control.create(namespaces, "", orjson.dumps(namespace))
            for plural in CRDS:
                path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.{GROUP}"
                await self._control.request("GET", path, headers=METADATA_ONLY)
        except NotFound as error:
            raise StartError(
                "the CustomResourceDefinitions of Syncline are not installed upstream",
                "install them: syncline crds | kubectl apply --server-side -f -",
            ) from error
        except ApiError as error:
            raise StartError(
                f"upstream {self._control.server}: {error}",
                "bind ClusterRole syncline-operator of deploy/rbac/operator.yaml to the operator's identity",
            ) from error

    async def _serve_health(self, authenticator: Authenticator, authorizer: Authorizer) -> None:
        self._health.live["replica"] = lambda: self._replica.health if self._replica else ""
        self._health.ready["election"] = self._election_problem
        self._health.ready["replica"] = lambda: self._replica.readiness if self._replica else "starting"
        bind = self._settings.http_bind
        app = health_app(
            self._health,
            self._metrics,
            authenticator=None if bind.loopback else authenticator,
            authorizer=None if bind.loopback else authorizer,
        )
        listener = await listen(app, bind, setting="http_bind")
        self._listeners.append(listener)
        log.info("health listens", bind=str(listener.bind))

    def _election_problem(self) -> str:
        if not self._lease.holder:
            return "no leader is known yet"
        if self._lease.holder != self._lease.identity:
            return ""  # a candidate, ready to take over
        if not self._lease.leads:
            return "the lease could not be renewed"
        return "" if self._term is not None else "the term is starting"

    def _find_kind(self, kind: GroupKind) -> ResourceInfo | None:
        with suppress(SyncError):  # not known now, so nobody can be told whether they may see it
            return self._term.discovery.find(kind.group, kind.kind) if self._term else None
        return None

    async def _publish(self) -> None:
        await publish_hub(self._control, url=self._hub.url, authority=self._hub.authority, version=own_version())

    async def _close(self) -> None:
        for listener in self._listeners:
            await listener.close()
        if hasattr(self, "_hub"):
            await self._hub.close()
        for close in self._closers:
            await close()  # type: ignore[misc]


def own_version() -> str:
    """Version of the installed package."""
    try:
        return version("syncline")
    except PackageNotFoundError:
        return "0"
