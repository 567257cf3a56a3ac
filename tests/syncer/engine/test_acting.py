"""An upstream that runs workloads itself: they are refused, what placements hold and other kinds go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from deploy.local.fleet import Fleet
from syncer.api.names import Reason
from syncer.engine.acting import evidence
from syncer.engine.pair import State
from syncer.engine.placementstatus import fold
from syncer.engine.planner import JOB
from syncer.engine.situation import Held
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.objects import KubeObject, decode_object
from tests.support.engine import config_map as real_config_map
from tests.support.engine import deployment as real_deployment
from tests.support.engine import placement, quiet, running_engine
from tests.syncer.engine.test_inline import held, hold, wish
from tests.syncer.engine.worlds import CONFIG_MAPS, DEPLOYMENTS, Realm, config_map, deployment

EARLY, LATE = "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"
CREATED = "2026-01-01T00:00:00Z"


def written(**managers: str) -> KubeObject:
    """A Deployment whose status these managers wrote, with the time of each."""
    entries = [
        {"manager": name.replace("_", "-"), "operation": "Update", "subresource": "status", "time": time}
        for name, time in managers.items()
    ]
    spec = {"manager": "kube-controller-manager", "operation": "Update", "time": LATE}  # the revision annotation
    metadata = {"uid": "u", "resourceVersion": "9", "generation": 1, "managedFields": [spec, *entries]}
    manifest = deployment("other", "elsewhere")
    return decode_object(orjson.dumps({**manifest, "metadata": {**manifest["metadata"], **metadata}}), manager=None)


@pytest.mark.parametrize(
    ("managers", "manager"),
    [
        ({}, ""),
        ({"kube_controller_manager": EARLY}, "kube-controller-manager"),
        ({"syncline_status": EARLY, "kube_controller_manager": LATE}, "kube-controller-manager"),
        ({"syncline_status": LATE, "kube_controller_manager": EARLY}, ""),
        ({"syncline_status": LATE, "kube_controller_manager": LATE}, ""),
        ({"kubectl_edit": LATE}, "kubectl-edit"),
    ],
)
def test_the_last_writer_of_the_status_is_known(managers: dict[str, str], manager: str) -> None:
    assert written(**managers).status_manager == manager


def test_a_controller_is_evidence_and_a_person_is_not() -> None:
    kind = DEPLOYMENTS.group_kind
    assert "kube-controller-manager writes the status of Deployment elsewhere/other" in evidence(
        kind, written(kube_controller_manager=EARLY)
    )
    assert evidence(kind, written(kubectl_edit=EARLY)) == ""
    assert evidence(CONFIG_MAPS.group_kind, written(kube_controller_manager=EARLY)) == ""
    assert evidence(JOB, written(k3s=EARLY))


def act(realm: Realm) -> None:
    """A workload that nobody placed shows that the upstream acts."""
    realm.catalog.source_event(DEPLOYMENTS, InformerEvent(EventType.ADDED, written(kube_controller_manager=EARLY)))


@pytest.mark.parametrize("before", [True, False])
def test_workloads_are_refused_whatever_came_first(before: bool) -> None:
    realm = Realm()
    realm.target("east")
    uid = realm.place()
    if before:
        act(realm)
    source = realm.deployment()
    other = realm.put(CONFIG_MAPS, config_map())
    assert other is not None
    if not before:
        act(realm)
    assert source.plan.refusals["east"].reason == Reason.UPSTREAM_CONTROLLER_ACTIVE
    assert not source.plan.assignments
    assert other.plan.assignments.keys() == {"east"}
    status = fold(realm.world, realm.world.placements[uid], {}, CREATED)
    assert status["reason"] == Reason.UPSTREAM_CONTROLLER_ACTIVE
    refusal = source.plan.refusals["east"]
    realm.settle(source, "east", State.FAILED, refusal.reason, refusal.message)
    (problem,) = [p for p in realm.reports.problems().items if p.reason == Reason.UPSTREAM_CONTROLLER_ACTIVE]
    assert "spec.manifests" in problem.hint


def test_what_was_applied_before_it_was_known_stays() -> None:
    """A refusal is nobody's wish to delete."""
    realm = Realm()
    realm.target("east")
    realm.place()
    source = realm.deployment()
    realm.land(source, "east")
    act(realm)
    assert source.pairs["east"].unplaced is None
    assert isinstance(wish(realm, source), Held)


def test_the_refused_object_leaves_its_place_to_what_a_placement_holds() -> None:
    realm = Realm()
    realm.target("east")
    realm.place(conflict={"priority": 9})
    upstream = realm.deployment()
    act(realm)
    inline = held(realm, hold(realm, "one", deployment()), info=DEPLOYMENTS)
    assert inline.plan.assignments.keys() == {"east"}
    assert not upstream.plan.refusals
    assert inline.pairs["east"].outcome.state is State.PENDING


async def test_a_real_upstream_that_acts_is_noticed(own_fleet: Callable[..., Fleet]) -> None:
    """The Deployment controller runs upstream: workloads are refused, held ones run, a restart knows at once."""
    more = ("--controllers=deployment-controller,replicaset-controller",)
    fleet = own_fleet(targets=("east",), arguments={"upstream.controller-manager": more})
    async with running_engine(fleet, ("east",)) as engine:
        await engine.kubectl("upstream", "create", "namespace", "shop")
        plain = real_deployment("plain", "shop", 1)
        await engine.apply(plain, placement("all", "shop", engine.targets.values()))

        def refused(item: Any) -> bool:
            return bool(item["status"]["reason"] == Reason.UPSTREAM_CONTROLLER_ACTIVE)

        await engine.until("upstream", "placement", "all", "shop", refused, "refused")
        one = placement("one", "shop", engine.targets.values())
        del one["spec"]["resources"]
        one["spec"]["manifests"] = [real_deployment("inline", "shop", 1)]
        await engine.apply(real_deployment("second", "shop", 1), real_config_map("a", "shop", k="1"), one)
        await engine.until("east", "deployment", "inline", "shop", lambda o: o["status"]["readyReplicas"] == 1, "runs")
        await engine.until("east", "configmap", "a", "shop", lambda o: o, "other kinds go on")
        await quiet(engine)
        assert await engine.get("east", "deployment", "second", "shop") is None
        await engine.stop()
        await engine.apply(real_deployment("dns", "kube-system", 1))
        await engine.until(
            "upstream", "deployment", "dns", "kube-system", lambda o: o["status"]["observedGeneration"], "acts"
        )
        await engine.kubectl("upstream", "delete", "deployment", "-n", "shop", "--all", "--wait=true")
        await engine.start()
        assert "Deployment kube-system/dns" in engine.engine.world.acting
