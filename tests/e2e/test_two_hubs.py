"""Several replicas of the operator share a tunnelled target: each answers for it, and the loss of one is short.

They run with the rights of deploy/rbac alone. The agent is told one address, and finds the others by itself.
"""

from __future__ import annotations

import base64
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.fleet import Fleet
from syncer.hub.certificates import KeyPair, load_pair
from syncer.hub.members import lease_name
from tests.e2e.manifests import config_map, placement
from tests.support.agent import Agent, join
from tests.support.fleet import start_fleet, stop_fleet, wait_until
from tests.support.operator import Installation, Operator
from tests.support.process import get

TARGET = "far"
ROOM = "default"
FAILOVER_SECONDS = 5.0  # after a replica died, requests that begin later do not fail
OPTIONS = ("--probe-seconds", "1", "--probe-timeout-seconds", "1")
TUNNELLED: dict[str, Any] = {
    "apiVersion": "syncline.io/v1alpha1",
    "kind": "SyncTarget",
    "metadata": {"name": TARGET},
    "spec": {"connection": {"tunnel": {}}},
}


class Place:
    """Three replicas, of which tests run those that they need, and the agent of the target."""

    def __init__(self, fleet: Fleet) -> None:
        self.installed = Installation(fleet, *OPTIONS)
        kubeconfig = fleet.upstream.user("syncline-operator")
        others = [Operator(fleet, f"operator-{number}", *OPTIONS, kubeconfig=kubeconfig) for number in (2, 3)]
        self.replicas = [self.installed.operator, *others]
        self.agent: Agent | None = None

    def prepare(self, folder: Path) -> None:
        """Kinds, rights, one replica, the target, and its agent's credentials."""
        installed = self.installed
        installed.prepare()
        reader = ("create", "clusterrole", "reader", "--verb=get,list", "--resource=configmaps")
        installed.kubectl(TARGET, *reader)  # no controller fills the roles of Kubernetes there
        for cluster, role in (("upstream", "syncline-proxy-targets"), (TARGET, "reader")):
            binding = ("create", "clusterrolebinding", f"alice-{role}", f"--clusterrole={role}", "--user=alice")
            installed.kubectl(cluster, *binding)
        self.replicas[0].start()
        installed.kubectl.apply("upstream", TUNNELLED)
        credentials = join(installed, TARGET, TARGET, folder / "credentials")
        self.alice = self._alice()
        self.agent = Agent(installed, "agent", TARGET, credentials, "--drain-seconds", "2")

    def run(self, count: int) -> list[Operator]:
        """So many replicas, ready, and the agent linked to two of them, or to the only one."""
        assert self.agent is not None
        for replica in self.replicas[count:]:
            if replica.alive:
                replica.end()
        for replica in self.replicas[:count]:
            if not replica.alive:
                replica.start()
        if not self.agent.alive:
            self.agent.start()
        links = min(2, count)
        wait_until(lambda: self.links() == [1] * links + [0] * (count - links), timeout_seconds=60)
        wait_until(lambda: self.installed.target_ready(TARGET), timeout_seconds=60)
        wait_until(lambda: self.told() == links, timeout_seconds=20)
        assert [self.ask(replica) for replica in self.replicas[:count]] == [200] * count
        # People are answered by those that do not lead too.
        wait_until(lambda: {self.ask(one, "/api/v1/problems") for one in self.replicas[:count]} == {200})
        return self.replicas[:count]

    def links(self) -> list[int]:
        """Of each living replica, the most first."""
        living = [replica for replica in self.replicas if replica.alive]
        return sorted((int(replica.metric("syncline_tunnel_links")) for replica in living), reverse=True)

    def forwarded(self, direction: str) -> float:
        """Streams that replicas took over from each other."""
        label = f'direction="{direction}"'
        return sum(one.metric("syncline_tunnel_forwarded_total", label) for one in self.replicas if one.alive)

    def told(self) -> int:
        """The links that the SyncTarget shows."""
        found = self.installed.api["upstream"].get("synctarget", "", TARGET) or {}
        return int(found["status"].get("tunnel", {}).get("links", 0))

    def leader(self) -> Operator:
        """The one that leads; after a kill there is none for a while."""
        living = [replica for replica in self.replicas if replica.alive]
        leading = wait_until(lambda: [one for one in living if one.metric("syncline_leader") == 1], timeout_seconds=40)
        return leading[0]

    def ask(self, replica: Operator, path: str = f"/targets/{TARGET}/api/v1/namespaces/{ROOM}/configmaps") -> int:
        """Status of a request of an ordinary user, at one replica; 0 where nobody answers."""
        try:
            return get(f"https://127.0.0.1:{replica.hub_port}{path}", tls=self.alice).status
        except OSError:
            return 0

    def _alice(self) -> ssl.SSLContext:
        """An ordinary user, as a caller of the hub."""
        found = self.installed.api["upstream"].get("configmap", "syncline-system", "syncline-hub")
        assert found is not None
        context = ssl.create_default_context(cadata=found["data"]["caBundle"])
        user = yaml.safe_load(self.installed.fleet.upstream.user("alice").read_text())["users"][0]["user"]
        certificate, key = (base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key"))
        load_pair(context, KeyPair(certificate, key))
        return context


class Asking:
    """Requests at one replica, without a pause, from several threads."""

    def __init__(self, place: Place, replica: Operator) -> None:
        self._place, self._replica = place, replica
        self._stop = threading.Event()
        self.answers: list[tuple[float, float, int]] = []  # (begun, ended, status), monotonic
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            began = time.monotonic()
            self.answers.append((began, time.monotonic(), self._place.ask(self._replica)))

    @contextmanager
    def going_on(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def failed(self, since: float) -> list[tuple[float, int]]:
        """(seconds after `since` at which it began, status) of requests without the answer."""
        return [(began - since, status) for began, _, status in self.answers if status != 200]

    def count(self, since: float) -> int:
        """Requests that began after."""
        return sum(began > since for began, _, _ in self.answers)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    fleet = start_fleet(tmp_path_factory.mktemp("two-hubs"), targets=(TARGET,), light=True)
    made = Place(fleet)
    made.prepare(tmp_path_factory.mktemp("agent"))
    yield made
    made.installed.close()
    stop_fleet(fleet)
    for replica in made.replicas:
        assert not [line for line in replica.log().splitlines() if '"exception"' in line or "Traceback" in line]
    assert made.agent is not None
    assert "Traceback" not in made.agent.log()


def value(place: Place, name: str) -> str:
    found = place.installed.api[TARGET].get("configmap", ROOM, name)
    return str(found["data"]["value"]) if found is not None else ""


@contextmanager
def synced(place: Place, name: str) -> Iterator[str]:
    """A ConfigMap that is on the target."""
    kubectl = place.installed.kubectl
    chosen = {"apiVersion": "v1", "kind": "ConfigMap", "labelSelector": {"matchLabels": {"test": name}}}
    kubectl.apply(
        "upstream", config_map(ROOM, name, {"test": name}, value="1"), placement(ROOM, name, [TARGET], chosen)
    )
    wait_until(lambda: value(place, name) == "1", timeout_seconds=60)
    yield name
    kubectl("upstream", "delete", "placement", name, "-n", ROOM, "--wait=false")


@pytest.mark.timeout(240)
def test_the_death_of_the_leader_is_short_for_requests_and_for_the_engine(place: Place) -> None:
    """L08: the other replica answers all the while, takes over within 20 s, and writes through its own link."""
    place.run(2)
    dying = place.leader()
    (survivor,) = (replica for replica in place.replicas[:2] if replica is not dying)
    asking = Asking(place, survivor)
    with asking.going_on(), synced(place, "taken-over") as name:
        wait_until(lambda: len(asking.answers) > 10)
        killed = time.monotonic()
        dying.kill()
        assert place.ask(survivor, "/api/v1/problems") == 503  # at once: nobody knows them until another leads
        place.installed.api["upstream"].patch("configmap", ROOM, name, {"data": {"value": "2"}})
        wait_until(lambda: value(place, name) == "2", timeout_seconds=40)
        wait_until(lambda: time.monotonic() > killed + 2 * FAILOVER_SECONDS, timeout_seconds=20)
    assert [late for late in asking.failed(killed) if late[0] > FAILOVER_SECONDS] == []
    assert asking.count(killed + FAILOVER_SECONDS) > 10
    assert place.ask(survivor, "/api/v1/problems") == 200
    wait_until(lambda: place.told() == 1, timeout_seconds=20)
    dying.start()
    wait_until(lambda: place.links() == [1, 1], timeout_seconds=60)
    assert place.ask(dying) == 200


@pytest.mark.timeout(240)
def test_a_replica_without_a_link_asks_one_that_has_it_and_another_one_when_that_died(place: Place) -> None:
    """Every replica answers for every target, one hop away; the agent finds its second link among those that live."""
    place.run(3)
    (without,) = (replica for replica in place.replicas if replica.metric("syncline_tunnel_links") == 0)
    holders = [replica for replica in place.replicas if replica is not without]
    assert place.forwarded("out") >= 1
    assert place.forwarded("out") == place.forwarded("in")
    asking = Asking(place, without)
    with asking.going_on():
        wait_until(lambda: len(asking.answers) > 10)
        killed = time.monotonic()
        carrier = max(holders, key=lambda one: one.metric("syncline_tunnel_forwarded_total", 'direction="in"'))
        carrier.kill()
        wait_until(lambda: place.links() == [1, 1], timeout_seconds=60)
        wait_until(lambda: time.monotonic() > killed + 2 * FAILOVER_SECONDS, timeout_seconds=20)
    assert [late for late in asking.failed(killed) if late[0] > FAILOVER_SECONDS] == []
    assert asking.count(killed + FAILOVER_SECONDS) > 10


@pytest.mark.timeout(240)
def test_a_replica_that_ends_in_order_is_missed_by_nobody(place: Place) -> None:
    """SIGTERM: its Lease goes first, then its agents, then itself; requests at the other never notice."""
    place.run(2)
    ending = place.leader()
    kubectl = place.installed.kubectl
    own = ("upstream", "get", "leases", "-n", "syncline-system")
    identity = kubectl(*own, "syncline-operator", "-o", "jsonpath={.spec.holderIdentity}")
    assert lease_name(identity) in kubectl(*own, "-o", "name")
    (other,) = (replica for replica in place.replicas[:2] if replica is not ending)
    asking = Asking(place, other)
    with asking.going_on():
        wait_until(lambda: len(asking.answers) > 10)
        began = time.monotonic()
        ending.end()
        wait_until(lambda: place.told() == 1, timeout_seconds=30)
    assert asking.failed(began) == []
    assert lease_name(identity) not in kubectl(*own, "-o", "name")


@pytest.mark.timeout(240)
def test_a_frozen_leader_is_given_up_and_finds_its_place_again(place: Place) -> None:
    """STOP and CONT: its links are silent, not closed; the other replica needs nothing of it."""
    place.run(2)
    frozen = place.leader()
    (other,) = (replica for replica in place.replicas[:2] if replica is not frozen)
    asking = Asking(place, other)
    with asking.going_on(), synced(place, "frozen") as name:
        wait_until(lambda: len(asking.answers) > 10)
        stopped = time.monotonic()
        frozen.send(signal.SIGSTOP)
        try:
            place.installed.api["upstream"].patch("configmap", ROOM, name, {"data": {"value": "2"}})
            wait_until(lambda: other.metric("syncline_replicas") == 1, timeout_seconds=20)
            wait_until(lambda: value(place, name) == "2", timeout_seconds=40)
        finally:
            frozen.send(signal.SIGCONT)
        wait_until(lambda: place.links() == [1, 1], timeout_seconds=60)
    assert asking.failed(stopped) == []
    assert place.leader() is other
    wait_until(lambda: other.metric("syncline_replicas") == 2)
    assert place.ask(frozen) == 200
