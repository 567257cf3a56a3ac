"""Replicas that announce themselves to a real API server, and what they know of each other."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from deploy.local.fleet import Fleet
from syncer.api.names import SYSTEM_NAMESPACE
from syncer.errors import SyncError
from syncer.hub import members
from syncer.hub import registry as module
from syncer.hub.members import Link, lease_name
from syncer.hub.registry import LEASES, Registry
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.errors import Unreachable
from syncer.metrics import Metrics
from tests.support.fleet import Kubectl

ONE = Link(1, 1, 1_777_896_000)


class Replica:
    """One registry with its work."""

    def __init__(self, client: ClusterClient, name: str) -> None:
        self.name = name
        self.links: dict[str, Link] = {}
        self.client = client
        self.metrics = Metrics()
        self.registry = Registry(client, self.metrics, replica=name, links=lambda: self.links)
        self.url = f"https://{name}.example"
        self.work = asyncio.create_task(self.registry.run(self.url))

    def holds(self, target: str) -> list[str]:
        """Who else has links to a target, as this one sees it."""
        return [record.replica for record in self.registry.members.holders(target)]

    def link(self, **links: Link) -> None:
        self.links = links
        self.registry.changed()

    async def kill(self) -> None:
        """End it without a word."""
        self.work.cancel()
        await asyncio.gather(self.work, return_exceptions=True)


@asynccontextmanager
async def replicas(fleet: Fleet, count: int = 2) -> AsyncIterator[list[Replica]]:
    mark = uuid.uuid4().hex[:8]
    clients = [
        ClusterClient(ClusterCredentials.from_kubeconfig(fleet.upstream.kubeconfig), name="upstream")
        for _ in range(count)
    ]
    made = [Replica(client, f"replica{number}-{mark}") for number, client in enumerate(clients)]
    try:
        yield made
    finally:
        for one in made:
            await one.kill()
            await one.registry.leave()
            await one.client.close()


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not check():  # noqa: ASYNC110 - what is waited for makes no event
            await asyncio.sleep(0.02)


@pytest.fixture
def upstream(fleet: Fleet, kubectl: Kubectl) -> Fleet:
    kubectl(
        "upstream",
        "apply",
        "--server-side",
        "-f",
        "-",
        stdin=f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {SYSTEM_NAMESPACE}}}}}",
    )
    return fleet


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of two seconds, and soon forgotten."""
    monkeypatch.setattr(members, "MEMBER_SECONDS", 2.0)
    for name, seconds in (
        ("RENEW_SECONDS", 0.5),
        ("GAP_SECONDS", 0.05),
        ("LOOK_SECONDS", 0.05),
        ("FORGET_SECONDS", 0.5),
    ):
        monkeypatch.setattr(module, name, seconds)


async def test_replicas_find_each_other_and_each_others_links(upstream: Fleet) -> None:
    async with replicas(upstream) as (one, two):
        await until(lambda: one.registry.members.addresses("east") == [two.url])
        await until(lambda: two.registry.members.addresses("east") == [one.url])
        assert one.metrics.registry.get_sample_value("syncline_replicas") == 2
        two.link(east=ONE)
        await until(lambda: one.holds("east") == [two.name])
        two.link(west=ONE)
        await until(lambda: one.holds("west") == [two.name])
        assert one.holds("east") == []


async def test_one_that_ends_is_gone_at_once(upstream: Fleet) -> None:
    async with replicas(upstream) as (one, two):
        two.link(east=ONE)
        await until(lambda: one.holds("east"))
        await two.kill()
        await two.registry.leave()
        await until(lambda: not one.registry.members.addresses("east"))
        assert one.holds("east") == []


async def test_one_that_is_silent_is_gone_after_its_lease_and_its_lease_later(upstream: Fleet, quick: None) -> None:
    async with replicas(upstream) as (one, two):
        await until(lambda: one.registry.members.addresses("east"))
        await two.kill()
        await until(lambda: not one.registry.members.addresses("east"))
        lease = (SYSTEM_NAMESPACE, lease_name(two.name))
        await until(lambda: lease not in one.registry._informer.cache)


async def test_one_that_comes_back_to_life_is_a_member_again(upstream: Fleet, quick: None) -> None:
    async with replicas(upstream) as (one, two):
        await until(lambda: one.registry.members.addresses("east"))
        await two.kill()
        await until(lambda: not one.registry.members.addresses("east"))
        two.work = asyncio.create_task(two.registry.run(two.url))
        await until(lambda: one.registry.members.addresses("east") == [two.url])


async def test_while_the_api_server_does_not_answer_nobody_is_given_up(upstream: Fleet, quick: None) -> None:
    """An outage of the registry is no end of replicas."""
    async with replicas(upstream) as (one, two):
        two.link(east=ONE)
        await until(lambda: one.holds("east"))

        async def down(*_: object, **__: object) -> None:
            raise Unreachable(0, "Unreachable", "upstream: cannot connect")

        with pytest.MonkeyPatch.context() as outage:
            outage.setattr(one.client, "request", down)
            one.registry.changed()
            await until(lambda: one.registry._problem)
            await two.kill()
            await asyncio.sleep(3)  # longer than a lease
            assert one.holds("east") == [two.name]
        one.registry.changed()
        await until(lambda: not one.registry._problem)
        await until(lambda: one.holds("east") == [])


async def test_a_lease_that_somebody_removed_or_wrote_is_written_again(upstream: Fleet) -> None:
    async with replicas(upstream) as (one, two):
        await until(lambda: one.registry.members.addresses("east"))
        found = await one.client.get(LEASES, SYSTEM_NAMESPACE, lease_name(two.name))
        await one.client.delete(LEASES, SYSTEM_NAMESPACE, found.name, uid=found.uid)
        await until(lambda: not one.registry.members.addresses("east"))
        await until(lambda: one.registry.members.addresses("east"))
        body = b'{"metadata": {"labels": {"touched": "true"}}}'
        await one.client.patch(LEASES, SYSTEM_NAMESPACE, lease_name(two.name), body, "application/merge-patch+json")
        two.link(east=ONE)
        await until(lambda: one.holds("east") == [two.name])


async def test_a_write_of_before_is_refused_once_a_newer_one_is_there(upstream: Fleet) -> None:
    """P10: each write carries the version that it follows, so one that was on its way for long is refused."""
    async with replicas(upstream) as (one, two):
        sent: list[bytes] = []
        request = two.client.request

        async def recording(method: str, path: str, **more: object) -> object:
            if method == "PUT":
                sent.append(more["body"])  # type: ignore[arg-type]
            return await request(method, path, **more)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(two.client, "request", recording)
            two.link(east=ONE)
            await until(lambda: one.holds("east"))
            two.link(west=ONE)
            await until(lambda: one.holds("west"))
        path = LEASES.path(SYSTEM_NAMESPACE, lease_name(two.name))
        with pytest.raises(SyncError, match="modified"):
            await request("PUT", path, body=sent[0], content_type="application/json")
        assert one.holds("east") == []
