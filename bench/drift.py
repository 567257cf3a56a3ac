"""Somebody changes a field downstream that Syncline owns; how soon does it have its value again?

Each object is changed once: a field that is changed again and again is a fight, from which Syncline backs off on
purpose. Raw is a bare loop: a watch downstream whose every foreign value is answered at once with the right PATCH.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

from bench import manifests
from bench.api import APPLY, MERGE, OURS, Api, Watching, at_rate, in_parallel
from bench.delays import Delays, lines
from bench.figures import Line
from bench.ground import Ground
from bench.manifests import CONFIG_MAPS
from bench.scenario import Scale, Scenario

NAME: Final = "drift"
PER_SECOND: Final = 10.0
PLACED: Final = "bench-drift"
RAW: Final = "bench-drift-raw"
FOREIGN: Final = "changed by hand"
RIGHT: Final = "0"


async def run(ground: Ground, scale: Scale) -> list[Line]:
    """Every object is changed on one target, the targets in turn."""
    count = scale.count(300)
    try:
        await ground.make_namespace(PLACED)
        await ground.create([manifests.config_map(PLACED, f"config-{number}", RIGHT) for number in range(count)])
        await ground.place(PLACED, [CONFIG_MAPS])
        await ground.synced(PLACED, {CONFIG_MAPS: count})
        await ground.quiet()
        ground.say(f"{count} changes by hand, {PER_SECOND:g} a second")
        ours = await _measure(ground, PLACED, count, repair=False)
        ground.say("the same with a bare loop")
        await ground.make_namespace(RAW, ground.downstream())
        for api in ground.downstream():
            await in_parallel([partial(_repair, api, RAW, f"config-{number}") for number in range(count)])
        raw = await _measure(ground, RAW, count, repair=True)
    finally:
        await ground.drop_namespace(RAW, ground.downstream())
        await ground.clear(PLACED, [CONFIG_MAPS])
    how = f"{count} foreign changes of ConfigMaps, {PER_SECOND:g}/s"
    return list(lines(NAME, "drift repair", ours, raw, {50: 10, 99: 50}, how))


async def _measure(ground: Ground, namespace: str, count: int, *, repair: bool) -> Delays:
    delays = Delays()
    wrong: set[tuple[str, str]] = set()
    repairing: set[asyncio.Task[None]] = set()

    def seen(api: Api, at: float, _: str, item: dict[str, Any]) -> None:
        key = (api.name, item["metadata"]["name"])
        if item["data"]["value"] == FOREIGN:
            wrong.add(key)
            if repair:
                task = asyncio.create_task(_repair(api, namespace, key[1]))
                repairing.add(task)
                task.add_done_callback(repairing.discard)
        elif key in wrong:
            delays.arrived(key, at)

    async def change(number: int) -> None:
        api = ground.downstream()[number % len(ground.targets)]
        name = f"config-{number}"
        path = f"{manifests.collection(CONFIG_MAPS, namespace)}/{name}?fieldManager=kubectl-edit"
        await delays.send([(api.name, name)], partial(api.must, "PATCH", path, {"data": {"value": FOREIGN}}, MERGE))

    async with AsyncExitStack() as stack:
        for api in ground.downstream():
            collection = f"{manifests.collection(CONFIG_MAPS, namespace)}?labelSelector=app%3Dbench"
            await stack.enter_async_context(Watching(api, collection, partial(seen, api)))
        await at_rate([partial(change, number) for number in range(count)], PER_SECOND)
        await delays.complete()
    return delays


async def _repair(api: Api, namespace: str, name: str) -> None:
    body = manifests.config_map(namespace, name, RIGHT)
    await api.must("PATCH", f"{manifests.collection(CONFIG_MAPS, namespace)}/{name}{OURS}", body, APPLY)


SCENARIO: Final = Scenario(NAME, run)
