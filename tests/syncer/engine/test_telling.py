"""What is told of targets in Events."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson

from syncer.engine.downstream import Downstream
from syncer.engine.needs import Needs
from syncer.engine.telling import Telling
from syncer.events import EventRecorder
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.objects import KubeObject, ResourceInfo, decode_object
from syncer.metrics import Metrics
from tests.syncer.engine.worlds import DEPLOYMENTS, Realm


class Server:
    """Takes Events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def create(self, info: ResourceInfo, namespace: str, body: bytes) -> KubeObject:
        self.events.append(orjson.loads(body))
        return decode_object(body)


async def test_a_status_that_is_refused_in_ever_new_words_is_told_once() -> None:
    """Once on the object and once on its placement; else one target could silence the Events of all others."""
    realm = Realm()
    realm.target("east")
    realm.place()
    source = realm.deployment()
    realm.land(source, "east")
    server = Server()
    recorder = EventRecorder(server, Metrics())
    telling = Telling(realm.world, Metrics(), recorder, Needs(realm.world))
    downstream = Downstream(
        realm.world, realm.catalog, lambda *_: None, telling.status_refused, cast(Any, lambda *_: None)
    )
    copy = realm.mirrors["east", DEPLOYMENTS.group_resource].cache["shop", "web"].manifest()
    posting = asyncio.create_task(recorder.run())
    for number in range(2000):
        made = {**copy, "status": {"replicas": -1 - number}}
        downstream.event("east", DEPLOYMENTS, InformerEvent(EventType.MODIFIED, decode_object(orjson.dumps(made))))
        await asyncio.sleep(0)
    posting.cancel()
    assert [(e["reason"], e["regarding"]["kind"]) for e in server.events] == [
        ("InvalidStatus", "Deployment"),
        ("InvalidStatus", "Placement"),
    ]
    assert source.aggregator is not None
    assert "-2000" in source.aggregator.slots()[0].refused, "who asks is told what it says"
