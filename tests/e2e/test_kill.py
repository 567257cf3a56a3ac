"""The operator dies at any moment, and nothing is lost, doubled or deleted that nobody asked to go."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from tests.e2e.audit import AuditLog
from tests.e2e.churn import ON, Churn
from tests.e2e.manifests import config_map, placement
from tests.support.api import Api
from tests.support.fleet import wait_until
from tests.support.operator import Installation

OBJECTS = 200
KILLS = 22
SEED = 20_261_121
NOT_OF_USERS = "kube-root-ca.crt"
CHOSEN = {"apiVersion": "v1", "kind": "ConfigMap", "labelSelector": {"matchLabels": {"go": "yes"}}}


def contents(api: Api, namespace: str) -> dict[str, dict[str, str]]:
    """{name: data} on a cluster."""
    found = api.items("configmap", namespace)
    return {name: item["data"] for name, item in found.items() if name != NOT_OF_USERS}


def uids(api: Api, namespace: str) -> dict[str, str]:
    return {name: item["metadata"]["uid"] for name, item in api.items("configmap", namespace).items()}


def converged(light: Installation, namespace: str, churn: Churn, seconds: float = 30) -> None:
    """Wait until both targets hold what users want; says what differs and what the operator thinks of it."""
    for name in light.fleet.targets:

        def equal(name: str = name) -> bool:
            return contents(light.api[name], namespace) == churn.wanted

        try:
            wait_until(equal, timeout_seconds=seconds)
        except AssertionError as error:
            there, said = contents(light.api[name], namespace), light.syncline("status", "-o", "wide").stdout
            missing, surplus = set(churn.wanted) - set(there), set(there) - set(churn.wanted)
            old = {item for item in set(there) & set(churn.wanted) if there[item] != churn.wanted[item]}
            raise AssertionError(f"{name} lacks {missing}, has {surplus} too much, {old} is old\n{said}") from error


@pytest.mark.timeout(300)
def test_the_operator_killed_again_and_again_reaches_the_same_end_and_deletes_nothing_more(
    light: Installation,
    light_room: str,
    audit: dict[str, AuditLog],
    measured: Callable[[str, float, str], None],
) -> None:
    """Done-when 4, F17: KILL 22 times during a churn of 200 objects; the targets' audit logs are the witness."""
    rng = random.Random(SEED)
    churn = Churn(light.api["upstream"], light_room, objects=OBJECTS, seed=SEED)
    light.kubectl.apply("upstream", placement(light_room, "churn", list(audit), CHOSEN))
    converged(light, light_room, churn)
    before = {name: uids(light.api[name], light_room) for name in audit}
    churn.start()
    try:
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.0, 2.5))
            light.operator.kill()
            light.operator.start(ready=rng.random() < 0.5)
    finally:
        churn.stop()
    began = time.monotonic()
    converged(light, light_room, churn)
    measured("caught up after the last kill", time.monotonic() - began, "s")
    measured("changes during the kills", churn.changes, "")
    assert "Everything is in sync." in light.must("status", "-n", light_room)
    for name, log in audit.items():
        assert log.deletes(light_room) <= churn.partings
        after = uids(light.api[name], light_room)
        stayed = set(before[name]) - set(churn.partings) - {NOT_OF_USERS}
        assert len(stayed) > OBJECTS / 2
        assert {item: after[item] for item in stayed} == {item: before[name][item] for item in stayed}
    # Whoever kills the operator next must not cut off the removal of so many objects: that freezes the targets.
    light.kubectl("upstream", "-n", light_room, "delete", "placement", "churn")
    for name in audit:
        wait_until(lambda name=name: not contents(light.api[name], light_room), timeout_seconds=60)  # type: ignore[misc]


def test_what_users_did_while_no_operator_ran_is_made_up_for(light: Installation, light_room: str) -> None:
    """F17: one of each change in the gap: new, edited, deleted, deleted and made anew, label out, label in."""
    upstream = light.api["upstream"]
    churn = Churn(upstream, light_room, objects=6, seed=SEED)
    light.kubectl.apply("upstream", placement(light_room, "gap", ["a", "b"], CHOSEN))
    converged(light, light_room, churn)
    light.operator.kill()
    upstream.patch("configmap", light_room, "c000", {"data": {"value": "edited"}})
    upstream.delete("configmap", light_room, "c001")
    upstream.delete("configmap", light_room, "c002")
    upstream.create("configmap", light_room, config_map(light_room, "c002", ON, value="again"))
    upstream.patch("configmap", light_room, "c003", {"metadata": {"labels": {"go": None}}})
    upstream.create("configmap", light_room, config_map(light_room, "c006", ON, value="new"))
    churn.wanted |= {"c000": {"value": "edited"}, "c002": {"value": "again"}, "c006": {"value": "new"}}
    del churn.wanted["c001"], churn.wanted["c003"]
    light.operator.start()
    converged(light, light_room, churn, seconds=15)
