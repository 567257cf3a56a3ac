"""One Deployment on 50 API servers whose statuses change all the time (L17).

Nothing runs there, so this process plays the controllers: it patches the status of one target after the other at a
fixed rate, each time with one replica more. The merged counters upstream thus tell how many changes they contain.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any, Final

from bench import manifests
from bench.api import MERGE, Api, Watching, at_rate, until
from bench.delays import milliseconds
from bench.figures import Goal, Line, busiest_window, counted
from bench.ground import Ground
from bench.manifests import DEPLOYMENTS
from bench.scenario import Scale, Scenario

NAME: Final = "fanout"
NAMESPACE: Final = "bench-fanout"
OBJECT: Final = "web"
PER_SECOND: Final = 50.0  # over all targets
SECONDS: Final = 30
WINDOW_SECONDS: Final = 0.1
COUNTERS: Final = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
REPLICAS: Final = 100_000  # so that no counter is ever complete


async def run(ground: Ground, scale: Scale) -> list[Line]:
    """Place it, then change statuses for half a minute."""
    path = f"{manifests.collection(DEPLOYMENTS, NAMESPACE)}/{OBJECT}"
    targets = len(ground.targets)
    changes = int(PER_SECOND) * max(3, scale.count(SECONDS))
    try:
        await ground.make_namespace(NAMESPACE)
        await ground.place(NAMESPACE, [DEPLOYMENTS])
        await ground.create([manifests.deployment(NAMESPACE, OBJECT, REPLICAS)])
        for api in ground.downstream():
            await until(partial(_exists, api, path), f"{OBJECT} is on {api.name}", 120)
        await ground.quiet()
        ground.say(f"{changes} status changes over {targets} targets, {PER_SECOND:g} a second")
        before, began = ground.operator.cpu_seconds(), time.monotonic()
        sent, totals = await _change(ground, path, changes)
        cpu = (ground.operator.cpu_seconds() - before) / (time.monotonic() - began) * 100
        memory = ground.operator.rss_mib()
    finally:
        # The namespaces go with the fleet: light targets have no controller that would empty them.
        await ground.remove_sources(NAMESPACE, [DEPLOYMENTS])
    delays = counted(sent, totals)
    how = f"{changes} changes, {PER_SECOND:g}/s over all targets; coalescing waits up to 100 ms"
    what = f"one Deployment on {targets} light targets"
    peak = busiest_window([at for at, _ in totals], WINDOW_SECONDS)
    mean = len(totals) / (changes / PER_SECOND) * WINDOW_SECONDS
    return [
        Line(NAME, f"{what}: merged status p50", "ms", milliseconds(delays, 50), None, Goal(110), how),
        Line(NAME, f"{what}: merged status p99", "ms", milliseconds(delays, 99), None, Goal(200), how),
        Line(NAME, f"{what}: upstream writes per 100 ms", "writes", mean, None, Goal(1), f"busiest 100 ms: {peak}"),
        Line(NAME, f"{what}: operator RSS", "MiB", memory),
        Line(NAME, f"{what}: operator CPU", "% of a core", cpu),
    ]


async def _change(ground: Ground, path: str, changes: int) -> tuple[list[float], list[tuple[float, int]]]:
    """Returns (when each change was answered, [(when seen upstream, changes contained)])."""
    sent: list[float] = []
    totals: list[tuple[float, int]] = []
    counters = dict.fromkeys(ground.targets, 0)
    turns = {name: asyncio.Lock() for name in ground.targets}
    generations = {api.name: (await api.must("GET", path))["metadata"]["generation"] for api in ground.downstream()}

    def seen(at: float, _: str, item: dict[str, Any]) -> None:
        total = item.get("status", {}).get("readyReplicas", 0)
        if total > (totals[-1][1] if totals else 0):
            totals.append((at, total))

    async def change(number: int) -> None:
        api = ground.downstream()[number % len(ground.targets)]
        async with turns[api.name]:  # one that overtook another would set the counter back
            counters[api.name] += 1
            status = dict.fromkeys(COUNTERS, counters[api.name])
            status["observedGeneration"] = generations[api.name]
            await api.must("PATCH", f"{path}/status", {"status": status}, MERGE)
            sent.append(time.monotonic())

    async with Watching(ground.upstream, manifests.collection(DEPLOYMENTS, NAMESPACE), seen):
        await at_rate([partial(change, number) for number in range(changes)], PER_SECOND)
        await until(lambda: bool(totals) and totals[-1][1] >= changes, "every change is merged", 30)
        await asyncio.sleep(1)
    return sent, totals


async def _exists(api: Api, path: str) -> bool:
    return (await api.send("GET", path))[0] == 200


SCENARIO: Final = Scenario(NAME, run, light=True)
