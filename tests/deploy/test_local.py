"""Real control planes as plain processes: up, down, faults."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local import ports
from deploy.local.api import AdminApi
from deploy.local.errors import GroundError
from deploy.local.existing import ExistingProvider
from deploy.local.fleet import Cluster, Fleet
from deploy.local.local import LocalProvider
from deploy.local.plan import FleetRequest
from deploy.local.processes import SUPERVISOR, ProcessTable, kill
from tests.support.fleet import start_fleet, stop_fleet, wait_until

pytestmark = pytest.mark.real

LIGHT = FleetRequest(targets=("east",), light=True)
CLI = [sys.executable, "-m", "deploy.local"]


def silent(line: str) -> None:
    """Takes the progress of what a test starts."""


def api(cluster: Cluster, *, timeout_seconds: float = 10) -> AdminApi:
    return AdminApi(cluster.server, cluster.kubeconfig.parent / "pki", timeout_seconds=timeout_seconds)


def port_of(cluster: Cluster) -> int:
    return int(cluster.server.rpartition(":")[2])


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Upstream and one light target, whose processes may be broken if they are mended after."""
    fleet = start_fleet(tmp_path_factory.mktemp("fragile"), targets=("east",), light=True)
    yield fleet
    stop_fleet(fleet)


def test_a_light_target_is_an_api_server_that_answers(fragile: Fleet) -> None:
    east = fragile.targets["east"]
    assert set(east.processes) == {"apiserver", "etcd"}
    assert set(fragile.upstream.processes) == {"apiserver", "controller-manager", "etcd"}
    assert api(east).is_ready()
    assert api(east).get("/api/v1/nodes") is not None


def test_a_second_up_changes_nothing(fragile: Fleet) -> None:
    before = (fragile.folder / "fleet.json").read_text()
    assert LocalProvider(fragile.folder).up(LIGHT, silent) == fragile
    assert (fragile.folder / "fleet.json").read_text() == before


def test_another_fleet_in_the_same_folder_is_refused(fragile: Fleet) -> None:
    with pytest.raises(GroundError, match="another fleet is up") as caught:
        LocalProvider(fragile.folder).up(FleetRequest(targets=("west",), light=True), silent)
    assert "make down" in caught.value.hint
    assert all(record.alive for record in fragile.upstream.processes.values())


def test_up_starts_again_what_has_died_and_its_data_is_still_there(fragile: Fleet) -> None:
    east = fragile.targets["east"]
    api(east).request("POST", "/api/v1/namespaces", {"metadata": {"name": "kept"}})
    old = east.processes["apiserver"]
    east.kill()
    assert not api(east).is_ready()
    LocalProvider(fragile.folder).up(LIGHT, silent)
    pids = json.loads((fragile.folder / "fleet.json").read_text())["targets"]["east"]["pids"]
    assert pids["apiserver"] == east.processes["apiserver"].pid != old.pid
    assert api(east).get("/api/v1/namespaces/kept") is not None


def test_a_stopped_api_server_answers_nothing_until_it_goes_on(fragile: Fleet) -> None:
    east = fragile.targets["east"]
    east.stop()
    try:
        with pytest.raises(TimeoutError):
            api(east, timeout_seconds=0.5).request("GET", "/readyz")
        assert api(fragile.upstream).is_ready()
    finally:
        east.cont()
    wait_until(api(east).is_ready)


def test_the_command_line_breaks_and_mends_processes(fragile: Fleet) -> None:
    def run(*arguments: str) -> int:
        command = [*CLI, "process", *arguments, "--dir", str(fragile.folder)]
        return subprocess.run(command, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode

    east = fragile.targets["east"]
    assert run("kill", "east") == 0
    assert not east.processes["apiserver"].alive
    assert run("stop", "east") == 1
    assert run("start", "east") == 0
    assert api(east).is_ready()
    assert run("kill", "north") == 1
    assert run("explode", "east") == 2


def test_a_killed_process_stays_dead_until_it_is_started(fragile: Fleet) -> None:
    upstream = fragile.upstream
    upstream.kill("controller-manager")
    assert not upstream.processes["controller-manager"].alive
    rows = {(row.cluster, row.component): row.state for row in LocalProvider(fragile.folder).status()}
    assert rows["upstream", "controller-manager"] == "ended"
    assert rows["upstream", "apiserver"] == "running"
    upstream.start("controller-manager")
    assert upstream.processes["controller-manager"].alive


def test_a_restarted_api_server_is_ready_at_the_same_address(fragile: Fleet) -> None:
    east = fragile.targets["east"]
    old = east.processes["apiserver"].pid
    east.restart()
    assert east.processes["apiserver"].pid != old
    assert api(east).is_ready()


def test_a_restarted_etcd_serves_the_clusters_again(fragile: Fleet) -> None:
    fragile.upstream.restart("etcd")
    for cluster in fragile.clusters.values():
        wait_until(api(cluster).is_ready, timeout_seconds=60)


def test_a_process_that_somebody_adds_ends_with_the_fleet_and_down_leaves_no_process_and_no_port(
    own_fleet: Callable[..., Fleet],
) -> None:
    fleet = own_fleet(targets=("east", "west", "south"), light=True)
    fleet.table.start("operator", ["/bin/sleep", "600"])
    records = fleet.table.records()
    used = [port_of(cluster) for cluster in fleet.clusters.values()]
    assert len(records) == 8
    assert not any(ports.is_free(port) for port in used)
    stop_fleet(fleet)
    assert not any(record.alive for record in records)
    assert all(ports.is_free(port) for port in used)
    assert sorted(path.name for path in fleet.folder.iterdir()) == ["lock", "logs"]


def test_a_killed_up_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    command = [*CLI, "up", "--light", "--targets", "east", "--dir", str(folder)]
    table = ProcessTable(folder)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as up:
        wait_until(lambda: table.read("upstream.apiserver"))
        up.kill()
    left = table.records()
    assert any(record.alive for record in left)
    assert not (folder / "fleet.json").exists()
    provider = LocalProvider(folder, owner_pid=os.getpid())
    fleet = provider.up(LIGHT, silent)
    try:
        assert not any(record.alive for record in left)
        assert all(api(cluster).is_ready() for cluster in fleet.clusters.values())
    finally:
        provider.down(silent)


def test_an_interrupted_up_ends_what_it_started(tmp_path: Path) -> None:
    command = [*CLI, "up", "--light", "--targets", "east", "--dir", str(tmp_path)]
    table = ProcessTable(tmp_path)
    # In the background of a shell SIGINT is ignored, and children inherit that: give this one what a terminal gives.
    inherited = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        up = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finally:
        signal.signal(signal.SIGINT, inherited)
    with up:
        wait_until(lambda: table.read("upstream.apiserver"))
        started = table.records()
        up.send_signal(signal.SIGINT)
        assert up.wait(30) != 0
    assert not any(record.alive for record in started)
    assert table.records() == []


def test_a_killed_supervisor_ends_the_fleet_and_up_starts_a_new_one(own_fleet: Callable[..., Fleet]) -> None:
    fleet = own_fleet(targets=("east",), light=True)
    records = fleet.table.records()
    supervisor = fleet.table.read(SUPERVISOR)
    assert supervisor
    kill([supervisor])
    LocalProvider(fleet.folder, owner_pid=os.getpid()).up(LIGHT, silent)
    assert not any(record.alive for record in records)
    assert api(Fleet.load(fleet.folder).upstream).is_ready()


def test_a_port_that_is_taken_meanwhile_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    choose = ports.choose
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        first = [stranger.getsockname()[1]]

        def taken_first(count: int, **options: Any) -> list[int]:
            chosen = choose(count, **options)
            return [*chosen[:2], first.pop(), *chosen[3:]] if first else chosen

        monkeypatch.setattr(ports, "choose", taken_first)
        provider = LocalProvider(tmp_path, owner_pid=os.getpid())
        try:
            fleet = provider.up(LIGHT, said.append)
            assert api(fleet.upstream).is_ready()
            assert "a port of upstream.apiserver was taken meanwhile; trying other ports" in said
        finally:
            provider.down(silent)


def test_an_up_that_finds_no_ports_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        choose = ports.choose

        def taken_always(count: int, **options: Any) -> list[int]:
            return [taken, *choose(count, **options)[1:]]

        monkeypatch.setattr(ports, "choose", taken_always)
        provider = LocalProvider(tmp_path, owner_pid=os.getpid())
        with pytest.raises(GroundError, match="no free ports after 3 attempts"):
            provider.up(LIGHT, silent)
    assert provider.table.records() == []


def test_a_flag_that_does_not_exist_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    request = FleetRequest(targets=("east",), light=True, arguments={"east.apiserver": ("--no-such-flag",)})
    provider = LocalProvider(tmp_path, owner_pid=os.getpid())
    with pytest.raises(GroundError, match=r"east\.apiserver ended while starting: .*no-such-flag"):
        provider.up(request, silent)
    assert provider.table.records() == []


def test_extra_flags_reach_their_component(own_fleet: Callable[..., Fleet]) -> None:
    fleet = own_fleet(
        targets=("east",), light=True, arguments={"east.apiserver": ("--emulated-version=1.35",), "etcd": ()}
    )
    versions = {name: api(cluster).get("/version") or {} for name, cluster in fleet.clusters.items()}
    assert versions["east"]["emulationMinor"] == "35"
    assert versions["upstream"]["minor"] == "36"


def with_certificates_in_files(kubeconfig: Path, folder: Path) -> Path:
    """Copy a kubeconfig so that it names its credentials as files beside it, as people's kubeconfigs often do."""
    folder.mkdir()
    config = json.loads(kubeconfig.read_text())
    for part in (config["clusters"][0]["cluster"], config["users"][0]["user"]):
        for key in [key for key in part if key.endswith("-data")]:
            (folder / key).write_bytes(base64.b64decode(part.pop(key)))
            part[key.removesuffix("-data")] = key
    (folder / "config").write_text(json.dumps(config))
    return folder / "config"


def test_clusters_that_exist_are_used_and_left_as_they_were(fragile: Fleet, tmp_path: Path) -> None:
    """Provider `existing`: what was started goes, our webhook configurations go, everything else stays."""
    files = {name: cluster.kubeconfig for name, cluster in fragile.clusters.items()}
    files["east"] = with_certificates_in_files(files["east"], tmp_path / "given")
    provider = ExistingProvider(tmp_path / "fleet")
    fleet = provider.up(FleetRequest(targets=("east",), kubeconfigs=files), silent)
    assert [row.state for row in provider.status()] == ["ready", "ready"]
    assert provider.up(FleetRequest(targets=("east",), kubeconfigs=files), silent) == fleet
    alice = fleet.kubectl("east", "get", "pods", kubeconfig=fleet.targets["east"].user("alice"), check=False)
    assert 'User "alice" cannot list' in alice.stderr
    operator = fleet.table.start("operator", ["/bin/sleep", "600"])
    webhook = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    for name in ("syncline-validate", "other"):
        manifest = json.dumps({**webhook, "metadata": {"name": name}, "webhooks": []})
        fleet.kubectl("upstream", "create", "-f", "-", stdin=manifest)
    provider.down(silent)
    assert not operator.alive
    left = fragile.kubectl("upstream", "get", "validatingwebhookconfigurations", "-o", "name").stdout.split()
    assert [name.partition("/")[2] for name in left] == ["other"]
    assert all(api(cluster).is_ready() for cluster in fragile.clusters.values())
    with pytest.raises(GroundError, match="no fleet is up"):
        provider.status()
