"""What servers and networks do to a watch and to retries, one fault at a time; the fake server lies on command."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
import pytest

from syncer.kube.changes import EventType, split_lines
from syncer.kube.client import ClusterClient
from syncer.kube.informer import Informer
from tests.support.fakeapi import CONFIGMAPS, FakeApi, Scripted, failure
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
        await asyncio.sleep(0.08)  # in all twice as long as the silence that would end it
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


async def test_a_handler_that_fails_does_not_stop_the_informer(api: FakeApi, start: Start) -> None:
    put(api, "a")
    watched = await start().synced()
    watched.broken = True
    put(api, "b")
    put(api, "c")
    await watched.until(lambda: watched.names() == ["a", "b", "c"])
    assert watched.informer.statistics().handler_errors == 2
    assert watched.informer.fresh


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
