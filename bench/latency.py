"""One change upstream until a watch of the target shows it: ConfigMaps, 20 changes a second.

Raw is the least that anybody can do from outside: a watch upstream whose every event is sent on at once as the same
PATCH to all targets, with no cache, no decision and no queue in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import orjson

from bench import manifests
from bench.api import APPLY, MERGE, OURS, Api, Watching, at_rate, in_parallel
from bench.delays import Delays, lines
from bench.figures import Line
from bench.ground import Ground
from bench.manifests import CONFIG_MAPS
from bench.scenario import Scale, Scenario

NAME: Final = "latency"
OBJECTS: Final = 50
PER_SECOND: Final = 20.0
PLACED: Final = "bench-latency"
RAW: Final = "bench-latency-raw"


async def run(ground: Ground, scale: Scale) -> list[Line]:
    """The same changes with Syncline, and with the bare loop."""
    changes = scale.count(600)
    names = [f"config-{number}" for number in range(OBJECTS)]
    try:
        await ground.make_namespace(PLACED)
        await ground.create([manifests.config_map(PLACED, name) for name in names])
        await ground.place(PLACED, [CONFIG_MAPS])
        await ground.synced(PLACED, {CONFIG_MAPS: OBJECTS})
        await ground.quiet()
        ground.say(f"{changes} changes, {PER_SECOND:g} a second")
        ours = await _measure(ground, PLACED, names, changes)
        ground.say("the same with a bare loop")
        raw = await _bare_loop(ground, names, changes)
    finally:
        await ground.drop_namespace(RAW, list(ground.api.values()))
        await ground.clear(PLACED, [CONFIG_MAPS])
    how = f"{changes} changes of ConfigMaps, {PER_SECOND:g}/s, {len(ground.targets)} targets"
    return list(lines(NAME, "update → downstream", ours, raw, {50: 10, 99: 25}, how))


async def _measure(ground: Ground, namespace: str, names: Sequence[str], changes: int) -> Delays:
    delays = Delays()

    def seen(target: str, at: float, _: str, item: dict[str, Any]) -> None:
        delays.arrived((target, item["data"]["value"]), at)

    async def change(number: int) -> None:
        path = f"{manifests.collection(CONFIG_MAPS, namespace)}/{names[number % len(names)]}"
        value = f"{namespace}-{number}"
        arrivals = [(target, value) for target in ground.targets]
        await delays.send(arrivals, partial(ground.upstream.must, "PATCH", path, {"data": {"value": value}}, MERGE))

    async with AsyncExitStack() as stack:
        for api in ground.downstream():
            collection = f"{manifests.collection(CONFIG_MAPS, namespace)}?labelSelector=app%3Dbench"
            await stack.enter_async_context(Watching(api, collection, partial(seen, api.name)))
        await at_rate([partial(change, number) for number in range(changes)], PER_SECOND)
        await delays.complete()
    return delays


async def _bare_loop(ground: Ground, names: Sequence[str], changes: int) -> Delays:
    await ground.make_namespace(RAW, list(ground.api.values()))
    everything = [manifests.config_map(RAW, name) for name in names]
    await ground.create(everything)
    for api in ground.downstream():
        await in_parallel([partial(_send_on, api, item) for item in everything])
    sending: set[asyncio.Task[None]] = set()

    def changed(_: float, kind: str, item: dict[str, Any]) -> None:
        if kind == "MODIFIED":
            for api in ground.downstream():
                task = asyncio.create_task(_send_on(api, item))
                sending.add(task)
                task.add_done_callback(sending.discard)

    collection = f"{manifests.collection(CONFIG_MAPS, RAW)}?labelSelector=app%3Dbench"
    async with Watching(ground.upstream, collection, changed):
        return await _measure(ground, RAW, names, changes)


async def _send_on(api: Api, item: dict[str, Any]) -> None:
    metadata = {key: item["metadata"][key] for key in ("name", "namespace", "labels")}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": item["data"]}
    path = f"{manifests.collection(CONFIG_MAPS, metadata['namespace'])}/{metadata['name']}{OURS}"
    await api.must("PATCH", path, orjson.dumps(body), APPLY)


SCENARIO: Final = Scenario(NAME, run)
