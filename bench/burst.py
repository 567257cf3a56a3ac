"""1,000 ConfigMaps and 300 Deployments exist upstream; a Placement sends them to all targets at once.

The raw limit is a tight loop of the same PATCHes on the same API servers, 16 in flight per target, beside the same
controllers. Both are timed from their beginning (the POST of the Placement, the first PATCH) until a watch has seen
the last object on the last target.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

from bench import manifests
from bench.api import APPLY, OURS, Api, RequestFailed, Watching, in_parallel, until
from bench.figures import Goal, Line, median
from bench.ground import Ground
from bench.manifests import CONFIG_MAPS, DEPLOYMENTS
from bench.scenario import Scale, Scenario

NAME: Final = "burst"
ROUNDS: Final = 3
ARRIVAL_SECONDS: Final = 120.0
RESOURCES: Final = (CONFIG_MAPS, DEPLOYMENTS)
WARM: Final = "bench-warm"


async def run(ground: Ground, scale: Scale) -> list[Line]:
    """Rounds of both; who goes first changes, so that what drifts during a run helps neither."""
    counts = {CONFIG_MAPS: scale.count(1000), DEPLOYMENTS: scale.count(300)}
    ours: list[float] = []
    raw: list[float] = []
    applied: dict[str, list[dict[str, Any]]] = {}  # {target: what Syncline made there in the first round}
    await _warm_up(ground)
    try:
        for number in range(1, (1 if scale.quick else ROUNDS) + 1):
            for mine in (True, False) if number % 2 else (False, True):
                if mine:
                    ours.append(await _ours(ground, f"bench-burst-{number}", counts, applied))
                else:
                    raw.append(await _raw(ground, f"bench-raw-{number}", applied))
            ground.say(f"round {number}: {ours[-1]:.0f}/s, raw {raw[-1]:.0f}/s")
    finally:
        await ground.clear(WARM, RESOURCES)
    size = " and ".join(f"{count} {resource}" for resource, count in counts.items())
    rounds = ", ".join(f"{a:.0f} of {b:.0f} ({a / b:.2f})" for a, b in zip(ours, raw, strict=True))
    return [
        Line(
            NAME,
            f"burst: {size} to {len(ground.targets)} targets",
            "objects/s",
            median(ours),
            median(raw),
            Goal(0.8, of="ratio", at_least=True),
            f"medians; the rounds: {rounds}",
        )
    ]


async def _warm_up(ground: Ground) -> None:
    """Both kinds are watched and connections are open before the clock runs, for ours and for raw."""
    await ground.make_namespace(WARM)
    await ground.create([manifests.config_map(WARM, "warm"), manifests.deployment(WARM, "warm")])
    await ground.place(WARM, RESOURCES)
    await ground.synced(WARM, {CONFIG_MAPS: 1, DEPLOYMENTS: 1})


async def _ours(
    ground: Ground, namespace: str, counts: Mapping[str, int], applied: dict[str, list[dict[str, Any]]]
) -> float:
    try:
        await ground.make_namespace(namespace)
        objects = [manifests.config_map(namespace, f"config-{n}") for n in range(counts[CONFIG_MAPS])]
        objects += [manifests.deployment(namespace, f"web-{n}") for n in range(counts[DEPLOYMENTS])]
        ground.say(f"creating {len(objects)} objects upstream")
        await ground.create(objects)
        await ground.quiet()
        ground.say("placing them")
        async with _Arrivals(ground.downstream(), namespace, len(objects)) as arrivals:
            began = time.monotonic()
            await ground.place(namespace, RESOURCES)
            rate = await arrivals.rate(began)
        ground.say("waiting until all Deployments are ready")
        await ground.synced(namespace, counts)
        await ground.quiet()
        if not applied:
            applied |= {api.name: await _made(api, namespace) for api in ground.downstream()}
        return rate
    finally:
        await ground.clear(namespace, RESOURCES)


async def _raw(ground: Ground, namespace: str, applied: Mapping[str, list[dict[str, Any]]]) -> float:
    try:
        ground.say("the same PATCHes in a tight loop")
        await ground.make_namespace(namespace, ground.downstream())
        jobs = {
            api: [
                partial(_apply, api, _path(item, namespace), manifests.raw_body(item, namespace))
                for item in applied[api.name]
            ]
            for api in ground.downstream()
        }
        async with _Arrivals(ground.downstream(), namespace, len(next(iter(applied.values())))) as arrivals:
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for own in jobs.values():
                    group.create_task(in_parallel(own))
            return await arrivals.rate(began)
    finally:
        await ground.drop_namespace(namespace, ground.downstream())


async def _made(api: Api, namespace: str) -> list[dict[str, Any]]:
    """What Syncline made in a namespace of a target, ConfigMaps first."""
    made: list[dict[str, Any]] = []
    for resource in RESOURCES:
        version, kind = manifests.KINDS[resource]
        path = f"{manifests.collection(resource, namespace)}?labelSelector=syncline.io/managed-by"
        made += [{"apiVersion": version, "kind": kind, **item} for item in (await api.must("GET", path))["items"]]
    return made


def _path(item: dict[str, Any], namespace: str) -> str:
    return f"{manifests.collection(manifests.resource_of(item), namespace)}/{item['metadata']['name']}{OURS}"


async def _apply(api: Api, path: str, body: bytes) -> None:
    status, answer = await api.send("PATCH", path, body, APPLY)
    if status != 201:
        raise RequestFailed(f"{api.name}: {path}: {status} {answer[:300].decode(errors='replace')}")


class _Arrivals:
    """Counts objects with Syncline's label that appear in a namespace of some clusters."""

    def __init__(self, clusters: Sequence[Api], namespace: str, each: int) -> None:
        self._watches = [
            Watching(
                api,
                f"{manifests.collection(resource, namespace)}?labelSelector=syncline.io/managed-by",
                self._seen,
            )
            for api in clusters
            for resource in RESOURCES
        ]
        self._wanted = each * len(clusters)
        self._count = 0
        self._last = 0.0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> _Arrivals:
        for watch in self._watches:
            await self._stack.enter_async_context(watch)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.__aexit__(*error)

    async def rate(self, began: float) -> float:
        """Objects per second from `began` to the last of them, once all are there."""
        await until(lambda: self._count >= self._wanted, f"{self._wanted} objects arrive", ARRIVAL_SECONDS)
        return self._wanted / (self._last - began)

    def _seen(self, at: float, event: str, _: dict[str, Any]) -> None:
        if event == "ADDED":
            self._count += 1
            self._last = at


SCENARIO: Final = Scenario(NAME, run)
