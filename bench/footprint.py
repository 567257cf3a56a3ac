"""What the operator holds and does while 1,000 objects are in sync: memory, and CPU time while nothing happens."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from bench import manifests
from bench.figures import Goal, Line
from bench.ground import Ground
from bench.manifests import CONFIG_MAPS, DEPLOYMENTS
from bench.scenario import Scale, Scenario

NAME: Final = "footprint"
NAMESPACE: Final = "bench-footprint"
RESOURCES: Final = (CONFIG_MAPS, DEPLOYMENTS)
REST_SECONDS: Final = 5.0


async def run(ground: Ground, scale: Scale) -> list[Line]:
    """In an operator that was started for this and has synced the objects itself."""
    counts = {CONFIG_MAPS: scale.count(700), DEPLOYMENTS: scale.count(300)}
    seconds = scale.count(60)
    await ground.operator.stop()
    await ground.start_operator()
    empty = ground.operator.rss_mib()
    try:
        await ground.make_namespace(NAMESPACE)
        await ground.place(NAMESPACE, RESOURCES)
        ground.say(f"making {sum(counts.values())} objects")
        await ground.create([manifests.config_map(NAMESPACE, f"config-{n}") for n in range(counts[CONFIG_MAPS])])
        await ground.create([manifests.deployment(NAMESPACE, f"web-{n}") for n in range(counts[DEPLOYMENTS])])
        await ground.synced(NAMESPACE, counts)
        await ground.quiet()
        await asyncio.sleep(REST_SECONDS)
        peak = ground.operator.rss_mib()
        ground.say(f"{seconds} s of rest")
        began, before = time.monotonic(), ground.operator.cpu_seconds()
        await asyncio.sleep(seconds)
        idle = (ground.operator.cpu_seconds() - before) / (time.monotonic() - began) * 100
        memory = ground.operator.rss_mib()
    finally:
        await ground.clear(NAMESPACE, RESOURCES)
    note = f"{empty:.0f} MiB before the first object, {peak:.0f} MiB before the rest"
    what = f"{sum(counts.values())} objects on {len(ground.targets)} targets"
    return [
        Line(NAME, f"operator RSS, {what}", "MiB", memory, None, Goal(100), note),
        Line(NAME, f"operator CPU while idle, {what}", "% of a core", idle, None, Goal(2), f"over {seconds} s"),
    ]


SCENARIO: Final = Scenario(NAME, run)
