"""Engines that end at any moment, and servers that do: the end state is the same, and nothing is done twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from deploy.local.fleet import Fleet
from syncer.kube.client import ClusterClient
from syncer.kube.informer import Informer, InformerEvent
from syncer.kube.objects import ResourceInfo
from tests.support.engine import Running, config_map, deployment, placement, quiet, running_engine, until, writes
from tests.support.liar import Liar

CONFIG_MAPS = [{"apiVersion": "v1", "kind": "ConfigMap", "names": ["c*"]}]
INFO = ResourceInfo("", "v1", "configmaps", "ConfigMap", True)
RESTARTS = 24


class Churn:
    """Creates, changes and deletes ConfigMaps upstream, and counts what was done to each name."""

    def __init__(self, client: ClusterClient, namespace: str, rng: random.Random) -> None:
        self._client = client
        self._namespace = namespace
        self._rng = rng
        self.over = False
        self.state: dict[str, str] = {}
        self.deleted: Counter[str] = Counter()
        self.created: Counter[str] = Counter()

    async def run(self) -> None:
        while not self.over:
            await self.step()
            await asyncio.sleep(0.01)

    async def step(self) -> None:
        name = f"c{self._rng.randrange(60):02}"
        value = f"{self._rng.getrandbits(40):x}"
        if name not in self.state:
            body = orjson.dumps(config_map(name, self._namespace, k=value))
            await self._client.create(INFO, self._namespace, body)
            self.created[name] += 1
            self.state[name] = value
        elif self._rng.random() < 0.3:
            live = await self._client.get(INFO, self._namespace, name)
            await self._client.delete(INFO, self._namespace, name, uid=live.uid)
            self.deleted[name] += 1
            del self.state[name]
        else:
            body = orjson.dumps({"data": {"k": value}})
            await self._client.patch(INFO, self._namespace, name, body, "application/merge-patch+json")
            self.state[name] = value


class Watcher:
    """Sees every ConfigMap that appears on a target or goes, as an independent witness."""

    def __init__(self, client: ClusterClient, namespace: str) -> None:
        self.uids: dict[str, set[str]] = {}
        self.deleted: Counter[str] = Counter()
        self.informer = Informer(client, INFO, on_event=self._told, namespace=namespace)
        self.task = self.informer.start("witness")

    def _told(self, event: InformerEvent) -> None:
        if event.object is None or not event.object.name.startswith("c"):
            return
        self.uids.setdefault(event.object.name, set()).add(event.object.uid)
        self.deleted[event.object.name] += event.type == "DELETED"

    def state(self) -> dict[str, str]:
        return {name: i.field("data", "k") for (_, name), i in self.informer.cache.items() if name.startswith("c")}


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Running]:
    async with running_engine(fleet) as run:
        yield run


@pytest.mark.parametrize("seed", [1])
async def test_an_engine_that_is_ended_at_any_moment_leaves_no_trace_of_it(
    engine: Running, namespace: str, seed: int
) -> None:
    """P7, O1, O2, F17: no delete and no creation beyond what was asked, and everything in step at the end."""
    rng = random.Random(seed)
    await engine.apply(placement("all", namespace, engine.targets.values(), CONFIG_MAPS))
    witnesses = {cluster: Watcher(engine.eyes(cluster), namespace) for cluster in engine.targets}
    churn = Churn(engine.eyes("upstream"), namespace, rng)
    for _ in range(60):
        await churn.step()
    work = asyncio.create_task(churn.run())
    try:
        for _ in range(RESTARTS):
            await asyncio.sleep(rng.uniform(0.02, 0.5))
            await engine.stop()
            await engine.start(attached=False)
            attaching = asyncio.create_task(engine.attach_all())
            if rng.random() < 0.5:
                await attaching
            else:  # ended while it is still starting
                await asyncio.sleep(rng.uniform(0.0, 0.3))
                attaching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await attaching
                await engine.attach_all()
    finally:
        churn.over = True
        await work
    for cluster, witness in witnesses.items():
        await until(lambda w=witness: w.state() == churn.state, f"{cluster} is in step")  # type: ignore[misc]
    await quiet(engine)
    for witness in witnesses.values():
        assert witness.state() == churn.state
        extra = {name: count for name, count in witness.deleted.items() if count > churn.deleted[name]}
        assert not extra, "deleted more often than upstream"
        twice = {name: len(uids) for name, uids in witness.uids.items() if len(uids) > churn.created[name]}
        assert not twice, "created more often than upstream"
        witness.task.cancel()
    before = writes(engine, "downstream")
    await engine.stop()
    await engine.start()
    await quiet(engine, 0.7)
    assert writes(engine, "downstream") == before, "a cold start over what is in step writes nothing"


async def test_a_cold_start_writes_nothing_whatever_the_kinds(engine: Running, namespace: str) -> None:
    """P5, L15: defaulted fields, divided replicas and statuses included, upstream and downstream."""
    weights = {engine.targets["east"]: 1, engine.targets["west"]: 1}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "c-svc", "namespace": namespace},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    await engine.apply(
        placement(
            "all",
            namespace,
            engine.targets.values(),
            replicas={"mode": "Divide", "weights": {"static": weights}},
            resources=[{"apiVersion": "*", "kind": "*", "names": ["c*"]}],
        ),
        deployment("c-web", namespace, 3),
        service,
        config_map("c1", namespace, k="1"),
    )
    await engine.until("upstream", "deployment", "c-web", namespace, lambda o: o["status"]["readyReplicas"] == 3, "up")
    await engine.until(
        "upstream", "placement", "all", namespace, lambda o: o["status"]["targetsSummary"] == "2/2", "ok"
    )
    item = await unchanged(engine, namespace)
    await engine.stop()
    engine.make_client = Liar
    await engine.start()
    await quiet(engine, 1.5)
    clients = [client for client in engine.clients.values() if isinstance(client, Liar)]
    sent = [
        write for client in clients for write in client.sent if f"/{namespace}/" in write
    ]  # others use the fleet too
    assert len(clients) == 3
    assert sent == []
    assert await engine.get("upstream", "placement", "all", namespace) == item


async def unchanged(engine: Running, namespace: str, seconds: float = 2.0) -> Any:
    """Wait until nobody writes the statuses any more; the placement."""
    calm_since, last = 0.0, None
    deadline = asyncio.get_running_loop().time() + 40
    while True:
        placed = await engine.get("upstream", "placement", "all", namespace)
        found = (placed, await engine.get("upstream", "deployment", "c-web", namespace))
        now = asyncio.get_running_loop().time()
        if found != last:
            calm_since, last = now, found
        elif now - calm_since > seconds:
            return placed
        assert now < deadline, "the statuses do not come to rest"
        await asyncio.sleep(0.2)


async def test_api_servers_that_stop_die_and_come_back(own_fleet: Callable[..., Fleet]) -> None:
    """F01, F15, F25, P3: silence and death are unknown; everything goes on with what happened meanwhile."""
    fleet = await asyncio.to_thread(own_fleet, targets=("east",), light=True)
    async with running_engine(fleet, ("east",)) as engine:
        await engine.kubectl("upstream", "create", "namespace", "shop")
        names = [f"c{i:02}" for i in range(30)]
        await engine.apply(
            placement("all", "shop", engine.targets.values(), CONFIG_MAPS),
            *(config_map(n, "shop", k="1") for n in names),
        )
        for name in names:
            await engine.until("east", "configmap", name, "shop", lambda o: o, "placed")
        await quiet(engine)

        async def all_there(value: str) -> None:
            for name in names:
                await engine.until(
                    "east", "configmap", name, "shop", lambda o: o["data"]["k"] == value, value, seconds=40
                )

        fleet.upstream.stop("apiserver")
        await asyncio.sleep(2.0)
        fleet.upstream.cont("apiserver")
        await engine.apply(*(config_map(n, "shop", k="2") for n in names))
        await all_there("2")

        fleet.upstream.kill("apiserver")
        await engine.stop()
        starting = asyncio.create_task(engine.start())
        await asyncio.sleep(2.0)
        await all_there("2")
        await asyncio.to_thread(fleet.upstream.start, "apiserver")
        await asyncio.wait_for(starting, 40)
        await engine.apply(*(config_map(n, "shop", k="3") for n in names))
        await all_there("3")

        fleet.targets["east"].kill("apiserver")
        await engine.apply(*(config_map(n, "shop", k="4") for n in names))
        gone = names.pop()
        await engine.kubectl("upstream", "delete", "configmap", gone, "-n", "shop")
        await asyncio.sleep(1.0)
        await asyncio.to_thread(fleet.targets["east"].start, "apiserver")
        await all_there("4")
        await engine.until("east", "configmap", gone, "shop", lambda o: o is None, "deleted", seconds=40)
        assert writes(engine, "downstream", "delete") <= 2  # one, sent again if its answer was lost
        await quiet(engine)
        await all_there("4")
