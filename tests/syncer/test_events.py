"""Events: told once per change of outcome, bounded in rate, size and memory."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.fleet import Fleet
from syncer.errors import SyncError
from syncer.events import (
    MAX_QUEUED,
    Backlog,
    EventRecorder,
    News,
    Outcome,
    OutcomeMemory,
    Regarding,
    event_manifest,
)
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.errors import AlreadyExists, Forbidden
from syncer.kube.objects import KubeObject, ResourceInfo, decode_object
from syncer.metrics import Metrics
from tests.support.fleet import Kubectl

WEB = Regarding("apps/v1", "Deployment", "shop", "web", "uid-1")
BAD = Outcome("Invalid", "spec.replicas: must not be negative")
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


class Server:
    """Takes Events; answers 409 to a name that it has, or the error it was told to give."""

    def __init__(self, error: SyncError | None = None) -> None:
        self.events: dict[str, dict[str, object]] = {}
        self.requests = 0
        self.error = error

    async def create(self, info: ResourceInfo, namespace: str, body: bytes) -> KubeObject:
        self.requests += 1
        assert info.path(namespace) == f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        if self.error:
            raise self.error
        event = orjson.loads(body)
        name = event["metadata"]["name"]
        if name in self.events:
            raise AlreadyExists(409, "AlreadyExists", "exists")
        self.events[name] = event
        return decode_object(body)


async def settle(recorder: EventRecorder, turns: int = 200) -> None:
    task = asyncio.create_task(recorder.run())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_the_same_outcome_is_news_only_once() -> None:
    memory = OutcomeMemory()
    assert memory.changed("u", "east", BAD)
    assert not memory.changed("u", "east", BAD)
    assert memory.changed("u", "west", BAD)
    assert memory.changed("u", "east", BAD._replace(message="other"))


def test_trouble_after_all_was_well_is_news_again() -> None:
    memory = OutcomeMemory()
    assert not memory.changed("u", "east", None)
    assert memory.changed("u", "east", BAD)
    assert not memory.changed("u", "east", None)
    assert memory.changed("u", "east", BAD)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from([None, "A", "B"])), max_size=60)
)
def test_news_is_exactly_a_difference_to_what_was_told_last(steps: list[tuple[str, str, str | None]]) -> None:
    memory, last = OutcomeMemory(), dict[tuple[str, str], str | None]()
    for uid, slot, word in steps:
        outcome = Outcome(word, "m") if word else None
        assert memory.changed(uid, slot, outcome) is (word is not None and last.get((uid, slot)) != word)
        last[uid, slot] = word


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz"), st.sampled_from([None, "A", "gone"]))))
def test_forgetting_an_object_looks_at_what_is_its_own_only(steps: list[tuple[str, str, str | None]]) -> None:
    """20,000 outcomes looked at for each of thousands of deletes would hold up the loop."""
    memory = OutcomeMemory(limit=5)
    for uid, slot, word in steps:
        if word == "gone":
            memory.forget(uid)
        else:
            memory.changed(uid, slot, Outcome(word, "m") if word else None)
        assert {(uid, slot) for uid, slots in memory._slots.items() for slot in slots} == set(memory._told)
        assert all(memory._slots.values())
    for uid in "abcd":
        memory.forget(uid)
    assert not memory._told


def test_memory_is_bounded_and_a_deleted_object_is_forgotten() -> None:
    """P18."""
    memory = OutcomeMemory(limit=3)
    for number in range(10):
        memory.changed(f"u{number}", "east", BAD)
    assert len(memory._told) == 3
    assert not memory.changed("u9", "east", BAD)
    memory.forget("u9")
    assert memory.changed("u9", "east", BAD)


def test_the_manifest_is_what_kubernetes_expects() -> None:
    event = orjson.loads(event_manifest(WEB, "east", BAD, now=NOW, instance="host"))
    assert event["eventTime"] == "2026-01-02T03:04:05.678901Z"
    assert event["metadata"]["namespace"] == "shop"
    assert event["metadata"]["name"].startswith("web.")
    assert event["regarding"]["uid"] == "uid-1"
    assert (event["type"], event["reason"], event["note"]) == ("Warning", "Invalid", BAD.message)


@pytest.mark.parametrize("name", ["system:node:x", "A" * 253, "..", "x" * 200 + ".-."])
def test_any_object_name_gives_a_valid_event_name(name: str) -> None:
    event = orjson.loads(event_manifest(WEB._replace(name=name), "east", BAD, now=NOW, instance="host"))
    label = event["metadata"]["name"]
    assert len(label) <= 253
    assert all(part and part[0].isalnum() and part[-1].isalnum() for part in label.split("."))
    assert event["regarding"]["name"] == name


def test_long_notes_are_cut_and_secrets_taken_out() -> None:
    """P17."""
    note = "Bearer c4n4ry-token-123456 " + "x" * 5000
    event = orjson.loads(event_manifest(WEB, "east", Outcome("Invalid", note), now=NOW, instance="host"))
    assert len(event["note"]) == 1024
    assert "c4n4ry" not in event["note"]


def test_cluster_scoped_objects_report_into_default() -> None:
    event = orjson.loads(event_manifest(WEB._replace(namespace=""), "east", BAD, now=NOW, instance="host"))
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["regarding"]


async def test_a_hundred_passes_with_one_outcome_make_one_event() -> None:
    server = Server()
    recorder = EventRecorder(server, Metrics())
    for _ in range(100):
        recorder.outcome(WEB, "east", BAD)
    await settle(recorder)
    assert server.requests == 1


async def test_a_restarted_operator_does_not_repeat_itself() -> None:
    server, metrics = Server(), Metrics()
    for _ in range(3):
        recorder = EventRecorder(server, metrics)
        recorder.outcome(WEB, "east", BAD)
        await settle(recorder)
    assert len(server.events) == 1
    assert b"syncline_events_dropped_total 0.0" in metrics.exposition()


async def test_events_that_are_refused_are_counted_and_the_next_ones_still_go_out() -> None:
    server, metrics = Server(Forbidden(403, "Forbidden", "namespace is terminating")), Metrics()
    recorder = EventRecorder(server, metrics)
    recorder.outcome(WEB, "east", BAD)
    await settle(recorder)
    server.error = None
    recorder.outcome(WEB, "west", BAD)
    await settle(recorder)
    assert len(server.events) == 1
    assert b"syncline_events_dropped_total 1.0" in metrics.exposition()


async def test_beyond_the_rate_events_wait_and_beyond_the_queue_they_are_dropped() -> None:
    server, metrics = Server(), Metrics()
    recorder = EventRecorder(server, metrics, qps=0.001, burst=5)
    for number in range(1500):
        recorder.outcome(WEB, f"t{number}", BAD)
    await settle(recorder)
    assert server.requests == 5
    assert b"syncline_events_dropped_total 500.0" in metrics.exposition()


async def test_what_one_target_makes_up_does_not_silence_the_others() -> None:
    """Its news fills the queue and waits for itself; the others' goes out with the next turns."""
    server = Server()
    recorder = EventRecorder(server, Metrics(), qps=0.001, burst=6)
    for number in range(3000):
        recorder.outcome(WEB._replace(uid=f"uid-{number}"), "east", BAD, target="east")
    for other in ("north", "west"):
        recorder.outcome(WEB, other, BAD._replace(reason="AlreadyExists"), target=other)
    await settle(recorder)
    assert [event["reason"] for event in server.events.values()].count("AlreadyExists") == 2
    assert server.requests == 6


async def test_of_a_slot_that_changes_all_the_time_the_newest_word_is_told() -> None:
    server, metrics = Server(), Metrics()
    recorder = EventRecorder(server, metrics)
    for number in range(2000):
        recorder.outcome(WEB, "east", BAD._replace(message=f"replicas: {-number}"), target="east")
    recorder.outcome(WEB, "east", BAD._replace(reason="Forbidden"), target="east")
    await settle(recorder)
    assert [(e["reason"], e["note"]) for e in server.events.values()] == [
        ("Invalid", "replicas: -1999"),
        ("Forbidden", BAD.message),
    ]
    assert b"syncline_events_dropped_total 0.0" in metrics.exposition()


async def test_what_was_dropped_is_news_again() -> None:
    server = Server()
    recorder = EventRecorder(server, Metrics(), burst=2000)
    for number in range(MAX_QUEUED + 1):
        recorder.outcome(WEB, f"t{number}", BAD)
    await settle(recorder, turns=5 * MAX_QUEUED)
    assert server.requests == MAX_QUEUED
    for number in range(MAX_QUEUED + 1):
        recorder.outcome(WEB, f"t{number}", BAD)
    await settle(recorder)
    assert len(server.events) == MAX_QUEUED + 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.sampled_from(["A", "B"])), max_size=80))
def test_a_backlog_is_bounded_and_loses_only_what_it_tells_of(steps: list[tuple[str, int, str]]) -> None:
    """P18."""
    backlog, known = Backlog(limit=6), set[tuple[str, str, str]]()
    for target, slot, reason in steps:
        dropped = backlog.put(News(target, WEB, str(slot), Outcome(reason, "m")))
        known.add((target, str(slot), reason))
        if dropped is not None:
            known.remove((dropped.target, dropped.slot, dropped.outcome.reason))
        assert len(backlog) == len(known) <= 6
    order = [backlog.take() for _ in range(len(backlog))]
    assert {(news.target, news.slot, news.outcome.reason) for news in order} == known
    assert not backlog


async def test_a_real_api_server_takes_the_event_and_kubectl_shows_it(
    fleet: Fleet, kubectl: Kubectl, namespace: str
) -> None:
    """As `kubectl describe` finds it: by the object it is about; told twice by two processes, it is there once."""
    kubectl("upstream", "create", "configmap", "web", "-n", namespace)
    uid = (kubectl.get("upstream", "configmap", "web", namespace) or {})["metadata"]["uid"]
    regarding = Regarding("v1", "ConfigMap", namespace, "web", uid)
    client = ClusterClient(ClusterCredentials.from_kubeconfig(fleet.upstream.kubeconfig), name="upstream")
    metrics, answered = Metrics(), asyncio.Semaphore(0)

    class Counted:
        async def create(self, info: ResourceInfo, namespace: str, body: bytes) -> KubeObject:
            try:
                return await client.create(info, namespace, body)
            finally:
                answered.release()

    try:
        for _ in range(2):
            recorder = EventRecorder(Counted(), metrics)
            task = asyncio.create_task(recorder.run())
            recorder.outcome(regarding, "east", BAD)
            async with asyncio.timeout(20):
                await answered.acquire()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    finally:
        await client.close()
        await asyncio.sleep(0.1)  # closed TLS connections need a few turns of the loop
    selector = f"--field-selector=involvedObject.uid={uid}"
    said = await asyncio.to_thread(kubectl, "upstream", "get", "events", "-n", namespace, selector, "-o", "json")
    events = orjson.loads(said)["items"]
    assert [(e["reason"], e["message"], e["type"]) for e in events] == [("Invalid", BAD.message, "Warning")]
    assert b"syncline_events_dropped_total 0.0" in metrics.exposition()
