"""Announces this replica, and follows the others: a Lease for each. See `syncer.hub.members`.

While the API server does not answer nobody is given up: links and what is known of the others go on to serve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog

from syncer.api.names import SYSTEM_NAMESPACE
from syncer.errors import SyncError
from syncer.hub.members import LABEL, MAX_RECORDED, Changed, Link, Members, Record, decode, encode, lease_name
from syncer.kube.client import JSON, ClusterClient
from syncer.kube.errors import Conflict, NotFound
from syncer.kube.informer import Informer, InformerEvent
from syncer.kube.objects import ResourceInfo, decode_object
from syncer.lease import steady_clock
from syncer.metrics import Metrics

LEASES: Final = ResourceInfo("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True)
RENEW_SECONDS: Final = 3.0  # between two writes when nothing changed; a third of what makes a member
GAP_SECONDS: Final = 0.25  # between two writes: many links that come at once are one write
LOOK_SECONDS: Final = 1.0
REQUEST_SECONDS: Final = 4.0
FORGET_SECONDS: Final = 600.0  # Leases of replicas that are gone are removed then

log = structlog.get_logger()


class Registry:
    """One per replica.

    Attributes:
        members: the others.
        on_change: told what changed of them.
    """

    def __init__(
        self,
        client: ClusterClient,
        metrics: Metrics,
        *,
        replica: str,
        links: Callable[[], Mapping[str, Link]],
        clock: Callable[[], float] = steady_clock,
    ) -> None:
        """Args: client: without a guard. links: {target: those of its agents to this replica}."""
        self.members = Members(replica)
        self.on_change: list[Callable[[Changed], None]] = []
        self._client = client
        self._metrics = metrics
        self._links = links
        self._clock = clock
        self._record = Record(replica, "")
        self._path = LEASES.path(SYSTEM_NAMESPACE, lease_name(replica))
        self._version = ""  # of our Lease as we wrote it last; "" while there is none
        self._written_at = -REQUEST_SECONDS
        self._due = asyncio.Event()
        self._problem = ""
        self._left_out = 0
        self._gone: dict[str, float] = {}  # {replica: when it was given up}
        self._informer = Informer(
            client,
            LEASES,
            on_event=self._seen,
            namespace=SYSTEM_NAMESPACE,
            label_selector=f"{LABEL}=true",
            manager=None,
        )

    def changed(self) -> None:
        """Our links are others than before."""
        self._due.set()

    async def run(self, url: str, agents: str = "") -> None:
        """Announce and follow until cancelled; no error ends it.

        Args:
            url: where other replicas reach this one.
            agents: where agents do; "" is there too.
        """
        self.members.url = url
        self._record = Record(self._record.replica, url, agents=agents)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informer.run(), name="replicas")
            group.create_task(self._announce(), name="announce")
            group.create_task(self._look(), name="look after replicas")

    async def leave(self) -> None:
        """This replica ends: nobody shall be sent here any more. Call after `run` was cancelled."""
        try:
            await self._client.request("DELETE", self._path, timeout_seconds=REQUEST_SECONDS, verb="delete")
        except NotFound:
            return
        except SyncError as error:
            log.warning("this replica's Lease is not removed; it expires by itself", error=str(error))

    # Our own record -------------------------------------------------------------------------------------------------

    async def _announce(self) -> None:
        while True:
            self._due.clear()
            await self._write()
            try:
                async with asyncio.timeout(RENEW_SECONDS - GAP_SECONDS):
                    await self._due.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(GAP_SECONDS)

    async def _write(self) -> None:
        found = sorted(self._links().items())
        links = dict(found[:MAX_RECORDED])
        if (left_out := len(found) - len(links)) != self._left_out:
            log.warning("links to this replica that the others are not told of", count=left_out, limit=MAX_RECORDED)
            self._left_out = left_out
        if links != self._record.links:
            self._record = msgspec.structs.replace(self._record, epoch=self._record.epoch + 1, links=links)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body = encode(self._record, renewed=now, version=self._version)
        method, path = ("PUT", self._path) if self._version else ("POST", LEASES.path(SYSTEM_NAMESPACE))
        try:
            answer = await self._client.request(
                method, path, body=body, content_type=JSON, timeout_seconds=REQUEST_SECONDS
            )
            self._version = decode_object(answer.body, manager=None).resource_version
        except (Conflict, NotFound):
            await self._read()
        except SyncError as error:
            self._complain(str(error))
        else:
            self._written_at = self._clock()
            self._complain("")

    async def _read(self) -> None:
        """Our Lease is not as we left it: a write of ours whose answer was lost, or somebody removed it."""
        self._due.set()
        try:
            found = await self._client.get(LEASES, SYSTEM_NAMESPACE, lease_name(self._record.replica))
        except NotFound:
            self._version = ""
        except SyncError as error:
            self._complain(str(error))
        else:
            self._version = found.resource_version

    def _complain(self, problem: str) -> None:
        if problem and not self._problem:
            log.warning("this replica is not announced; links to it go on", error=problem)
        elif self._problem and not problem:
            log.info("this replica is announced again")
        self._problem = problem

    # The others -----------------------------------------------------------------------------------------------------

    def _seen(self, event: InformerEvent) -> None:
        found = decode(event.object) if event.object is not None else None
        if found is None:
            return
        record, renewed = found
        if event.type == "DELETED":
            self._gone.pop(record.replica, None)
            self._lost(record.replica, "it left")
            return
        change = self.members.observe(record, renewed, self._clock())
        if change.members:
            self._gone.pop(record.replica, None)
            log.info("replica joined", replica=record.replica, url=record.url)
        self._tell(change)

    def _lost(self, replica: str, why: str) -> None:
        change = self.members.remove(replica)
        if change:
            log.info("replica gone", replica=replica, reason=why)
        self._tell(change)

    def _tell(self, change: Changed) -> None:
        if change:
            self._metrics.replicas.set(1 + len(self.members))
            for listener in self.on_change:
                listener(change)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._clock()
            if not self._informer.fresh or now - self._written_at > 2 * RENEW_SECONDS:
                self.members.forgive(now)
                continue
            for replica in self.members.expire(now):
                self._gone[replica] = now
                self._lost(replica, "its Lease was not renewed")
            for replica in [name for name, since in self._gone.items() if now - since > FORGET_SECONDS]:
                await self._forget(replica)

    async def _forget(self, replica: str) -> None:
        """Remove the Lease of a replica that ended without a word, unless it lives again."""
        name = lease_name(replica)
        found = self._informer.cache.get((SYSTEM_NAMESPACE, name))
        try:
            if found is not None:
                await self._client.delete(
                    LEASES, SYSTEM_NAMESPACE, name, uid=found.uid, resource_version=found.resource_version
                )
        except (NotFound, Conflict):
            pass
        except SyncError as error:
            log.warning("the Lease of a replica that is gone is not removed", replica=replica, error=str(error))
            return
        self._gone.pop(replica, None)
