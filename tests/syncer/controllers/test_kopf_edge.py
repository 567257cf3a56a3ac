"""kopf in its thread: it passes names on, and its end is noticed and mended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from syncer.controllers import kopf_edge
from syncer.controllers.kopf_edge import KopfEdge
from syncer.kube.credentials import ClusterCredentials

GROUPS = {"apiextensions.k8s.io": "v1", "syncline.io": "v1alpha1"}
PLURALS = {"apiextensions.k8s.io": "customresourcedefinitions", "syncline.io": "synctargets"}


def resource(plural: str) -> dict[str, Any]:
    verbs = ["get", "list", "watch", "patch"]
    return {"name": plural, "singularName": plural[:-1], "kind": plural.title(), "namespaced": False, "verbs": verbs}


class Server:
    """As much of an API server as kopf asks for. `say` puts a line on every open watch of SyncTargets."""

    def __init__(self) -> None:
        self.names = ["east"]
        self.lists = 0
        self.unauthorized = 0  # so many lists answer 401
        self.seen_tokens: set[str] = set()
        self._watches: list[asyncio.Queue[bytes]] = []

    async def say(self, event: dict[str, Any]) -> None:
        await until(lambda: self._watches)  # a list may have been answered, and its watch not asked for yet
        for queue in self._watches:
            queue.put_nowait(json.dumps(event).encode() + b"\n")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen_tokens.add(request.headers.get("Authorization", ""))
        path = request.path
        if path == "/apis":
            versions = {name: {"groupVersion": f"{name}/{v}", "version": v} for name, v in GROUPS.items()}
            groups = [{"name": name, "versions": [v], "preferredVersion": v} for name, v in versions.items()]
            return web.json_response({"groups": groups})
        if path == "/api":
            return web.json_response({"versions": ["v1"]})
        if path == "/api/v1":
            return web.json_response({"resources": [resource("namespaces")]})
        if path.count("/") == 3:
            return web.json_response({"resources": [resource(PLURALS[path.split("/")[2]])]})
        if "watch" in request.query:
            return await self._watch(request, keep=path.endswith("/synctargets"))
        if path.endswith("/customresourcedefinitions"):
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        if path.endswith("/synctargets"):
            if self.unauthorized:
                self.unauthorized -= 1
                return web.json_response({"kind": "Status", "code": 401}, status=401)
            self.lists += 1
            items = [{"metadata": {"name": name, "uid": name, "resourceVersion": "1"}} for name in self.names]
            return web.json_response({"kind": "SyncTargetList", "metadata": {"resourceVersion": "1"}, "items": items})
        return web.json_response({"kind": "Status", "code": 404}, status=404)

    async def _watch(self, request: web.Request, *, keep: bool) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        watches = self._watches if keep else []
        watches.append(queue)
        try:
            while True:
                await response.write(await queue.get())
        finally:
            watches.remove(queue)


@asynccontextmanager
async def running(server: Server, tmp_path: Any) -> AsyncIterator[tuple[KopfEdge, list[str]]]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    config = tmp_path / "kubeconfig"
    config.write_text(
        json.dumps(
            {
                "current-context": "x",
                "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
                "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "x", "user": {"token": "t0ken"}}],
            }
        )
    )
    heard: list[str] = []
    edge = KopfEdge(
        credentials=lambda: ClusterCredentials.from_kubeconfig(config),
        admission=None,
        loop=asyncio.get_running_loop(),
    )
    edge.follow(heard.append)
    edge.start()
    try:
        yield edge, heard
    finally:
        await edge.stop()
        await runner.cleanup()


async def until(check: Any, seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110 - what happens in the other thread sets no event here
            await asyncio.sleep(0.02)


async def test_names_of_known_new_and_deleted_targets_are_passed_on(tmp_path: Any) -> None:
    server = Server()
    async with running(server, tmp_path) as (edge, heard):
        await until(lambda: heard == ["east"])
        await server.say(
            {"type": "ADDED", "object": {"metadata": {"name": "west", "uid": "w", "resourceVersion": "2"}}}
        )
        await until(lambda: heard == ["east", "west"])
        await server.say(
            {"type": "DELETED", "object": {"metadata": {"name": "west", "uid": "w", "resourceVersion": "3"}}}
        )
        await until(lambda: heard == ["east", "west", "west"])
        assert edge.problem == ""
    assert server.seen_tokens == {"Bearer t0ken"}


async def test_an_error_event_in_the_stream_ends_kopf_and_it_is_started_again(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F03: any ERROR but 410 ends a kopf operator; the process is not ready until it runs again."""
    monkeypatch.setattr(kopf_edge, "FIRST_PAUSE_SECONDS", 0.3)
    server = Server()
    async with running(server, tmp_path) as (edge, heard):
        await until(lambda: heard == ["east"])
        await server.say({"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcd is on fire"}})
        await until(lambda: edge.problem)
        assert "ended" in edge.problem
        assert edge.dead == ""
        await until(lambda: heard == ["east", "east"])
        await until(lambda: edge.problem == "")


async def test_who_follows_later_hears_of_the_targets_that_are_there(tmp_path: Any) -> None:
    """A term begins long after kopf: it is told every known name at once, and nothing of what went before."""
    server = Server()
    async with running(server, tmp_path) as (edge, heard):
        await until(lambda: heard)
        await server.say(
            {"type": "ADDED", "object": {"metadata": {"name": "west", "uid": "w", "resourceVersion": "2"}}}
        )
        await server.say(
            {"type": "DELETED", "object": {"metadata": {"name": "east", "uid": "east", "resourceVersion": "3"}}}
        )
        await until(lambda: heard.count("east") == 2)
        later: list[str] = []
        edge.follow(later.append)
        assert later == ["west"]
        edge.follow(None)
        await server.say(
            {"type": "ADDED", "object": {"metadata": {"name": "north", "uid": "n", "resourceVersion": "4"}}}
        )
        again: list[str] = []
        await until(lambda: edge._targets == {"west", "north"})
        edge.follow(again.append)
        assert again == ["north", "west"]
        assert later == ["west"]


async def test_a_pause_after_a_failure_ends_when_somebody_was_elected(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream answers then, so there is no reason to leave admission unserved for longer."""
    monkeypatch.setattr(kopf_edge, "FIRST_PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(kopf_edge, "LONGEST_PAUSE_SECONDS", 60.0)
    server = Server()
    async with running(server, tmp_path) as (edge, heard):
        await until(lambda: heard == ["east"])
        await server.say({"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcd is on fire"}})
        await until(lambda: edge.problem)
        lists = server.lists

        def elected() -> bool:
            edge.follow(heard.append)
            return server.lists > lists

        await until(elected)


async def test_a_401_makes_kopf_log_in_again(tmp_path: Any) -> None:
    server = Server()
    server.unauthorized = 1
    async with running(server, tmp_path) as (_, heard):
        await until(lambda: heard == ["east"])


async def test_nothing_is_left_after_stopping(tmp_path: Any) -> None:
    """P18: thread and connections are gone; stopping twice and stopping what never started are fine."""
    server = Server()
    async with running(server, tmp_path) as (edge, heard):
        await until(lambda: heard)
        await edge.stop()
        assert not edge._thread.is_alive()
        await until(lambda: not server._watches)
    never = KopfEdge(
        credentials=lambda: pytest.fail("never asked"),
        admission=None,
        loop=asyncio.get_running_loop(),
    )
    assert never.problem
    await never.stop()


def test_neither_kubernetes_nor_rich_is_in_the_operators_memory() -> None:
    """kopf and structlog load them when they find them; 23 MiB."""
    import subprocess
    import sys

    code = "import syncer.operator, syncer.leading, sys; print([m for m in ('kubernetes', 'rich') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "[]"
