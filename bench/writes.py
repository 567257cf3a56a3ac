"""How many writes one object costs on one target, status included, by the API servers' own counters.

Counted from before the objects are made until nothing happens any more, everything that Syncline writes on all API
servers: applies downstream, namespaces, merged statuses, statuses of Placements, Events. Not counted are election and
the heartbeats of targets, which go on without any object.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from bench import manifests
from bench.api import RequestFailed, in_parallel
from bench.counters import written_by_syncline
from bench.figures import Goal, Line
from bench.ground import Ground
from bench.manifests import CONFIG_MAPS, CRON_JOBS, DEPLOYMENTS, OFFERS, SERVICES
from bench.scenario import Scale, Scenario

NAME: Final = "writes"
RUNS_SECONDS: Final = 300.0  # between two runs of the demo's CronJob
CLEAR_SECONDS: Final = 90.0  # longer than all copies of the demo take
EXAMPLE: Final = Path(__file__).parents[1] / "examples" / "shop"
SHOP: Final = (CONFIG_MAPS, SERVICES, DEPLOYMENTS, CRON_JOBS, OFFERS)


async def run(ground: Ground, scale: Scale) -> list[Line]:
    """ConfigMaps alone, Deployments alone, and many copies of the demo's shop."""
    config_maps = await _one_kind(ground, CONFIG_MAPS, scale.count(200), Goal(1.05))
    deployments = await _one_kind(ground, DEPLOYMENTS, scale.count(100), Goal(3))
    return [config_maps, deployments, await _shops(ground, scale.count(20))]


async def _one_kind(ground: Ground, resource: str, count: int, goal: Goal) -> Line:
    namespace = f"bench-writes-{resource}"
    make = manifests.config_map if resource == CONFIG_MAPS else manifests.deployment
    try:
        await ground.quiet()
        before = await ground.writes()
        await ground.make_namespace(namespace)
        await ground.place(namespace, [resource])
        await ground.create([make(namespace, f"object-{number}") for number in range(count)])
        await ground.synced(namespace, {resource: count})
        await ground.quiet(5)
        ours = written_by_syncline(before, await ground.writes())
    finally:
        await ground.clear(namespace, [resource])
    return _line(f"writes per object and target, {resource}", ours, count * len(ground.targets), goal)


async def _shops(ground: Ground, copies: int) -> Line:
    if set(ground.targets) != {"east", "west"}:
        raise RequestFailed("the demo's placement names the targets east and west")
    for name in ground.api:
        await asyncio.to_thread(ground.fleet.kubectl, name, "apply", "--server-side", "-f", str(EXAMPLE / "crd"))
    documents = [item for path in sorted(EXAMPLE.glob("*.yaml")) for item in yaml.safe_load_all(path.read_text())]
    namespaces = [f"bench-shop-{number}" for number in range(copies)]
    try:
        await ground.quiet(5)
        await _between_runs(ground)
        before = await ground.writes()
        await in_parallel([partial(_one_shop, ground, documents, namespace) for namespace in namespaces], 4)
        for namespace in namespaces:
            for resource in SHOP:
                if resource != DEPLOYMENTS:  # divided: readiness is not the same everywhere
                    await ground.synced(namespace, {resource: 1})
        await ground.quiet(10)
        ours = written_by_syncline(before, await ground.writes())
    finally:
        await in_parallel([partial(ground.clear, namespace, SHOP) for namespace in namespaces], 8)
    pairs = copies * len(SHOP) * len(ground.targets)
    return _line("writes per object and target, demo mix", ours, pairs, Goal(2.2))


async def _between_runs(ground: Ground) -> None:
    """The demo's CronJob runs every five minutes, and tells of it: that is not a part of placing it."""
    left = RUNS_SECONDS - time.time() % RUNS_SECONDS
    if left < CLEAR_SECONDS:
        ground.say("waiting until the CronJobs have run")
        await asyncio.sleep(left + 20)


async def _one_shop(ground: Ground, documents: Sequence[Mapping[str, Any]], namespace: str) -> None:
    """One copy of the example, as `kubectl apply -f examples/shop` makes it, in a namespace of its own."""
    for document in documents:
        if document["kind"] == "Namespace":
            await ground.make_namespace(namespace)
            continue
        item = {**document, "metadata": {**document["metadata"], "namespace": namespace}}
        await ground.create([item])


def _line(what: str, ours: Counter[str], pairs: int, goal: Goal) -> Line:
    note = ", ".join(f"{name} {count}" for name, count in sorted(ours.items()))
    return Line(NAME, what, "writes", ours.total() / pairs, None, goal, f"{pairs} pairs; {note}")


SCENARIO: Final = Scenario(NAME, run)
