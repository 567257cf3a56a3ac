"""The operator starts and finds 2,000 objects that are in sync: it has to see that, and write nothing."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from bench import manifests
from bench.api import until
from bench.counters import written_by_syncline
from bench.figures import Goal, Line
from bench.ground import Ground
from bench.manifests import CONFIG_MAPS
from bench.scenario import Scale, Scenario

NAME: Final = "coldstart"
NAMESPACE: Final = "bench-coldstart"
REST_SECONDS: Final = 10.0
SYNCED_SECONDS: Final = 120.0


async def run(ground: Ground, scale: Scale) -> list[Line]:
    """End the operator with everything in sync, start it again, and count what the API servers were sent."""
    count = scale.count(2000)
    try:
        await ground.make_namespace(NAMESPACE)
        await ground.place(NAMESPACE, [CONFIG_MAPS])
        ground.say(f"making {count} objects")
        await ground.create([manifests.config_map(NAMESPACE, f"config-{number}") for number in range(count)])
        await ground.synced(NAMESPACE, {CONFIG_MAPS: count})
        await ground.quiet()
        await ground.operator.stop()
        before = await ground.writes()
        ground.say("starting the operator again")
        began = time.monotonic()
        ready = await ground.operator.start()
        wanted = count * len(ground.targets)

        async def known() -> bool:
            return await ground.operator.metric("syncline_synced_objects") >= wanted

        await until(known, "all objects are known to be in sync", SYNCED_SECONDS)
        synced = time.monotonic() - began
        await asyncio.sleep(REST_SECONDS)
        ours = written_by_syncline(before, await ground.writes())
    finally:
        await ground.clear(NAMESPACE, [CONFIG_MAPS])
    # Anything on a target, and any status upstream; a process that starts also announces itself there (hub, webhooks).
    about = {name: number for name, number in ours.items() if not name.startswith("upstream: ") or "/status" in name}
    listed = ", ".join(f"{name} {number}" for name, number in sorted(ours.items())) or "none"
    what = f"cold start, {count} objects on {len(ground.targets)} targets in sync"
    return [
        Line(
            NAME,
            f"{what}: writes to objects and statuses",
            "writes",
            sum(about.values()),
            None,
            Goal(0),
            f"all writes: {listed}",
        ),
        Line(NAME, f"{what}: until /readyz", "s", ready, None, Goal(60), "process start included"),
        Line(NAME, f"{what}: until all are known", "s", synced, None, None, "syncline_synced_objects, polled"),
    ]


SCENARIO: Final = Scenario(NAME, run)
