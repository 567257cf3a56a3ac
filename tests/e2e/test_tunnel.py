"""A target behind the tunnel, with real processes: synced as a direct one, and what is told when its agent is gone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec.structs import replace

from syncer.agent.policy import policy_text
from syncer.agent.role import default_policy
from tests.e2e.manifests import config_map, deployment, placement
from tests.support.agent import Agent, join
from tests.support.fleet import start_fleet, stop_fleet, wait_until
from tests.support.operator import ROOT, Installation, condition
from tests.support.process import get

TARGET = "far"
LOG = "Syncline's fake Pods all say this line."
QUICK_PROBES = ("--probe-seconds", "1", "--probe-timeout-seconds", "1", "--no-leader-elect")
TUNNELLED: dict[str, Any] = {
    "apiVersion": "syncline.io/v1alpha1",
    "kind": "SyncTarget",
    "metadata": {"name": TARGET},
    "spec": {"connection": {"tunnel": {}}},
}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An upstream, and a cluster that nobody is told how to reach."""
    fleet = start_fleet(tmp_path_factory.mktemp("tunnel"), targets=(TARGET,))
    installed = Installation(fleet, *QUICK_PROBES)
    installed.prepare()
    installed.operator.start()
    yield installed
    installed.close()
    stop_fleet(fleet)
    strange = [line for line in installed.operator.log().splitlines() if '"exception"' in line or "Traceback" in line]
    assert not strange


@pytest.fixture(scope="module")
def the_agent(ground: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    folder = join(ground, TARGET, TARGET, tmp_path_factory.mktemp("agent") / "credentials")
    made = Agent(ground, "agent", TARGET, folder, "--drain-seconds", "2")
    yield made
    assert "Traceback" not in made.log()


@pytest.fixture
def agent(ground: Installation, the_agent: Agent) -> Iterator[Agent]:
    """A running agent, its target Ready."""
    if not ground.operator.alive:
        ground.operator.start()
    if not the_agent.alive:
        the_agent.start()
    if ground.api["upstream"].get("synctarget", "", TARGET) is None:
        ground.kubectl.apply("upstream", TUNNELLED)
    wait_until(lambda: ground.target_ready(TARGET), timeout_seconds=40)
    yield the_agent
    if the_agent.alive:
        the_agent.send(signal.SIGCONT)


@pytest.fixture
def room(ground: Installation, request: pytest.FixtureRequest) -> Iterator[str]:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[:48].strip("-")
    ground.kubectl("upstream", "create", "namespace", name)
    yield name
    ground.kubectl("upstream", "delete", "namespace", name, "--wait=false")


def tunnel_status(ground: Installation) -> dict[str, Any]:
    found = ground.api["upstream"].get("synctarget", "", TARGET)
    return (found or {}).get("status", {}).get("tunnel") or {}


def test_a_target_without_an_agent_says_what_to_run(ground: Installation) -> None:
    """Connected names the reason, and the command that is missing."""
    ground.kubectl.apply("upstream", TUNNELLED)
    wait_until(lambda: ground.target_condition(TARGET, "Connected").get("reason") == "NoAgent", timeout_seconds=20)
    told = ground.target_condition(TARGET, "Ready")
    assert told["status"] == "False"
    assert f"syncline token create {TARGET}" in told["message"]
    assert f"https://127.0.0.1:{ground.operator.hub_port}" in told["message"]
    assert tunnel_status(ground) == {"links": 0}


def test_objects_and_status_travel_both_ways(ground: Installation, agent: Agent, room: str) -> None:
    """Done-when 1: a tunnelled target is a full target; its link shows in status, CLI and metrics."""
    ground.kubectl.apply(
        "upstream", config_map(room, "c", value="1"), deployment(room, "web", 2), placement(room, "all", [TARGET])
    )
    wait_until(lambda: ground.api[TARGET].get("configmap", room, "c"))
    wait_until(lambda: counted(ground, room) == 2)
    ground.api["upstream"].patch("configmap", room, "c", {"data": {"value": "2"}})
    wait_until(lambda: value(ground, room) == "2")
    wait_until(lambda: tunnel_status(ground).get("rttMilliseconds"))
    link = tunnel_status(ground)
    assert link["links"] == 1
    assert link["since"]
    assert ground.operator.metric("syncline_tunnel_links") == 1
    assert wait_until(lambda: ground.operator.metric("syncline_tunnel_streams_open")) >= 1
    assert ground.operator.metric("syncline_tunnel_bytes_total", 'direction="in"') > 1000
    registered = (ground.api["upstream"].get("synctarget", "", TARGET) or {})["status"]["registrationGeneration"]
    assert registered >= 1
    assert ground.target_condition(TARGET, "DuplicateAgent")["status"] == "False"
    header, row = ground.must("get", "targets").splitlines()[:2]
    assert "LINKS" in header
    assert "RTT-MS" in header
    assert "LINKED" in header
    assert row.startswith(TARGET)


def value(ground: Installation, room: str) -> str:
    """What ConfigMap `c` says on the target."""
    found = ground.api[TARGET].get("configmap", room, "c")
    return str(found["data"]["value"]) if found is not None else ""


def counted(ground: Installation, room: str) -> int:
    """Ready replicas of `web` as upstream tells them."""
    found = ground.api["upstream"].get("deployment", room, "web") or {}
    return int(found.get("status", {}).get("readyReplicas", 0))


def fresh(ground: Installation, room: str) -> None:
    """Something synced, and its status told."""
    ground.kubectl.apply(
        "upstream",
        config_map(room, "c", value="1"),
        config_map(room, "leaves", value="1"),
        deployment(room, "web", 2),
        placement(room, "all", [TARGET]),
    )
    wait_until(lambda: ground.api[TARGET].get("configmap", room, "leaves"))
    wait_until(lambda: web(ground, room, "Available").get("status") == "True", timeout_seconds=40)


def web(ground: Installation, room: str, kind: str) -> dict[str, Any]:
    return condition(ground.api["upstream"].get("deployment", room, "web"), kind)


def away(ground: Installation, room: str) -> None:
    """While the agent is away: told as unknown, nothing deleted, changes wait."""
    wait_until(lambda: ground.target_condition(TARGET).get("status") == "False", timeout_seconds=45)
    wait_until(lambda: web(ground, room, "Available").get("status") == "Unknown", timeout_seconds=20)
    assert counted(ground, room) == 2
    ground.api["upstream"].patch("configmap", room, "c", {"data": {"value": "2"}})
    ground.api["upstream"].delete("configmap", room, "leaves")
    held = ground.api[TARGET].items("configmap", room)
    assert held["c"]["data"] == {"value": "1"}
    assert "leaves" in held
    assert ground.api[TARGET].get("deployment", room, "web") is not None


def back(ground: Installation, room: str, uid: str) -> None:
    """Catch-up: what changed meanwhile is there, and nothing was made anew."""
    wait_until(lambda: ground.target_ready(TARGET), timeout_seconds=60)
    wait_until(lambda: value(ground, room) == "2")
    wait_until(lambda: ground.api[TARGET].get("configmap", room, "leaves") is None)
    wait_until(lambda: web(ground, room, "Available").get("status") == "True", timeout_seconds=30)
    found = ground.api[TARGET].get("deployment", room, "web")
    assert found is not None
    assert found["metadata"]["uid"] == uid


def uid_of_web(ground: Installation, room: str) -> str:
    found = ground.api[TARGET].get("deployment", room, "web")
    assert found is not None
    return str(found["metadata"]["uid"])


@pytest.mark.timeout(240)
def test_a_killed_agent_leaves_everything_as_it_is(ground: Installation, agent: Agent, room: str) -> None:
    """F25 in short: KILL of the agent, and another one in its place."""
    fresh(ground, room)
    uid = uid_of_web(ground, room)
    agent.kill()
    away(ground, room)
    assert ground.target_condition(TARGET, "Connected")["reason"] == "LinkLost"
    assert tunnel_status(ground) == {"links": 0}
    agent.start()
    back(ground, room, uid)
    assert ground.operator.metric("syncline_tunnel_reconnects_total") >= 1


@pytest.mark.timeout(240)
def test_a_stopped_agent_is_noticed_and_goes_on(ground: Installation, agent: Agent, room: str) -> None:
    """F25 in short, STOP: the link is silent, not closed; the hub gives it up and the agent dials again after CONT."""
    fresh(ground, room)
    uid = uid_of_web(ground, room)
    agent.send(signal.SIGSTOP)
    try:
        away(ground, room)
    finally:
        agent.send(signal.SIGCONT)
    back(ground, room, uid)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", ["kill", "end"])
def test_an_operator_that_comes_back_finds_its_agent(ground: Installation, agent: Agent, room: str, way: str) -> None:
    """The agent dials again by itself; nothing is deleted or made anew meanwhile."""
    fresh(ground, room)
    uid = uid_of_web(ground, room)
    if way == "kill":
        ground.operator.kill()
    else:
        assert ground.operator.end() < 20
    ground.api["upstream"].patch("configmap", room, "c", {"data": {"value": "2"}})
    ground.api["upstream"].delete("configmap", room, "leaves")
    ground.operator.start()
    back(ground, room, uid)


def test_an_agent_ends_in_order(ground: Installation, agent: Agent) -> None:
    agent.end()
    assert '"stopped"' in agent.log().splitlines()[-1]
    agent.start()
    wait_until(agent.ready, timeout_seconds=30)


@pytest.fixture(scope="module")
def alice(ground: Installation) -> Path:
    """Kubeconfig of an ordinary user: upstream she may look and use the proxy, on the target she may edit."""
    for cluster, role in (("upstream", "view"), ("upstream", "syncline-proxy-targets"), (TARGET, "edit")):
        ground.kubectl(
            cluster, "create", "clusterrolebinding", f"alice-{role}", f"--clusterrole={role}", "--user=alice"
        )
    return ground.fleet.upstream.user("alice")


@pytest.fixture
def far(ground: Installation, agent: Agent, alice: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The command line of kubectl with the kubeconfig that `syncline kubeconfig` prints."""
    said = ground.syncline("kubeconfig", TARGET, kubeconfig=alice)
    assert said.returncode == 0, said.stderr
    path = tmp_path / "far.kubeconfig"
    path.write_text(said.stdout)

    def command(*arguments: str) -> list[str]:
        kubectl = str(ground.fleet.assets / "kubectl")
        return [kubectl, f"--kubeconfig={path}", f"--cache-dir={tmp_path / 'cache'}", *arguments]

    return command


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_kubectl_goes_through_the_operators_hub(ground: Installation, far: Callable[..., list[str]], room: str) -> None:
    """Done-when 2, as an ordinary user, at the real hub; both upgrade protocols are in test_proxy_kubectl."""
    fresh(ground, room)
    pods = run(far("get", "pods", "-n", room, "-o", "name")).split()
    assert len(pods) == 2
    assert LOG in run(far("logs", pods[0], "-n", room))
    assert run(far("exec", pods[0], "-n", room, "--", "echo", "hello")) == "hello\n"
    run(far("create", "configmap", "mine", "-n", room))
    assert ground.api[TARGET].get("configmap", room, "mine") is not None
    refused = subprocess.run(far("get", "nodes"), capture_output=True, text=True, check=False)
    assert 'User "alice" cannot list' in refused.stderr


def test_logs_of_a_workload_come_from_its_targets(ground: Installation, agent: Agent, alice: Path, room: str) -> None:
    """`syncline logs`, once and with -f, each line with target and Pod."""
    fresh(ground, room)
    wait_until(lambda: "web-" in ground.syncline("pods", "deploy/web", "-n", room, kubeconfig=alice).stdout)
    said = ground.syncline("logs", "deploy/web", "-n", room, kubeconfig=alice)
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert all(line.startswith(f"[{TARGET}/web-") for line in lines)
    assert sum(LOG in line for line in lines) == 2
    nothing = ground.syncline("logs", "deploy/web", "-n", room, "--target", "nowhere", kubeconfig=alice)
    assert nothing.returncode == 1
    assert "there is no target 'nowhere'" in nothing.stderr
    environment = {**os.environ, "KUBECONFIG": str(alice), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "syncer.cli", "logs", "deploy/web", "-n", room, "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as follow:
        try:
            assert follow.stdout is not None
            heard: set[str] = set()
            while len(heard) < 2:  # each Pod says several lines
                heard.add(follow.stdout.readline().split("]")[0])
            assert follow.poll() is None
        finally:
            follow.send_signal(signal.SIGINT)
            assert follow.wait(20) == 130


@pytest.mark.timeout(180)
def test_followed_logs_go_on_after_the_link_was_lost(
    ground: Installation, agent: Agent, alice: Path, room: str, tmp_path: Path
) -> None:
    """`syncline logs -f` waits for the target, and reads on; its exit is the user's."""
    fresh(ground, room)
    wait_until(lambda: "web-" in ground.syncline("pods", "deploy/web", "-n", room, kubeconfig=alice).stdout)
    environment = {**os.environ, "KUBECONFIG": str(alice), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "syncer.cli", "logs", "deploy/web", "-n", room, "-f"]
    said, later = tmp_path / "said", "This line came after the link."
    log = ground.fleet.targets[TARGET].kubeconfig.parent / "pod.log"

    def heard(text: str) -> bool:
        found = said.read_text().splitlines()
        return len({one.split("]")[0] for one in found if text in one}) == 2

    def heard_later() -> bool:
        with log.open("a") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} stdout F {later}\n")
        return heard(later)

    with (
        said.open("w") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=ROOT) as follow,
    ):
        try:
            wait_until(lambda: heard(LOG))
            agent.kill()
            wait_until(lambda: ground.operator.metric("syncline_tunnel_links") == 0)
            agent.start()
            wait_until(lambda: ground.target_ready(TARGET), timeout_seconds=60)
            wait_until(heard_later, timeout_seconds=60, every_seconds=0.5)
            assert follow.poll() is None
        finally:
            follow.send_signal(signal.SIGINT)
            assert follow.wait(20) == 130


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in another way there")
def test_an_agent_that_just_connected_is_small(ground: Installation, agent: Agent) -> None:
    """At most 60 MiB: every target pays for it."""
    if sys.gettrace() is not None:
        pytest.skip("coverage is in the agent too, and would be counted")
    agent.end()
    agent.start()
    wait_until(agent.ready, timeout_seconds=40)
    record = agent.table.read(agent.name)
    assert record is not None
    assert psutil.Process(record.pid).memory_info().rss < 60 * 2**20


@pytest.mark.timeout(180)
def test_an_agents_policy_counts_as_it_is_now(
    ground: Installation, agent: Agent, far: Callable[..., list[str]], room: str, tmp_path: Path
) -> None:
    """S79, B39: a stricter file ends what it does not allow, a broken one changes nothing and is told."""
    fresh(ground, room)
    pod = run(far("get", "pods", "-n", room, "-o", "name")).split()[0]
    policy = default_policy()
    strict = replace(policy, people=replace(policy.people, rules=policy.people.rules[:2]))
    path = tmp_path / "policy.yaml"
    path.write_text(policy_text(policy))
    agent.end()
    ruled = Agent(ground, "agent-ruled", TARGET, Path(agent.command[agent.command.index("--credentials") + 1]))
    ruled.command += ["--policy", str(path)]
    ruled.start()
    try:
        wait_until(lambda: ground.target_ready(TARGET), timeout_seconds=60)
        with subprocess.Popen(far("logs", "-f", pod, "-n", room), stdout=subprocess.PIPE, text=True) as follow:
            assert follow.stdout is not None
            assert LOG in follow.stdout.readline()
            path.write_text(policy_text(strict))
            follow.communicate(timeout=20)
        refused = subprocess.run(far("logs", pod, "-n", room), capture_output=True, text=True, check=False)
        assert "the agent's policy does not allow to get pods/log" in refused.stderr
        path.write_text("people: {groups: ['system:masters']}\n")
        wait_until(lambda: "policy of before" in get(f"http://127.0.0.1:{ruled.port}/readyz").text)
        assert run(far("get", pod, "-n", room, "-o", "name")).strip() == pod
        path.write_text(policy_text(policy))
        wait_until(lambda: LOG in subprocess.run(far("logs", pod, "-n", room), capture_output=True, text=True).stdout)
    finally:
        ruled.end()
        agent.start()
    wait_until(agent.ready, timeout_seconds=30)


@pytest.mark.timeout(180)
def test_a_denied_agent_is_cut_and_stays_out_until_it_joins_again(
    ground: Installation, agent: Agent, far: Callable[..., list[str]], room: str, tmp_path: Path
) -> None:
    """S07: denial ends links and what runs on them within seconds; what is on the cluster stays, and goes on after
    another join."""
    fresh(ground, room)
    uid = uid_of_web(ground, room)
    pod = run(far("get", "pods", "-n", room, "-o", "name")).split()[0]
    watched = (("get", "configmaps", "--watch", "-o", "name"), ("logs", "-f", pod))
    live = [subprocess.Popen(far(*words, "-n", room), stdout=subprocess.PIPE, text=True) for words in watched]
    try:
        for one in live:
            assert one.stdout is not None
            assert one.stdout.readline()
        ground.must("deny", TARGET)
        wait_until(lambda: all(one.poll() is not None for one in live), timeout_seconds=5)
    finally:
        for one in live:
            one.kill()
            one.communicate(timeout=20)
    wait_until(lambda: ground.operator.metric("syncline_tunnel_links") == 0, timeout_seconds=5)
    away(ground, room)
    assert "denied" in agent.log()
    agent.end()
    agent.start()
    wait_until(lambda: "the hub answered 403" in agent.log(), timeout_seconds=20)
    assert ground.operator.metric("syncline_tunnel_links") == 0
    agent.end()
    again = Agent(ground, "agent-again", TARGET, join(ground, TARGET, TARGET, tmp_path / "credentials"))
    again.start()
    try:
        back(ground, room, uid)
        found = ground.api["upstream"].get("synctarget", "", TARGET) or {}
        assert found["status"]["registrationGeneration"] >= 2
    finally:
        again.end()
