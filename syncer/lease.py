"""One leader among replicas: election on a `Lease`, and the check before every write.

`Elector` is the pure core: record in, decision out, monotonic seconds handed in. `Lease` is the shell: it reads and
writes the Lease object, and `check()` is what a `ClusterClient` calls just before a write leaves.

Why two replicas never both lead: a leader stops `lease - renew` seconds (default 5) before anybody else may start. It
counts from before it *sent* its last successful renewal, a candidate from when it *saw* the record change, which is
later; neither reads the other's clock. Every write of the record carries the resourceVersion that was read.
A process that was stopped (SIGSTOP, a frozen VM) finds its deadline passed when it wakes, because the monotonic clock
went on.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, Protocol

import orjson
import structlog

from syncer.api.names import SYSTEM_NAMESPACE
from syncer.errors import NotLeadingError, SyncError
from syncer.kube.errors import Conflict, MalformedAnswer, NotFound
from syncer.metrics import Metrics

LEASE_NAME: Final = "syncline-operator"
COLLECTION: Final = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases"
RELEASE_TIMEOUT_SECONDS: Final = 2.0

log = structlog.get_logger()


@dataclass(frozen=True)
class LeaseTiming:
    """All in seconds; `retry x 2 <= renew <= 0.8 x lease` (checked in the settings)."""

    lease: float = 15.0  # without a change of the record for so long, a candidate takes over
    renew: float = 10.0  # without a renewal for so long, the leader stops
    retry: float = 2.0  # between two attempts


@dataclass(frozen=True)
class LeaseRecord:
    """What the Lease object says. `version` is its resourceVersion; "" before it exists."""

    holder: str = ""
    lease_seconds: int = 15
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0
    version: str = ""


@dataclass(frozen=True)
class Write:
    """Create (`expected == ""`) or replace the record, on condition that its version is still `expected`."""

    record: LeaseRecord
    expected: str


class Change(Enum):
    """What an attempt did to our role."""

    STARTED = "started leading"
    STOPPED = "stopped leading"


class Elector:
    """Decides who leads; no I/O, no clock.

    One attempt is: read the record → `observe` → maybe send the `Write` that it returns → `wrote` if that succeeded.
    """

    def __init__(self, identity: str, timing: LeaseTiming) -> None:
        """Args: identity: unique per process start, so that a restarted process is somebody else."""
        self.identity = identity
        self.timing = timing
        self.holder = ""  # the last one seen
        self._seen: LeaseRecord | None = None
        self._seen_at = 0.0
        self._deadline: float | None = None  # leading while now < deadline

    @property
    def deadline(self) -> float | None:
        """Monotonic time at which leading ends without a renewal; None while not leading."""
        return self._deadline

    def leads(self, now: float) -> bool:
        """Whether writes may leave now."""
        return self._deadline is not None and now < self._deadline

    def observe(self, record: LeaseRecord | None, now: float, wall: str) -> Write | None:
        """Take in what was read, and answer with what to write, or None to wait.

        Args:
            record: None if the Lease does not exist.
            now: when the answer was there, monotonic seconds.
            wall: the time to write into the record, RFC 3339; nobody decides by it.
        """
        if record is None and self._foreign_until() > now:
            # Somebody deleted the Lease; its holder may not have noticed yet.
            return None
        if record != self._seen:
            self._seen, self._seen_at = record, now
        self.holder = record.holder if record else ""
        if record is None:
            return Write(self._claim(LeaseRecord(), wall, 0), "")
        if record.holder == self.identity:
            if self._deadline is not None and now >= self._deadline:
                # Too late to go on as if nothing had been: the term ends, the next attempt claims a new one.
                self._deadline = None
                return None
            term = record.acquired if self._deadline is not None else wall
            return Write(self._claim(record, term, record.transitions, renewed=wall), record.version)
        self._deadline = None
        if now < self._foreign_until():
            return None
        return Write(self._claim(record, wall, record.transitions + 1), record.version)

    def wrote(self, record: LeaseRecord, started: float, now: float) -> None:
        """Our write was accepted.

        Args:
            record: as the server returned it.
            started: when the request was about to leave.
        """
        self._seen, self._seen_at = record, now
        self.holder = record.holder
        self._deadline = started + self.timing.renew

    def stop(self) -> None:
        """Leading is over, whatever the record says."""
        self._deadline = None

    def release(self, record: LeaseRecord | None, wall: str) -> Write | None:
        """The write that lets a candidate start at once; None if the record is not ours. Stops leading first.

        Args:
            record: as it is now. What was seen last may be older: a renewal whose answer nobody awaited still counts.
        """
        self.stop()
        if record is None or record.holder != self.identity:
            return None
        return Write(LeaseRecord("", 1, record.acquired, wall, record.transitions, record.version), record.version)

    def next_attempt(self, now: float) -> float:
        """Seconds until the next look: `retry`, or less where a foreign record expires sooner."""
        expires = self._foreign_until()
        return min(self.timing.retry, expires - now) if expires > now else self.timing.retry

    def _foreign_until(self) -> float:
        """When the record last seen expires; 0 if it is ours, free or absent."""
        if self._seen is None or self._seen.holder in ("", self.identity):
            return 0.0
        return self._seen_at + max(self.timing.lease, self._seen.lease_seconds)

    def _claim(self, record: LeaseRecord, acquired: str, transitions: int, renewed: str = "") -> LeaseRecord:
        seconds = max(1, round(self.timing.lease))
        return LeaseRecord(self.identity, seconds, acquired, renewed or acquired, transitions, record.version)


class LeaseClient(Protocol):
    """The part of a `ClusterClient` that is needed; without a guard, since the Lease is written while not leading."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
        timeout_seconds: float,
    ) -> Any: ...


class Leadership(Protocol):
    """What the rest of the process sees of the election."""

    identity: str

    def check(self) -> None:
        """Raise `NotLeadingError` unless a write may leave at this very moment."""

    @property
    def leads(self) -> bool: ...

    @property
    def holder(self) -> str: ...

    async def wait_leading(self) -> None: ...

    async def wait_lost(self) -> str: ...


def steady_clock() -> float:
    """Seconds that never jump and, where the system has such a clock (Linux), go on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def new_identity() -> str:
    """Host, process and a random part: `node-1_4711_3f2a9c1e`."""
    return f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4().hex[:8]}"


class Lease:
    """The election of this process. `run` takes part until cancelled, `release` ends it well."""

    def __init__(
        self,
        client: LeaseClient,
        metrics: Metrics,
        *,
        timing: LeaseTiming,
        identity: str | None = None,
        name: str = LEASE_NAME,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._name = name
        self._path = f"{COLLECTION}/{name}"
        self._clock = clock or steady_clock
        self._timing = timing
        self._elector = Elector(identity or new_identity(), timing)
        self._changed = asyncio.Event()
        self._lost_reason = ""
        self._stepped_down: str | None = None
        self._was_leading = False
        self.last_contact: float | None = None  # monotonic; when the API server last answered about the Lease

    @property
    def identity(self) -> str:
        return self._elector.identity

    @property
    def holder(self) -> str:
        """Identity of the leader as last seen; "" if there is none."""
        return self._elector.holder

    @property
    def leads(self) -> bool:
        """Whether this process leads at this very moment."""
        return self._stepped_down is None and self._elector.leads(self._clock())

    def check(self) -> None:
        """The guard of every write.

        Raises:
            NotLeadingError: the lease is not held, or its deadline passed; the write must not leave.
        """
        if not self.leads:
            raise NotLeadingError(f"not leading; the lease is held by {self.holder or 'nobody'}")

    def step_down(self, reason: str) -> None:
        """Stop leading at once. May be called from any thread; takes effect with the next `check`."""
        self._stepped_down = reason

    async def wait_leading(self) -> None:
        """Return once this process leads."""
        while not self.leads:
            self._changed.clear()
            await self._changed.wait()

    async def wait_lost(self) -> str:
        """Return, with the reason, once this process no longer leads. Notices a passed deadline by itself."""
        while self.leads:
            deadline = self._elector.deadline
            assert deadline is not None
            self._changed.clear()
            # Looks twice a second at least: the clock may have jumped over the deadline while the process was stopped.
            try:
                async with asyncio.timeout(min(0.5, max(0.01, deadline - self._clock()))):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return self._stepped_down or self._lost_reason or f"no renewal for {self._timing.renew:g} s"

    async def run(self) -> None:
        """Take part in the election until cancelled."""
        while True:
            await self._attempt()
            self._announce()
            await asyncio.sleep(self._elector.next_attempt(self._clock()))

    async def release(self) -> None:
        """Stop leading and free the Lease, so that the next leader starts at once. Call after `run` was cancelled."""
        self._elector.stop()
        self._lost_reason = "released"
        self._announce()
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_SECONDS):
                while not await self._released():
                    log.debug("lease changed while it was released")
        except (SyncError, TimeoutError) as error:
            log.warning("lease not released; it expires by itself", error=str(error) or "timeout")

    async def _released(self) -> bool:
        """Free the Lease if it is ours; False if it changed meanwhile."""
        write = self._elector.release(await self._read(RELEASE_TIMEOUT_SECONDS), _wall())
        try:
            if write is not None:
                await self._send(write, RELEASE_TIMEOUT_SECONDS)
        except Conflict:
            return False
        return True

    async def _attempt(self) -> None:
        if self._stepped_down is not None:
            self._lost_reason, self._stepped_down = self._stepped_down, None
            self._elector.stop()
            return
        # One slow answer must leave time for another try before the deadline.
        timeout = max(1.0, self._timing.retry)
        try:
            async with asyncio.timeout(2 * timeout):
                write = self._elector.observe(await self._read(timeout), self._clock(), _wall())
                if write is not None:
                    started = self._clock()
                    self._elector.wrote(await self._send(write, timeout), started, self._clock())
        except Conflict:
            # Somebody else was faster; the next look tells who.
            log.debug("lease changed meanwhile")
        except (SyncError, TimeoutError) as error:
            log.warning("lease not reached", error=str(error) or "timeout", leading=self.leads)

    def _announce(self) -> None:
        """Wake waiters and tell the metrics when our role changed."""
        leading = self.leads
        if self._was_leading and not leading:
            self._elector.stop()
            self._lost_reason = self._stepped_down or self._lost_reason or f"no renewal for {self._timing.renew:g} s"
            log.warning("stopped leading", reason=self._lost_reason, holder=self.holder)
        elif leading and not self._was_leading:
            self._lost_reason = ""
            log.info("started leading", identity=self.identity)
        self._was_leading = leading
        self._metrics.leader.set(1 if leading else 0)
        self._changed.set()

    async def _read(self, timeout_seconds: float) -> LeaseRecord | None:
        try:
            answer = await self._client.request("GET", self._path, timeout_seconds=timeout_seconds)
        except NotFound:
            self.last_contact = self._clock()
            return None
        self.last_contact = self._clock()
        return decode_record(answer.body)

    async def _send(self, write: Write, timeout_seconds: float) -> LeaseRecord:
        method, path = ("PUT", self._path) if write.expected else ("POST", COLLECTION)
        answer = await self._client.request(
            method,
            path,
            body=encode_record(self._name, write),
            content_type="application/json",
            timeout_seconds=timeout_seconds,
        )
        self.last_contact = self._clock()
        return decode_record(answer.body)


class AlwaysLeading:
    """The election where there is none (`--no-leader-elect`): exactly one replica may run."""

    def __init__(self, metrics: Metrics) -> None:
        self.identity = new_identity()
        self.holder = self.identity
        self.leads = True
        metrics.leader.set(1)

    def check(self) -> None:
        return

    async def wait_leading(self) -> None:
        return

    async def wait_lost(self) -> str:
        await asyncio.Event().wait()
        raise AssertionError("never set")

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def release(self) -> None:
        return

    def step_down(self, reason: str) -> None:
        """There is nobody to step down for."""


def decode_record(body: bytes) -> LeaseRecord:
    """The record in a Lease object; fields that are missing count as never set.

    Raises:
        MalformedAnswer: something else came, as from a proxy or a server that is ending.
    """
    try:
        manifest = orjson.loads(body)
        spec, version = manifest.get("spec") or {}, manifest["metadata"]["resourceVersion"]
        record = LeaseRecord(
            holder=spec.get("holderIdentity") or "",
            lease_seconds=spec.get("leaseDurationSeconds") or 15,
            acquired=spec.get("acquireTime") or "",
            renewed=spec.get("renewTime") or "",
            transitions=spec.get("leaseTransitions") or 0,
            version=version,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MalformedAnswer(0, "MalformedAnswer", "the answer is not a Lease") from error
    texts = (record.holder, record.acquired, record.renewed, record.version)
    if not all(type(text) is str for text in texts) or not record.version:
        raise MalformedAnswer(0, "MalformedAnswer", "the answer is not a Lease")
    if type(record.lease_seconds) is not int or type(record.transitions) is not int:
        raise MalformedAnswer(0, "MalformedAnswer", "the answer is not a Lease")
    return record


def encode_record(name: str, write: Write) -> bytes:
    """The Lease object to send; its resourceVersion makes the server refuse it if the record changed meanwhile."""
    metadata = {"name": name, "namespace": SYSTEM_NAMESPACE}
    if write.expected:
        metadata["resourceVersion"] = write.expected
    record = write.record
    spec = {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.lease_seconds,
        "acquireTime": record.acquired,
        "renewTime": record.renewed,
        "leaseTransitions": record.transitions,
    }
    return orjson.dumps({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})


def _wall() -> str:
    """Now, in the form of a Kubernetes MicroTime."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
