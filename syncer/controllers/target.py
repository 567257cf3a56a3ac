"""The life of one SyncTarget: connect, probe, look around, report, let go."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import aiohttp
import orjson
import structlog

from syncer.api.names import TARGET_FINALIZER, Reason
from syncer.api.synctarget import SyncTarget, SyncTargetStatus
from syncer.controllers import connection
from syncer.controllers.ports import SYNCTARGETS
from syncer.controllers.probe import ProbeTracker, Verdict
from syncer.controllers.reporter import StatusReporter
from syncer.controllers.secrets import SecretProblem
from syncer.controllers.status import TargetFacts
from syncer.controllers.surroundings import Surroundings
from syncer.errors import SyncError, TerminalError, TransientError
from syncer.kube.client import MERGE_PATCH, ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.discovery import Discovery
from syncer.kube.errors import ApiError, NotFound
from syncer.kube.objects import KubeObject
from syncer.kube.stream_connector import stream_credentials
from syncer.placement.policy import ResourcePolicy

LOOK_AROUND_SECONDS: Final = 60.0  # kinds and rights are asked again
CAPACITY_SECONDS: Final = 300.0
RESYNC_SECONDS: Final = 60.0  # the SyncTarget is read again even if nobody said that it changed (F04)
DRAIN_POLL_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 2.0  # after the upstream API server failed us
ATTACH_SECONDS: Final = 0.1  # the engine has its own watch of SyncTargets, which may be a moment behind; doubled
LONGEST_ATTACH_SECONDS: Final = 2.0
LINGER_SECONDS: Final = 10.0  # a replaced client finishes what it has in flight
TUNNEL: Final = b"tunnel"  # in place of a kubeconfig's digest

log = structlog.get_logger()


@dataclass
class _Link:
    """A verified connection."""

    client: ClusterClient
    discovery: Discovery
    digest: bytes  # of the kubeconfig it was made from, or `TUNNEL`


class TargetSession:
    """One SyncTarget, as long as it exists. Runs as one task; `wake` makes it look again at once."""

    def __init__(self, name: str, around: Surroundings) -> None:
        self.name = name
        self.created = ""
        self._around = around
        self._wake = asyncio.Event()
        self._dirty = True  # the SyncTarget may have changed
        self._target: SyncTarget | None = None
        self._finalizers: tuple[str, ...] = ()
        self._link: _Link | None = None
        self._beside: set[asyncio.Task[None]] = set()  # tasks that end by themselves, or with `close`
        self._looking: asyncio.Task[None] | None = None
        self._refused: bytes | None = None  # digest of a kubeconfig that can never work
        self._uid = ""  # of the SyncTarget, known to the engine
        self._tracker = self._new_tracker()
        self._problem: Verdict | None = None  # why there is nothing to probe
        self._refusal: tuple[str, str] | None = None  # the problem that was logged last
        self._invalid: Verdict | None = None  # the SyncTarget itself cannot be read
        self._told: tuple[bool, str] | None = None  # what the engine was told
        self._attach_pause = ATTACH_SECONDS
        self._facts = TargetFacts(0, self._tracker.verdict)
        self._reporter = self._new_reporter()
        self._probe_at = self._look_at = self._capacity_at = self._read_at = 0.0
        self._log = log.bind(target=name)

    def wake(self, *, changed: bool = False) -> None:
        """Look again now. Args: changed: the SyncTarget itself may have changed, or is gone."""
        self._dirty |= changed
        if self._problem is not None:
            self._probe_at = 0.0
        self._wake.set()

    def secret_changed(self, namespace: str, name: str) -> None:
        """The Secret was added, changed or removed; if it is ours, use it at once. An empty name means all."""
        ref = self._target.kubeconfig_secret() if self._target else None
        if ref is not None and ref.namespace == namespace and name in ("", ref.name):
            self._refused, self._probe_at = None, 0.0
            self._wake.set()

    def link_changed(self) -> None:
        """A link of the target's agent came or went: ask at once."""
        if self._tunnelled:
            self._probe_at = 0.0
            self._wake.set()

    async def run(self) -> None:
        """Until the SyncTarget is gone, or cancelled. The connection stays open until `close`: the engine uses it."""
        self._around.metrics.add_target(self.name)
        complaint = ""
        while True:
            self._wake.clear()
            try:
                delay = await self._pass()
                complaint = ""
            except (TransientError, ApiError) as error:
                # No answer; or a conflict or validation answer, and then what we knew is old.
                if str(error) != complaint:
                    complaint = str(error)
                    self._log.warning("synctarget not written or read, trying again", error=complaint)
                self._dirty, delay = True, RETRY_SECONDS
            if delay is None:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.05, delay)):
                    await self._wake.wait()

    async def close(self) -> None:
        """End its connections, and its series in the metrics."""
        self._around.metrics.remove_target(self.name)
        beside = list(self._beside)
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        if self._link is not None:
            await self._link.client.close()

    async def _pass(self) -> float | None:
        """Do what is due. Returns seconds until the next look, None once the SyncTarget is gone."""
        if self._dirty and not await self._read():
            self._disconnect("the SyncTarget is gone")
            self._around.links.cut(self.name, "the SyncTarget is gone")
            return None
        target = self._target
        if target is None:
            return RETRY_SECONDS
        now = self._around.clock()
        if now >= self._read_at:
            self._dirty, self._read_at = True, now + RESYNC_SECONDS
            return 0.0
        if now >= self._probe_at:
            await self._connect_or_probe(target)
            unknown_yet = self._link is not None and not self._around.engine.attached(self.name)
            self._probe_at = self._around.clock() + (self._attach_pause if unknown_yet else self._tracker.next_probe())
        if self._link is not None and self._verdict.reachable:
            await self._look(self._link, target)
        if target.metadata.deletion_timestamp:
            if await self._let_go(target):
                self._dirty = True
                return 0.0
            await self._report()
            return DRAIN_POLL_SECONDS
        await self._report()
        return max(0.05, min(self._probe_at - self._around.clock(), 5.0))

    async def _read(self) -> bool:
        """Read the SyncTarget and see to our finalizer; False if it is gone."""
        self._dirty = False  # before asking: what changes from here on makes it dirty again
        try:
            found = await self._around.upstream.get(SYNCTARGETS, "", self.name)
        except NotFound as error:
            if error.kind_of_missing != "object":
                raise TransientError("the SyncTarget kind is not served") from error
            # Made again meanwhile? Then its event has come and will not come a second time.
            return await self._read() if self._dirty else False
        if self._uid and found.uid != self._uid:
            self._forget()
        if TARGET_FINALIZER not in found.finalizers and not found.terminating:
            found = await self._patch_finalizers(found, (*found.finalizers, TARGET_FINALIZER))
        self._uid, self.created, self._finalizers = found.uid, found.creation_timestamp, found.finalizers
        self._read_at = self._around.clock() + RESYNC_SECONDS
        try:
            target = SyncTarget.parse(found.manifest())
        except TerminalError as error:
            # A newer version wrote it, or webhooks are off: say so and leave everything as it is.
            self._invalid = Verdict(False, str(Reason.INVALID), str(error), self._around.clock())
            self._facts = replace(self._facts, generation=found.generation)
            if self._target is None:
                await self._report()
            return True
        self._invalid = None
        if self._target is None:
            self._remember(target.status)
        if self._target is None or self._target.spec != target.spec:
            self._refused = None
            self._probe_at = self._look_at = 0.0
        self._target = target
        self._facts = replace(self._facts, generation=found.generation)
        return True

    def _remember(self, status: SyncTargetStatus) -> None:
        """Go on from what an earlier leader reported, so that a restart changes nothing that still holds."""
        heartbeat = None
        with suppress(ValueError):
            heartbeat = datetime.fromisoformat(status.last_heartbeat_time)
        self._facts = replace(
            self._facts,
            heartbeat=heartbeat,
            cluster_uid=status.cluster_uid,
            version=status.kubernetes_version,
            capacity=status.capacity,
            allocatable=status.allocatable,
            resources=status.synced_resources,
        )
        self._reporter.go_on_from(status)

    async def _connect_or_probe(self, target: SyncTarget) -> None:
        """Bring the connection to what the SyncTarget says, and see whether it answers."""
        ref = target.kubeconfig_secret()
        if ref is None:
            await self._reach_through_tunnel(target)
            return
        try:
            kubeconfig = self._around.secrets.kubeconfig(ref)
        except SecretProblem as problem:
            self._refuse(problem.reason, str(problem))
            return
        if kubeconfig is None:
            return
        digest = hashlib.sha256(kubeconfig).digest()
        if digest == self._refused:
            return
        self._problem = None
        if self._link is not None and self._link.digest == digest:
            await self._probe(self._link.client)
            self._attach(target, self._link)
            return
        try:
            credentials = ClusterCredentials.from_untrusted_kubeconfig(kubeconfig)
        except TerminalError as error:
            self._refused = digest
            self._refuse("InvalidKubeconfig", str(error))
            return
        await self._connect(target, self._client(target, credentials), digest)

    async def _reach_through_tunnel(self, target: SyncTarget) -> None:
        """As a direct connection; but without a link there is nobody to ask, which counts as no answer."""
        self._problem = None
        links = self._around.links
        if not links.status(self.name).links:
            self._tracker.failure(
                *connection.no_link(self.name, links.url, self._facts.cluster_uid), self._around.clock()
            )
            self._tell_engine()
        elif self._link is not None and self._link.digest == TUNNEL:
            await self._probe(self._link.client)
            self._attach(target, self._link)
        else:
            client = self._client(target, stream_credentials(), links.connector(self.name))
            await self._connect(target, client, TUNNEL)

    def _client(
        self,
        target: SyncTarget,
        credentials: ClusterCredentials,
        connector: Callable[[int, float], aiohttp.BaseConnector] | None = None,
    ) -> ClusterClient:
        observe = self._around.metrics.observe_request
        return ClusterClient(
            credentials,
            name=self.name,
            guard=self._around.guard,
            observe=lambda _, verb, code, seconds: observe("downstream", verb, code, seconds),
            max_connections=target.spec.limits.max_concurrent,
            connector=connector,
        )

    async def _connect(self, target: SyncTarget, client: ClusterClient, digest: bytes) -> None:
        """Take the client into use if the right cluster answers, else close it."""
        discovery = Discovery(client)
        if await self._probe(client):
            try:
                await discovery.refresh()
            except SyncError as error:
                self._tracker.failure("Unreachable", f"its kinds cannot be listed: {error}", self._around.clock())
            else:
                self._look_away()
                replaced, self._link = self._link, _Link(client, discovery, digest)
                self._look_at = self._capacity_at = 0.0
                self._log.info("target connected", server=client.server, cluster_uid=self._facts.cluster_uid)
                self._attach(target, self._link, new=True)
                if replaced is not None:
                    self._close_later(replaced.client)
                return
        await client.close()
        self._tell_engine()

    async def _probe(self, client: ClusterClient) -> bool:
        """Ask the cluster who it is; True if it is the right one."""
        try:
            uid = await connection.ask_cluster_uid(client, self._around.probe.timeout)
        except SyncError as error:
            self._tracker.failure(connection.reason_of(error), str(error), self._around.clock())
            return False
        except (KeyError, TypeError, ValueError):
            self._tracker.failure("MalformedAnswer", "what answers is no Kubernetes API", self._around.clock())
            return False
        wrong = self._wrong_cluster(uid)
        if wrong is not None:
            self._refuse(*wrong)
            return False
        if self._tracker.success(self._around.clock()):
            self._look_at = 0.0
        self._facts = replace(self._facts, heartbeat=self._around.now(), cluster_uid=uid)
        self._refusal = None
        return True

    def _wrong_cluster(self, uid: str) -> tuple[str, str] | None:
        """(reason, message) if this cluster must not be written to under this name."""
        way = "agent" if self._tunnelled else "kubeconfig"
        wrong = connection.another_cluster(
            uid, self.name, known=self._facts.cluster_uid, upstream=self._around.hub_id, way=way
        )
        if wrong is not None:
            return wrong
        other = self._around.claim(uid, self)
        if other is not None:
            return "DuplicateCluster", f"SyncTarget {other} is the same cluster {uid}; remove one of the two"
        return None

    def _refuse(self, reason: str, message: str) -> None:
        """There is nothing to probe: no usable connection is described, or it leads to a wrong cluster."""
        self._problem = Verdict(False, reason, message, self._around.clock())
        if self._refusal != (reason, message):
            self._log.warning("target not usable", reason=reason, detail=message)
            self._refusal = (reason, message)
        self._disconnect(message)
        self._tracker = self._new_tracker()

    def _disconnect(self, why: str) -> None:
        self._look_away()
        link, self._link = self._link, None
        if link is not None:
            self._around.engine.detach_target(self.name, why)
            self._close_later(link.client)
        self._told = None
        self._around.metrics.target_ready.labels(self.name).set(0)

    def _close_later(self, client: ClusterClient) -> None:
        """Let what is in flight finish, then close."""

        async def close() -> None:
            try:
                await asyncio.sleep(LINGER_SECONDS)
            finally:
                await client.close()

        self._start(close())

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"beside {self.name}")
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task

    def _attach(self, target: SyncTarget, link: _Link, *, new: bool = False) -> None:
        """Hand the connection to the engine, which takes it once it has seen the SyncTarget itself."""
        engine = self._around.engine
        if new or not engine.attached(self.name):
            engine.attach_target(self.name, target.metadata.uid, link.client, link.discovery)
            attached = engine.attached(self.name)
            self._attach_pause = ATTACH_SECONDS if attached else min(2 * self._attach_pause, LONGEST_ATTACH_SECONDS)
            if not attached:
                return
            self._told = None
        self._tell_engine()

    def _tell_engine(self) -> None:
        verdict = self._verdict
        if self._link is None or verdict.reachable is None or self._told == (verdict.reachable, verdict.reason):
            return
        self._told = (verdict.reachable, verdict.reason)
        since = self._around.now().timestamp() - (self._around.clock() - verdict.since)
        self._around.engine.target_reachable(self.name, verdict.reachable, since, verdict.message)
        self._log.info("target answers" if verdict.reachable else "target does not answer", reason=verdict.reason)

    async def _look(self, link: _Link, target: SyncTarget) -> None:
        """Look around; what takes longer than a probe goes on beside the probes, for the target may have stopped."""
        self._looking = self._looking or self._start(self._look_around(link, target))
        done, _ = await asyncio.wait({self._looking}, timeout=self._around.probe.timeout)
        if done:
            self._looking = None
            done.pop().result()

    def _look_away(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    async def _look_around(self, link: _Link, target: SyncTarget) -> None:
        """Ask for kinds, rights and capacity when it is time to; a failure leaves what was known."""
        now = self._around.clock()
        try:
            if now >= self._look_at:
                self._look_at = now + LOOK_AROUND_SECONDS
                await link.discovery.refresh()
                policy = ResourcePolicy.of(target.spec.resources)
                kinds = connection.compare_kinds(self._around.upstream_kinds(), link.discovery.resources(), policy)
                version = await connection.ask_version(link.client, self._around.probe.timeout)
                self._facts = replace(self._facts, version=version, resources=kinds.listed, unserved=kinds.unserved)
                missing = await connection.ask_missing_rights(link.client, kinds.accepted)
                self._facts = replace(self._facts, missing_rights=missing, rights_error="")
            if now >= self._capacity_at:
                self._capacity_at = now + CAPACITY_SECONDS
                capacity, allocatable = await connection.ask_capacity(link.client)
                self._facts = replace(self._facts, capacity=capacity, allocatable=allocatable)
        except SyncError as error:
            self._log.info("target could not be looked at", error=str(error))
            if self._facts.missing_rights is None:
                self._facts = replace(self._facts, rights_error=str(error))

    async def _let_go(self, target: SyncTarget) -> bool:
        """The SyncTarget is being deleted; True once it may go, with our finalizer taken off."""
        if TARGET_FINALIZER not in self._finalizers:
            return True
        waits = await self._waits_for(target)
        if waits:
            self._facts = replace(self._facts, deleting=waits)
            return False
        found = await self._around.upstream.get(SYNCTARGETS, "", self.name)
        self._disconnect("the SyncTarget is deleted")
        self._around.links.cut(self.name, "the SyncTarget is deleted")
        await self._patch_finalizers(found, tuple(f for f in found.finalizers if f != TARGET_FINALIZER))
        return True

    async def _waits_for(self, target: SyncTarget) -> str:
        """What the deletion still waits for; "" if nothing."""
        api = await connection.crd_state(self._around.upstream)
        if api == "leaving":
            return ""  # Syncline is being removed, which never removes workloads: let go without draining
        if api == "unknown":
            return "the upstream API server does not tell whether our CRDs are being removed"
        never_connected = not self._facts.cluster_uid
        if never_connected or target.spec.deletion == "Orphan" or self._around.engine.drained(self.name):
            return ""
        if not self._verdict.reachable:
            return f"objects on it cannot be removed while it does not answer: {self._verdict.message}"
        waits = f"{self._around.engine.objects(self.name) or 0} objects on it are being removed"
        moving = self._around.engine.moving(self.name)
        if moving:
            waits += (
                f"; {len(moving)} of them, such as {moving[0]}. Make it ready there, or change its placement; "
                "spec.deletion: Orphan lets the SyncTarget go and leaves its objects"
            )
        return waits

    async def _patch_finalizers(self, found: KubeObject, finalizers: tuple[str, ...]) -> KubeObject:
        # The version makes it a compare-and-set: finalizers of others are neither lost nor brought back.
        body = {"metadata": {"resourceVersion": found.resource_version, "finalizers": list(finalizers)}}
        return await self._around.upstream.patch(SYNCTARGETS, "", self.name, orjson.dumps(body), MERGE_PATCH)

    async def _report(self) -> None:
        facts, links = replace(self._facts, verdict=self._verdict), self._around.links
        if self._tunnelled:
            tunnel, registration = links.status(self.name), self._around.generation(self.name)
            facts = replace(facts, tunnel=tunnel, registration=registration, duplicate=links.duplicate(self.name))
        await self._reporter.report(facts, uid=self._uid)

    @property
    def _tunnelled(self) -> bool:
        return self._target is not None and self._target.kubeconfig_secret() is None

    @property
    def _verdict(self) -> Verdict:
        return self._invalid or self._problem or self._tracker.verdict

    def _new_tracker(self) -> ProbeTracker:
        probe = self._around.probe
        return ProbeTracker(threshold=probe.failures, interval_seconds=probe.interval, now=self._around.clock())

    def _new_reporter(self) -> StatusReporter:
        around = self._around
        return StatusReporter(
            self.name, around.upstream, around.engine, around.metrics, around.events, clock=around.clock, now=around.now
        )

    def _forget(self) -> None:
        """Another SyncTarget of the same name: nothing of the old one holds."""
        self._disconnect("the SyncTarget was replaced")
        self._around.release(self)
        self._target = self._problem = self._refused = None
        self._reporter = self._new_reporter()
        self._tracker = self._new_tracker()
        self._facts = TargetFacts(0, self._tracker.verdict)
