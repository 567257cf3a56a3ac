"""`/healthz`, `/readyz` and `/metrics` over plain HTTP.

Health and readiness answer anybody, in one word or with the names of what fails. Metrics tell names of targets: beyond
this machine they are for callers who may `get` the path `/metrics` upstream, as with Kubernetes' own components.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web

from syncer.errors import SyncError
from syncer.hub.auth import Access, Authenticator, Authorizer
from syncer.metrics import CONTENT_TYPE, Metrics

METRICS_ACCESS: Final = Access("get", path="/metrics")
Check = Callable[[], str]  # "" when well, else what is wrong, in a few words


class Health:
    """Named checks. A check reads state; it never waits."""

    def __init__(self) -> None:
        self.live: dict[str, Check] = {}  # failing: restart the process
        self.ready: dict[str, Check] = {}  # failing: send no work

    def failing(self, checks: Mapping[str, Check]) -> dict[str, str]:
        """{name: what is wrong} of the checks that fail."""
        answers = {name: check() for name, check in checks.items()}
        return {name: problem for name, problem in answers.items() if problem}


def health_app(
    health: Health, metrics: Metrics, *, authenticator: Authenticator | None, authorizer: Authorizer | None
) -> web.Application:
    """The application behind `--http-bind`.

    Args:
        authenticator, authorizer: None where the listener is on a loopback address; then `/metrics` is open.
    """

    def answer(checks: Mapping[str, Check]) -> web.Response:
        failing = health.failing(checks)
        text = "".join(f"{name}: {problem}\n" for name, problem in failing.items())
        return web.Response(status=503 if failing else 200, text=text or "ok\n")

    async def healthz(_: web.Request) -> web.Response:
        return answer(health.live)

    async def readyz(_: web.Request) -> web.Response:
        return answer({**health.live, **health.ready})

    async def show_metrics(request: web.Request) -> web.Response:
        if authenticator is not None and authorizer is not None:
            try:
                user = await authenticator.identify(request)
                if user is None:
                    return web.Response(status=401, text="send a bearer token of the upstream cluster\n")
                if not await authorizer.allows(user, METRICS_ACCESS):
                    return web.Response(status=403, text="needs verb get on the non-resource URL /metrics\n")
            except SyncError:
                return web.Response(status=503, text="the upstream API server does not answer\n")
        body = await asyncio.to_thread(metrics.exposition)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    app = web.Application(client_max_size=4096)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", show_metrics)
    return app
