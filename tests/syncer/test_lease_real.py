"""The election between processes, on a real API server: KILL, STOP and CONT, SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.fleet import Fleet
from tests.support.fleet import Kubectl, wait_until

QUICK = ("3", "2", "0.4")
DEFAULTS = ("15", "10", "2")
ROOT = Path(__file__).parents[2]


class Replica:
    """One process of `tests.support.replica`."""

    def __init__(self, arguments: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.replica", *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.events: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.events.append(json.loads(line))

    def last(self) -> str:
        return self.events[-1]["what"] if self.events else ""

    def leads(self) -> bool:
        return self.last() == "leading"

    def send(self, number: signal.Signals) -> float:
        """Send a signal; returns when."""
        os.kill(self._process.pid, number)
        return time.monotonic()

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def wait(self) -> int:
        return self._process.wait(10)


@pytest.fixture
def election(
    fleet: Fleet, kubectl: Kubectl, namespace: str
) -> Iterator[tuple[Callable[..., Replica], Callable[[], dict[str, str]]]]:
    """(start a replica, read what was written last)."""
    kubectl.apply("upstream", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "syncline-system"}})
    kubectl("upstream", "create", "configmap", "target", "-n", namespace)
    name = f"test-{uuid.uuid4().hex[:8]}"
    replicas: list[Replica] = []

    def start(timing: tuple[str, ...] = QUICK) -> Replica:
        replica = Replica([str(fleet.upstream.kubeconfig), name, namespace, "target", *timing])
        replicas.append(replica)
        return replica

    def written() -> dict[str, str]:
        found = kubectl.get("upstream", "configmap", "target", namespace)
        return (found or {}).get("data") or {}

    yield start, written
    for replica in replicas:
        replica.end()
    kubectl("upstream", "delete", "lease", name, "-n", "syncline-system", "--ignore-not-found")


def two(start: Callable[..., Replica], timing: tuple[str, ...] = QUICK) -> tuple[Replica, Replica]:
    """A leader and a candidate that has looked at the Lease."""
    leader = start(timing)
    wait_until(leader.leads)
    candidate = start(timing)
    time.sleep(3 * float(timing[2]))  # three looks, at none of which it may lead
    assert not candidate.leads()
    return leader, candidate


def test_after_a_kill_the_other_replica_leads_within_twenty_seconds(election: Any) -> None:
    """L08, with the default times."""
    start, written = election
    leader, candidate = two(start, DEFAULTS)
    killed = leader.send(signal.SIGKILL)
    wait_until(candidate.leads, timeout_seconds=25)
    took = candidate.events[-1]["at"] - killed
    assert took <= 20.0
    before = written()
    wait_until(lambda: written().get("by") != before.get("by") or written().get("at") != before.get("at"))


def test_five_kills_in_a_row_always_leave_one_leader(election: Any) -> None:
    """L08, in small: replicas come and go."""
    start, _ = election
    leader, candidate = two(start)
    for _ in range(5):
        leader.send(signal.SIGKILL)
        wait_until(candidate.leads, timeout_seconds=10)
        leader, candidate = candidate, start()


def test_a_stopped_leader_writes_nothing_after_it_wakes(election: Any) -> None:
    """F19: STOP for twice the lease, then CONT; the old leader idles within a second and no write of it arrives."""
    start, written = election
    leader, candidate = two(start)
    wait_until(lambda: written().get("by"))
    old = written()["by"]
    leader.send(signal.SIGSTOP)
    wait_until(candidate.leads, timeout_seconds=10)
    wait_until(lambda: written()["by"] != old)
    time.sleep(3)  # the rest of two leases
    woken = leader.send(signal.SIGCONT)
    seen: set[str] = set()
    while time.monotonic() < woken + 2:
        seen.add(written()["by"])
    assert old not in seen
    wait_until(lambda: leader.last() == "lost")
    assert leader.events[-1]["at"] - woken <= 1.0
    assert candidate.leads()


def test_a_leader_that_is_told_to_end_hands_over_at_once(election: Any) -> None:
    """F24: SIGTERM releases the Lease; the candidate does not wait for it to expire."""
    start, _ = election
    leader, candidate = two(start, DEFAULTS)
    told = leader.send(signal.SIGTERM)
    assert leader.wait() == 0
    wait_until(candidate.leads, timeout_seconds=10)
    assert candidate.events[-1]["at"] - told <= 4.0
