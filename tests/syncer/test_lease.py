"""The election: at most one leader under every pause, delay and loss; the check before each write."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from syncer.errors import NotLeadingError
from syncer.kube.errors import Conflict, NotFound, ServerError
from syncer.lease import COLLECTION, LEASE_NAME, AlwaysLeading, Elector, Lease, LeaseRecord, LeaseTiming, Write
from syncer.metrics import Metrics
from syncer.watchdog import LoopWatchdog

TIMING = LeaseTiming()
FAST = LeaseTiming(lease=1.5, renew=1.0, retry=0.1)


class Server:
    """The Lease object: replaced only when the version that was read is still the present one."""

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self._version = 0

    def put(self, write: Write) -> LeaseRecord | None:
        """The stored record, or None for a conflict."""
        if write.expected != (self.record.version if self.record else ""):
            return None
        self._version += 1
        self.record = replace(write.record, version=str(self._version))
        return self.record


@dataclass
class Process:
    """One replica in the simulation: does one half-step of an attempt at a time, and may be paused in between."""

    elector: Elector
    rate: float
    offset: float
    stage: str = "idle"
    answer: LeaseRecord | None = None
    write: Write | None = None
    started: float = 0.0

    def now(self, time_: float) -> float:
        return self.offset + self.rate * time_

    def step(self, server: Server, time_: float, lost: bool) -> None:
        if self.stage == "idle":
            self.answer, self.stage = server.record, "idle" if lost else "read"
        elif self.stage == "read":
            self.write = self.elector.observe(self.answer, self.now(time_), "w")
            self.started, self.stage = self.now(time_), "send" if self.write else "idle"
        elif self.stage == "send":
            assert self.write is not None
            self.answer = server.put(self.write)
            self.stage = "idle" if lost or self.answer is None else "reply"
        else:
            assert self.answer is not None
            self.elector.wrote(self.answer, self.started, self.now(time_))
            self.stage = "idle"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(0, 2), st.booleans()),
        st.tuples(
            st.just("wait"), st.sampled_from([0.1, 1.0, 2.0, 4.9, 5.1, 9.9, 10.1, 14.9, 15.1, 40.0]), st.just(False)
        ),
        st.tuples(st.just("release"), st.integers(0, 2), st.just(False)),
    ),
    max_size=80,
)


@settings(max_examples=400)
@given(STEPS, st.lists(st.tuples(st.floats(0.9, 1.1), st.floats(-1e6, 1e6)), min_size=3, max_size=3))
def test_two_replicas_never_lead_at_once(steps: list[tuple[str, Any, bool]], clocks: list[tuple[float, float]]) -> None:
    """P10, F19: pauses between any two half-steps, lost requests and replies, clocks that differ in rate and offset."""
    server, time_ = Server(), 0.0
    processes = [Process(Elector(f"p{i}", TIMING), rate, offset) for i, (rate, offset) in enumerate(clocks)]
    for what, value, lost in steps:
        if what == "wait":
            time_ += value
        elif what == "step":
            processes[value].step(server, time_, lost)
        else:
            write = processes[value].elector.release(server.record, "w")
            if write:
                server.put(write)
        leaders = [p.elector.identity for p in processes if p.elector.leads(p.now(time_))]
        assert len(leaders) <= 1, leaders


@given(st.integers(0, 30), st.floats(0.0, 2.0))
def test_a_candidate_takes_over_within_twenty_seconds_of_a_kill(renewals: int, phase: float) -> None:
    """L08, in virtual time: the leader renews every 2 s, dies anywhere, and the candidate looks as it is told to."""
    server = Server()
    leader, candidate = Process(Elector("a", TIMING), 1, 0), Process(Elector("b", TIMING), 1, 0)
    for _ in range(4):
        leader.step(server, 0.0, False)
    time_ = 0.0
    next_look = phase
    killed = 2.0 * renewals + 1.9
    next_renewal = 2.0
    while not candidate.elector.leads(time_):
        time_ = min(next_look, next_renewal)
        assert time_ < killed + 20.0
        if time_ == next_renewal:
            for _ in range(4 if time_ < killed else 0):
                leader.step(server, time_, False)
            next_renewal += 2.0
        else:
            candidate.step(server, time_, False)
            while candidate.stage != "idle":
                candidate.step(server, time_, False)
            next_look = time_ + max(0.001, candidate.elector.next_attempt(time_))
    assert not leader.elector.leads(time_)
    assert time_ <= killed + 17.5


def test_the_deadline_counts_from_before_the_request_left() -> None:
    elector = Elector("a", TIMING)
    write = elector.observe(None, 100.0, "w")
    assert write is not None
    elector.wrote(write.record, started=100.0, now=109.0)
    assert elector.leads(109.9)
    assert not elector.leads(110.0)


def test_a_term_that_ran_out_is_not_continued() -> None:
    elector, server = Elector("a", TIMING), Server()
    first = server.put(elector.observe(None, 0.0, "w1") or pytest.fail("no claim"))
    assert first is not None
    elector.wrote(first, 0.0, 0.0)
    assert elector.observe(first, 10.5, "w2") is None
    again = elector.observe(first, 12.5, "w3")
    assert again is not None
    assert again.record.acquired == "w3"
    assert not elector.leads(12.5)


def test_a_candidate_that_saw_a_holder_does_not_believe_a_deleted_lease() -> None:
    elector = Elector("b", TIMING)
    held = LeaseRecord(holder="a", version="1")
    assert elector.observe(held, 0.0, "w") is None
    assert elector.observe(None, 1.0, "w") is None
    assert elector.observe(None, 15.0, "w") is not None


def test_a_released_lease_is_taken_at_once_and_the_term_counted() -> None:
    a, b, server = Elector("a", TIMING), Elector("b", TIMING), Server()
    first = server.put(a.observe(None, 0.0, "w") or pytest.fail("no claim"))
    assert first is not None
    a.wrote(first, 0.0, 0.0)
    assert b.observe(server.record, 0.5, "w") is None
    freed = a.release(server.record, "w")
    assert freed is not None
    assert not a.leads(0.6)
    server.put(freed)
    claim = b.observe(server.record, 1.0, "w")
    assert claim is not None
    assert claim.record.transitions == 1


def test_a_longer_lease_in_the_record_is_respected() -> None:
    elector = Elector("b", TIMING)
    held = LeaseRecord(holder="a", lease_seconds=60, version="1")
    assert elector.observe(held, 0.0, "w") is None
    assert elector.observe(held, 59.0, "w") is None
    assert elector.observe(held, 60.0, "w") is not None


@dataclass
class Answer:
    body: bytes


class FakeClient:
    """Speaks the Lease's HTTP to a `Server`; can be cut off."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.down = False

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
        timeout_seconds: float,
    ) -> Any:
        await asyncio.sleep(0)
        if self.down:
            raise ServerError(503, "ServiceUnavailable", "etcd is gone")
        if method == "GET":
            if self.server.record is None:
                raise NotFound(404, "NotFound", "no lease")
            return self._answer(self.server.record)
        assert path == (COLLECTION if method == "POST" else f"{COLLECTION}/{LEASE_NAME}")
        assert body is not None
        manifest = json.loads(body)
        spec = manifest["spec"]
        record = LeaseRecord(
            spec["holderIdentity"],
            spec["leaseDurationSeconds"],
            spec["acquireTime"],
            spec["renewTime"],
            spec["leaseTransitions"],
        )
        stored = self.server.put(Write(record, manifest["metadata"].get("resourceVersion", "")))
        if stored is None:
            raise Conflict(409, "Conflict", "changed")
        return self._answer(stored)

    @staticmethod
    def _answer(record: LeaseRecord) -> Answer:
        spec = {
            "holderIdentity": record.holder,
            "leaseDurationSeconds": record.lease_seconds,
            "acquireTime": record.acquired,
            "renewTime": record.renewed,
            "leaseTransitions": record.transitions,
        }
        return Answer(json.dumps({"metadata": {"resourceVersion": record.version}, "spec": spec}).encode())


@contextlib.asynccontextmanager
async def running(lease: Lease) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(lease.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_second_replica_waits_and_takes_over_on_release() -> None:
    server = Server()
    metrics = Metrics()
    first, second = (Lease(FakeClient(server), m, timing=FAST) for m in (metrics, Metrics()))
    async with running(first) as task, running(second):
        await asyncio.wait_for(first.wait_leading(), 5)
        first.check()
        assert b"syncline_leader 1.0" in metrics.exposition()
        with pytest.raises(NotLeadingError):
            second.check()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await first.release()
        with pytest.raises(NotLeadingError):
            first.check()
        assert server.record is not None
        assert server.record.holder != first.identity  # nobody has to wait until it expires
        await asyncio.wait_for(second.wait_leading(), 5)
        assert second.holder == second.identity
        assert b"syncline_leader 0.0" in metrics.exposition()


async def test_a_renewal_that_nobody_awaited_is_released_too() -> None:
    """The process is told to end while the server writes: the record it saw last is an older one."""
    server = Server()
    client = FakeClient(server)
    lease = Lease(client, Metrics(), timing=FAST)
    async with running(lease):
        await asyncio.wait_for(lease.wait_leading(), 5)
    assert server.record is not None
    server.put(Write(replace(server.record, renewed="later"), server.record.version))
    await lease.release()
    assert server.record.holder == ""


async def test_a_leader_that_cannot_renew_stops_before_anybody_else_starts() -> None:
    server = Server()
    cut_off = FakeClient(server)
    first, second = Lease(cut_off, Metrics(), timing=FAST), Lease(FakeClient(server), Metrics(), timing=FAST)
    async with running(first), running(second):
        await asyncio.wait_for(first.wait_leading() if not second.leads else second.wait_leading(), 5)
        if second.leads:
            pytest.fail("the first to start is the first to ask")
        cut_off.down = True
        reason = await asyncio.wait_for(first.wait_lost(), 5)
        assert "no renewal" in reason
        assert not second.leads
        await asyncio.wait_for(second.wait_leading(), 5)
        with pytest.raises(NotLeadingError, match="held by"):
            first.check()


async def test_a_process_that_was_stopped_does_not_write_when_it_wakes() -> None:
    """F19: the clock went on while nothing ran; the very first check refuses."""
    server, now = Server(), [0.0]
    lease = Lease(FakeClient(server), Metrics(), timing=TIMING, clock=lambda: now[0])
    async with running(lease):
        await asyncio.wait_for(lease.wait_leading(), 5)
        lease.check()
        now[0] += 30.0
        with pytest.raises(NotLeadingError):
            lease.check()
        assert await asyncio.wait_for(lease.wait_lost(), 1)


async def test_a_leader_whose_record_was_taken_stops_at_the_next_look() -> None:
    server = Server()
    lease = Lease(FakeClient(server), Metrics(), timing=FAST)
    async with running(lease):
        await asyncio.wait_for(lease.wait_leading(), 5)
        assert server.record is not None
        server.put(Write(replace(server.record, holder="thief"), server.record.version))
        await asyncio.wait_for(lease.wait_lost(), 5)
        assert lease.holder == "thief"


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"null",
        b'{"metadata":{}}',
        b'{"metadata":{"resourceVersion":"1"},"spec":[1]}',
        b'{"metadata":{"resourceVersion":"1"},"spec":{"leaseDurationSeconds":"x"}}',
    ],
)
async def test_an_answer_that_is_no_lease_is_a_failed_attempt_and_does_not_end_the_election(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeClient(Server())
    lease = Lease(client, Metrics(), timing=FAST)
    answer = FakeClient._answer
    odd = [0]

    def answered(record: LeaseRecord) -> Answer:
        odd[0] += 1
        return Answer(body) if odd[0] <= 2 else answer(record)

    monkeypatch.setattr(client, "_answer", answered)
    async with running(lease) as task:
        await asyncio.wait_for(lease.wait_leading(), 5)
        assert not task.done()
    assert odd[0] >= 3


async def test_the_log_says_why_leading_was_given_up() -> None:
    lease = Lease(FakeClient(Server()), Metrics(), timing=TIMING)
    await lease._attempt()
    lease._announce()
    with capture_logs() as logs:
        lease.step_down("the loop stood still")
        lease._announce()
    assert [(line["event"], line["reason"]) for line in logs] == [("stopped leading", "the loop stood still")]


async def test_a_blocked_event_loop_ends_the_term() -> None:
    """F23: the watchdog's thread steps down while the loop stands still; a new term starts afterwards."""
    server = Server()
    lease = Lease(FakeClient(server), Metrics(), timing=TIMING)
    metrics = Metrics()
    stalled = threading.Event()

    def on_stall(reason: str) -> None:
        lease.step_down(reason)
        stalled.set()

    watchdog = LoopWatchdog(asyncio.get_running_loop(), metrics, limit_seconds=0.2, on_stall=on_stall)
    async with running(lease):
        await asyncio.wait_for(lease.wait_leading(), 5)
        watchdog.start()
        assert stalled.wait(10)  # blocks the loop on purpose
        with pytest.raises(NotLeadingError):
            lease.check()
        assert "event loop blocked" in await asyncio.wait_for(lease.wait_lost(), 1)
        await asyncio.wait_for(lease.wait_leading(), 10)
        watchdog.stop()
    lag = next(line for line in metrics.exposition().splitlines() if line.startswith(b"syncline_loop_lag_seconds "))
    assert float(lag.split()[1]) >= 0.2


async def test_without_election_every_check_passes_and_leading_never_ends() -> None:
    metrics = Metrics()
    alone = AlwaysLeading(metrics)
    alone.check()
    await alone.wait_leading()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(alone.wait_lost(), 0.05)
    assert b"syncline_leader 1.0" in metrics.exposition()
