"""Mirrors that survive what servers and networks do, against a fake server that lies on command."""

from __future__ import annotations

import pytest

from syncer.kube import informer as module
from syncer.kube.changes import EventType
from tests.support.fakeapi import CONFIGMAPS, DEPLOYMENTS, FakeApi, configmap
from tests.syncer.kube.watched import Start, put


@pytest.mark.usefixtures("way")
async def test_objects_are_listed_and_followed(api: FakeApi, start: Start) -> None:
    put(api, "a", "b")
    api.put(DEPLOYMENTS, configmap("other-kind"))
    watched = await start().synced()
    assert watched.names() == ["a", "b"]
    assert watched.told() == [("ADDED", "a"), ("ADDED", "b")]
    assert watched.events[2].type is EventType.SYNCED
    put(api, "b", x="2")
    put(api, "c")
    api.remove(CONFIGMAPS, "shop", "a")
    await watched.until(lambda: len(watched.told()) == 5)
    assert watched.told()[2:] == [("MODIFIED", "b"), ("ADDED", "c"), ("DELETED", "a")]
    assert watched.names() == ["b", "c"]
    changed, _, gone = watched.events[-3:]
    assert changed.old is not None
    assert (changed.old.field("data", "x"), watched.value("b")) == ("1", "2")
    assert gone.object is not None
    assert gone.old is not None
    assert (gone.proof, gone.object.uid) == ("watch", gone.old.uid)


@pytest.mark.usefixtures("way")
async def test_nothing_is_synced_before_the_list_is_whole(api: FakeApi, start: Start) -> None:
    put(api, "a")
    watched = start()
    assert not watched.informer.synced
    assert not watched.informer.fresh
    await watched.informer.wait_synced()
    assert watched.names() == ["a"]


async def test_a_long_list_comes_in_pages_of_one_moment(
    api: FakeApi, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_SIZE", 2)
    api.refuse_streams = True
    put(api, *"abcde")
    watched = await start().synced()
    assert watched.names() == list("abcde")
    assert (api.count("list"), api.count("page")) == (1, 2)


@pytest.mark.usefixtures("way")
async def test_selectors_and_namespace_are_the_servers_work(api: FakeApi, start: Start) -> None:
    put(api, "a", app="web")
    put(api, "b")
    api.put(CONFIGMAPS, configmap("elsewhere", "other", labels={"app": "web"}))
    watched = await start(label_selector="app=web", namespace="shop", field_selector="x=y").synced()
    put(api, "c", app="web")
    await watched.until(lambda: len(watched.told()) == 2)
    assert watched.names() == ["a", "c"]
    assert all(
        r.path == "/api/v1/namespaces/shop/configmaps" and r.query["fieldSelector"] == "x=y" for r in api.requests
    )


async def test_a_watch_that_was_closed_goes_on_where_it_was(api: FakeApi, start: Start) -> None:
    """P6: what happened in between comes from the server's history, without a list."""
    put(api, "a")
    watched = await start().synced()
    api.close_watches()
    await watched.until(lambda: api.open_watches == 0)
    put(api, "b")
    await watched.until(lambda: watched.names() == ["a", "b"])
    assert watched.informer.statistics().lists == 1
    assert watched.told("ERROR", "RELISTED") == []


async def test_bookmarks_move_the_place_to_go_on_from(api: FakeApi, start: Start) -> None:
    put(api, "a")
    watched = await start().synced()
    api.put(DEPLOYMENTS, configmap("elsewhere"))
    api.bookmark()
    api.compact()
    api.close_watches()
    await watched.until(lambda: api.count("watch") >= 1 and api.open_watches == 1)
    assert api.requests[-1].query["resourceVersion"] == str(api.version)
    assert watched.informer.statistics().lists == 1


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("in_stream", [False, True])
async def test_compacted_history_relists_and_diffs(api: FakeApi, start: Start, in_stream: bool) -> None:
    """F01, F11: 410 as an answer and inside a stream; deletes come with the last known object and as a conclusion."""
    put(api, "a", "b", "c")
    watched = await start().synced()
    uid = watched.informer.cache[("shop", "a")].uid
    api.silent = True
    api.remove(CONFIGMAPS, "shop", "a")
    put(api, "b", x="2")
    api.remove(CONFIGMAPS, "shop", "c")
    put(api, "c", x="other")
    api.silent = False
    api.compact()
    if in_stream:
        api.say_error(410, "Expired", "too old resource version")
    else:
        api.close_watches()
    await watched.until(lambda: watched.told("RELISTED") != [])
    told = [e for e in watched.events if e.proof == "relist" and e.object is not None][3:]
    assert sorted((e.type.value, e.object.name) for e in told if e.object) == [
        ("ADDED", "c"),
        ("DELETED", "a"),
        ("DELETED", "c"),
        ("MODIFIED", "b"),
    ]
    gone = next(e for e in told if e.type is EventType.DELETED and e.object and e.object.name == "a")
    assert gone.object is not None
    assert gone.object.uid == uid
    assert (watched.names(), watched.value("b"), watched.value("c")) == (["b", "c"], "2", "other")
    assert watched.informer.synced
