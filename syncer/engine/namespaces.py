"""Namespaces on one target: created when the first object needs one, kept in step, removed when they are empty."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from syncer.api.names import MANAGED_BY_LABEL, Reason
from syncer.api.policy import is_protected
from syncer.engine.situation import Held
from syncer.kube.client import ClusterClient
from syncer.kube.discovery import Discovery
from syncer.kube.errors import Conflict, Forbidden, NotFound
from syncer.kube.objects import KubeObject, ResourceInfo
from syncer.transform.mark import is_ours
from syncer.transform.render import Rendered

NAMESPACES = ResourceInfo("", "v1", "namespaces", "Namespace", False, frozenset(), True, False)
TERMINATING_RETRY_SECONDS = 2.0
_METADATA_LIST = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
# What every namespace holds without anybody's wish; Events and Endpoints follow other objects without naming an owner.
_ALWAYS_THERE = {("configmaps", "kube-root-ca.crt"), ("serviceaccounts", "default")}
_FOLLOWERS = {"events", "endpoints"}

RenderNamespace = Callable[[str], Rendered | None]  # by name; None while the upstream namespace is not known


class NamespaceBook:
    """Which namespaces of one target may be used, and the writes that make them so."""

    def __init__(
        self,
        client: ClusterClient,
        hub_id: str,
        render: RenderNamespace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._hub_id = hub_id
        self._render = render
        self._ready: dict[
            str, str
        ] = {}  # {name: uid of a namespace of ours, "" for one that is not ours but may be used}
        self._clock = clock
        self._problems: dict[str, tuple[Held, float]] = {}  # and when it was found out
        self._closing: dict[str, str] = {}  # {name: uid of a namespace that is being deleted, by us or by others}
        self._flights: dict[str, asyncio.Future[None]] = {}

    def ready(self, name: str) -> bool:
        """True once the namespace is known to be usable."""
        return name in self._ready and name not in self._closing

    def problem(self, name: str) -> Held | None:
        """Why it may not be used, if that was found out; what passes by itself is asked again in its time."""
        if name in self._closing:
            return _leaving(name)
        held, since = self._problems.get(name, (None, 0.0))
        if held is not None and held.retry_seconds is not None and self._clock() >= since + held.retry_seconds:
            del self._problems[name]
            return None
        return held

    def saw(self, found: KubeObject, deleted: bool) -> None:
        """An informer event about a namespace that carries our label."""
        name = found.name
        if deleted:
            if self._closing.get(name) == found.uid:
                del self._closing[name]
            self._problems.pop(name, None)  # what kept others out went with it
            if self._ready.get(name) in (found.uid, ""):
                del self._ready[name]
        elif found.terminating:
            self._ready.pop(name, None)
            self._closing[name] = found.uid
        elif self._closing.get(name) != found.uid:  # else older than the delete that we sent for it
            self._closing.pop(name, None)
            self._ready[name] = found.uid
            self._problems.pop(name, None)

    def forget(self, name: str) -> None:
        """The server said that it is not there."""
        self._ready.pop(name, None)
        self._closing.pop(name, None)
        self._problems.pop(name, None)

    def forget_problems(self) -> None:
        """Look again at what was refused: called at audit and when the target's objects changed owners."""
        self._problems.clear()

    async def ensure(self, name: str) -> None:
        """Create the namespace, or learn whether the existing one may be used; concurrent callers share one request."""
        flight = self._flights.get(name)
        if flight is None:
            flight = asyncio.ensure_future(self._ensure(name))
            self._flights[name] = flight
            flight.add_done_callback(lambda _: self._flights.pop(name, None))
        await asyncio.shield(flight)

    async def _ensure(self, name: str) -> None:
        if is_protected(name):
            self._trouble(name, Held(Reason.PROTECTED_NAMESPACE, f"namespace {name} is protected", failed=True))
            return
        rendered = self._render(name)
        if rendered is None:
            message = f"upstream namespace {name} is not known yet"
            self._trouble(name, Held(Reason.RETRYING, message, retry_seconds=1.0))
            return
        body = dict(rendered.manifest)
        body["metadata"] = {**body["metadata"], "resourceVersion": "1"}
        try:
            created, _ = await self._client.apply(NAMESPACES, "", name, orjson.dumps(body), force=True)
        except Conflict:
            await self._inspect(name)
            return
        self._closing.pop(name, None)
        self._ready[name] = created.uid
        self._problems.pop(name, None)

    async def _inspect(self, name: str) -> None:
        """The namespace exists: whose is it?"""
        try:
            found = await self._client.get(NAMESPACES, "", name)
        except NotFound:
            message = f"namespace {name} is changing"
            self._trouble(name, Held(Reason.RETRYING, message, retry_seconds=TERMINATING_RETRY_SECONDS))
            return
        owner = found.labels.get(MANAGED_BY_LABEL)
        if found.terminating or self._closing.get(name) == found.uid:
            self._trouble(name, _leaving(name))
        elif owner is not None and owner != self._hub_id:
            message = f"namespace {name} belongs to another hub ({owner})"
            self._trouble(name, Held(Reason.NAMESPACE_NOT_OURS, message, failed=True))
        else:
            self._ready[name] = found.uid if is_ours(found, self._hub_id) else ""
            self._problems.pop(name, None)

    def _trouble(self, name: str, held: Held) -> None:
        self._problems[name] = (held, self._clock())

    async def refresh(self, found: KubeObject) -> None:
        """Bring the labels of a namespace that we made to what the upstream one says now."""
        rendered = self._render(found.name)
        if rendered is None or not is_ours(found, self._hub_id):
            return
        wanted = rendered.manifest["metadata"].get("labels") or {}
        if wanted.items() <= found.labels.items() and found.annotations.get("syncline.io/applied") == rendered.hash:
            return
        body = dict(rendered.manifest)
        body["metadata"] = {**body["metadata"], "uid": found.uid}
        try:
            await self._client.apply(NAMESPACES, "", found.name, orjson.dumps(body), force=True)
        except Conflict:
            self.forget(found.name)  # gone or another one: the next object that needs it finds out

    async def remove_if_empty(self, found: KubeObject, discovery: Discovery, needed: Callable[[], bool]) -> str:
        """Delete a namespace of ours in which only our leftovers or the platform's own objects are left.

        Args:
            needed: asked again just before the delete, because the listing takes seconds.
        Returns:
            "" when it was deleted, else what keeps it: the first foreign object, or what may not or cannot be listed.
        Raises:
            ApiError: something could not be listed; unknown is not empty.
        """
        if not is_ours(found, self._hub_id) or found.terminating:
            return "not ours" if not found.terminating else ""
        await discovery.refresh()
        if discovery.stale():
            return f"API group {discovery.stale()[0]} does not answer, so something of it may be in it"
        for info in discovery.resources():
            if not info.namespaced or "list" not in info.verbs:
                continue
            try:
                blocker = await self._first_other(info, found.name, discovery)
            except Forbidden:
                blocker = f"{info.group_resource} may not be listed, so they may be in it"
            if blocker:
                return blocker
        if needed():
            return "it is needed again"
        self._ready.pop(found.name, None)
        self._closing[found.name] = found.uid  # from here on until its DELETED event nothing is put into it
        try:
            await self._client.delete(NAMESPACES, "", found.name, uid=found.uid)
        except BaseException as error:  # not deleted, or nobody knows: whoever needs it asks the server
            self.forget(found.name)
            if not isinstance(error, NotFound | Conflict):
                raise
        return ""

    async def _first_other(self, info: ResourceInfo, namespace: str, discovery: Discovery) -> str:
        """The first object in the namespace that neither follows from others nor is always there."""
        if info.resource in _FOLLOWERS:
            return ""
        params = {"limit": "500"}
        while True:
            answer = await self._client.request("GET", info.path(namespace), params=params, headers=_METADATA_LIST)
            page = orjson.loads(answer.body)
            for item in page.get("items") or ():
                metadata = item["metadata"]
                if (info.resource, metadata["name"]) not in _ALWAYS_THERE and not _follows(metadata, discovery):
                    return f"{info.group_resource}/{metadata['name']}"
            follow = page["metadata"].get("continue")
            if not follow:
                return ""
            params = {"limit": "500", "continue": follow}


def _leaving(name: str) -> Held:
    message = f"namespace {name} is being deleted on the target; it is created again afterwards"
    return Held(Reason.DELETING, message, retry_seconds=TERMINATING_RETRY_SECONDS)


def _follows(metadata: Mapping[str, Any], discovery: Discovery) -> bool:
    """Whether the object goes with another one of its namespace, which is looked at itself; a cluster-scoped owner
    lives on, and its objects are somebody's."""
    owners = metadata.get("ownerReferences") or ()
    infos = [discovery.find(owner["apiVersion"], owner["kind"]) for owner in owners]
    return any(info is not None and info.namespaced for info in infos)
