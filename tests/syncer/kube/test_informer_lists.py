"""Complete lists of a mirror: lies, breaks, restores, and the order in which their objects are told."""

from __future__ import annotations

import asyncio
from functools import partial

import orjson
import pytest

from syncer.kube import informer as module
from syncer.kube.changes import EventType
from syncer.kube.client import ClusterClient
from syncer.kube.informer import Informer
from tests.support.fakeapi import CONFIGMAPS, FakeApi, Scripted, configmap, failure
from tests.syncer.kube.watched import Start, put


async def test_lost_events_are_healed_by_the_audit(api: FakeApi, start: Start) -> None:
    """F04: one MODIFIED and one DELETED never arrive."""
    put(api, "a", "b")
    watched = await start(audit_seconds=0.3).synced()
    api.drop.extend(["MODIFIED", "DELETED"])
    put(api, "a", x="2")
    api.remove(CONFIGMAPS, "shop", "b")
    await watched.until(lambda: watched.names() == ["a"] and watched.value("a") == "2")
    gone = next(e for e in watched.events if e.type is EventType.DELETED)
    assert gone.proof == "relist"
    assert watched.told("ERROR") == []


@pytest.mark.usefixtures("way")
async def test_an_audit_that_finds_nothing_tells_nothing(api: FakeApi, start: Start) -> None:
    """P5: and the cached objects stay the very same ones."""
    put(api, "a", "b")
    watched = await start().synced()
    before = watched.informer.cache[("shop", "a")]
    told = len(watched.told())
    watched.informer.audit_soon()
    await watched.until(lambda: watched.told("RELISTED") != [] and watched.informer.fresh)
    assert len(watched.told()) == told
    assert watched.informer.cache[("shop", "a")] is before
    assert watched.told("ERROR") == []


async def test_an_audit_that_fails_leaves_the_watch_alone(api: FakeApi, start: Start) -> None:
    """F11."""
    put(api, "a")
    watched = await start().synced()
    api.answer_next("stream", failure(500))
    watched.informer.audit_soon()
    await watched.until(lambda: api.count("watch") == 1 and watched.informer.fresh)
    put(api, "b")
    await watched.until(lambda: watched.names() == ["a", "b"])
    assert watched.informer.statistics().lists == 1
    assert watched.told("ERROR", "DELETED") == []


async def test_a_list_that_lies_empty_is_asked_again(api: FakeApi, start: Start, way: str) -> None:
    """F10: no delete follows from one empty answer."""
    put(api, *(f"n{i}" for i in range(20)))
    watched = await start().synced()
    api.empty_lists = 1
    watched.informer.audit_soon()
    await watched.until(lambda: watched.informer.statistics().lists == 2 and watched.informer.fresh)
    assert watched.told("DELETED") == []
    assert len(watched.informer.cache) == 20
    assert api.count("list") == (3 if way == "pages" else 1)


async def test_a_list_that_is_empty_twice_is_a_conclusion_not_an_observation(api: FakeApi, start: Start) -> None:
    """F10: the deletes say that a list is all they rest on."""
    put(api, *(f"n{i}" for i in range(20)))
    watched = await start().synced()
    api.empty_lists = 2
    watched.informer.audit_soon()
    await watched.until(lambda: len(watched.told("DELETED")) == 20)
    assert {e.proof for e in watched.events if e.type is EventType.DELETED} == {"relist"}


@pytest.mark.parametrize(
    "second", [failure(410, "Expired"), failure(500), Scripted(200, b'{"kind":"ConfigMapList","metadata":{}}')]
)
async def test_a_list_that_breaks_off_is_not_used(
    api: FakeApi, start: Start, monkeypatch: pytest.MonkeyPatch, second: Scripted
) -> None:
    """F11."""
    monkeypatch.setattr(module, "PAGE_SIZE", 2)
    api.refuse_streams = True
    put(api, *"abcde")
    api.answer_next("page", second)
    watched = start()
    await watched.until(lambda: watched.told("ERROR") != [])
    assert watched.names() == []
    assert not watched.informer.synced
    await watched.synced()
    assert watched.names() == list("abcde")


async def test_a_truncated_page_deletes_nothing(api: FakeApi, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """F11."""
    monkeypatch.setattr(module, "PAGE_SIZE", 2)
    api.refuse_streams = True
    put(api, *"abcde")
    watched = await start().synced()
    body = orjson.dumps(
        {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "999"}, "items": []}
    )
    api.answer_next("page", Scripted(200, body, cut_after=len(body) - 5), Scripted(200, body[:-5]))
    for _ in range(2):
        watched.informer.audit_soon()
        watches = api.count("watch")
        await watched.until(lambda seen=watches: api.count("watch") > seen and watched.informer.fresh)  # type: ignore[misc]
    assert watched.names() == list("abcde")
    assert watched.told("DELETED") == []
    assert watched.informer.statistics().lists == 1


async def test_a_refused_stream_is_remembered_for_the_cluster_and_kind(
    api: FakeApi, client: ClusterClient, start: Start
) -> None:
    """F14."""
    api.refuse_streams = True
    put(api, "a")
    await start().synced()
    await start().synced()
    assert api.count("stream") == 1
    assert client.refused_streams == {CONFIGMAPS.group_resource}


async def test_a_stream_without_end_falls_back_to_pages(
    api: FakeApi, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F14: within 30 s."""
    assert module.STREAM_PATIENCE_SECONDS < 30
    monkeypatch.setattr(module, "STREAM_PATIENCE_SECONDS", 0.1)
    api.endless_streams = True
    put(api, "a")
    watched = await start().synced()
    assert (watched.names(), api.count("stream"), api.count("list")) == (["a"], 1, 1)


async def test_an_error_while_streaming_the_list_is_no_refusal(
    api: FakeApi, client: ClusterClient, start: Start
) -> None:
    put(api, "a")
    line = orjson.dumps({"type": "ERROR", "object": {"code": 503}}) + b"\n"
    api.answer_next("stream", failure(503), Scripted(200, line), Scripted(200, b""))
    watched = await start().synced()
    assert watched.names() == ["a"]
    assert api.count("stream") == 4
    assert client.refused_streams == set()


async def test_a_server_restored_from_a_backup_is_noticed(api: FakeApi, start: Start) -> None:
    """F09: versions went back; what is missing may only be forgotten."""
    put(api, "a")
    backup = (api.version, dict(api.objects))
    watched = await start(inactivity_seconds=0.2).synced()
    put(api, "b")
    await watched.until(lambda: watched.names() == ["a", "b"])
    assert not watched.informer.rewound
    api.silent = True
    api.restore(*backup)
    await watched.until(lambda: watched.names() == ["a"])
    rewound_before_told = watched.informer.rewound
    assert rewound_before_told
    api.silent = False
    await watched.synced()
    assert watched.informer.rewound


async def test_a_rewind_is_known_before_its_deletes_are_told(api: FakeApi, start: Start) -> None:
    """F09, P3."""
    put(api, "a", "b")
    watched = await start(inactivity_seconds=0.1).synced()
    api.restore(50, {})
    await watched.until(lambda: len(watched.told("DELETED")) == 2)
    assert watched.rewound == [True, True]


def _listed(informer: Informer, times: int) -> bool:
    return informer.statistics().lists >= times and informer.fresh


async def test_what_a_handler_failed_at_is_told_again_at_the_next_list(api: FakeApi, start: Start) -> None:
    put(api, "a", "b")
    watched = await start().synced()
    watched.broken = True
    put(api, "c")
    api.remove(CONFIGMAPS, "shop", "a")
    await watched.until(lambda: watched.names() == ["b", "c"])
    watched.broken = False
    watched.events.clear()
    for lists in (2, 3):
        watched.informer.audit_soon()
        await watched.until(partial(_listed, watched.informer, lists))
    assert watched.told() == [("ADDED", "c"), ("DELETED", "a")]  # and not at the list after it


async def test_telling_of_a_long_list_is_not_cut_off_by_the_patience_with_the_server(
    api: FakeApi, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STREAM_PATIENCE_SECONDS", 0.4)
    monkeypatch.setattr(module, "_BATCH", 1)
    names = [f"n{number:02}" for number in range(12)]
    put(api, *names)
    watched = start(slow_handler_seconds=0.05)
    await watched.synced()
    assert watched.told() == [("ADDED", name) for name in names]
    assert watched.informer.statistics().lists == 1


async def test_synced_comes_after_the_last_object_was_told(api: FakeApi, start: Start) -> None:
    """P3: who hears of objects must know all of them before anybody may believe in an absence."""
    for number in range(600):
        api.put(CONFIGMAPS, configmap(f"c{number:03}"))
    watched = start()
    early: list[int] = []
    while not watched.informer.synced:
        early.append(len(watched.events))
        await asyncio.sleep(0)
    assert len(watched.events) >= 600
    assert any(0 < count < 600 for count in early)  # others had a turn in the middle of the telling
