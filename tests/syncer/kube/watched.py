"""An informer on the fake server, with everything it told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.client import ClusterClient
from syncer.kube.informer import Informer
from tests.support.fakeapi import CONFIGMAPS, FakeApi, configmap


class Watched:
    """An informer on the fake server, with everything it told."""

    def __init__(
        self, api: FakeApi, client: ClusterClient, *, slow_handler_seconds: float = 0.0, **options: Any
    ) -> None:
        self.api = api
        self.slow_handler_seconds = slow_handler_seconds  # how long each event keeps the loop busy
        self.events: list[InformerEvent] = []
        self.delays: list[float] = []
        self.rewound: list[bool] = []  # as seen by each DELETED
        self.broken = False

        async def sleep(seconds: float) -> None:
            self.delays.append(seconds)
            await asyncio.sleep(min(seconds, 0.01))

        options = {"rng": random.Random(7), "sleep": sleep, "inactivity_seconds": 30.0, **options}
        self.informer = Informer(client, CONFIGMAPS, on_event=self._told, **options)
        self.task = self.informer.start("informer")

    def _told(self, event: InformerEvent) -> None:
        self.events.append(event)
        if self.slow_handler_seconds:
            time.sleep(self.slow_handler_seconds)
        if event.type is EventType.DELETED:
            self.rewound.append(self.informer.rewound)
        if self.broken:
            raise RuntimeError("a handler with a bug")

    def told(self, *types: str) -> list[tuple[str, str]]:
        """(type, name) of the events of these types; all that carry an object by default."""
        chosen = types or ("ADDED", "MODIFIED", "DELETED")
        return [(e.type.value, e.object.name if e.object else "") for e in self.events if e.type in chosen]

    def names(self) -> list[str]:
        return sorted(name for _, name in self.informer.cache)

    def value(self, name: str) -> Any:
        return self.informer.cache[("shop", name)].field("data", "x")

    async def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition():
            assert not self.task.done() or self.task.cancelled(), self.task
            assert asyncio.get_running_loop().time() < deadline, (
                self.events[-5:],
                self.informer.error,
                self.informer.statistics(),
            )
            await asyncio.sleep(0.002)

    async def synced(self) -> Watched:
        await self.until(lambda: self.informer.synced and self.informer.fresh and self.api.open_watches > 0)
        return self

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


Start = Callable[..., Watched]


def put(api: FakeApi, *names: str, x: str = "1", **labels: str) -> None:
    for name in names:
        api.put(CONFIGMAPS, configmap(name, labels=labels, x=x))
