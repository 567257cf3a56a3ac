"""Unknown is never absent: whatever a server hides, refuses or mixes up, nothing is deleted without evidence (P3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.fleet import Fleet
from syncer.api.keys import GroupResource
from syncer.kube import informer as informers
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.informer import Informer
from tests.support.engine import Running, config_map, placement, quiet, running_engine, until, writes
from tests.support.liar import Liar

CONFIG_MAPS = [{"apiVersion": "v1", "kind": "ConfigMap", "names": ["*"]}]
LISTS = {
    "placements": "/apis/syncline.io/v1alpha1/placements",
    "clusterplacements": "/apis/syncline.io/v1alpha1/clusterplacements",
    "synctargets": "/apis/syncline.io/v1alpha1/synctargets",
    "namespaces": "/api/v1/namespaces",
    "configmaps": "/api/v1/configmaps",
}
NAMES = [f"c{i}" for i in range(12)]


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Running]:
    async with running_engine(fleet, make_client=Liar) as run:
        yield run


def liar(engine: Running, cluster: str = "upstream") -> Liar:
    client = engine.clients[cluster]
    assert isinstance(client, Liar)
    return client


def upstream_informer(engine: Running, plural: str) -> Informer:
    sight = engine.engine.sight
    return next(i for r, i in [*sight.standing.items(), *sight.informers.items()] if r.resource == plural)


def downstream_informer(engine: Running, cluster: str, resource: GroupResource) -> Informer:
    informer = engine.engine.world.targets[engine.targets[cluster]].watch(resource)
    assert informer is not None
    return informer


async def placed(engine: Running, namespace: str, names: list[str] = NAMES, **spec: Any) -> None:
    """Place some ConfigMaps on every target and wait until all is calm."""
    await engine.apply(
        *(config_map(name, namespace, k="1") for name in names),
        placement("all", namespace, engine.targets.values(), CONFIG_MAPS, **spec),
    )
    await standing(engine, namespace, names)
    await quiet(engine)


async def standing(engine: Running, namespace: str, names: list[str] = NAMES) -> None:
    for cluster in engine.targets:
        for name in names:
            await engine.until(cluster, "configmap", name, namespace, lambda o: o is not None, "there")


async def relisted(informer: Informer) -> None:
    """Take a complete list now and let the engine act on it."""
    before = informer.statistics().lists
    informer.audit_soon()
    await until(lambda: informer.statistics().lists > before, "listed")
    await asyncio.sleep(0.3)


@pytest.mark.parametrize("plural", ["placements", "synctargets", "namespaces", "configmaps"])
async def test_one_empty_list_upstream_deletes_nothing(engine: Running, namespace: str, plural: str) -> None:
    """F10, P3: a list of zero items is asked about object by object before anything is believed."""
    await placed(engine, namespace)
    liar(engine).empty.add(LISTS[plural])
    before = writes(engine, "downstream", "delete")
    await relisted(upstream_informer(engine, plural))
    await asyncio.sleep(0.7)
    await standing(engine, namespace)
    assert writes(engine, "downstream", "delete") == before
    liar(engine).empty.clear()
    await engine.apply(config_map("c0", namespace, k="2"))
    for cluster in engine.targets:
        await engine.until(cluster, "configmap", "c0", namespace, lambda o: o["data"]["k"] == "2", "followed again")
    assert writes(engine, "downstream", "delete") == before


async def test_an_empty_list_of_a_target_makes_nothing_anew(engine: Running, namespace: str) -> None:
    """F10, P4: what a target's list hides is found by the create-only apply, and keeps its uid."""
    await placed(engine, namespace, ["a"])
    there = await engine.get("east", "configmap", "a", namespace)
    assert there is not None
    liar(engine, "east").empty.add(LISTS["configmaps"])
    await relisted(downstream_informer(engine, "east", GroupResource("", "configmaps")))
    await quiet(engine)
    await engine.apply(config_map("a", namespace, k="2"))
    item = await engine.until("east", "configmap", "a", namespace, lambda o: o["data"]["k"] == "2", "followed")
    assert item["metadata"]["uid"] == there["metadata"]["uid"]


async def test_a_list_that_breaks_off_is_not_used(
    engine: Running, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F11, P3."""
    await placed(engine, namespace)
    monkeypatch.setattr(informers, "PAGE_SIZE", 2)
    client, informer = liar(engine), upstream_informer(engine, "configmaps")
    client.torn.add(LISTS["configmaps"])
    before = client.lists[LISTS["configmaps"]]
    informer.audit_soon()
    await until(lambda: client.lists[LISTS["configmaps"]] >= before + 2, "tried")
    await quiet(engine)
    await standing(engine, namespace)
    assert writes(engine, "downstream", "delete") == 0


def without_rights(fleet: Fleet, cluster: str) -> ClusterClient:
    kubeconfig: Path = fleet.clusters[cluster].user("alice")
    return ClusterClient(ClusterCredentials.from_kubeconfig(kubeconfig), name=f"alice@{cluster}")


@pytest.mark.parametrize("cluster", ["upstream", "east"])
async def test_a_kind_that_may_not_be_read_any_more_deletes_nothing(
    engine: Running, namespace: str, cluster: str
) -> None:
    """P3: 403 is unknown; the other target is served as before, and all of it goes on with the rights back."""
    await placed(engine, namespace)
    other = without_rights(engine.fleet, cluster)
    liar(engine, cluster).as_other["/api/v1/configmaps"] = other
    if cluster == "upstream":
        informer = upstream_informer(engine, "configmaps")
    else:
        informer = downstream_informer(engine, cluster, GroupResource("", "configmaps"))
    informer.audit_soon()
    await asyncio.sleep(0.5)
    await engine.kubectl("upstream", "delete", "configmap", "c1", "-n", namespace)
    await engine.kubectl("upstream", "label", "configmap", "c0", "-n", namespace, "x=y")
    if cluster == "east":
        await engine.until("west", "configmap", "c1", namespace, lambda o: o is None, "deleted where rights are")
    await quiet(engine)
    await standing(engine, namespace, NAMES[2:])
    liar(engine, cluster).as_other.clear()
    for where in engine.targets:
        await engine.until(where, "configmap", "c1", namespace, lambda o: o is None, "deleted", seconds=30)
        await engine.until(where, "configmap", "c0", namespace, lambda o: o["metadata"]["labels"]["x"], "labelled")
    await standing(engine, namespace, NAMES[2:])
    await other.close()


async def test_a_restart_that_may_not_read_a_kind_deletes_nothing(engine: Running, namespace: str) -> None:
    """P3: an engine that starts without rights knows of no source, and that is not absence."""
    await placed(engine, namespace)
    before = writes(engine, "downstream")
    await engine.stop()
    other = without_rights(engine.fleet, "upstream")

    def make(*args: Any, **options: Any) -> Liar:
        client = Liar(*args, **options)
        if options["name"] == "upstream":
            client.as_other["/api/v1/configmaps"] = other
        return client

    engine.make_client = make
    await engine.start()
    world = engine.engine.world
    await until(lambda: len(world.sources) >= len(NAMES), "the copies were found")
    await asyncio.sleep(2.5)
    await standing(engine, namespace)
    assert writes(engine, "downstream") == before
    liar(engine).as_other.clear()
    await engine.kubectl("upstream", "delete", "configmap", "c1", "-n", namespace)
    for where in engine.targets:
        await engine.until(where, "configmap", "c1", namespace, lambda o: o is None, "deleted", seconds=30)
    await standing(engine, namespace, NAMES[2:])
    await other.close()
