"""A small API server for lists and watches that lies on command.

It keeps objects in memory, counts versions, pages, streams, sends bookmarks and compacts like the real one. It differs:

- It lies only when told to: see the fields of `FakeApi` under "lies", and `answer_next`.
- It authenticates nobody, validates nothing, applies no defaults and knows no managed fields; writes come from the
  test itself (`put`, `remove`), never over HTTP. Beyond lists, watches and scripted answers everything is a 404.
- Label selectors know `key=value` pairs only; field selectors are ignored.
- Bookmarks come when the test says so (`bookmark`), not once a minute.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from syncer.kube.objects import INITIAL_EVENTS_END, ResourceInfo

CONFIGMAPS = ResourceInfo("", "v1", "configmaps", "ConfigMap", True)
DEPLOYMENTS = ResourceInfo("apps", "v1", "deployments", "Deployment", True, has_status=True, has_scale=True)

Manifest = dict[str, Any]


class Recorded(NamedTuple):
    """One request as it arrived."""

    verb: str  # list, stream (a watch that asks for initial events), watch, or the HTTP method
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Scripted:
    """One answer instead of the true one."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # announce the whole body, send this many bytes, break the connection


@dataclass
class _Watcher:
    queue: asyncio.Queue[bytes | None]
    info: ResourceInfo
    namespace: str
    selector: str


class FakeApi:
    """Serves `resources` at `url` between `start` and `stop`."""

    def __init__(self, *resources: ResourceInfo) -> None:
        self.resources = list(resources or (CONFIGMAPS, DEPLOYMENTS))
        self.version = 100
        self.compacted = 0  # watches from below it answer 410
        self.objects: dict[tuple[str, str, str], Manifest] = {}  # {(resource, namespace, name)}
        self.requests: list[Recorded] = []
        self.url = ""
        # Lies.
        self.refuse_streams = False  # 422, as a server without WatchList
        self.endless_streams = False  # never sends the bookmark that ends the initial events
        self.silent = False  # watches stay open; nothing is ever sent, and what happens meanwhile is lost on them
        self.held = False  # watches stay open; what happens meanwhile comes after `release`
        self.drop: deque[str] = deque()  # types of events that get lost, each once
        self.empty_lists = 0  # this many lists and streams show no objects at all
        self._history: list[tuple[int, str, ResourceInfo, Manifest]] = []
        self._kept_back: list[tuple[str, ResourceInfo, Manifest]] = []
        self._scripts: dict[str, deque[Scripted]] = {}
        self._watchers: list[_Watcher] = []
        self._pages: dict[str, tuple[list[Manifest], int]] = {}
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> FakeApi:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def stop(self) -> None:
        self.close_watches()
        if self._runner is not None:
            await self._runner.cleanup()

    # What happens in the cluster.

    def put(self, info: ResourceInfo, manifest: Manifest) -> Manifest:
        """Create or replace one object; sets uid and version."""
        manifest = copy.deepcopy(manifest)
        metadata = manifest["metadata"]
        key = (info.resource, metadata.get("namespace", ""), metadata["name"])
        known = self.objects.get(key)
        self.version += 1
        metadata["uid"] = known["metadata"]["uid"] if known else f"uid-{self.version}"
        metadata["resourceVersion"] = str(self.version)
        self.objects[key] = {"apiVersion": info.api_version, "kind": info.kind, **manifest}
        self._happened("MODIFIED" if known else "ADDED", info, self.objects[key])
        return self.objects[key]

    def remove(self, info: ResourceInfo, namespace: str, name: str) -> None:
        """Delete one object."""
        gone = copy.deepcopy(self.objects.pop((info.resource, namespace, name)))
        self.version += 1
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._happened("DELETED", info, gone)

    def compact(self) -> None:
        """Forget all history: every older version answers 410."""
        self.compacted = self.version
        self._history.clear()

    def restore(self, version: int, objects: Mapping[tuple[str, str, str], Manifest]) -> None:
        """Come back from a backup: an older version and older objects; watches break."""
        self.version = version
        self.objects = dict(objects)
        self._history.clear()
        self.compacted = 0
        self.close_watches()

    # Lies and accidents.

    def answer_next(self, verb: str, *answers: Scripted) -> None:
        """Answer the next requests of one verb with these; verb `page` is a list that continues."""
        self._scripts.setdefault(verb, deque()).extend(answers)

    def say(self, line: bytes) -> None:
        """Put a line into every open watch."""
        for watcher in self._watchers:
            watcher.queue.put_nowait(line + b"\n")

    def say_error(self, code: int, reason: str = "", message: str = "") -> None:
        status = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}
        self.say(orjson.dumps({"type": "ERROR", "object": status}))

    def bookmark(self) -> None:
        self.say(self._bookmark(self.resources[0]))

    def replay(self, count: int) -> None:
        """Send the last events once more."""
        for _, kind, info, manifest in self._history[-count:]:
            self._send(kind, info, manifest)

    def release(self) -> None:
        """End of `held`: what was kept back is sent in order."""
        self.held = False
        for event in self._kept_back:
            self._send(*event)
        self._kept_back.clear()

    def close_watches(self) -> None:
        for watcher in self._watchers:
            watcher.queue.put_nowait(None)

    def count(self, verb: str) -> int:
        """How many requests of one verb came in."""
        return sum(recorded.verb == verb for recorded in self.requests)

    @property
    def open_watches(self) -> int:
        return len(self._watchers)

    # Serving.

    def _happened(self, kind: str, info: ResourceInfo, manifest: Manifest) -> None:
        self._history.append((self.version, kind, info, manifest))
        if self.drop and self.drop[0] == kind:
            self.drop.popleft()
        elif self.held:
            self._kept_back.append((kind, info, manifest))
        elif not self.silent:
            self._send(kind, info, manifest)

    def _send(self, kind: str, info: ResourceInfo, manifest: Manifest) -> None:
        for watcher in self._watchers:
            if watcher.info == info and _selected(manifest, watcher.namespace, watcher.selector):
                watcher.queue.put_nowait(_event(kind, manifest))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        found = self._find(request.path)
        query = request.query
        verb = request.method
        if found is not None and verb == "GET":
            watching = query.get("watch") in ("true", "1")
            verb = (
                "stream"
                if "sendInitialEvents" in query
                else "watch"
                if watching
                else "page"
                if "continue" in query
                else "list"
            )
        body = await request.read()
        self.requests.append(Recorded(verb, request.path, dict(query), dict(request.headers), body))
        script = self._scripts.get(verb)
        if script:
            return await self._scripted(request, script.popleft())
        if found is None or verb not in ("stream", "watch", "list", "page"):
            return _status(404, "", "the server could not find the requested resource")
        info, namespace = found
        if verb in ("list", "page"):
            return self._list(info, namespace, query)
        return await self._watch(request, info, namespace, initial=verb == "stream")

    def _find(self, path: str) -> tuple[ResourceInfo, str] | None:
        for info in self.resources:
            if path == info.path():
                return info, ""
            parts = path.split("/")
            if info.namespaced and len(parts) > 3 and parts[-3] == "namespaces" and path == info.path(parts[-2]):
                return info, parts[-2]
        return None

    def _list(self, info: ResourceInfo, namespace: str, query: Mapping[str, str]) -> web.Response:
        token, limit = query.get("continue", ""), int(query.get("limit", "0"))
        if token:
            rest, version = self._pages.pop(token)
        else:
            rest, version = self._visible(info, namespace, query.get("labelSelector", "")), self.version
        items, rest = (rest[:limit], rest[limit:]) if limit else (rest, [])
        metadata: Manifest = {"resourceVersion": str(version)}
        if rest:
            metadata["continue"] = f"token-{len(self._pages)}-{len(rest)}"
            self._pages[metadata["continue"]] = (rest, version)
        bare = [{key: value for key, value in item.items() if key not in ("apiVersion", "kind")} for item in items]
        page = {"kind": f"{info.kind}List", "apiVersion": info.api_version, "metadata": metadata, "items": bare}
        return web.Response(body=orjson.dumps(page), content_type="application/json")

    def _visible(self, info: ResourceInfo, namespace: str, selector: str) -> list[Manifest]:
        if self.empty_lists:
            self.empty_lists -= 1
            return []
        return [
            m
            for (resource, _, _), m in self.objects.items()
            if resource == info.resource and _selected(m, namespace, selector)
        ]

    async def _watch(
        self, request: web.Request, info: ResourceInfo, namespace: str, *, initial: bool
    ) -> web.StreamResponse:
        selector, since = request.query.get("labelSelector", ""), request.query.get("resourceVersion", "")
        if initial and self.refuse_streams:
            return _status(422, "Invalid", "sendInitialEvents: Forbidden: not enabled")
        if since and int(since) < self.compacted:
            return _status(410, "Expired", f"too old resource version: {since}")
        watcher = _Watcher(asyncio.Queue(), info, namespace, selector)
        first = self._first(info, namespace, selector, since, initial=initial)
        self._watchers.append(watcher)
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await answer.prepare(request)
            for line in first:
                await answer.write(line)
            while (piece := await watcher.queue.get()) is not None:
                await answer.write(piece)
        except ConnectionError:
            return answer  # the client went away
        finally:
            self._watchers.remove(watcher)
        return answer

    def _first(self, info: ResourceInfo, namespace: str, selector: str, since: str, *, initial: bool) -> list[bytes]:
        """What a new watch gets before anything else happens."""
        if initial:
            lines = [_event("ADDED", m) for m in self._visible(info, namespace, selector)]
            return lines if self.endless_streams else [*lines, self._bookmark(info, end=True) + b"\n"]
        if self.silent or self.held:
            return []
        past: Callable[[int, ResourceInfo], bool] = lambda version, kind: version > int(since or 0) and kind == info  # noqa: E731
        return [_event(kind, m) for v, kind, i, m in self._history if past(v, i) and _selected(m, namespace, selector)]

    def _bookmark(self, info: ResourceInfo, *, end: bool = False) -> bytes:
        metadata: Manifest = {"resourceVersion": str(self.version), "creationTimestamp": None}
        if end:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        return orjson.dumps(
            {"type": "BOOKMARK", "object": {"kind": info.kind, "apiVersion": info.api_version, "metadata": metadata}}
        )

    async def _scripted(self, request: web.Request, script: Scripted) -> web.StreamResponse:
        if script.cut_after is None:
            return web.Response(
                status=script.status, body=script.body, headers=script.headers, content_type="application/json"
            )
        answer = web.StreamResponse(status=script.status, headers=script.headers)
        answer.content_length = len(script.body)
        await answer.prepare(request)
        await answer.write(script.body[: script.cut_after])
        assert request.transport is not None
        request.transport.close()
        return answer


def _event(kind: str, manifest: Manifest) -> bytes:
    return orjson.dumps({"type": kind, "object": manifest}) + b"\n"


def _selected(manifest: Manifest, namespace: str, selector: str) -> bool:
    labels = manifest["metadata"].get("labels", {})
    wanted = (pair.partition("=") for pair in selector.split(",") if pair)
    return (not namespace or manifest["metadata"].get("namespace") == namespace) and all(
        labels.get(key) == value for key, _, value in wanted
    )


def _status(code: int, reason: str, message: str) -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}
    return web.Response(status=code, body=orjson.dumps(status), content_type="application/json")


def failure(code: int, reason: str = "", message: str = "scripted", **headers: str) -> Scripted:
    """A `Status` answer; keyword arguments are headers, `Retry_After="7"`."""
    status = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}
    return Scripted(code, orjson.dumps(status), {name.replace("_", "-"): value for name, value in headers.items()})


def configmap(name: str, namespace: str = "shop", *, labels: Mapping[str, str] | None = None, **data: str) -> Manifest:
    """A ConfigMap without server-set fields."""
    return {"metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})}, "data": data}
