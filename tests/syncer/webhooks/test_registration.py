"""Which replica the webhook configurations name, and that nothing is written where nothing differs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from syncer.errors import TransientError
from syncer.webhooks.configurations import Registered, publish, registered, withdraw
from syncer.webhooks.registration import CHECK_SECONDS, MISSES, TAKE_AGAIN_SECONDS, Registration
from tests.syncer.webhooks.fakes import Replicas, Store

CA = b"-----BEGIN CERTIFICATE-----\n"
A, B = "https://a:1", "https://b:1"
BOTH = ["PATCH validatingwebhookconfigurations", "PATCH mutatingwebhookconfigurations"]


class Replica:
    """One replica's registration, with its own clock and role."""

    def __init__(self, store: Store, replicas: Replicas, url: str, *, leads: bool) -> None:
        self.leads = leads
        self.now = 0.0
        self.registration = Registration(
            store,
            own=Registered(url, CA),
            address=url,
            hostname="host",
            leads=lambda: self.leads,
            caller=replicas,
            clock=lambda: self.now,
        )

    async def look(self, times: int = 1, seconds: float = 1.0) -> None:
        for _ in range(times):
            self.now += seconds
            await self.registration.look()

    @property
    def problem(self) -> str:
        return self.registration.problem


async def test_nothing_is_written_where_nothing_differs() -> None:
    """Fields that the server added do not count; what differs is put right, once."""
    store = Store()
    assert await publish(store, A, CA)
    assert store.writes == BOTH
    assert not await publish(store, A, CA)
    assert store.writes == BOTH
    store.items["mutatingwebhookconfigurations"]["webhooks"][0]["failurePolicy"] = "Ignore"
    assert await publish(store, A, CA)
    assert store.writes == [*BOTH, BOTH[1]]
    assert await registered(store) == Registered(A, CA)
    await withdraw(store)
    assert await registered(store) is None


async def test_a_service_is_named_as_such_and_read_back_as_it_was_written() -> None:
    """API servers do not ask their cluster's DNS, so an address ending in .svc would lead nowhere."""
    store, url = Store(), "service://syncline-webhook.syncline-system.svc:443"
    assert await publish(store, url, CA)
    config = store.items["validatingwebhookconfigurations"]["webhooks"][0]["clientConfig"]
    named = {"namespace": "syncline-system", "name": "syncline-webhook", "port": 443, "path": "/validate"}
    assert config == {"service": named, "caBundle": config["caBundle"]}
    assert await registered(store) == Registered(url, CA)
    assert not await publish(store, url, CA)


async def test_a_leader_that_stays_writes_once_and_repairs_what_others_changed() -> None:
    store = Store()
    leader = Replica(store, Replicas(A), A, leads=True)
    await leader.look(300)
    assert store.writes == BOTH
    store.items.clear()
    await leader.look(2, CHECK_SECONDS)
    assert store.writes == BOTH * 2


async def test_ready_means_reviews_are_answered_and_the_leader_is_registered() -> None:
    """The whole chain: listener, kopf, configurations; of a candidate, that whoever is registered answers."""
    store, replicas = Store(TransientError("upstream is away")), Replicas()
    leader, candidate = Replica(store, replicas, A, leads=True), Replica(store, replicas, B, leads=False)
    await leader.look()
    assert "do not answer" in leader.problem
    assert store.calls == []
    replicas.alive |= {A, B}
    await leader.look()
    assert leader.problem == "upstream is away"
    store.error = None
    await leader.look()
    assert leader.problem == ""
    await candidate.look()
    assert candidate.problem == ""
    candidate.leads = True
    assert "not registered" in candidate.problem
    await candidate.look()
    assert candidate.problem == ""
    assert store.url() == B


async def test_an_answer_that_is_no_json_is_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a proxy in between: told, and tried again."""
    store = Store()
    leader = Replica(store, Replicas(A), A, leads=True)

    async def html(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(body=b"<html>")

    with monkeypatch.context() as patch:
        patch.setattr(store, "request", html)
        await leader.look()
        assert leader.problem == "the answer is not a JSON object"
    await leader.look()
    assert (leader.problem, store.writes) == ("", BOTH)


async def test_a_candidate_takes_over_from_a_replica_that_does_not_answer_twice() -> None:
    """F59: long before the lease ends."""
    store, replicas = Store(), Replicas(A, B)
    leader, candidate = Replica(store, replicas, A, leads=True), Replica(store, replicas, B, leads=False)
    await leader.look()
    await candidate.look(10)
    assert store.url() == A
    assert candidate.problem == ""
    replicas.alive.discard(A)
    await candidate.look()
    assert candidate.problem == f"the registered address {A} does not answer"
    replicas.alive.add(A)  # one miss is none
    await candidate.look(5)
    assert candidate.problem == ""
    assert store.url() == A
    replicas.alive.discard(A)
    await candidate.look(MISSES)
    assert store.url() == B
    assert candidate.problem == ""


async def test_two_replicas_that_do_not_reach_each_other_take_no_turns() -> None:
    """The API server reaches both: the leader has it back at its next check, and keeps it for a long time."""
    store, replicas = Store(), Replicas(A, B)
    leader, candidate = Replica(store, replicas, A, leads=True), Replica(store, replicas, B, leads=False)
    await leader.look()
    await candidate.look()
    replicas.alive.discard(A)  # as the candidate sees it
    await candidate.look(MISSES)
    assert store.url() == B
    await leader.look(1, CHECK_SECONDS)
    assert store.url() == A
    before = len(store.writes)
    await candidate.look(int(TAKE_AGAIN_SECONDS) - 60)
    assert len(store.writes) == before
    assert candidate.problem == ""


async def test_of_two_candidates_one_takes_over() -> None:
    """The second looks again before it writes, and finds somebody who answers."""
    store, replicas = Store(), Replicas(B, "https://c:1")
    await publish(store, A, CA)
    first, second = (Replica(store, replicas, url, leads=False) for url in (B, "https://c:1"))
    for _ in range(2 * MISSES):
        await first.look()
        await second.look()
    assert store.url() == B
    assert store.writes == BOTH * 2


async def test_with_one_address_for_all_nobody_writes_twice() -> None:
    store = Store()
    both = [Replica(store, Replicas("https://own"), "https://own", leads=leads) for leads in (True, False)]
    for _ in range(5):
        for one in both:
            await one.look()
    both[0].leads, both[1].leads = False, True
    for one in both:
        await one.look()
        assert one.problem == ""
    assert store.writes == BOTH


async def test_a_change_in_between_is_read_again_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write carries the version that it was decided from."""
    store = Store()
    leader = Replica(store, Replicas(A), A, leads=True)
    await publish(store, B, CA)
    stale = dict(store.items["validatingwebhookconfigurations"], metadata={"resourceVersion": "0"})
    fresh = store.items["validatingwebhookconfigurations"]
    store.items["validatingwebhookconfigurations"] = stale
    request = store.request

    async def swap(method: str, path: str, **more: object) -> object:
        answer = await request(method, path, **more)  # type: ignore[arg-type]
        if store.items.get("validatingwebhookconfigurations") is stale:
            store.items["validatingwebhookconfigurations"] = fresh
        return answer

    monkeypatch.setattr(store, "request", swap)
    await leader.look()
    assert leader.problem == "409 Conflict: changed meanwhile"
    await leader.look()
    assert leader.problem == ""
    assert store.url() == A
