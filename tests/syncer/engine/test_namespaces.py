"""Namespaces on targets: labels follow the placements, and one that is leaving takes nothing in."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
import pytest

from syncer.api.names import Reason
from syncer.engine.decide import decide
from syncer.engine.guard import ApiGuard
from syncer.engine.namespaces import NamespaceBook
from syncer.engine.nskeeper import NamespaceKeeper
from syncer.engine.pair import ABSENT, State
from syncer.engine.situation import Held
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.client import ClusterClient
from syncer.kube.errors import Conflict, ServerError
from syncer.kube.objects import KubeObject, decode_object
from syncer.transform.mark import SourceRef
from syncer.transform.render import Rendered, render_namespace
from tests.support.objects import HUB, OWNED, deployment, live, marked, situation, wanted
from tests.syncer.engine.worlds import NAMESPACES, Mirror, Realm, Served

LEAVING = Held(Reason.DELETING, "namespace shop is being deleted on the target; it is created again afterwards")


def rendered(name: str) -> Rendered:
    metadata = {"name": name, "uid": "up-1"}
    source = SourceRef(HUB, HUB, "v1", "Namespace", "", name, "up-1", 0)
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    return render_namespace(manifest, name=name, label_globs=[], source=source, deletion_policy="Delete")


def namespace(uid: str = "ns-1", *, terminating: bool = False) -> KubeObject:
    """Our namespace `shop` as it stands on a target."""
    manifest = dict(rendered("shop").manifest)
    manifest["metadata"] = {**manifest["metadata"], "uid": uid, "resourceVersion": "7"}
    if terminating:
        manifest["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return decode_object(orjson.dumps(manifest))


class Cluster:
    """A target that has the namespace `shop`, and is asked while a delete of it is under way."""

    def __init__(self, answer: Exception | None = None) -> None:
        self.live = namespace()
        self.answer = answer
        self.deleting = asyncio.Event()
        self.go_on = asyncio.Event()

    async def apply(self, *_: Any, **__: Any) -> None:
        raise Conflict(409, "AlreadyExists", "it is there")

    async def get(self, *_: Any) -> KubeObject:
        return self.live

    async def delete(self, *_: Any, **__: Any) -> None:
        self.deleting.set()
        await self.go_on.wait()
        if self.answer is not None:
            raise self.answer

    async def request(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is listed")


class Empty(Served):
    """A cluster in whose namespaces nothing can be."""

    def __init__(self) -> None:
        super().__init__()
        self.known_resources = []

    async def refresh(self) -> bool:
        return False

    def stale(self) -> list[str]:
        return []


def a_book(cluster: Cluster) -> NamespaceBook:
    book = NamespaceBook(cast(ClusterClient, cluster), HUB, rendered)
    book.saw(cluster.live, deleted=False)
    assert book.ready("shop")
    return book


async def test_a_namespace_that_we_delete_is_not_taken_for_usable_meanwhile() -> None:
    """Between the request and its event the namespace still looks alive; what was put into it would be lost."""
    cluster = Cluster()
    book = a_book(cluster)
    removal = asyncio.create_task(book.remove_if_empty(cluster.live, Empty(), lambda: False))
    await cluster.deleting.wait()
    await book.ensure("shop")  # an object needs it just now: a GET finds it alive
    book.saw(cluster.live, deleted=False)  # and so says an event that was under way
    assert not book.ready("shop")
    cluster.go_on.set()
    assert await removal == ""
    assert not book.ready("shop")
    problem = book.problem("shop")
    assert problem is not None
    assert problem.reason == Reason.DELETING
    book.saw(namespace(terminating=True), deleted=False)
    assert book.problem("shop") is not None
    book.saw(namespace(terminating=True), deleted=True)
    assert book.problem("shop") is None
    assert not book.ready("shop")
    book.saw(namespace("ns-2"), deleted=False)
    assert book.ready("shop")


async def test_a_delete_that_failed_leaves_the_namespace_usable_once_the_server_was_asked() -> None:
    cluster = Cluster(ServerError(500, "InternalError", "no"))
    book = a_book(cluster)
    cluster.go_on.set()
    with pytest.raises(ServerError):
        await book.remove_if_empty(cluster.live, Empty(), lambda: False)
    assert not book.ready("shop")
    assert book.problem("shop") is None
    await book.ensure("shop")
    assert book.ready("shop")


def test_the_end_of_an_earlier_namespace_says_nothing_of_its_successor() -> None:
    book = a_book(Cluster())
    book.saw(namespace("ns-2"), deleted=False)
    book.saw(namespace("ns-1"), deleted=True)
    assert book.ready("shop")


def test_nothing_is_created_or_changed_in_a_namespace_that_is_leaving() -> None:
    """Neither a new object nor new content of one that is still in it; both are made in the successor."""
    before, _ = marked(deployment())
    after, hash_ = marked(deployment(image="nginx:1.28"), generation=2)
    for downstream in (ABSENT, live(before, OWNED)):
        now = situation(wanted(after, hash_), downstream, namespace_ready=False, namespace_problem=LEAVING)
        step = decide(now)
        assert not hasattr(step, "manifest"), step
        assert step.outcome.state is State.PENDING  # type: ignore[union-attr]
        assert step.outcome.reason == Reason.DELETING  # type: ignore[union-attr]


def keeper_of(realm: Realm) -> NamespaceKeeper:
    upstream = cast(ClusterClient, realm.upstream)
    keeper = NamespaceKeeper(realm.world, realm.sight, upstream, ApiGuard(upstream, clock=lambda: realm.now))
    realm.world.placement_compiled = keeper.placement_changed
    return keeper


def due(realm: Realm, keeper: NamespaceKeeper) -> list[tuple[str, str]]:
    found = []
    while (key := keeper.queue.take(realm.now)) is not None:
        found.append(key)
        keeper.queue.done(key)
    return sorted(found)


def a_realm() -> Realm:
    """Two targets with the namespaces `shop` and `other`, which is not covered by any placement."""
    realm = Realm()
    for name in ("east", "west"):
        realm.target(name)
        for place in ("shop", "other"):
            mirror: Mirror = realm.mirrors[name, NAMESPACES.group_resource]
            mirror.cache["", place] = namespace()
    for place in ("shop", "other"):
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place, "uid": f"up-{place}"}}
        item = decode_object(orjson.dumps(manifest), manager=None)
        realm.catalog.namespace_event(InformerEvent(EventType.ADDED, item))
    return realm


def test_a_change_of_namespace_labels_reaches_namespaces_that_are_there() -> None:
    """A placement that comes, is changed, or goes: its namespaces are looked at on every target, others are not."""
    realm = a_realm()
    keeper = keeper_of(realm)
    both = [("east", "shop"), ("west", "shop")]
    realm.place(namespaceLabels=["team"])
    assert due(realm, keeper) == both
    realm.place(namespaceLabels=["team", "stage"])
    assert due(realm, keeper) == both
    realm.place(namespaceLabels=["team", "stage"], suspend=True)
    assert due(realm, keeper) == []
    realm.place()
    assert due(realm, keeper) == both
    realm.place(namespaceLabels=["team"])
    due(realm, keeper)
    record = next(iter(realm.world.placements.values()))
    realm.catalog.placement_event(InformerEvent(EventType.DELETED, record.manifest))
    assert due(realm, keeper) == both
