"""What a fleet may be asked to be, and which processes and flags that gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import components
from deploy.local.cli import parse_request
from deploy.local.errors import GroundError
from deploy.local.plan import FleetRequest, plan_clusters, ports_needed

FOLDER = Path("/fleet")


def flags(argv: list[str]) -> dict[str, str]:
    """{flag: value} of a command line."""
    return dict(argument.split("=", 1) for argument in argv if "=" in argument)


@pytest.mark.parametrize("name", ["East", "a" * 41, "", "-a", "a.b", "upstream", "a/b", "ä"])
def test_a_name_that_is_no_dns_label_is_refused(name: str) -> None:
    """B05: and upstream is a name of its own."""
    with pytest.raises(GroundError, match="cannot be a target's name"):
        FleetRequest(targets=(name,))


@pytest.mark.parametrize("targets", [(), ("a", "a"), tuple(f"t{number}" for number in range(61))])
def test_no_target_too_many_and_twice_the_same_are_refused(targets: tuple[str, ...]) -> None:
    with pytest.raises(GroundError):
        FleetRequest(targets=targets)


def test_sixty_targets_are_planned_with_a_port_for_each_component() -> None:
    request = FleetRequest(targets=tuple(f"t{number}" for number in range(60)), light=True)
    wanted = ports_needed(request)
    plans = plan_clusters(request, FOLDER, list(range(1, wanted + 1)))
    used = [port for plan in plans for port in plan.ports.values()]
    assert len(plans) == 61
    assert sorted([1, 2, *used]) == list(range(1, wanted + 1))


def test_a_light_target_is_an_api_server_only() -> None:
    request = FleetRequest(targets=("east",), light=True)
    upstream, east = plan_clusters(request, FOLDER, list(range(10, 10 + ports_needed(request))))
    assert list(east.ports) == ["apiserver"]
    assert list(upstream.ports) == ["apiserver", "controller-manager"]


def test_upstream_runs_no_controller_that_starts_pods_and_targets_run_all() -> None:
    request = FleetRequest(targets=("east",))
    upstream, east = plan_clusters(request, FOLDER, list(range(10, 10 + ports_needed(request))))
    binary = Path("/bin/kube-controller-manager")
    assert flags(components.controller_manager(binary, east))["--controllers"] == "*"
    named = flags(components.controller_manager(binary, upstream))["--controllers"].split(",")
    assert {"namespace-controller", "garbage-collector-controller", "persistentvolumeclaim-protection-controller"} <= {
        *named
    }
    assert not {"deployment-controller", "replicaset-controller", "job-controller", "cronjob-controller"} & {*named}


def test_clusters_share_one_etcd_under_prefixes_of_their_own() -> None:
    request = FleetRequest(targets=("east",))
    plans = plan_clusters(request, FOLDER, list(range(10, 10 + ports_needed(request))))
    servers = [flags(components.apiserver(Path("/bin/kube-apiserver"), plan)) for plan in plans]
    assert {server["--etcd-servers"] for server in servers} == {"http://127.0.0.1:10"}
    assert [server["--etcd-prefix"] for server in servers] == ["/upstream", "/east"]
    assert all(server["--bind-address"] == "127.0.0.1" for server in servers)


def test_the_command_line_names_targets_or_their_kubeconfigs() -> None:
    assert parse_request("east, west", None, light=True, nodes=1).targets == ("east", "west")
    request = parse_request("east=e.yaml,west=w.yaml", Path("u.yaml"), light=False, nodes=1)
    assert request.targets == ("east", "west")
    assert request.kubeconfigs == {"east": Path("e.yaml"), "west": Path("w.yaml"), "upstream": Path("u.yaml")}
