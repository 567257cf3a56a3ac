"""Why Pods do not run: asked of a target when a workload there keeps progressing, and told upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import structlog

from status.collector import waiting_reason
from syncer.api.keys import SyncKey
from syncer.engine.state import Source
from syncer.engine.targets import TargetRuntime
from syncer.engine.world import World
from syncer.errors import SyncError
from syncer.kube.objects import ResourceInfo

PATIENCE_SECONDS = 5.0
EVERY_SECONDS = 10.0  # per workload and target
MAX_PODS = 20
PODS = ResourceInfo("", "v1", "pods", "Pod", True, frozenset(), True, False)

log = structlog.get_logger()


class PodWatch:
    """Lists the Pods of workloads that progress for more than 5 s, at most once per 10 s each.

    Args:
        noted: told when a reason was found or went away (source, target, reason, message).
    """

    def __init__(self, world: World, noted: Callable[[Source, str, str, str], None]) -> None:
        self._world = world
        self._noted = noted
        self._due: dict[SyncKey, float] = {}  # monotonic seconds of the next look

    def progressing(self, key: SyncKey, is_progressing: bool) -> None:
        """A workload's report says that it is, or is no longer, on its way."""
        if not is_progressing:
            self._due.pop(key, None)
        elif key not in self._due:
            self._due[key] = self._world.clock() + PATIENCE_SECONDS

    async def run(self) -> None:
        """Look once a second at what is due, until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            now = self._world.clock()
            for key in [key for key, at in self._due.items() if at <= now]:
                self._due[key] = now + EVERY_SECONDS
                try:
                    await self.look(key)
                except SyncError as error:
                    log.debug("pods not listed", key=str(key), error=str(error))

    async def look(self, key: SyncKey) -> None:
        """List the workload's Pods on the target and note the worst reason why one waits."""
        source, target = self._world.sources.get(key.object), self._world.targets.get(key.target)
        if source is None or target is None or target.link is None or source.aggregator is None:
            self._due.pop(key, None)
            return
        found = waiting_reason(await pods_of(source, target, MAX_PODS))
        reason, message = found if found is not None else ("", "")
        if source.aggregator.note(key.target, reason, message):
            self._noted(source, key.target, reason, message)


async def pods_of(source: Source, target: TargetRuntime, limit: int) -> list[dict[str, Any]]:
    """Pods of a workload on one target, by its selector; the object itself if it is a Pod.

    Raises:
        ApiError: the target refused or could not be asked.
    """
    informer = target.watch(source.key.group_resource)
    item = informer.cache.get((source.key.namespace, source.key.name)) if informer is not None else None
    if item is None or target.link is None:
        return []
    if source.info.kind == "Pod":
        return [item.manifest()]
    selector = selector_text(item.field("spec", "selector"))
    if not selector:
        return []
    params = {"labelSelector": selector, "limit": str(limit)}
    answer = await target.link.client.request("GET", PODS.path(item.namespace), params=params)
    return list(orjson.loads(answer.body).get("items") or ())


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector in the text form of list requests; "" where there is none."""
    if not selector:
        return ""
    terms = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for term in selector.get("matchExpressions") or ():
        values = ",".join(term.get("values") or ())
        match term.get("operator"):
            case "In":
                terms.append(f"{term['key']} in ({values})")
            case "NotIn":
                terms.append(f"{term['key']} notin ({values})")
            case "Exists":
                terms.append(term["key"])
            case "DoesNotExist":
                terms.append(f"!{term['key']}")
    return ",".join(terms)
