"""What one event touches is planned anew, and nothing else: sources are counted, not seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import orjson
import pytest

from syncer.api.keys import ObjectKey, SyncKey
from syncer.engine import catalog
from syncer.engine.catalog import Catalog, Cause
from syncer.engine.engine import Engine
from syncer.engine.needs import Needs
from syncer.engine.pair import State
from syncer.engine.state import Source
from syncer.engine.telling import Telling
from syncer.events import Outcome, Regarding
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.objects import KubeObject, decode_object
from syncer.metrics import Metrics
from syncer.placement.compiled import CompiledPlacement
from syncer.placement.targets import Selection, choose_targets
from tests.syncer.engine.worlds import CONFIG_MAPS, DEPLOYMENTS, HUB, NOW, SCALERS, Realm, config_map, deployment

PLACES = ("bar", "shop", "zoo")
EACH = 5

Planned = Callable[[], list[str]]


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Planned:
    """Names of the sources that were planned since the last call, sorted."""
    seen: list[str] = []
    replan = Catalog.replan

    def counted(self: Catalog, source: Source, cause: Cause) -> None:
        seen.append(f"{source.key.namespace}/{source.key.name}")
        replan(self, source, cause)

    monkeypatch.setattr(Catalog, "replan", counted)

    def take() -> list[str]:
        found = sorted(seen)
        seen.clear()
        return found

    return take


def namespace(realm: Realm, name: str, **labels: str) -> None:
    metadata = {"name": name, "uid": f"uid-{name}", "labels": labels}
    manifest = orjson.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    item = decode_object(manifest, manager=None)
    realm.catalog.namespace_event(InformerEvent(EventType.MODIFIED, item))


def a_realm() -> Realm:
    """Three namespaces of five objects; `shop` goes to east, `bar` to west, `zoo` nowhere."""
    realm = Realm()
    realm.target("east")
    realm.target("west")
    for place in PLACES:
        namespace(realm, place)
        for number in range(EACH):
            realm.put(CONFIG_MAPS, config_map(f"web-{number}", place))
    realm.place(namespace="shop", targets={"names": ["east"]})
    realm.place(namespace="bar", targets={"names": ["west"]})
    return realm


def everything(place: str) -> list[str]:
    return [f"{place}/web-{number}" for number in range(EACH)]


def test_labels_of_a_namespace_that_change_no_choice_plan_nothing(planned: Planned) -> None:
    realm = a_realm()
    realm.place("all", "", namespaces={"labelSelector": {"matchLabels": {"team": "a"}}}, targets={"all": True})
    planned()
    namespace(realm, "zoo", team="b")
    assert planned() == []


def test_a_namespace_that_comes_under_a_placement_plans_its_own_objects(planned: Planned) -> None:
    """And what came or went since the last time in that namespace is not forgotten."""
    realm = a_realm()
    realm.place("all", "", namespaces={"labelSelector": {"matchLabels": {"team": "a"}}}, targets={"all": True})
    planned()
    namespace(realm, "zoo", team="a")
    assert planned() == everything("zoo")
    namespace(realm, "zoo")
    assert planned() == everything("zoo")
    assert {source.key.namespace for source in realm.world.sources.values() if source.plan.assignments} == {
        "bar",
        "shop",
    }
    realm.put(CONFIG_MAPS, config_map("web-new", "zoo"))
    gone = cast(Any, realm.sight.informers[CONFIG_MAPS.group_resource]).cache.pop(("zoo", "web-0"))
    realm.catalog.source_event(CONFIG_MAPS, InformerEvent(EventType.DELETED, gone, gone))
    planned()
    namespace(realm, "zoo", team="a")
    assert planned() == sorted([*everything("zoo")[1:], "zoo/web-new"])


def test_a_placement_of_one_namespace_looks_at_that_one(planned: Planned) -> None:
    realm = a_realm()
    cache = Looked()
    mirror = cast(Any, realm.sight.informers[CONFIG_MAPS.group_resource])
    cache.update(mirror.cache)
    realm.place(namespace="zoo", targets={"names": ["east"]})
    planned()
    mirror.cache = cache
    realm.place(namespace="shop", targets={"names": ["west"]})
    assert planned() == everything("shop")
    assert cache.walked == 0


def test_a_target_that_changes_plans_what_is_on_it(planned: Planned) -> None:
    realm = a_realm()
    planned()
    realm.catalog.targets_changed(Cause("west was changed"), only=["west"])
    assert planned() == everything("bar")


def test_a_target_that_moves_objects_plans_each_of_them_once(planned: Planned) -> None:
    """Two placements select `shop` anew, and its objects are on the target that changed."""
    realm = a_realm()
    spec: dict[str, Any] = {"targets": {"labelSelector": {"matchLabels": {"eu": "yes"}}}}
    realm.place("more", "shop", **spec)
    realm.place("most", "shop", conflict={"priority": 5}, **spec)
    planned()
    realm.world.targets["west"].state = replace(realm.world.targets["west"].state, labels={"eu": "yes"})
    realm.catalog.targets_changed(Cause("west was changed", touch=True), only=["west"])
    assert planned() == everything("bar") + everything("shop")


async def test_a_target_that_answers_no_more_or_is_gone_looks_at_what_is_on_it() -> None:
    realm = a_realm()
    engine = Engine(
        upstream=cast(Any, realm.upstream), hub_id=HUB, workspace=HUB, metrics=Metrics(), events=cast(Any, Silent())
    )
    engine.world = realm.world
    engine._catalog = realm.catalog
    queue = realm.world.queue
    while (key := queue.take(realm.now)) is not None:
        queue.done(key)
    sources = realm.world.sources = Walked(realm.world.sources)
    engine.target_reachable("west", False, NOW, "no answer")
    assert {key.object.namespace for key in iter(lambda: queue.take(realm.now), None)} == {"bar"}
    realm.world.targets["west"].link = None
    realm.world.acknowledged = {"east", "west"}
    metadata = {"name": "west", "uid": "uid-west"}
    manifest = {"apiVersion": "syncline.io/v1alpha1", "kind": "SyncTarget", "metadata": metadata}
    item = decode_object(orjson.dumps(manifest), manager=None)
    engine._target_event(InformerEvent(EventType.DELETED, item))
    assert not any("west" in source.pairs for source in sources.copy().values())
    assert sources.walked == 0
    assert realm.world.acknowledged == {"east"}


def test_readiness_chooses_anew_only_where_one_target_can_stand_in_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand agents that come back must not cost a thousand choices of every placement."""
    realm = a_realm()
    uid = realm.place("one", "zoo", targets={"all": True, "maxTargets": 1})
    record = realm.world.placements[uid]
    assert record.selection is not None
    (first,) = record.selection.selected
    chosen: list[str] = []

    def counted(placement: CompiledPlacement, *given: Any, **more: Any) -> Selection:
        chosen.append(placement.name)
        return choose_targets(placement, *given, **more)

    monkeypatch.setattr(catalog, "choose_targets", counted)
    realm.catalog.targets_changed(Cause("ready or not"), readiness=True)
    assert chosen == ["one"]
    lost = realm.world.targets[first]
    lost.state = replace(lost.state, ready=False, evict_after_seconds=0.0)
    for name in ("north", "south"):
        realm.target(name)
    realm.catalog.targets_changed(Cause("ready or not"), readiness=True)
    assert record.selection.selected != (first,)


async def test_many_placements_that_go_at_once_ask_once_for_the_crds(monkeypatch: pytest.MonkeyPatch) -> None:
    realm = a_realm()
    engine = Engine(
        upstream=cast(Any, realm.upstream), hub_id=HUB, workspace=HUB, metrics=Metrics(), events=cast(Any, Silent())
    )
    checks = 0

    async def check() -> bool:
        nonlocal checks
        checks += 1
        return True

    monkeypatch.setattr(engine._guard, "check", check)
    record = next(iter(realm.world.placements.values()))
    watching = asyncio.create_task(engine._watch_api())
    for _ in range(100):
        engine._placement_event(InformerEvent(EventType.DELETED, record.manifest))
    for _ in range(10):
        await asyncio.sleep(0)
    watching.cancel()
    assert checks == 1


def test_what_earlier_crds_left_is_not_settled_while_a_pass_is_under_way() -> None:
    """F60, P3: the pass may end as one that waits for a person; recorded too early, nobody could ever consent."""
    realm = a_realm()
    engine = Engine(
        upstream=cast(Any, realm.upstream), hub_id=HUB, workspace=HUB, metrics=Metrics(), events=cast(Any, Silent())
    )
    engine.world, engine.sight = realm.world, realm.sight
    for target in realm.world.targets.values():
        target.swept = True
    queue = realm.world.queue
    keys = list(iter(lambda: queue.take(realm.now), None))
    for key in keys[1:]:
        queue.done(key)
    assert not len(queue)
    assert not engine._settled()
    queue.done(keys[0])
    assert engine._settled()


def test_an_autoscaler_looks_at_what_it_scales_only() -> None:
    realm = a_realm()
    source = realm.deployment()
    other = realm.deployment("web-other")
    telling = Telling(realm.world, Metrics(), cast(Any, Silent()), Needs(realm.world))
    while (key := realm.world.queue.take(realm.now)) is not None:
        realm.world.queue.done(key)
    sources = Walked(realm.world.sources)
    realm.world.sources = sources
    for name, event, scaled in (("web", EventType.ADDED, {"web"}), ("web-other", EventType.MODIFIED, {"web-other"})):
        telling.autoscaler(SCALERS, InformerEvent(event, scaler(name)))
        assert {place[2] for place in realm.world.scaled} == scaled
    assert SyncKey(source.key, "east") in realm.world.queue
    assert SyncKey(other.key, "east") in realm.world.queue
    assert sources.walked == 0
    telling.autoscaler(SCALERS, InformerEvent(EventType.DELETED, scaler("web-other")))
    assert not realm.world.scaled


def test_pairs_of_a_target_are_found_until_they_are_gone() -> None:
    """P18: the index by target follows what is dropped anywhere."""
    realm = a_realm()
    assert realm.world.kinds_on("east") == {CONFIG_MAPS.group_resource}
    assert len(list(realm.world.pairs_on("east", CONFIG_MAPS.group_resource))) == EACH
    assert not list(realm.world.pairs_on("east", DEPLOYMENTS.group_resource))
    assert realm.world.uses("east", "shop")
    assert not realm.world.uses("east", "bar")
    for source, _ in realm.world.pairs_on("east"):
        realm.world.drop_pair(source, "east")
    assert not realm.world._used.keys() & {("east", "shop"), ("east", "bar")}
    assert not list(realm.world.pairs_on("east"))
    assert not realm.world.kinds_on("east")
    assert not realm.world._placed.get("east")


def scaler(scaled: str) -> KubeObject:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": scaled}
    manifest = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "scaler", "namespace": "shop", "uid": "h"},
        "spec": {"scaleTargetRef": reference},
    }
    return decode_object(orjson.dumps(manifest), manager=None)


class Silent:
    """Takes Events and keeps none."""

    def outcome(self, *_: Any, **__: Any) -> None: ...

    def forget(self, uid: str) -> None: ...


class Walked(dict[ObjectKey, Source]):
    """Counts who goes through all of it."""

    walked = 0

    def values(self) -> Any:
        self.walked += 1
        return super().values()


class Looked(dict[tuple[str, str], KubeObject]):
    """Counts who goes through all of it."""

    walked = 0

    def values(self) -> Any:
        self.walked += 1
        return super().values()

    def items(self) -> Any:
        self.walked += 1
        return super().items()


def test_what_pods_need_at_their_start_goes_before_what_makes_pods() -> None:
    """A Deployment that arrives before its ConfigMap starts Pods that wait for it: not even one in 16 turns, which
    serve what waits longest."""
    realm = Realm()
    realm.target("east")
    many = 80
    for number in range(many):
        realm.put(DEPLOYMENTS, deployment(f"web-{number}"))
        realm.put(CONFIG_MAPS, config_map(f"web-{number}"))
    realm.place()
    kinds = []
    while (key := realm.world.queue.take(realm.now)) is not None:
        kinds.append(key.object.group_resource.resource)
        realm.world.queue.done(key)
    assert kinds == ["configmaps"] * many + ["deployments"] * many


@pytest.mark.parametrize("first", ["scaler", "deployment"])
def test_an_autoscaler_that_is_not_placed_is_told_of_whatever_came_first(first: str) -> None:
    """`HPANotPlaced`: upstream the two are read in any order, and the warning goes once the autoscaler is placed."""
    realm = Realm()
    realm.target("east")
    realm.place()
    heard = Heard()
    telling = Telling(realm.world, Metrics(), cast(Any, heard), Needs(realm.world))
    event = InformerEvent(EventType.ADDED, scaler("web"))
    if first == "scaler":
        telling.autoscaler(SCALERS, event)
    source = realm.deployment()
    if first == "deployment":
        telling.autoscaler(SCALERS, event)
    pair = realm.settle(source, "east", State.SYNCED)
    telling.outcome(source, pair, "east", pair.outcome)
    assert heard.told == {"hpa": "HPANotPlaced"}
    realm.place(resources=[{"apiVersion": "*", "kind": "*", "names": ["web*", "scaler"]}])
    placed = realm.put(SCALERS, orjson.loads(orjson.dumps(scaler("web").manifest())))
    assert placed is not None
    pair = realm.settle(placed, "east", State.SYNCED)
    telling.outcome(placed, pair, "east", pair.outcome)
    assert heard.told == {}


class Heard:
    """Keeps what Events say of Deployment `web`, by slot."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def outcome(self, regarding: Regarding, slot: str, told: Outcome | None, **_: Any) -> None:
        if regarding.kind == "Deployment":
            self.told.pop(slot, None)
            if told is not None:
                self.told[slot] = told.reason
