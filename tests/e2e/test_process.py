"""The operator as a process: its end, its replicas."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.audit import AuditLog
from tests.e2e.manifests import config_map, placement
from tests.support.fleet import wait_until
from tests.support.operator import Installation, Operator, condition

QUICK_LEASE = ("--lease-seconds", "4", "--lease-renew-seconds", "3", "--lease-retry-seconds", "0.5")


@pytest.fixture
def replicas(light: Installation) -> Iterator[Callable[..., list[Operator]]]:
    """Start replicas with the given options in place of the one operator; the first leads."""
    light.operator.end()
    started: list[Operator] = []

    def start(*options: str) -> list[Operator]:
        for name in ("replica-1", "replica-2"):
            replica = Operator(light.fleet, name, "--probe-seconds", "1", *options)
            started.append(replica)
            replica.start()
        assert [replica.metric("syncline_leader") for replica in started] == [1, 0]
        return started

    yield start
    for replica in started:
        if replica.alive:
            replica.send(signal.SIGCONT)
            replica.end()


def change(light: Installation, room: str, value: str) -> None:
    """Give ConfigMap `c` a value, upstream."""
    light.kubectl.apply("upstream", config_map(room, "c", value=value))


def wait_synced(light: Installation, room: str, value: str, seconds: float = 20) -> None:
    """Until both targets have that value."""
    for name in ("a", "b"):

        def there(name: str = name) -> bool:
            found = light.api[name].get("configmap", room, "c")
            return found is not None and found["data"] == {"value": value}

        wait_until(there, timeout_seconds=seconds)


def test_a_replica_takes_over_within_twenty_seconds_after_a_kill(
    light: Installation,
    light_room: str,
    replicas: Callable[..., list[Operator]],
    measured: Callable[[str, float, str], None],
) -> None:
    """L08 with the default times of the lease: what changed meanwhile is synced by the new leader."""
    leader, candidate = replicas()
    light.kubectl.apply("upstream", placement(light_room, "all", ["a", "b"]))
    change(light, light_room, "1")
    wait_synced(light, light_room, "1")
    leader.kill()
    killed = time.monotonic()
    change(light, light_room, "2")
    wait_until(lambda: candidate.metric("syncline_leader") == 1, timeout_seconds=30)
    took = time.monotonic() - killed
    wait_synced(light, light_room, "2")
    measured("takeover after KILL", took, "s")
    measured("first change synced after KILL", time.monotonic() - killed, "s")
    assert took <= 20


def test_a_leader_that_slept_through_two_leases_stops_writing(
    light: Installation,
    light_room: str,
    audit: dict[str, AuditLog],
    replicas: Callable[..., list[Operator]],
) -> None:
    """F19: STOP the leader for two leases, CONT: it steps down within a second, and no write of it arrives."""
    leader, candidate = replicas(*QUICK_LEASE)
    light.kubectl.apply("upstream", placement(light_room, "all", ["a", "b"]))
    change(light, light_room, "1")
    wait_synced(light, light_room, "1")
    leader.send(signal.SIGSTOP)
    stopped = time.monotonic()
    change(light, light_room, "2")
    wait_until(lambda: candidate.metric("syncline_leader") == 1, timeout_seconds=15)
    wait_synced(light, light_room, "2")
    time.sleep(max(0.0, stopped + 8 - time.monotonic()))  # two whole leases
    versions = [light.api[name].get("configmap", light_room, "c")["metadata"]["resourceVersion"] for name in audit]  # type: ignore[index]
    leader.send(signal.SIGCONT)
    wait_until(lambda: leader.metric("syncline_leader") == 0, timeout_seconds=1.5)
    time.sleep(1.0)
    quiet = leader.metric("syncline_api_writes_total")
    assert [light.api[n].get("configmap", light_room, "c")["metadata"]["resourceVersion"] for n in audit] == versions  # type: ignore[index]
    change(light, light_room, "3")
    wait_synced(light, light_room, "3")
    assert leader.metric("syncline_api_writes_total") == quiet
    for name, log in audit.items():
        writes = [event["verb"] for event in log.writes(light_room) if event["objectRef"].get("name") == "c"]
        assert writes == ["patch"] * 3, name


def test_webhooks_switched_off_stand_in_nobodys_way(light: Installation, light_room: str) -> None:
    """An operator without webhooks after one with them: placements are accepted, and judged when they are read."""
    light.operator.end()
    bare = Operator(light.fleet, "bare", "--webhooks", "off", "--no-leader-elect")
    bare.start()
    try:
        wait_until(lambda: light.kubectl.apply("upstream", placement(light_room, "all", ["a", "b"])))
        change(light, light_room, "1")
        wait_synced(light, light_room, "1")
        broken = [{"cel": {"path": "/data/k", "expression": "object.data. +"}}]
        light.kubectl.apply("upstream", placement(light_room, "wrong", ["a"], transforms=broken))

        def judged() -> dict[str, Any]:
            found = light.api["upstream"].get("placement", light_room, "wrong")
            said = condition(found, "Synced")
            assert said.get("reason") == "TransformFailed", found
            return said

        assert "transforms" in wait_until(judged)["message"]
        told = light.syncline("status", "-n", light_room)
        assert told.returncode == 1
        assert "TransformFailed" in told.stdout
        assert "What to do:" in told.stdout
    finally:
        bare.end()


def test_sigterm_lets_go_of_the_lease_and_the_next_one_leads_at_once(
    light: Installation,
    light_room: str,
    replicas: Callable[..., list[Operator]],
    measured: Callable[[str, float, str], None],
) -> None:
    """F24: in the middle of work; drained within 10 s, exit status 0, nobody waits for the lease to expire."""
    leader, candidate = replicas()
    light.kubectl.apply("upstream", placement(light_room, "all", ["a", "b"]))
    light.kubectl.apply("upstream", *(config_map(light_room, f"many-{number}", value="1") for number in range(100)))
    change(light, light_room, "1")
    took = leader.end()
    assert took < 10
    measured("SIGTERM to the end of the process", took, "s")
    log = (light.fleet.table.logs / "supervisor.log").read_text()
    assert "replica-1 ended" in log
    assert "status 0" in log.split("replica-1 ended")[-1].splitlines()[0]
    wait_until(lambda: candidate.metric("syncline_leader") == 1, timeout_seconds=8)
    wait_synced(light, light_room, "1")
    for name in ("a", "b"):
        wait_until(lambda name=name: len(light.api[name].items("configmap", light_room)) >= 101)  # type: ignore[misc]
