"""Why Pods do not run: what targets answer, and that no answer ends the watching."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from status.report import Health
from syncer.api.keys import SyncKey
from syncer.engine import podwatch as room
from syncer.engine.podwatch import PodWatch, pods_of, selector_text
from syncer.engine.state import Source
from syncer.kube.errors import MalformedAnswer
from tests.syncer.engine.test_problems import report
from tests.syncer.engine.worlds import CRON_JOBS, DEPLOYMENTS, Realm

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


async def test_pods_of_a_cron_job_are_those_of_its_jobs() -> None:
    """It has no selector; only Jobs that name it as their owner count, and none means no question about Pods."""
    realm, _ = realm_of("east")
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "web-nightly", "namespace": "shop", "uid": "c"},
        "spec": {"schedule": "0 0 * * *"},
    }
    source = realm.put(CRON_JOBS, manifest)
    assert source is not None
    realm.land(source, "east")
    api, target = realm.apis["east"], realm.world.targets["east"]
    jobs = "/apis/batch/v1/namespaces/shop/jobs"
    api.answers[jobs] = {"items": []}
    assert await pods_of(source, target, 5) == []
    assert PODS not in api.asked
    mine, other = [{"uid": "east-c"}], [{"uid": "another"}]
    uids = [("j-1", mine), ("j-2", other), ("j-3", mine), ("no),uid", mine)]
    api.answers[jobs] = {"items": [{"metadata": {"uid": uid, "ownerReferences": owners}} for uid, owners in uids]}
    api.answers[PODS] = {"items": [{"metadata": {"name": "nightly-1"}}]}
    assert [pod["metadata"]["name"] for pod in await pods_of(source, target, 5)] == ["nightly-1"]
    assert api.params[PODS]["labelSelector"] == "batch.kubernetes.io/controller-uid in (j-1,j-3)"


async def test_a_copy_that_we_left_is_not_looked_at_for_ever() -> None:
    """P18: an orphan goes on progressing on its target, and nobody asks us about it any more."""
    realm, source = realm_of("east")
    report(source, "east", Health.PROGRESSING)
    watch = PodWatch(realm.world, lambda *_: None)
    watch.progressing(SyncKey(source.key, "east"), True)
    realm.world.drop_pair(source, "east")
    await watch.look(SyncKey(source.key, "east"))
    assert not watch._due
    assert PODS not in realm.apis["east"].asked


async def test_since_when_pods_wait_is_kept_until_the_reason_changes() -> None:
    realm, source = realm_of("east")
    report(source, "east", Health.PROGRESSING)
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    api, watch = realm.apis["east"], PodWatch(realm.world, lambda *_: None)
    api.answers[PODS] = {"items": [{"metadata": {"name": "web-1"}, "status": {"containerStatuses": [waiting]}}]}
    for _ in range(2):
        await watch.look(SyncKey(source.key, "east"))
    reason, since = source.pairs["east"].noted
    assert (reason, since) == ("ImagePullBackOff", realm.world.wall())
    (told,) = realm.reports.problems().items
    assert (told.reason, told.since) == ("ImagePullBackOff", "2027-01-15T08:00:00Z")
    api.answers[PODS] = {"items": []}
    await watch.look(SyncKey(source.key, "east"))
    assert source.pairs["east"].noted[0] == ""
