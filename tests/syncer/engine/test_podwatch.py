"""Why Pods do not run: what targets answer, and that no answer ends the watching."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from syncer.api.keys import SyncKey
from syncer.engine import podwatch as room
from syncer.engine.podwatch import PodWatch, pods_of, selector_text
from syncer.engine.state import Source
from syncer.kube.errors import MalformedAnswer
from tests.syncer.engine.worlds import DEPLOYMENTS, Realm

SELECTOR = {"matchLabels": {"app": "web"}}
PODS = "/api/v1/namespaces/shop/pods"


def realm_of(*targets: str) -> tuple[Realm, Source]:
    realm = Realm()
    for name in targets:
        realm.target(name)
    realm.place()
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
        "spec": {"selector": SELECTOR},
    }
    source = realm.put(DEPLOYMENTS, manifest)
    assert source is not None
    for name in targets:
        realm.land(source, name)
    return realm, source


@pytest.mark.parametrize(
    "selector",
    [
        None,
        "app=web",
        ["app"],
        {"matchLabels": "x"},
        {"matchLabels": {"app": ["web"]}},
        {"matchLabels": {"app": "web"}, "matchExpressions": {"key": "a"}},
        {"matchExpressions": ["a"]},
        {"matchExpressions": [{"operator": "In", "key": "a", "values": "b"}]},
        {"matchExpressions": [{"operator": "In", "key": "a", "values": [1]}]},
        {"matchExpressions": [{"operator": "Exists"}]},
        {"matchExpressions": [{"operator": "Near", "key": "a"}]},
        {"app": "web"},
    ],
)
def test_what_is_no_label_selector_selects_nothing(selector: Any) -> None:
    assert selector_text(selector) == ""


def test_a_label_selector_is_told_whole() -> None:
    terms = [
        {"key": "a", "operator": "In", "values": ["1", "2"]},
        {"key": "b", "operator": "NotIn", "values": ["3"]},
        {"key": "c", "operator": "Exists"},
        {"key": "d", "operator": "DoesNotExist"},
    ]
    text = selector_text({**SELECTOR, "matchExpressions": terms})
    assert text == "app=web,a in (1,2),b notin (3),c,!d"


@pytest.mark.parametrize("answer", [["web"], {"items": 7}, {"kind": "Status"}, "pods"])
async def test_an_answer_that_is_no_list_of_pods_is_an_error_of_ours(answer: Any) -> None:
    realm, source = realm_of("east")
    realm.apis["east"].answers[PODS] = answer
    with pytest.raises(MalformedAnswer):
        await pods_of(source, realm.world.targets["east"], 5)


async def test_no_target_delays_or_ends_the_looks_at_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """One never answers, one is not ready, a third makes the look raise; the fourth is looked at each time."""
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.05)
    realm, source = realm_of("east", "north", "south", "west")
    realm.apis["east"].stuck = True
    realm.apis["north"].answers[PODS] = RuntimeError("a bug")
    realm.world.targets["south"].set_reachable(False, 0.0, "away")
    realm.apis["west"].answers[PODS] = {"items": []}
    watch = PodWatch(realm.world, lambda source, target, reason, message: None)
    for name in realm.apis:
        watch.progressing(SyncKey(source.key, name), True)
    for _ in range(2):
        realm.now += 20
        watch.begin()
        watch.begin()  # a round that is under way is not doubled
        async with asyncio.timeout(5):
            await asyncio.gather(*watch._rounds.values())
            await asyncio.sleep(0)
    asked = {name: api.asked.count(PODS) for name, api in realm.apis.items()}
    assert asked == {"east": 2, "north": 2, "south": 0, "west": 2}
