"""What is written of a SyncTarget, and told as an Event."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson

from syncer.api.synctarget import TunnelStatus
from syncer.controllers.reporter import StatusReporter
from syncer.events import EventRecorder
from syncer.metrics import Metrics
from tests.syncer.controllers.harness import NotingEngine
from tests.syncer.controllers.test_status import GOOD, NOW


class Upstream:
    """Takes what is written."""

    def __init__(self) -> None:
        self.statuses: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []

    async def apply(self, *_: Any, **__: Any) -> None:
        self.statuses.append(orjson.loads(_[3])["status"])

    async def create(self, _: Any, __: str, body: bytes) -> None:
        self.events.append(orjson.loads(body))


async def test_two_agents_under_one_name_are_told_once_and_again_when_it_begins_anew() -> None:
    """DuplicateAgent: a condition while it lasts, an Event when it begins."""
    upstream: Any = Upstream()
    metrics = Metrics()
    events = EventRecorder(upstream, metrics)
    posting = asyncio.create_task(events.run())
    reporter = StatusReporter("east", upstream, NotingEngine(), metrics, events, clock=lambda: 0.0, now=lambda: NOW)
    calm = replace(GOOD, tunnel=TunnelStatus(links=1), registration=2)
    for facts in (calm, replace(calm, duplicate=True), replace(calm, duplicate=True), calm):
        await reporter.report(facts, uid="uid-1")
    async with asyncio.timeout(10):
        while not upstream.events:  # noqa: ASYNC110 - posted in the background
            await asyncio.sleep(0.01)
    posting.cancel()
    await asyncio.gather(posting, return_exceptions=True)
    told = [{one["type"]: one["status"] for one in status["conditions"]} for status in upstream.statuses]
    assert [one["DuplicateAgent"] for one in told] == ["False", "True", "False"]
    assert [status["registrationGeneration"] for status in upstream.statuses] == [2, 2, 2]
    assert [status.get("reason", "") for status in upstream.statuses] == ["", "DuplicateAgent", ""]
    (event,) = upstream.events
    assert (event["reason"], event["type"]) == ("DuplicateAgent", "Warning")
    assert event["regarding"] == {
        "apiVersion": "syncline.io/v1alpha1", "kind": "SyncTarget", "name": "east", "uid": "uid-1"
    }  # fmt: skip
