"""Removing Syncline, or a kind that it syncs, never removes workloads. Tests break the CRDs of a fleet of their own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from deploy.local.fleet import Fleet
from tests.support.engine import (
    Running,
    attach,
    config_map,
    install,
    placement,
    quiet,
    running_engine,
    sync_target,
    until,
    writes,
)
from tests.support.fleet import start_fleet, stop_fleet

pytestmark = pytest.mark.real

CONFIG_MAPS = [{"apiVersion": "v1", "kind": "ConfigMap", "names": ["*"]}]
CRDS = ("synctargets.syncline.io", "placements.syncline.io", "clusterplacements.syncline.io")
NAMES = [f"c{i}" for i in range(100)]


@pytest.fixture(scope="module")
def without_crds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose CRDs come and go."""
    fleet = start_fleet(tmp_path_factory.mktemp("crds"), targets=("east",), light=True)
    yield fleet
    stop_fleet(fleet)


@pytest.fixture
async def engine(without_crds: Fleet) -> AsyncIterator[Running]:
    async with running_engine(without_crds, ("east",), resources={"preset": "All"}) as run:
        yield run


@pytest.fixture
async def shop(engine: Running) -> str:
    """A new namespace upstream: no controller of this fleet would end one."""
    name = f"shop-{uuid.uuid4().hex[:8]}"
    await engine.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


async def uids(engine: Running, namespace: str, kind: str = "configmaps") -> dict[str, str]:
    """{name: uid} of the synced objects on the target."""
    path = {"configmaps": "/api/v1", "widgets": "/apis/example.com/v1"}[kind]
    listed = await engine.eyes("east").get_json(f"{path}/namespaces/{namespace}/{kind}")
    return {
        item["metadata"]["name"]: item["metadata"]["uid"]
        for item in listed["items"]
        if "syncline.io/managed-by" in item["metadata"].get("labels", {})
    }


async def remove_crds(engine: Running) -> None:
    await engine.kubectl("upstream", "delete", "crd", *CRDS, "--timeout=20s")


async def come_back(engine: Running, *placements: dict[str, Any]) -> None:
    """Install everything again: CRDs, SyncTargets, Placements."""
    await install(engine.fleet)
    for cluster, name in engine.targets.items():
        await engine.apply(sync_target(name, labels={"cluster": cluster}, resources={"preset": "All"}), *placements)
        await attach(engine, cluster, name)


@pytest.mark.parametrize("meanwhile", ["running", "down", "restarted"])
async def test_without_our_crds_nothing_is_deleted_and_with_them_again_nothing_is_written(
    engine: Running, shop: str, meanwhile: str
) -> None:
    """F60, P3, P5: the engine stays frozen, and goes on where it was; what is not placed again waits for a person."""
    everything = placement("all", shop, engine.targets.values(), CONFIG_MAPS)
    await engine.apply(everything, *(config_map(name, shop, k="1") for name in NAMES))
    await until(lambda: writes(engine, "downstream") >= 101, "placed")
    await quiet(engine)
    there = await uids(engine, shop)
    assert there.keys() == set(NAMES)
    before = writes(engine, "downstream")

    if meanwhile == "down":
        await engine.stop()
    await remove_crds(engine)
    if meanwhile == "restarted":
        await engine.stop()
        await engine.start(attached=False)
    if meanwhile != "down":
        await until(lambda: engine.engine.world.frozen, "frozen")
        await engine.kubectl("upstream", "delete", "configmap", "c99", "-n", shop)
        await asyncio.sleep(1.5)
        assert await uids(engine, shop) == there

    await install(engine.fleet)
    if meanwhile == "down":
        await engine.start(attached=False)
    narrower = placement("all", shop, engine.targets.values(), [{**CONFIG_MAPS[0], "names": ["c[0-4]*"]}])
    await come_back(engine, narrower)
    await until(lambda: not engine.engine.world.frozen, "thawed")
    name = engine.targets["east"]
    await engine.until(
        "upstream",
        "placement",
        "all",
        shop,
        lambda o: o["status"]["selectedTargets"][0]["synced"] == 45,
        "in sync",
        seconds=40,
    )
    await asyncio.sleep(1.0)
    kept = await uids(engine, shop)
    assert {n: kept.get(n) for n in NAMES if n != "c99"} == {n: there[n] for n in NAMES if n != "c99"}
    assert writes(engine, "downstream") - before <= (1 if "c99" not in kept else 0)

    await until(lambda: engine.engine.frozen(name) is not None, "a token for what is left behind")
    frozen = engine.engine.frozen(name)
    assert frozen is not None
    await engine.kubectl("upstream", "annotate", "synctarget", name, f"syncline.io/acknowledge={frozen[0]}")
    await until(lambda: writes(engine, "downstream", "delete") >= 10, "left-behind objects go")
    assert {n: u for n, u in (await uids(engine, shop)).items() if n[1] in "01234"} == {
        n: u for n, u in there.items() if n[1] in "01234"
    }


async def test_the_going_of_one_crd_is_no_wish_of_its_placements(engine: Running, shop: str) -> None:
    """F60, P3: the targets stay, and a placement that went with its CRD takes nothing along."""
    names = {f"c{i}" for i in range(5)}
    everything = placement("all", shop, engine.targets.values(), CONFIG_MAPS)
    await engine.apply(everything, *(config_map(name, shop, k="1") for name in names))
    await until(lambda: writes(engine, "downstream") >= 6, "placed")
    await quiet(engine)
    there, before = await uids(engine, shop), writes(engine, "downstream")
    await engine.kubectl("upstream", "delete", "crd", "placements.syncline.io", "--timeout=20s")
    await install(engine.fleet)
    await until(lambda: not engine.engine.world.frozen and not engine.engine.sight.blind(None), "thawed", seconds=40)
    await asyncio.sleep(2.0)
    assert await uids(engine, shop) == there
    await engine.apply(everything)
    await engine.until(
        "upstream", "placement", "all", shop, lambda o: o["status"]["objects"] == 5, "placed again", seconds=40
    )
    await quiet(engine)
    assert await uids(engine, shop) == there
    assert writes(engine, "downstream") == before


def widget_crd() -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def widget(namespace: str, name: str, *finalizers: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "finalizers": list(finalizers)}
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata, "spec": {"size": 1}}


@pytest.mark.parametrize(
    ("meanwhile", "finalizers", "wait"),
    [
        ("running", (), False),
        ("restarted", (), False),
        ("running", ("example.com/x",), False),
        ("running", (), True),
        ("restarted", (), True),
    ],
)
async def test_objects_that_went_with_their_crd_stay_on_the_targets(
    engine: Running, shop: str, meanwhile: str, finalizers: tuple[str, ...], wait: bool
) -> None:
    """P3: an upstream API group that is missing is unknown; nobody asked to delete the objects one by one."""
    for cluster in ("upstream", "east"):
        await engine.apply(widget_crd(), cluster=cluster)
        await engine.kubectl(cluster, "wait", "--for=condition=Established", "crd/widgets.example.com")
    rule = [{"apiVersion": "example.com/v1", "kind": "Widget", "names": ["*"]}]
    everything = placement("all", shop, engine.targets.values(), rule, deletion={"wait": wait})
    await engine.apply(everything, widget(shop, "a", *finalizers), widget(shop, "b"))
    await engine.until("east", "widgets.example.com", "b", shop, lambda o: o, "placed", seconds=40)
    await engine.until("east", "widgets.example.com", "a", shop, lambda o: o, "placed")
    await quiet(engine)
    there = await uids(engine, shop, "widgets")
    await engine.kubectl("upstream", "delete", "widget", "b", "-n", shop)
    await engine.until("east", "widgets.example.com", "b", shop, lambda o: o is None, "an ordinary deletion")
    del there["b"]

    await engine.kubectl("upstream", "delete", "crd", "widgets.example.com", "--wait=false")
    if finalizers:
        await asyncio.sleep(2.0)
        assert await uids(engine, shop, "widgets") == there
        nothing = '{"metadata": {"finalizers": null}}'
        await engine.kubectl("upstream", "patch", "widget", "a", "-n", shop, "--type=merge", "-p", nothing)
    await engine.kubectl("upstream", "wait", "--for=delete", "crd/widgets.example.com", "--timeout=20s")
    if meanwhile == "restarted":
        await engine.stop()
        await engine.start()
    await asyncio.sleep(2.0)
    assert await uids(engine, shop, "widgets") == there

    await engine.apply(widget_crd())
    await engine.kubectl("upstream", "wait", "--for=condition=Established", "crd/widgets.example.com")
    if meanwhile == "running":
        await asyncio.sleep(2.0)
        assert await uids(engine, shop, "widgets") == there
    await engine.apply(widget(shop, "a"))
    marked = await engine.get("upstream", "widgets.example.com", "a", shop)
    assert marked is not None
    await engine.until(
        "east",
        "widgets.example.com",
        "a",
        shop,
        lambda o: marked["metadata"]["uid"] in o["metadata"]["annotations"]["syncline.io/source"],
        "taken over",
        seconds=40,
    )
    assert await uids(engine, shop, "widgets") == there
