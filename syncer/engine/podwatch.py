"""Why Pods do not run: asked of a target when a workload there keeps progressing, and told upstream."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import orjson
import structlog

from status.collector import waiting_reason
from status.values import mapping, objects, text
from syncer.api.keys import SyncKey
from syncer.engine.state import Source
from syncer.engine.targets import TargetRuntime
from syncer.engine.world import World
from syncer.errors import SyncError
from syncer.kube.errors import MalformedAnswer
from syncer.kube.objects import ResourceInfo

PATIENCE_SECONDS = 5.0
EVERY_SECONDS = 10.0  # per workload and target
LOOK_SECONDS = 5.0  # for one list of Pods
MAX_PODS = 20
PODS = ResourceInfo("", "v1", "pods", "Pod", True, frozenset(), True, False)

JOBS = ResourceInfo("batch", "v1", "jobs", "Job", True, frozenset(), True, False)
MAX_JOBS = 500  # of a namespace that are looked through for those of one CronJob, which keeps four by itself
_JOB_LABEL = "batch.kubernetes.io/controller-uid"
_UID = re.compile(r"[A-Za-z0-9-]{1,63}")

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
        self._rounds: dict[str, asyncio.Task[None]] = {}  # by target: what looks there now

    def progressing(self, key: SyncKey, is_progressing: bool) -> None:
        """A workload's report says that it is, or is no longer, on its way."""
        if not is_progressing:
            self._due.pop(key, None)
        elif key not in self._due:
            self._due[key] = self._world.clock() + PATIENCE_SECONDS

    async def run(self) -> None:
        """Look once a second at what is due, until cancelled; nothing that a target says ends it."""
        try:
            while True:
                await asyncio.sleep(1.0)
                self.begin()
        finally:
            for task in list(self._rounds.values()):
                task.cancel()

    def begin(self) -> None:
        """Start a round on every ready target where a look is due; a target still at its last round is left alone."""
        now = self._world.clock()
        due: dict[str, list[SyncKey]] = {}
        for key, at in self._due.items():
            target = self._world.targets.get(key.target)
            if at <= now and key.target not in self._rounds and (target is None or target.ready):
                due.setdefault(key.target, []).append(key)
        for name, keys in due.items():
            self._rounds[name] = asyncio.create_task(self._round(name, keys), name=f"pods of {name}")

    async def _round(self, target: str, keys: list[SyncKey]) -> None:
        """Look at workloads of one target, one after the other."""
        try:
            for key in keys:
                if key in self._due:
                    self._due[key] = self._world.clock() + EVERY_SECONDS
                    await self._try_look(key)
        finally:
            del self._rounds[target]

    async def _try_look(self, key: SyncKey) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self.look(key)
        except (SyncError, TimeoutError) as error:
            log.debug("pods not listed", key=str(key), error=str(error) or "no answer in time")
        except Exception:
            log.exception("looking at pods failed", key=str(key))

    async def look(self, key: SyncKey) -> None:
        """List the workload's Pods on the target and note the worst reason why one waits."""
        source, target = self._world.sources.get(key.object), self._world.targets.get(key.target)
        pair = source.pairs.get(key.target) if source is not None else None
        if source is None or pair is None or target is None or target.link is None or source.aggregator is None:
            self._due.pop(key, None)
            return
        found = waiting_reason(await pods_of(source, target, MAX_PODS))
        reason, message = found if found is not None else ("", "")
        if pair.noted[0] != reason:
            pair.noted = reason, self._world.wall()
        if source.aggregator.note(key.target, reason, message):
            self._noted(source, key.target, reason, message)


async def pods_of(source: Source, target: TargetRuntime, limit: int) -> list[dict[str, Any]]:
    """Pods of a workload on one target, by its selector; the object itself if it is a Pod; of a CronJob its Jobs'.

    Raises:
        ApiError: the target refused or could not be asked.
    """
    informer = target.watch(source.key.group_resource)
    item = informer.cache.get((source.key.namespace, source.key.name)) if informer is not None else None
    if item is None or target.link is None:
        return []
    if source.info.kind == "Pod":
        return [item.manifest()]
    if source.info.kind == "CronJob":
        jobs = await _listed(target, JOBS, item.namespace, {"limit": str(MAX_JOBS)})
        uids = [uid for job in jobs for uid in [_made_by(job, item.uid)] if uid]
        selector = f"{_JOB_LABEL} in ({','.join(uids)})" if uids else ""
    else:
        selector = selector_text(item.field("spec", "selector"))
    if not selector:
        return []
    return await _listed(target, PODS, item.namespace, {"labelSelector": selector, "limit": str(limit)})


async def _listed(
    target: TargetRuntime, info: ResourceInfo, namespace: str, params: dict[str, str]
) -> list[dict[str, Any]]:
    assert target.link is not None
    answer = await target.link.client.request("GET", info.path(namespace), params=params)
    try:
        items = orjson.loads(answer.body)["items"] or []
        return [item for item in items if isinstance(item, dict)]
    except (ValueError, TypeError, KeyError) as error:
        raise MalformedAnswer(answer.status, "MalformedAnswer", f"{target.name}: not a list of {info.kind}s") from error


def _made_by(job: dict[str, Any], owner: str) -> str:
    """UID of a Job that this owner made; "" for every other, and for what is no UID."""
    metadata = mapping(job, "metadata")
    owners = [text(reference, "uid") for reference in objects(metadata, "ownerReferences")]
    uid = text(metadata, "uid")
    return uid if owner in owners and _UID.fullmatch(uid) else ""


def selector_text(selector: Any) -> str:
    """A LabelSelector in the text form of list requests; "" where there is none, or something else in its place."""
    if not isinstance(selector, dict):
        return ""
    labels, expressions = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    if not isinstance(labels, dict) or not isinstance(expressions, list):
        return ""
    terms = [f"{key}={value}" if isinstance(value, str) else "" for key, value in labels.items()]
    terms += [_expression_text(expression) for expression in expressions]
    return ",".join(terms) if all(terms) else ""  # a part of a selector would choose other Pods


def _expression_text(expression: Any) -> str:
    """One of `matchExpressions`; "" where it is none."""
    if not isinstance(expression, dict):
        return ""
    key, values = expression.get("key"), expression.get("values") or []
    if not isinstance(key, str) or not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        return ""
    match expression.get("operator"):
        case "In":
            return f"{key} in ({','.join(values)})"
        case "NotIn":
            return f"{key} notin ({','.join(values)})"
        case "Exists":
            return key
        case "DoesNotExist":
            return f"!{key}"
        case _:
            return ""
