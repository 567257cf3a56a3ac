"""Targets come, lose their credentials, freeze, and go."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.conftest import REGIONS
from tests.e2e.manifests import CONFIG_MAPS, config_map, deployment, placement
from tests.support.fleet import wait_until
from tests.support.operator import Installation

CROWD = 30


@pytest.fixture
def west(installation: Installation) -> Iterator[Callable[[], None]]:
    """Adds target west as it was; called at the end in any case."""

    def add() -> None:
        installation.add_target("west", "--label", f"region={REGIONS['west']}", "--allow", "*.shop.example")

    yield add
    add()


def uids(installation: Installation, cluster: str, room: str) -> dict[str, str]:
    """{name: uid} of the ConfigMaps of a namespace."""
    return {name: item["metadata"]["uid"] for name, item in installation.api[cluster].items("configmap", room).items()}


def wait_data(installation: Installation, cluster: str, room: str, name: str, value: str, seconds: float = 20) -> None:
    """Until ConfigMap `name` on the cluster holds that value."""

    def there() -> bool:
        found = installation.api[cluster].get("configmap", room, name)
        return found is not None and found["data"] == {"value": value}

    wait_until(there, timeout_seconds=seconds)


def test_a_revoked_token_is_told_and_the_target_goes_on_once_it_is_renewed(
    installation: Installation, room: str, west: Callable[[], None]
) -> None:
    """A token revoked in mid-work: Unauthorized, nothing deleted, the other target served; `target add` renews it."""
    api, kubectl = installation.api, installation.kubectl
    kubectl.apply(
        "upstream", *(config_map(room, f"c{n}", value="1") for n in range(5)), placement(room, "all", ["east", "west"])
    )
    for cluster, number in itertools.product(("east", "west"), range(5)):
        wait_data(installation, cluster, room, f"c{number}", "1")
    before = uids(installation, "west", room)
    secrets = api["west"].items("secret", "syncline-system")
    tokens = [name for name, item in secrets.items() if item["type"] == "kubernetes.io/service-account-token"]
    assert len(tokens) == 1
    kubectl("west", "-n", "syncline-system", "delete", "secret", tokens[0])
    wait_until(lambda: installation.target_condition("west").get("reason") == "Unauthorized", timeout_seconds=45)
    kubectl.apply("upstream", config_map(room, "c0", value="2"))
    wait_data(installation, "east", room, "c0", "2", seconds=5)
    told = installation.syncline("status")
    assert told.returncode == 1
    assert "SyncTarget/west" in told.stdout
    assert "Unauthorized" in installation.must("get", "targets")
    assert uids(installation, "west", room) == before
    west()
    assert installation.target_ready("west")
    wait_data(installation, "west", room, "c0", "2")
    assert uids(installation, "west", room) == before
    wait_until(lambda: "Everything is in sync." in installation.syncline("status", "-n", room).stdout)


def test_removing_a_target_with_orphan_leaves_everything_running(
    installation: Installation, room: str, west: Callable[[], None]
) -> None:
    """Intent, and the policy Orphan: nothing is deleted there; added again, the target takes over what is there."""
    installation.kubectl.apply(
        "upstream", config_map(room, "c", value="1"), placement(room, "all", ["west"], CONFIG_MAPS)
    )
    wait_data(installation, "west", room, "c", "1")
    before = uids(installation, "west", room)
    installation.must("target", "remove", "west", "--orphan")
    assert installation.api["upstream"].get("synctarget", "", "west") is None
    assert uids(installation, "west", room) == before
    told = installation.syncline("status", "-n", room)
    assert "TargetNotFound" in told.stdout
    assert "syncline target add" in told.stdout
    west()
    installation.kubectl.apply("upstream", config_map(room, "c", value="2"))
    wait_data(installation, "west", room, "c", "2")
    assert uids(installation, "west", room) == before


def test_removing_a_target_drains_what_was_placed_there_and_nothing_else(
    installation: Installation, room: str, west: Callable[[], None]
) -> None:
    """Intent, and the policy Drain: ours go, a foreign object of the same namespace stays, the other target too."""
    api, kubectl = installation.api, installation.kubectl
    kubectl.apply(
        "upstream",
        deployment(room, "web", 1),
        *(config_map(room, f"c{n}", value="1") for n in range(20)),
        placement(room, "all", ["east", "west"]),
    )
    for cluster in ("east", "west"):
        wait_data(installation, cluster, room, "c19", "1")
    kubectl.apply("west", config_map(room, "foreign", value="mine"))
    installation.must("target", "remove", "west")
    left = set(uids(installation, "west", room)) - {"kube-root-ca.crt"}
    assert left == {"foreign"}
    assert api["west"].get("deployment", room, "web") is None
    assert len(set(uids(installation, "east", room))) == 21
    west()
    wait_data(installation, "west", room, "c19", "1")


def test_a_change_that_would_take_everything_away_freezes_the_target_until_it_is_acknowledged(
    installation: Installation, room: str
) -> None:
    """F55: at most max(10, 5 %) go; then Frozen with a token, told with the way on; `syncline ack` lets the rest go."""
    api, kubectl = installation.api, installation.kubectl
    chosen = {"apiVersion": "v1", "kind": "ConfigMap", "labelSelector": {"matchLabels": {"go": "yes"}}}
    crowd = [config_map(room, f"c{n:02}", {"go": "yes"}, value="1") for n in range(CROWD)]
    kubectl.apply("upstream", *crowd, placement(room, "all", ["east"], chosen))

    def left() -> int:
        return len(set(uids(installation, "east", room)) - {"kube-root-ca.crt"})

    wait_until(lambda: left() == CROWD)
    kubectl("upstream", "-n", room, "label", "configmap", "-l", "go=yes", "go-")

    def frozen() -> str:
        done = installation.syncline("status")
        assert done.returncode == 1
        assert "Frozen" in done.stdout
        return done.stdout

    told = wait_until(frozen)
    assert "syncline ack" in told
    assert CROWD - 12 <= left() < CROWD
    wait_until(lambda: "Frozen" in installation.must("get", "targets"))
    kubectl.apply("upstream", config_map(room, "new", {"go": "yes"}, value="1"))
    wait_data(installation, "east", room, "new", "1")
    assert "goes on" in installation.must("ack", "east")
    wait_until(lambda: left() == 1)
    wait_until(lambda: "Frozen" not in installation.must("get", "targets"))
    assert len(set(api["upstream"].items("configmap", room)) - {"kube-root-ca.crt"}) == CROWD + 1


def test_a_cordoned_target_keeps_what_it_has_and_takes_nothing_new(installation: Installation, room: str) -> None:
    """`syncline cordon` and `uncordon`, as the CLI tells them."""
    kubectl = installation.kubectl
    kubectl.apply(
        "upstream",
        config_map(room, "old", value="1"),
        placement(room, "old", ["west"], CONFIG_MAPS | {"names": ["old"]}),
    )
    wait_data(installation, "west", room, "old", "1")
    installation.must("cordon", "west")
    try:
        kubectl.apply(
            "upstream",
            config_map(room, "new", value="1"),
            placement(room, "new", ["west"], CONFIG_MAPS | {"names": ["new"]}),
        )
        kubectl.apply("upstream", config_map(room, "old", value="2"))
        wait_data(installation, "west", room, "old", "2")

        def refused() -> bool:
            said = installation.syncline("status", "-n", room).stdout
            return "TargetUnschedulable" in said and "syncline uncordon" in said

        wait_until(refused)
        assert installation.api["west"].get("configmap", room, "new") is None
    finally:
        installation.must("uncordon", "west")
    wait_data(installation, "west", room, "new", "1")
