"""P18: what is remembered of objects and targets goes with them."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest

from syncer.api.keys import GroupResource, ObjectKey, SyncKey
from syncer.controllers.probe import ProbeSettings
from syncer.controllers.synctargets import SyncTargetController
from syncer.controllers.target import TargetSession
from syncer.engine.downstream import Downstream
from syncer.engine.needs import Needs
from syncer.engine.pair import Outcome, State
from syncer.engine.tables import FinishedRuns, Names, Wanting
from syncer.engine.telling import Telling
from syncer.events import EventRecorder
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.informer import Informer
from syncer.kube.objects import decode_object
from syncer.metrics import Metrics
from syncer.transform.mark import SourceRef, mark
from tests.support.links import NoLinks
from tests.syncer.engine.worlds import CONFIG_MAPS, HUB, JOBS, SECRETS, Mirror, Realm, secret


def a_key(name: str, target: str = "east") -> SyncKey:
    return SyncKey(an_object(name), target)


def an_object(name: str) -> ObjectKey:
    return ObjectKey(HUB, GroupResource("", "secrets"), "shop", name)


def test_finished_runs_go_with_their_source_or_target() -> None:
    """P18"""
    runs = FinishedRuns()
    for source in ("a", "b"):
        for target in ("east", "west"):
            runs.add((source, target))
    runs.forget_source("a")
    assert ("a", "east") not in runs
    runs.forget_target("east")
    assert ("b", "east") not in runs
    assert ("b", "west") in runs
    runs.forget_target("west")
    assert not len(runs)


def test_a_pair_is_listed_only_for_what_it_lacks_now() -> None:
    """P18"""
    table = Wanting()
    table.put(a_key("web"), [an_object("one"), an_object("two")])
    table.put(a_key("api"), [an_object("two")])
    table.put(a_key("web"), [an_object("two")])
    assert not table.take(an_object("one"))
    assert table.take(an_object("two")) == [a_key("api"), a_key("web")]
    assert not len(table)
    table.put(a_key("web"), [an_object("one")])
    table.put(a_key("web"), [])
    assert not len(table)


def a_telling(realm: Realm) -> Telling:
    return Telling(realm.world, Metrics(), cast(Any, None), Needs(realm.world))


def test_a_workload_that_lacks_nothing_any_more_or_is_gone_waits_for_nothing() -> None:
    """P18: a table of warnings that only grew."""
    realm = Realm()
    realm.target("east")
    realm.place()
    telling = a_telling(realm)
    source = realm.deployment(secret="web-pull")
    synced = Outcome(State.SYNCED)
    assert telling.with_missing(source, "east", synced).reason == "MissingReference"
    assert len(realm.world.wanting)
    realm.put(SECRETS, secret("web-pull"))
    assert not len(realm.world.wanting)  # and the pair is looked at again
    assert telling.with_missing(source, "east", synced) == synced
    other = realm.deployment("web-2", secret="nowhere")
    telling.with_missing(other, "east", synced)
    realm.world.drop_pair(other, "east")
    assert not len(realm.world.wanting)


@pytest.mark.parametrize("proof", ["watch", "relist"])
def test_a_finished_run_is_forgotten_once_its_source_was_seen_to_go(proof: Any) -> None:
    """P18, and a list that does not show a Job is no proof that it may run again."""
    realm = Realm()
    realm.target("east")
    realm.place()
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "web-job", "namespace": "shop"}}
    source = realm.put(JOBS, manifest)
    assert source is not None
    assert source.object is not None
    item = source.object
    realm.world.finished.add((item.uid, "uid-east"))
    realm.catalog.source_event(JOBS, InformerEvent(EventType.DELETED, item, item, proof))
    assert ((item.uid, "uid-east") in realm.world.finished) is (proof == "relist")


def test_an_end_that_is_reported_after_its_source_went_is_forgotten_with_the_pair() -> None:
    """P18"""
    realm = Realm()
    realm.target("east")
    realm.place()
    source = realm.put(
        JOBS, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "web-job", "namespace": "shop"}}
    )
    assert source is not None
    assert source.object is not None
    item = source.object
    realm.catalog.source_event(JOBS, InformerEvent(EventType.DELETED, item, item, "watch"))
    source.pairs["east"].finished = item.uid
    realm.world.finished.add((item.uid, "uid-east"))
    realm.world.drop_pair(source, "east")
    assert not len(realm.world.finished)


@pytest.mark.parametrize("known", [True, False])
def test_a_target_cannot_grow_the_list_of_finished_runs_with_uids_that_it_invents(known: bool) -> None:
    """P18: what counts is the end of the source; while that is not read yet, the newest one is kept."""
    realm = Realm()
    realm.target("east")
    realm.place()
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "web-job", "namespace": "shop"}}
    source = realm.put(JOBS, manifest)
    assert source is not None
    assert source.object is not None
    uid = source.object.uid
    if not known:
        source.object = None
    downstream = Downstream(realm.world, realm.catalog, *[lambda *_: None] * 3)
    status = {"conditions": [{"type": "Complete", "status": "True"}]}
    for number, said in enumerate([*(f"invented-{number}" for number in range(20)), uid]):
        ref = SourceRef(HUB, HUB, "batch/v1", "Job", "shop", "web-job", said, 1)
        made, _ = mark({**manifest, "status": status}, ref, deletion_policy="Delete")
        made["metadata"] |= {"uid": "copy", "resourceVersion": str(number + 1)}
        copy = decode_object(orjson.dumps(made))
        downstream.event("east", JOBS, InformerEvent(EventType.MODIFIED, copy))
        assert len(realm.world.finished) <= (0 if known and said != uid else 1)
    assert (uid, "uid-east") in realm.world.finished


async def test_the_claim_of_a_replaced_sync_target_does_not_outlive_it() -> None:
    """A SyncTarget made again under its name leads elsewhere: its old cluster is free for another one."""
    controller = SyncTargetController(
        upstream=cast(Any, None),
        upstream_kinds=list,
        engine=cast(Any, None),
        metrics=Metrics(),
        events=EventRecorder(cast(Any, None), Metrics()),
        generation=lambda _: 0,
        hub_id=HUB,
        guard=lambda: None,
        probe=ProbeSettings(),
        links=NoLinks(),
    )
    around = controller._around
    first, second = TargetSession("first", around), TargetSession("second", around)
    first.created, second.created = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
    assert around.claim("cluster-1", first) is None
    assert around.claim("cluster-1", second) == "first"
    first._forget()
    assert around.claim("cluster-1", second) is None
    second._forget()
    assert not controller._claims


def test_lists_of_names_go_with_the_informers_that_made_them() -> None:
    """P18: a kind that nothing places any more must not keep the cache of all its objects."""
    informers = {info.group_resource: cast(Informer, Mirror()) for info in (CONFIG_MAPS, SECRETS)}
    names = Names(informers)
    for resource in informers:
        assert names.items(resource, "shop") == []
    del informers[SECRETS.group_resource]
    names.items(CONFIG_MAPS.group_resource, "shop")
    assert names._known.keys() == {CONFIG_MAPS.group_resource}
