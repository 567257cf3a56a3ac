"""What servers and networks do to a mirror, one fault at a time, against a fake server that lies on command."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import orjson
import pytest

from syncer.kube import informer as module
from syncer.kube.changes import EventType, split_lines
from syncer.kube.client import ClusterClient
from syncer.kube.errors import MalformedAnswer
from syncer.kube.informer import Informer
from tests.support.fakeapi import CONFIGMAPS, FakeApi, Scripted, configmap, failure
from tests.syncer.kube.watched import Start, put


@pytest.mark.parametrize("code", [500, 503, 504, 429, 0])
async def test_errors_inside_a_stream_are_survived(api: FakeApi, start: Start, code: int) -> None:
    """F03: the process lives, and the watch goes on where it was."""
    put(api, "a")
    watched = await start().synced()
    api.say_error(code, "InternalError", "etcd is sad")
    await watched.until(lambda: watched.told("ERROR") != [] and watched.informer.fresh)
    put(api, "b")
    await watched.until(lambda: watched.names() == ["a", "b"])
    assert watched.informer.statistics().lists == 1
    assert watched.informer.error is None


async def test_errors_inside_a_stream_that_do_not_end_lead_to_a_list(api: FakeApi, start: Start) -> None:
    """F03."""
    put(api, "a")
    watched = await start().synced()
    error = orjson.dumps({"type": "ERROR", "object": {"code": 500}}) + b"\n"
    api.answer_next("watch", *(Scripted(200, error) for _ in range(3)))
    api.close_watches()
    await watched.until(lambda: watched.informer.statistics().lists == 2)


@pytest.mark.parametrize(
    "line", [b"{not json", b'{"type":"NOVEL","object":{}}', b'{"type":"ADDED","object":{"metadata":{}}}']
)
async def test_nonsense_inside_a_stream_relists(api: FakeApi, start: Start, line: bytes) -> None:
    """F03."""
    put(api, "a")
    watched = await start().synced()
    api.say(line)
    await watched.until(lambda: watched.informer.statistics().lists == 2 and watched.informer.fresh)
    assert watched.names() == ["a"]


async def test_an_event_without_end_is_not_kept(api: FakeApi, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_lines, "__defaults__", (1000,))
    put(api, "a")
    watched = await start().synced()
    for watcher in api._watchers:
        watcher.queue.put_nowait(b"x" * 2000)
    await watched.until(lambda: watched.informer.statistics().lists == 2)


@pytest.mark.usefixtures("way")
async def test_a_silent_watch_is_noticed_and_what_it_hid_is_found(api: FakeApi, start: Start) -> None:
    """F02, F06."""
    put(api, "a", "b")
    watched = await start(inactivity_seconds=0.3).synced()
    api.silent = True
    api.remove(CONFIGMAPS, "shop", "a")
    put(api, "b", x="2")
    await watched.until(lambda: watched.informer.statistics().silences == 1)
    api.silent = False
    await watched.until(lambda: watched.names() == ["b"] and watched.value("b") == "2" and watched.informer.fresh)
    error = next(e for e in watched.events if e.type is EventType.ERROR)
    assert error.object is None


async def test_bookmarks_alone_keep_a_watch_alive(api: FakeApi, start: Start) -> None:
    watched = await start(inactivity_seconds=0.4).synced()
    for _ in range(10):
        api.bookmark()
        await asyncio.sleep(0.08)
    assert watched.informer.statistics().silences == 0
    assert watched.informer.statistics().watches == 1


async def test_held_events_end_in_the_newest_content(api: FakeApi, start: Start) -> None:
    """F06: create, update, delete, recreate while the watch holds everything back."""
    put(api, "a")
    watched = await start().synced()
    before = watched.informer.cache[("shop", "a")].uid
    api.held = True
    put(api, "a", x="2")
    api.remove(CONFIGMAPS, "shop", "a")
    put(api, "a", x="3")
    assert watched.value("a") == "1"
    api.release()
    await watched.until(lambda: watched.names() == ["a"] and watched.value("a") == "3")
    assert watched.informer.cache[("shop", "a")].uid != before


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


async def test_repeated_events_are_told_once(api: FakeApi, start: Start) -> None:
    """F05: the last events are sent again, deletes included."""
    put(api, "a", "b")
    watched = await start().synced()
    put(api, "a", x="2")
    api.remove(CONFIGMAPS, "shop", "b")
    put(api, "b", x="new")
    await watched.until(lambda: len(watched.told()) == 5)
    api.replay(50)
    put(api, "last")
    await watched.until(lambda: "last" in watched.names())
    assert len(watched.told()) == 6
    assert (watched.value("a"), watched.value("b")) == ("2", "new")
    assert watched.informer.statistics().replays == 5


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


async def test_a_busy_server_is_not_asked_earlier_than_it_said(api: FakeApi, start: Start) -> None:
    """F37: Retry-After is a floor."""
    api.answer_next("stream", failure(429, Retry_After="7"))
    watched = await start().synced()
    assert watched.delays[0] >= 7


async def test_the_delay_grows_to_a_cap_and_starts_over_after_a_steady_watch(api: FakeApi, start: Start) -> None:
    class Highest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    now = 0.0
    api.answer_next("stream", *(failure(500) for _ in range(10)))
    watched = await start(rng=Highest(), clock=lambda: now).synced()
    assert watched.delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
    now = 20.0
    api.close_watches()
    await watched.until(lambda: len(watched.delays) == 11)
    assert watched.delays[-1] == 0.2


async def test_delays_are_spread(api: FakeApi, start: Start) -> None:
    """F15: informers that lose one server do not come back at the same moment."""
    api.answer_next("stream", *(failure(500) for _ in range(12)))
    one, two = start(rng=random.Random(1)), start(rng=random.Random(2))
    await one.synced()
    await two.synced()
    assert not set(one.delays) & set(two.delays)


@pytest.mark.parametrize("code", [401, 403, 404, 500])
async def test_what_cannot_be_read_keeps_the_cache_and_deletes_nothing(api: FakeApi, start: Start, code: int) -> None:
    """P3: unknown is never absent; a kind that is no longer served is unknown too."""
    put(api, "a")
    watched = await start().synced()
    api.compact()
    put(api, "later")
    api.answer_next("watch", *(failure(410) for _ in range(50)))
    api.answer_next("stream", *(failure(code) for _ in range(3)))
    api.close_watches()
    await watched.until(lambda: watched.informer.statistics().failures >= 3)
    assert not watched.informer.fresh
    assert watched.informer.synced
    assert watched.told("DELETED") == []
    if code == 404:
        assert watched.informer.error == "configmaps is not served here"
    await watched.until(lambda: watched.informer.fresh)
    assert watched.names() == ["a", "later"]


async def test_one_failure_is_told_once(api: FakeApi, start: Start) -> None:
    api.answer_next("stream", *(failure(403, "Forbidden") for _ in range(4)))
    watched = await start().synced()
    assert len(watched.told("ERROR")) == 1


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
    watched.informer.accept_rewind()
    assert not watched.informer.rewound


async def test_a_rewind_is_known_before_its_deletes_are_told(api: FakeApi, start: Start) -> None:
    """F09, P3."""
    put(api, "a", "b")
    watched = await start(inactivity_seconds=0.1).synced()
    api.restore(50, {})
    await watched.until(lambda: len(watched.told("DELETED")) == 2)
    assert watched.rewound == [True, True]


async def test_a_handler_that_fails_does_not_stop_the_informer(api: FakeApi, start: Start) -> None:
    put(api, "a")
    watched = await start().synced()
    watched.broken = True
    put(api, "b")
    put(api, "c")
    await watched.until(lambda: watched.names() == ["a", "b", "c"])
    assert watched.informer.statistics().handler_errors == 2
    assert watched.informer.fresh


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


async def test_a_dead_server_is_waited_for(api: FakeApi, client: ClusterClient, start: Start) -> None:
    put(api, "a")
    watched = await start().synced()
    port = int(api.url.rsplit(":", 1)[1])
    await api.stop()
    await watched.until(lambda: watched.informer.error is not None and "cannot connect" in watched.informer.error)
    again = FakeApi()
    again.version, again.objects = api.version, api.objects
    put(again, "b")
    await again.start(port)
    watched.api = again
    await watched.until(lambda: watched.names() == ["a", "b"])
    await watched.stop()
    await again.stop()


async def test_few_informers_list_at_the_same_time(api: FakeApi, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """F15."""
    running = most = 0
    slots = asyncio.Semaphore(2)
    real = Informer._pages

    async def counted(self: Informer) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(0.01)
            return await real(self)
        finally:
            running -= 1

    monkeypatch.setattr(Informer, "_pages", counted)
    api.refuse_streams = True
    for watched in [start(list_slots=slots) for _ in range(6)]:
        await watched.synced()
    assert most == 2


async def test_an_unexpected_error_is_survived(api: FakeApi, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    put(api, "a")
    watched = await start().synced()
    real = Informer._take
    calls = 0

    def breaks(self: Informer, event: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError
        real(self, event)

    monkeypatch.setattr(Informer, "_take", breaks)
    put(api, "b")
    await watched.until(lambda: watched.names() == ["a", "b"])
    assert ("ERROR", "") in watched.told("ERROR")


async def test_cancelling_ends_the_watch(api: FakeApi, start: Start) -> None:
    """P18."""
    watched = await start().synced()
    await watched.stop()
    assert not watched.informer.fresh
    await watched.until(lambda: api.open_watches == 0)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_lines_are_found_however_the_bytes_are_cut(size: int) -> None:
    text = b"one\ntwo\n\nthree\nfour"

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(text), size):
            yield text[at : at + size]

    assert [line async for lines in split_lines(pieces()) for line in lines] == [b"one", b"two", b"three"]


async def test_a_line_above_the_limit_is_refused() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"ok\n12345"
        yield b"67890"

    found = split_lines(pieces(), 8)
    assert await anext(found) == [b"ok"]
    with pytest.raises(MalformedAnswer):
        await anext(found)


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


async def test_a_pause_ends_when_somebody_knows_that_the_server_is_back(api: FakeApi, start: Start) -> None:
    """F60, L09: what failed for long is not tried again for half a minute; whoever knows better may say so."""
    api.answer_next("stream", *(failure(500) for _ in range(3)))
    napping = asyncio.Event()

    async def sleep(seconds: float) -> None:
        napping.set()
        await asyncio.sleep(3600)

    watched = start(sleep=sleep)
    for _ in range(3):
        await asyncio.wait_for(napping.wait(), 5)
        napping.clear()
        assert not watched.informer.synced
        watched.informer.hurry()
    await watched.synced()
