"""Targets that are busy, and targets where something rewrites what we wrote, with the whole engine on real servers."""

from __future__ import annotations

import base64
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from deploy.local.fleet import Fleet
from syncer.hub.certificates import issue_server, load_pair, make_authority, server_context
from syncer.kube.client import ClusterClient, Response
from syncer.kube.errors import TooManyRequests
from syncer.serving import clean_up
from tests.support.engine import Running, config_map, placement, quiet, running_engine, writes

CONFIG_MAPS = [{"apiVersion": "v1", "kind": "ConfigMap", "names": ["c-*"]}]
PAUSE_SECONDS = 1.0


class Busy(ClusterClient):
    """A client whose server answers 429 to everything until `until` (monotonic seconds)."""

    until = 0.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.refused: dict[str, list[float]] = {}  # {write: when it was refused}

    async def request(self, method: str, path: str, **options: Any) -> Response:
        now = time.monotonic()
        if now < self.until:
            if method != "GET":
                self.refused.setdefault(f"{method} {path}", []).append(now)
            raise TooManyRequests(429, "TooManyRequests", "busy", retry_after_seconds=PAUSE_SECONDS)
        return await super().request(method, path, **options)


async def value_everywhere(run: Running, cluster: str, namespace: str, value: str) -> None:
    for number in range(10):
        await run.until(
            cluster, "configmap", f"c-{number}", namespace, lambda o: o["data"] == {"value": value}, f"at {value}", 30
        )


async def test_a_busy_target_is_asked_as_seldom_as_it_says_and_delays_nobody(fleet: Fleet, namespace: str) -> None:
    """F37, P12, P13: 429 with Retry-After to everything, while objects change; then it has them all, once."""
    async with running_engine(fleet, make_client=Busy) as run:
        await run.apply(
            placement("all", namespace, run.targets.values(), CONFIG_MAPS),
            *(config_map(f"c-{number}", namespace, value="1") for number in range(10)),
        )
        for cluster in ("east", "west"):
            await value_everywhere(run, cluster, namespace, "1")
        await quiet(run)
        east = run.clients["east"]
        assert isinstance(east, Busy)
        east.until = time.monotonic() + 600
        await run.apply(*(config_map(f"c-{number}", namespace, value="2") for number in range(10)))
        await value_everywhere(run, "west", namespace, "2")
        await run.until("upstream", "placement", "all", namespace, lambda _: len(east.refused) > 0, "refused")
        found = await run.get("east", "configmap", "c-0", namespace)
        assert found is not None
        assert found["data"] == {"value": "1"}
        east.until = time.monotonic() + 3 * PAUSE_SECONDS
        before = writes(run, "downstream")
        await value_everywhere(run, "east", namespace, "2")
        await quiet(run)
        gaps = [later - one for times in east.refused.values() for one, later in itertools.pairwise(times)]
        assert all(gap >= PAUSE_SECONDS for gap in gaps)
        assert writes(run, "downstream", "delete") == 0
        assert writes(run, "downstream") - before <= 10 + sum(map(len, east.refused.values()))


@contextlib.asynccontextmanager
async def stubborn_webhook(run: Running, cluster: str, namespace: str) -> AsyncIterator[list[str]]:
    """A mutating webhook that sets `data.value` of every ConfigMap in the namespace to `theirs`; yields what it saw."""
    authority = make_authority(now=datetime.now(UTC))
    context = server_context(client_certificates=False)
    load_pair(context, issue_server(authority, ["127.0.0.1"], now=datetime.now(UTC)))
    seen: list[str] = []

    async def rewrite(request: web.Request) -> web.Response:
        review = (await request.json())["request"]
        seen.append(str(review["object"]["metadata"]["name"]))
        patch = base64.b64encode(orjson.dumps([{"op": "replace", "path": "/data/value", "value": "theirs"}])).decode()
        answer = {"uid": review["uid"], "allowed": True, "patchType": "JSONPatch", "patch": patch}
        body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
        return web.json_response(body)

    app = web.Application()
    app.router.add_post("/", rewrite)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        url = f"https://127.0.0.1:{runner.addresses[0][1]}/"
        await run.apply(_configuration(namespace, url, authority.certificate), cluster=cluster)
        yield seen
    finally:
        await run.kubectl(cluster, "delete", "mutatingwebhookconfiguration", namespace, "--ignore-not-found")
        await clean_up(runner)


def _configuration(namespace: str, url: str, ca_bundle: bytes) -> Mapping[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}
    webhook = {
        "name": "stubborn.example.com",
        "clientConfig": {"url": url, "caBundle": base64.b64encode(ca_bundle).decode()},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "matchConditions": [{"name": "ours", "expression": "has(object.data) && 'value' in object.data"}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    api = "admissionregistration.k8s.io/v1"
    metadata = {"name": namespace}
    return {"apiVersion": api, "kind": "MutatingWebhookConfiguration", "metadata": metadata, "webhooks": [webhook]}


async def test_a_webhook_that_rewrites_a_field_each_time_is_not_fed(fleet: Fleet, namespace: str) -> None:
    """F39, P12: it gets few writes to rewrite, and none more because of other objects or of its own rewriting."""
    async with running_engine(fleet, ("east",)) as run:
        await run.kubectl("east", "create", "namespace", namespace)
        async with stubborn_webhook(run, "east", namespace) as seen:
            await run.apply(
                placement("all", namespace, run.targets.values(), CONFIG_MAPS),
                config_map("c-fought", namespace, value="ours"),
                config_map("c-calm", namespace, other="1"),
            )
            await run.until(
                "east", "configmap", "c-fought", namespace, lambda o: o["data"]["value"] == "theirs", "made"
            )
            await run.until("east", "configmap", "c-calm", namespace, lambda o: o["data"], "made")
            await quiet(run, 2)
            attempts = seen.count("c-fought")
            assert 1 <= attempts <= 10
            await run.apply(config_map("c-calm", namespace, other="2"))
            await run.until("east", "configmap", "c-calm", namespace, lambda o: o["data"] == {"other": "2"}, "changed")
            await quiet(run)
            assert seen.count("c-fought") == attempts
