"""A status changes on a target; how soon does the source upstream show it? First changes, so that none is coalesced.

Services of type LoadBalancer, whose status no controller of the fleet writes: each gets an address once. Raw is a bare
loop: a watch downstream whose every address is sent on at once as a PATCH of the status upstream.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

from bench import manifests
from bench.api import MERGE, Api, Watching, at_rate, in_parallel
from bench.delays import Delays, lines
from bench.figures import Line
from bench.ground import Ground
from bench.manifests import SERVICES
from bench.scenario import Scale, Scenario

NAME: Final = "feedback"
PER_SECOND: Final = 10.0
PLACED: Final = "bench-feedback"
RAW: Final = "bench-feedback-raw"
ADDRESS: Final = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}}


async def run(ground: Ground, scale: Scale) -> list[Line]:
    """Every Service gets its address on one target, the targets in turn."""
    count = scale.count(200)
    objects = [manifests.service(PLACED, f"web-{number}") for number in range(count)]
    try:
        await ground.make_namespace(PLACED)
        await ground.create(objects)
        await ground.place(PLACED, [SERVICES])
        await ground.synced(PLACED, {SERVICES: count})
        await ground.quiet()
        ground.say(f"{count} status changes, {PER_SECOND:g} a second")
        ours = await _measure(ground, PLACED, count)
        ground.say("the same with a bare loop")
        raw = await _bare_loop(ground, count)
    finally:
        await ground.drop_namespace(RAW, list(ground.api.values()))
        await ground.clear(PLACED, [SERVICES])
    how = f"{count} Services get an address, {PER_SECOND:g}/s"
    return list(lines(NAME, "status return, first change", ours, raw, {50: 10, 99: 100}, how))


async def _measure(ground: Ground, namespace: str, count: int) -> Delays:
    delays = Delays()

    def seen(at: float, _: str, item: dict[str, Any]) -> None:
        if item["status"]["loadBalancer"].get("ingress"):
            delays.arrived(item["metadata"]["name"], at)

    async def change(number: int) -> None:
        api = ground.downstream()[number % len(ground.targets)]
        name = f"web-{number}"
        path = f"{manifests.collection(SERVICES, namespace)}/{name}/status"
        await delays.send([name], partial(api.must, "PATCH", path, ADDRESS, MERGE))

    async with Watching(ground.upstream, manifests.collection(SERVICES, namespace), seen):
        await at_rate([partial(change, number) for number in range(count)], PER_SECOND)
        await delays.complete()
    return delays


async def _bare_loop(ground: Ground, count: int) -> Delays:
    everywhere = list(ground.api.values())
    await ground.make_namespace(RAW, everywhere)
    objects = [manifests.service(RAW, f"web-{number}") for number in range(count)]
    for api in everywhere:
        await in_parallel([partial(api.must, "POST", manifests.collection(SERVICES, RAW), item) for item in objects])
    sending: set[asyncio.Task[None]] = set()

    def changed(_: float, kind: str, item: dict[str, Any]) -> None:
        if item["status"]["loadBalancer"].get("ingress"):
            task = asyncio.create_task(_send_on(ground.upstream, item["metadata"]["name"]))
            sending.add(task)
            task.add_done_callback(sending.discard)

    async with AsyncExitStack() as stack:
        for api in ground.downstream():
            await stack.enter_async_context(Watching(api, manifests.collection(SERVICES, RAW), changed))
        return await _measure(ground, RAW, count)


async def _send_on(api: Api, name: str) -> None:
    await api.must("PATCH", f"{manifests.collection(SERVICES, RAW)}/{name}/status", ADDRESS, MERGE)


SCENARIO: Final = Scenario(NAME, run)
