"""Objects that placements hold themselves, in a world without servers: sources, rivals for one place, evidence."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from status.report import Health
from syncer.api.keys import GroupKind, ObjectKey
from syncer.engine.inline import inline_object, inline_uid
from syncer.engine.intents import intent
from syncer.engine.pair import Outcome, State
from syncer.engine.placementstatus import fold
from syncer.engine.situation import Held, Intent, Unwanted, Wanted
from syncer.engine.state import Source
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.objects import decode_object
from syncer.transform.mark import SourceRef, read_mark
from tests.syncer.engine.test_problems import report
from tests.syncer.engine.worlds import CONFIG_MAPS, DEPLOYMENTS, HUB, NOW, Realm, config_map, deployment

OLD, YOUNG = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def hold(realm: Realm, name: str, *manifests: dict[str, Any], **spec: Any) -> str:
    return realm.place(name, resources=[], manifests=list(manifests), **spec)


def held(realm: Realm, placement: str, name: str = "web", info: Any = CONFIG_MAPS) -> Source:
    """The source of an inline object."""
    uid = inline_uid(placement, info.group_kind, "shop", name)
    return realm.world.sources[ObjectKey(HUB, info.group_resource, "shop", name, uid)]


def wish(realm: Realm, source: Source, target: str = "east") -> Intent:
    return intent(realm.world, realm.sight, source, realm.world.pair(source, target), realm.world.targets[target])


def data(value: str) -> dict[str, Any]:
    return {**config_map(), "data": {"k": value}}


# One object


def test_the_uid_follows_from_the_placement_and_the_name() -> None:
    kind = GroupKind("", "ConfigMap")
    uid = inline_uid("placement-1", kind, "shop", "web")
    assert uid == inline_uid("placement-1", kind, "shop", "web")
    others = [("placement-2", kind, "shop", "web"), ("placement-1", kind, "shop", "api")]
    assert uid not in [inline_uid(*other) for other in others]


def test_an_inline_object_has_nothing_that_only_a_server_sets() -> None:
    """What `kubectl get -o yaml` shows may be pasted: it must not look terminating or held."""
    pasted = config_map(uid="u", deletionTimestamp=OLD, finalizers=["a/b"], managedFields=[], labels={"a": "b"})
    item = inline_object(pasted, uid="mine", namespace="shop")
    assert (item.uid, item.namespace, item.labels, item.generation) == ("mine", "shop", {"a": "b"}, 0)
    assert not item.terminating
    assert not item.finalizers
    assert item == inline_object(config_map(labels={"a": "b"}), uid="mine", namespace="shop")
    assert item.resource_version != inline_object(config_map(), uid="mine", namespace="shop").resource_version


def test_an_inline_object_is_placed_and_its_copy_names_the_placement() -> None:
    realm = Realm()
    realm.target("east")
    source = held(realm, hold(realm, "one", data("1")))
    found = wish(realm, source)
    assert isinstance(found, Wanted)
    assert found.manifest["data"] == {"k": "1"}
    mark = SourceRef.from_json(found.manifest["metadata"]["annotations"]["syncline.io/source"])
    assert mark is not None
    assert source.object is not None
    assert (mark.placement, mark.uid, mark.name) == ("Placement/shop/one", source.object.uid, "web")


def test_copies_of_upstream_objects_are_marked_as_before() -> None:
    """A new field in every mark would write every object of a fleet once."""
    ref = SourceRef(HUB, HUB, "v1", "ConfigMap", "shop", "web", "u", 0)
    assert "placement" not in ref.to_json()
    assert SourceRef.from_json(ref.to_json()) == ref
    inline = SourceRef(HUB, HUB, "v1", "ConfigMap", "shop", "web", "u", 0, "Placement/shop/one")
    assert SourceRef.from_json(inline.to_json()) == inline


# What changes


def test_an_entry_that_goes_is_evidence_that_the_budget_counts() -> None:
    realm = Realm()
    realm.target("east")
    placement = hold(realm, "one", data("1"), config_map("other"))
    source = held(realm, placement)
    realm.land(source, "east")
    hold(realm, "one", config_map("other"))
    found = wish(realm, source)
    assert isinstance(found, Unwanted)
    assert "Placement/shop/one was changed" in found.evidence
    assert found.counted
    assert isinstance(wish(realm, held(realm, placement, "other")), Wanted)


def test_a_deleted_placement_is_proven_and_not_counted() -> None:
    realm = Realm()
    realm.target("east")
    placement = hold(realm, "one", data("1"))
    source = held(realm, placement)
    realm.land(source, "east")
    manifest = realm.world.placements[placement].manifest
    realm.catalog.placement_event(InformerEvent(EventType.DELETED, manifest))
    found = wish(realm, source)
    assert isinstance(found, Unwanted)
    assert (found.evidence, found.verify, found.counted) == ("", "intent", False)


def test_a_changed_entry_is_not_in_sync_before_it_is_applied() -> None:
    """`kubectl wait --for=condition=Synced` speaks of the placement's generation, and here that is the content."""
    realm = Realm()
    realm.target("east")
    placement = hold(realm, "one", data("1"), config_map("other"))
    for name in ("web", "other"):
        realm.land(held(realm, placement, name), "east")
    assert realm.world.targets["east"].synced == 2
    hold(realm, "one", data("2"), config_map("other"))
    assert held(realm, placement).pairs["east"].outcome.state is State.PENDING
    assert held(realm, placement, "other").pairs["east"].outcome.state is State.SYNCED
    assert realm.world.targets["east"].synced == 1
    status = fold(realm.world, realm.world.placements[placement], {}, YOUNG)
    assert [(t["objects"], t["synced"]) for t in status["selectedTargets"]] == [(2, 1)]


def test_a_kind_that_nobody_serves_is_told_and_taken_up_once_it_is() -> None:
    realm = Realm()
    realm.target("east", resources={"allow": ["widgets.example.com"]})
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "web"}}
    placement = hold(realm, "one", widget)
    record = realm.world.placements[placement]
    assert realm.world.look_up()
    assert record.objects == set()
    status = fold(realm.world, record, {}, YOUNG)
    assert status["reason"] == "APIMissing"
    assert "serves example.com/v1 Widget" in next(c["message"] for c in status["conditions"] if c["type"] == "Synced")
    assert [p.reason for p in realm.reports.problems().items] == ["APIMissing"]
    link = realm.world.targets["east"].link
    assert link is not None
    served = DEPLOYMENTS._replace(group="example.com", version="v1", resource="widgets", kind="Widget")
    link.discovery.known_resources.append(served)  # type: ignore[attr-defined]
    assert not realm.world.look_up()
    assert isinstance(wish(realm, held(realm, placement, info=served)), Wanted)


def test_a_cluster_scoped_kind_that_only_targets_know_is_not_placed_from_a_namespace() -> None:
    realm = Realm()
    realm.target("east")
    link = realm.world.targets["east"].link
    assert link is not None
    served = DEPLOYMENTS._replace(group="example.com", version="v1", resource="realms", kind="Realm", namespaced=False)
    link.discovery.known_resources.append(served)  # type: ignore[attr-defined]
    placement = hold(realm, "one", {"apiVersion": "example.com/v1", "kind": "Realm", "metadata": {"name": "web"}})
    assert realm.world.placements[placement].objects == set()
    assert realm.world.placements[placement].unknown == ("Realm is cluster-scoped; a ClusterPlacement may hold it",)


def test_a_placement_reaches_no_other_namespace_even_where_nobody_checked_its_manifests() -> None:
    realm = Realm()
    realm.target("east")
    placement = hold(realm, "one", config_map("web", "kitchen"))
    assert realm.world.placements[placement].objects == set()
    assert realm.world.placements[placement].unknown == ("a Placement reaches only its own namespace, not kitchen",)


# After a restart


def copy_of(placement: str, name: str = "web", path: str = "Placement/shop/one") -> Any:
    """A copy that stands on a target, as an earlier process left it."""
    uid = inline_uid(placement, CONFIG_MAPS.group_kind, "shop", name)
    ref = SourceRef(HUB, HUB, "v1", "ConfigMap", "shop", name, uid, 0, path)
    marks = {"syncline.io/source": ref.to_json(), "syncline.io/deletion": "Delete"}
    labels = {"syncline.io/managed-by": HUB}
    head = {"name": name, "namespace": "shop", "uid": "copy", "resourceVersion": "7"}
    metadata = {**head, "annotations": marks, "labels": labels}
    return decode_object(orjson.dumps({**config_map(name), "metadata": metadata}))


def test_a_copy_whose_placement_is_gone_is_asked_for_live_and_counted() -> None:
    realm = Realm()
    realm.target("east")
    realm.place("other")  # places upstream ConfigMaps: their absence proves nothing about an inline object
    realm.put(CONFIG_MAPS, config_map("web-x"))
    item = copy_of("uid-gone")
    source = realm.catalog.downstream_seen("east", CONFIG_MAPS, item)
    assert source.key.origin
    found = wish(realm, source)
    assert isinstance(found, Unwanted)
    assert (found.verify, found.counted) == ("intent", True)


def test_a_copy_is_known_again_whatever_is_read_first() -> None:
    realm = Realm()
    realm.target("east")
    item = copy_of("uid-shop-one")
    source = realm.catalog.downstream_seen("east", CONFIG_MAPS, item)
    realm.world.pair(source, "east")
    placement = hold(realm, "one", config_map())
    assert held(realm, placement) is source
    assert isinstance(wish(realm, source), Wanted)


def test_while_a_kind_is_unknown_copies_of_inline_objects_stay() -> None:
    realm = Realm()
    realm.target("east")
    hold(realm, "one", {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "web"}})
    source = realm.catalog.downstream_seen("east", CONFIG_MAPS, copy_of("uid-gone"))
    found = wish(realm, source)
    assert isinstance(found, Held)
    assert "Placement/shop/one" in found.message


# Rivals for one place


def test_of_two_placements_the_higher_priority_then_the_older_wins_on_each_target() -> None:
    realm = Realm()
    realm.target("east")
    realm.target("west")
    old = hold(realm, "old", data("old"), created=OLD)
    young = hold(realm, "young", data("young"), created=YOUNG, targets={"names": ["east"]})
    assert held(realm, old).plan.assignments.keys() == {"east", "west"}
    assert held(realm, young).plan.outranked == held(realm, old).plan.outranked == ((young, "east", old),)
    problems = [p for p in realm.reports.problems().items if p.reason == "ClaimedByPlacement"]
    assert [(p.object, p.placement) for p in problems] == [("v1/ConfigMap/shop/web", "Placement/shop/young")]
    hold(realm, "young", data("young"), created=YOUNG, targets={"names": ["east"]}, conflict={"priority": 5})
    assert held(realm, old).plan.assignments.keys() == {"west"}
    assert held(realm, young).plan.assignments.keys() == {"east"}
    status = fold(realm.world, realm.world.placements[old], {}, YOUNG)
    (conflict,) = [c for c in status["conditions"] if c["type"] == "Conflict"]
    assert conflict["reason"] == "ClaimedByPlacement"


@pytest.mark.parametrize("first", ["inline", "upstream"])
def test_an_upstream_object_of_the_same_name_is_a_rival_like_another(first: str) -> None:
    realm = Realm()
    realm.target("east")
    if first == "inline":
        hold(realm, "one", data("inline"), created=YOUNG)
    realm.place("all", created=OLD)
    if first == "upstream":
        hold(realm, "one", data("inline"), created=YOUNG)
    upstream = realm.put(CONFIG_MAPS, data("upstream"))
    assert upstream is not None
    inline = held(realm, "uid-shop-one")
    assert upstream.plan.assignments.keys() == {"east"}
    assert not inline.plan.assignments
    assert list(inline.pairs) == []


def test_a_place_changes_hands_without_a_delete() -> None:
    """One place has one pair: what the loser knew goes to the winner, which applies over what stands there."""
    realm = Realm()
    realm.target("east")
    upstream_uid = realm.place("all", created=OLD)
    upstream = realm.put(CONFIG_MAPS, data("upstream"))
    assert upstream is not None
    pair = realm.land(upstream, "east")
    one = hold(realm, "one", data("inline"), created=YOUNG, conflict={"priority": 5})
    inline = held(realm, one)
    assert inline.pairs == {"east": pair}
    assert upstream.pairs == {}
    assert isinstance(wish(realm, inline), Wanted)
    assert realm.world.targets["east"].synced == 1
    # And back: the entry is removed.
    hold(realm, "one", config_map("other"), created=YOUNG, conflict={"priority": 5})
    assert upstream.pairs == {"east": pair}
    assert pair.unplaced is None
    assert isinstance(wish(realm, upstream), Wanted)
    assert inline.key not in realm.world.sources
    assert upstream_uid in realm.world.placements


def test_when_the_upstream_object_goes_the_inline_one_has_its_place() -> None:
    realm = Realm()
    realm.target("east")
    realm.place("all", created=OLD)
    upstream = realm.put(CONFIG_MAPS, data("upstream"))
    assert upstream is not None
    assert upstream.object is not None
    pair = realm.land(upstream, "east")
    inline = held(realm, hold(realm, "one", data("inline"), created=YOUNG))
    realm.catalog.source_event(CONFIG_MAPS, InformerEvent(EventType.DELETED, upstream.object))
    assert inline.pairs == {"east": pair}
    assert isinstance(wish(realm, inline), Wanted)


def test_of_one_placement_the_object_that_it_holds_comes_first() -> None:
    realm = Realm()
    realm.target("east")
    all_of_it = [{"apiVersion": "v1", "kind": "ConfigMap", "names": ["*"]}]
    uid = realm.place("both", resources=all_of_it, manifests=[data("inline")])
    upstream = realm.put(CONFIG_MAPS, data("upstream"))
    assert upstream is not None
    assert held(realm, uid).plan.assignments.keys() == {"east"}
    assert not upstream.plan.assignments
    assert not upstream.plan.outranked


def test_events_of_a_copy_go_to_who_has_the_place() -> None:
    realm = Realm()
    realm.target("east")
    source = held(realm, hold(realm, "one", config_map()))
    stale = copy_of("uid-of-an-earlier-placement")
    assert read_mark(stale) is not None
    assert realm.catalog.downstream_seen("east", CONFIG_MAPS, stale) is source


# Beside others


def test_what_a_workload_refers_to_may_be_held_inline() -> None:
    realm = Realm()
    realm.target("east")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "regcred"}}
    placement = hold(realm, "one", deployment(secret="regcred"))
    assert [p.reason for p in realm.reports.problems().items if p.reason == "MissingReference"]
    hold(realm, "one", deployment(secret="regcred"), secret)
    source = held(realm, placement, info=DEPLOYMENTS)
    source.pairs["east"].outcome = Outcome(State.SYNCED)
    assert not [p for p in realm.reports.problems().items if p.reason == "MissingReference"]


def test_why_an_inline_workload_does_not_run_is_told_by_its_placement() -> None:
    """No upstream object could: target, object, the container's reason and message."""
    realm = Realm()
    for target in ("east", "west"):
        realm.target(target)
    placement = hold(realm, "one", deployment())
    source = held(realm, placement, info=DEPLOYMENTS)
    for target in ("east", "west"):
        realm.land(source, target)
        report(source, target, Health.PROGRESSING)
    assert source.aggregator is not None
    source.aggregator.note("west", "CrashLoopBackOff", "web-1: back-off 10s restarting failed container")
    source.pairs["west"].noted = "CrashLoopBackOff", NOW - 5
    status = fold(realm.world, realm.world.placements[placement], {}, YOUNG)
    east, west = status["selectedTargets"]
    assert east["errors"] == []
    (error,) = west["errors"]
    assert (error["object"], error["reason"]) == ("apps/v1/Deployment/shop/web", "CrashLoopBackOff")
    assert "restarting failed container" in error["message"]
    assert error["since"] == "2027-01-15T07:59:55Z"
    assert (west["synced"], west["ready"], west["failed"]) == (1, 0, 0)
    conditions = {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}
    assert conditions["Synced"] == ("True", "Synced")
    assert conditions["Ready"] == ("False", "CrashLoopBackOff")
    assert status["reason"] == "CrashLoopBackOff"


async def test_an_inline_object_is_explained() -> None:
    realm = Realm()
    realm.target("east")
    hold(realm, "one", deployment())
    found = await realm.reports.explain(DEPLOYMENTS.group_resource, "shop", "web")
    assert found is not None
    assert [(match.name, match.wins_on) for match in found.placements] == [("Placement/shop/one", ["east"])]
    assert found.targets[0].selected


def test_a_removed_entry_is_forgotten_once_its_targets_are_clean() -> None:
    realm = Realm()
    realm.target("east")
    placement = hold(realm, "one", data("1"), config_map("other"))
    source = held(realm, placement)
    realm.land(source, "east")
    hold(realm, "one", config_map("other"))
    assert source.object is None
    source.pairs["east"].outcome = Outcome(State.GONE)
    realm.world.forget_if_done(source)
    assert source.key not in realm.world.sources
    assert realm.world.family(source.key) == []
