"""Every delete has its evidence (P3), and what is left behind waits for it: on real API servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from deploy.local.fleet import Fleet
from tests.support.engine import Running, attach, config_map, placement, quiet, running_engine, until, writes
from tests.support.liar import Liar

CONFIG_MAPS = [{"apiVersion": "v1", "kind": "ConfigMap", "names": ["*"]}]
MANY = [f"c{i:02}" for i in range(30)]


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Running]:
    async with running_engine(fleet, ("east",), make_client=Liar) as run:
        yield run


@pytest.fixture
async def both(fleet: Fleet) -> AsyncIterator[Running]:
    async with running_engine(fleet) as run:
        yield run


async def names(engine: Running, namespace: str, cluster: str = "east") -> set[str]:
    """Synced ConfigMaps on a target."""
    listed = await engine.eyes(cluster).get_json(
        f"/api/v1/namespaces/{namespace}/configmaps", params={"labelSelector": "syncline.io/managed-by"}
    )
    return {item["metadata"]["name"] for item in listed["items"]}


async def left(engine: Running, namespace: str, holds: Callable[[set[str]], bool], what: str) -> set[str]:
    """Wait until the set of synced ConfigMaps on east is as it should be."""
    deadline = asyncio.get_running_loop().time() + 15
    while True:
        found = await names(engine, namespace)
        if holds(found):
            return found
        assert asyncio.get_running_loop().time() < deadline, f"not {what}: {sorted(found)}"
        await asyncio.sleep(0.1)


async def place(
    engine: Running, namespace: str, objects: list[str], resources: list[dict[str, Any]] = CONFIG_MAPS, **spec: Any
) -> None:
    """Place ConfigMaps on every target, and wait until they are there and all is calm."""
    manifests = [config_map(name, namespace, k="1") for name in objects]
    for manifest in manifests:
        manifest["metadata"]["labels"] = {"sync": "yes"}
    await engine.apply(*manifests, placement("all", namespace, engine.targets.values(), resources, **spec))
    await left(engine, namespace, lambda found: found == set(objects), "placed")
    await quiet(engine, 0.3)


async def test_what_was_deleted_while_the_engine_was_down_is_deleted_once_it_is_back(
    engine: Running, namespace: str
) -> None:
    """P3, P7: absent from a complete list, and a live GET says 404."""
    await place(engine, namespace, ["a", "b"])
    before = writes(engine, "downstream")
    await engine.stop()
    await engine.kubectl("upstream", "delete", "configmap", "a", "-n", namespace)
    await engine.start()
    await left(engine, namespace, lambda found: found == {"b"}, "deleted")
    await quiet(engine, 0.3)
    assert writes(engine, "downstream") == before + 1


async def test_placements_that_went_while_the_engine_was_down_take_or_leave_what_they_placed(
    engine: Running, namespace: str
) -> None:
    """F61: the annotation on the copy decides; missing or unreadable means Orphan."""
    rule = CONFIG_MAPS[0]
    for name, policy in [("taken", "Delete"), ("left", "Orphan"), ("unreadable", "Delete"), ("unmarked", "Delete")]:
        await engine.apply(
            config_map(name, namespace, k="1"),
            placement(
                name, namespace, engine.targets.values(), [{**rule, "names": [name]}], deletion={"policy": policy}
            ),
        )
    await left(engine, namespace, lambda found: len(found) == 4, "placed")
    await quiet(engine, 0.3)
    await engine.stop()
    key = "syncline.io/deletion"
    await engine.kubectl(
        "east", "annotate", "--overwrite", "configmap", "unreadable", "-n", namespace, f"{key}=Whatever"
    )
    await engine.kubectl("east", "annotate", "configmap", "unmarked", "-n", namespace, f"{key}-")
    await engine.kubectl("upstream", "delete", "placement", "--all", "-n", namespace)
    await engine.start()
    await left(engine, namespace, lambda found: "taken" not in found, "taken")
    await asyncio.sleep(0.5)
    assert await names(engine, namespace) == {"left", "unreadable", "unmarked"}


async def test_the_policy_of_the_last_edit_counts_even_if_nothing_was_written_since(
    engine: Running, namespace: str
) -> None:
    """F61: a suspended placement writes nothing, and its policy holds all the same."""
    await place(engine, namespace, ["a"], suspend=False)
    spec = {"suspend": True, "deletion": {"policy": "Orphan"}}
    await engine.apply(placement("all", namespace, engine.targets.values(), CONFIG_MAPS, **spec))
    await engine.until(
        "upstream", "placement", "all", namespace, lambda o: o["status"]["observedGeneration"] == 2, "seen"
    )
    await engine.kubectl("upstream", "delete", "placement", "all", "-n", namespace)
    key = "syncline.io/deletion"
    await engine.until(
        "east", "configmap", "a", namespace, lambda o: o["metadata"]["annotations"][key] == "Orphan", "told to stay"
    )
    await engine.kubectl("east", "label", "configmap", "a", "-n", namespace, "seen=again")
    await quiet(engine)
    await engine.stop()
    await engine.start()
    await quiet(engine)
    assert await names(engine, namespace) == {"a"}


async def test_an_object_that_took_the_place_of_ours_is_not_deleted(engine: Running, namespace: str) -> None:
    """P3, P4: the delete carries the uid, and the next look finds somebody else's object."""
    await place(engine, namespace, ["a"])
    client = engine.clients["east"]
    assert isinstance(client, Liar)

    async def replace() -> None:
        await engine.kubectl("east", "delete", "configmap", "a", "-n", namespace)
        await engine.apply(config_map("a", namespace, theirs="1"), cluster="east")

    client.before["DELETE", "/configmaps/a"] = replace
    await engine.kubectl("upstream", "delete", "configmap", "a", "-n", namespace)
    await engine.until("east", "configmap", "a", namespace, lambda o: o["data"] == {"theirs": "1"}, "replaced")
    await quiet(engine)
    there = await engine.get("east", "configmap", "a", namespace)
    assert there is not None
    assert there["data"] == {"theirs": "1"}
    assert not client.before


async def test_targets_that_leave_a_placement_lose_its_objects_and_others_keep_them(
    both: Running, namespace: str
) -> None:
    """P3: editing the placement is evidence; so is a label of the object; each for its own objects only."""
    await place(both, namespace, ["a", "b"], [{**CONFIG_MAPS[0], "labelSelector": {"matchLabels": {"sync": "yes"}}}])
    await both.kubectl("upstream", "label", "configmap", "b", "-n", namespace, "sync=no", "--overwrite")
    await left(both, namespace, lambda found: found == {"a"}, "label out")
    await both.apply(placement("all", namespace, [both.targets["west"]], CONFIG_MAPS))
    await left(both, namespace, lambda found: found == set(), "moved")
    await both.until("west", "configmap", "b", namespace, lambda o: o, "placed again")
    assert await names(both, namespace, "west") == {"a", "b"}


async def finalizers(engine: Running, namespace: str, name: str = "a") -> list[str]:
    item = await engine.get("upstream", "configmap", name, namespace)
    assert item is not None
    return list(item["metadata"].get("finalizers") or ())


async def test_kubectl_delete_returns_when_the_targets_are_clean(both: Running, namespace: str) -> None:
    """P11: an unreachable target is waited for, by a restarted engine too; ours is the only finalizer that goes."""
    await place(both, namespace, ["a", "b"], deletion={"wait": True})
    assert await finalizers(both, namespace) == ["syncline.io/synced"]
    await both.kubectl("upstream", "delete", "configmap", "b", "-n", namespace, "--timeout=15s")
    assert await both.get("east", "configmap", "b", namespace) is None
    assert await both.get("west", "configmap", "b", namespace) is None

    west = both.targets["west"]
    both.engine.detach_target(west, "the cable was cut")
    await both.kubectl("upstream", "delete", "configmap", "a", "-n", namespace, "--wait=false")
    await both.until("east", "configmap", "a", namespace, lambda o: o is None, "deleted where it can be")
    await quiet(both)
    assert await finalizers(both, namespace) == ["syncline.io/synced"]
    await both.stop()
    await both.start(attached=False)
    await attach(both, "east", both.targets["east"])
    await asyncio.sleep(2.5)
    assert await finalizers(both, namespace) == ["syncline.io/synced"]
    assert await both.get("west", "configmap", "a", namespace) is not None
    await attach(both, "west", west)
    await both.until("upstream", "configmap", "a", namespace, lambda o: o is None, "let go")
    assert await both.get("west", "configmap", "a", namespace) is None


async def test_the_finalizer_goes_when_nobody_wants_to_wait_and_never_onto_a_dying_object(
    engine: Running, namespace: str
) -> None:
    """P11."""
    await place(engine, namespace, ["a"], deletion={"wait": True})
    assert await finalizers(engine, namespace) == ["syncline.io/synced"]
    await engine.apply(placement("all", namespace, engine.targets.values(), CONFIG_MAPS))
    await engine.until("upstream", "configmap", "a", namespace, lambda o: "finalizers" not in o["metadata"], "let go")
    dying = config_map("dying", namespace, k="1")
    dying["metadata"]["finalizers"] = ["example.com/mine"]
    await engine.apply(dying)
    await engine.kubectl("upstream", "delete", "configmap", "dying", "-n", namespace, "--wait=false")
    await engine.apply(placement("all", namespace, engine.targets.values(), CONFIG_MAPS, deletion={"wait": True}))
    await engine.until("upstream", "configmap", "a", namespace, lambda o: o["metadata"]["finalizers"], "held again")
    await quiet(engine)
    assert await finalizers(engine, namespace, "dying") == ["example.com/mine"]
    await engine.kubectl(
        "upstream",
        "patch",
        "configmap",
        "dying",
        "-n",
        namespace,
        "--type=merge",
        "-p",
        '{"metadata":{"finalizers":[]}}',
    )


async def test_finalizers_of_a_placement_that_went_while_the_engine_was_down_are_removed(
    engine: Running, namespace: str
) -> None:
    """P11: although no placement names the kind any more."""
    await place(engine, namespace, ["a"], deletion={"wait": True})
    await engine.stop()
    await engine.kubectl("upstream", "delete", "placement", "all", "-n", namespace)
    await engine.start()
    await left(engine, namespace, lambda found: not found, "un-placed")
    await engine.until("upstream", "configmap", "a", namespace, lambda o: "finalizers" not in o["metadata"], "let go")


async def frozen(engine: Running) -> str:
    """Wait for a freeze; its token."""
    name = engine.targets["east"]
    await until(lambda: engine.engine.frozen(name) is not None, "frozen")
    answer = engine.engine.frozen(name)
    assert answer is not None
    return answer[0]


async def refused(engine: Running, deletes: int) -> None:
    """Wait until so many deletes wait for a person; those before them were sent."""
    budget, name = engine.engine.world.budget, engine.targets["east"]
    await until(lambda: (freeze := budget.frozen(name)) and freeze.waiting == deletes, f"{deletes} deletes wait")
    await quiet(engine)


async def acknowledge(engine: Running, token: str) -> None:
    await engine.kubectl(
        "upstream", "annotate", "--overwrite", "synctarget", engine.targets["east"], f"syncline.io/acknowledge={token}"
    )


@pytest.mark.parametrize("down", [False, True])
async def test_a_change_that_unplaces_everything_stops_at_ten_until_it_is_acknowledged(
    engine: Running, namespace: str, down: bool
) -> None:
    """F55: max(10, 5 %) a minute; the token lets exactly those go that were waiting."""
    rule = [{**CONFIG_MAPS[0], "labelSelector": {"matchLabels": {"sync": "yes"}}}]
    await place(engine, namespace, MANY, rule)
    if down:
        await engine.stop()
    await engine.kubectl("upstream", "label", "configmap", *MANY[:25], "-n", namespace, "sync=no", "--overwrite")
    if down:
        await engine.start()
    token = await frozen(engine)
    await refused(engine, 15)
    await left(engine, namespace, lambda found: len(found) == 20, "ten deleted")
    await acknowledge(engine, "0123456789")
    await quiet(engine)
    assert len(await names(engine, namespace)) == 20, "another token does nothing"
    await acknowledge(engine, token)
    await left(engine, namespace, lambda found: found == set(MANY[25:]), "those that were waiting, and no others")
    assert engine.engine.frozen(engine.targets["east"]) is None


async def test_a_freeze_survives_a_restart(engine: Running, namespace: str) -> None:
    """F55: the SyncTarget's status says that the target waits for a person; starting anew is no consent."""
    rule = [{**CONFIG_MAPS[0], "labelSelector": {"matchLabels": {"sync": "yes"}}}]
    await place(engine, namespace, MANY, rule)
    await engine.stop()
    status = '{"status": {"frozen": {"token": "c0ffee"}}}'
    name = engine.targets["east"]
    await engine.kubectl("upstream", "patch", "synctarget", name, "--subresource=status", "--type=merge", "-p", status)
    await engine.kubectl("upstream", "label", "configmap", *MANY[:25], "-n", namespace, "sync=no", "--overwrite")
    await engine.start()
    assert await frozen(engine) == "c0ffee"
    await refused(engine, 25)
    assert await names(engine, namespace) == set(MANY)
    await acknowledge(engine, "c0ffee")
    await left(engine, namespace, lambda found: found == set(MANY[25:]), "acknowledged")


async def test_what_is_placed_again_while_frozen_is_not_deleted_by_the_token(engine: Running, namespace: str) -> None:
    """F55, P3."""
    rule = [{**CONFIG_MAPS[0], "labelSelector": {"matchLabels": {"sync": "yes"}}}]
    await place(engine, namespace, MANY, rule)
    await engine.kubectl("upstream", "label", "configmap", *MANY, "-n", namespace, "sync=no", "--overwrite")
    token = await frozen(engine)
    await refused(engine, 20)
    waiting = await left(engine, namespace, lambda found: len(found) == 20, "ten deleted")
    back = sorted(waiting)[:5]
    await engine.kubectl("upstream", "label", "configmap", *back, "-n", namespace, "sync=yes", "--overwrite")
    await refused(engine, 15)
    await acknowledge(engine, token)
    await left(engine, namespace, lambda found: found == set(back), "all but those that came back")
    await quiet(engine)
    assert await names(engine, namespace) == set(back)


async def test_an_announced_change_of_a_placement_is_not_stopped(engine: Running, namespace: str) -> None:
    """F55: whoever changes one placement by hand may say beforehand how much it costs."""
    await place(engine, namespace, MANY)
    narrower = placement("all", namespace, engine.targets.values(), [{**CONFIG_MAPS[0], "names": [MANY[0]]}])
    narrower["metadata"]["annotations"] = {"syncline.io/acknowledge": "29"}
    await engine.apply(narrower)
    await left(engine, namespace, lambda found: found == {MANY[0]}, "un-placed")
    assert engine.engine.frozen(engine.targets["east"]) is None

    wider = {**narrower, "spec": {**narrower["spec"], "resources": CONFIG_MAPS}}
    await engine.apply(wider)
    await left(engine, namespace, lambda found: found == set(MANY), "placed again")
    await quiet(engine, 0.3)
    await engine.apply(narrower)  # the annotation is still there, and it was for the change before
    await frozen(engine)
    await asyncio.sleep(0.5)
    assert len(await names(engine, namespace)) > 1


@pytest.mark.parametrize("what", ["sources", "placement"])
async def test_deletions_that_were_seen_are_not_limited(engine: Running, namespace: str, what: str) -> None:
    """P3, F55: deleting many objects, or one placement, is the wish itself."""
    await place(engine, namespace, MANY)
    what_to_delete = ["configmap", *MANY] if what == "sources" else ["placement", "all"]
    await engine.kubectl("upstream", "delete", *what_to_delete, "-n", namespace)
    await left(engine, namespace, lambda found: not found, "all of them")
    assert engine.engine.frozen(engine.targets["east"]) is None


async def test_a_placement_that_cannot_be_read_keeps_what_it_placed(engine: Running, namespace: str) -> None:
    """P3: after a restart the last valid version is not known any more, and that un-places nothing."""
    await place(engine, namespace, ["a"])
    await engine.stop()
    broken = {"spec": {"transforms": [{"cel": {"path": "/data/x", "expression": "1 +"}}]}}
    await engine.kubectl(
        "upstream", "patch", "placement", "all", "-n", namespace, "--type=merge", "-p", json.dumps(broken)
    )
    await engine.start()
    await engine.until(
        "upstream", "placement", "all", namespace, lambda o: o["status"]["reason"] not in ("", None), "reported"
    )
    await asyncio.sleep(1.5)
    assert await names(engine, namespace) == {"a"}
    await engine.kubectl("upstream", "delete", "placement", "all", "-n", namespace)
    await left(engine, namespace, lambda found: not found, "deleted with it")


async def test_a_target_that_is_removed_is_not_waited_for(both: Running, namespace: str) -> None:
    """P11: a source that waits for an unreachable target is let go when that target is given up."""
    await place(both, namespace, ["a"], deletion={"wait": True})
    both.engine.detach_target(both.targets["west"], "the cable was cut")
    await both.kubectl("upstream", "delete", "configmap", "a", "-n", namespace, "--wait=false")
    await both.until("east", "configmap", "a", namespace, lambda o: o is None, "deleted where it can be")
    await quiet(both, 0.3)
    assert await finalizers(both, namespace) == ["syncline.io/synced"]
    await both.kubectl("upstream", "delete", "synctarget", both.targets["west"])
    await both.until("upstream", "configmap", "a", namespace, lambda o: o is None, "let go")
    assert await both.get("west", "configmap", "a", namespace) is not None
