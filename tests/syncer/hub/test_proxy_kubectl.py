"""The real kubectl through the proxy and an agent's service to a real API server, as users with and without rights.

The agent has a ServiceAccount of its own with the role that its policy takes, and nothing more. Between hub and agent
is a real tunnel. Pods are kwok's: exec runs the command on this machine, logs and attach read a file.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import pytest
import yaml
from aiohttp import web

from deploy.local import kubeconfigs
from deploy.local.errors import GroundError
from deploy.local.fleet import Fleet
from syncer.agent.kube_api import KubeApi
from syncer.agent.role import agent_role, default_policy
from syncer.binds import Bind
from syncer.hub.auth import Authenticator, Authorizer
from syncer.hub.certificates import make_authority
from syncer.hub.hub import Hub
from syncer.hub.proxy import TargetProxy
from syncer.hub.proxy_exchange import Dialer, UnknownTarget
from syncer.hub.tunnel_targets import TunnelDialer
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials, Grant
from syncer.kube.kubeconfig import Access, Source
from tests.support.fleet import Kubectl, eventually
from tests.support.http1 import connected, read_message
from tests.support.tunnelled import tunnel
from tests.syncer.hub import places
from tunneler.ports import Opener

WEBSOCKET = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "true", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "true"}
SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
BOTH = pytest.mark.parametrize("upgrade", [WEBSOCKET, SPDY], ids=["websocket", "spdy"])
WAYS = pytest.mark.parametrize("dialer", ["link", "hop"], indirect=True)
LOG = "Syncline's fake Pods all say this line."


@dataclass
class Through:
    """kubectl with kubeconfigs that lead through the hub."""

    fleet: Fleet
    folder: Path
    namespace: str
    hub: Hub

    def kubeconfig(self, user: str) -> Path:
        """A kubeconfig of an upstream user for target east."""
        path = self.folder / f"{user}.kubeconfig"
        config = kubeconfigs.load(self.fleet.upstream.user(user))
        config["clusters"][0]["cluster"] = {
            "server": f"{self.hub.url}/targets/east",
            "certificate-authority-data": base64.b64encode(self.hub.authority).decode(),
        }
        path.write_text(kubeconfigs.as_text(config))
        return path

    def start(self, user: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """kubectl that goes on running; its caller ends it."""
        return subprocess.Popen(
            self._command(user, arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._env(env),
        )

    async def run(
        self, user: str, *arguments: str, stdin: str | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """kubectl that ends by itself."""
        return await asyncio.to_thread(
            subprocess.run,
            self._command(user, arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=self._env(env),
            check=False,
        )

    def _command(self, user: str, arguments: tuple[str, ...]) -> list[str]:
        return [
            str(self.fleet.assets / "kubectl"),
            f"--kubeconfig={self.kubeconfig(user)}",
            f"--namespace={self.namespace}",
            f"--cache-dir={self.folder / 'cache'}",
            *arguments,
        ]

    def _env(self, env: dict[str, str] | None) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder), **(env or {})}


@dataclass(frozen=True)
class People:
    """Names of users: alice may both, carol only the proxy, bob nothing; reader reads through the proxy."""

    alice: str
    bob: str
    carol: str
    reader: str


@pytest.fixture(scope="module")
def people(kubectl: Kubectl) -> Iterator[People]:
    mark = uuid.uuid4().hex[:8]
    users = People(*(f"{name}-{mark}" for name in ("alice", "bob", "carol", "reader")))
    rights = {
        f"proxy-{mark}": (["get", "create", "update", "patch", "delete"], [users.alice, users.carol]),
        f"proxy-read-{mark}": (["get"], [users.reader]),
    }
    for name, (verbs, members) in rights.items():
        rule = {
            "apiGroups": ["syncline.io"],
            "resources": ["synctargets/proxy"],
            "resourceNames": ["east"],
            "verbs": verbs,
        }
        kubectl.apply("upstream", *_cluster_role(name, {"rules": [rule]}, members))
    yield users
    for name in rights:
        kubectl("upstream", "delete", f"clusterrole/{name}", f"clusterrolebinding/{name}", "--wait=false")


def _cluster_role(name: str, role: dict[str, object], users: list[str]) -> list[dict[str, object]]:
    api = "rbac.authorization.k8s.io"
    subjects = [{"apiGroup": api, "kind": "User", "name": user} for user in users]
    return [
        {"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": {"name": name}, **role},
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": name},
            "subjects": subjects,
        },
    ]


@pytest.fixture(scope="module")
def agent(kubectl: Kubectl) -> Iterator[Access]:
    """How the agent reaches east: a ServiceAccount with the rights of the default policy."""
    name = f"agent-{uuid.uuid4().hex[:8]}"
    role, binding = _cluster_role(name, {"rules": agent_role(default_policy(), name=name)["rules"]}, [])
    binding["subjects"] = [{"kind": "ServiceAccount", "name": name, "namespace": name}]
    kubectl.apply(
        "east",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": name}},
        role,
        binding,
    )
    token = kubectl("east", "create", "token", name, "-n", name).strip()
    cluster, _ = kubeconfigs.current(kubeconfigs.load(kubectl.fleet.targets["east"].kubeconfig))
    ca = base64.b64decode(cluster["certificate-authority-data"])
    yield Access(cluster["server"], ca=Source(ca), token=Source(token.encode()))
    kubectl("east", "delete", f"clusterrole/{name}", f"clusterrolebinding/{name}", f"ns/{name}", "--wait=false")


class Dial:
    """East only, a stream of the tunnel for each connection."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener

    async def open(self, target: str, factory: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        if target != "east":
            raise UnknownTarget
        transport, _ = await self._opener.open_stream(factory, "kube-api")
        return transport


class Agent(KubeApi):
    """Knows when the API server has said goodbye on each connection: a loop that closes before leaves sockets open."""

    def __init__(self, credentials: ClusterCredentials) -> None:
        super().__init__(credentials, default_policy())
        self._lost: list[asyncio.Event] = []

    async def connect(self, protocol: asyncio.Protocol, grant: Grant) -> asyncio.Transport:
        tell, lost = protocol.connection_lost, asyncio.Event()

        def connection_lost(exc: Exception | None) -> None:
            tell(exc)
            lost.set()

        protocol.connection_lost = connection_lost  # type: ignore[method-assign]
        transport = await super().connect(protocol, grant)
        self._lost.append(lost)
        return transport

    async def closed(self) -> None:
        for lost in self._lost:
            await asyncio.wait_for(lost.wait(), 20)


@pytest.fixture
async def service(agent: Access) -> AsyncIterator[Agent]:
    """The agent's side, in this process."""
    made = Agent(ClusterCredentials(agent))
    yield made
    await made.closed()


@pytest.fixture
async def dialer(request: pytest.FixtureRequest, service: Agent) -> AsyncIterator[Dialer]:
    """The way to the agent: a link, or the hop to another replica that has one."""
    if getattr(request, "param", "link") == "link":
        async with tunnel({"kube-api": lambda _: service.protocol()}) as opener:
            yield Dial(opener)
        return
    async with places.hub("r1") as asked, places.hub("r2") as holder:
        holder.service = service.protocol
        await holder.agent()
        await places.until(holder.tunnels.links)
        asked.sees(holder)
        yield TunnelDialer(asked.tunnels.opener)
        assert asked.metric("syncline_tunnel_forwarded_total", direction="out") > 0


@pytest.fixture
async def through(
    kubectl: Kubectl, namespace: str, people: People, dialer: Dialer, tmp_path: Path
) -> AsyncIterator[Through]:
    """A hub in this process, and a namespace on east in which alice may edit."""
    kubectl("east", "create", "namespace", namespace)
    kubectl("east", "create", "rolebinding", "edit", "-n", namespace, "--clusterrole=edit", f"--user={people.alice}")
    kubectl("east", "create", "rolebinding", "view", "-n", namespace, "--clusterrole=view", f"--user={people.reader}")
    async with AsyncExitStack() as stack:
        upstream = ClusterClient(ClusterCredentials.from_kubeconfig(kubectl.fleet.upstream.kubeconfig), name="upstream")
        stack.push_async_callback(upstream.close)
        proxy = TargetProxy(Authenticator(upstream), Authorizer(upstream), dialer)
        app = web.Application()
        proxy.add_to(app)
        hub = Hub(upstream, make_authority(now=datetime.now(UTC)), url=None)
        await hub.start(app, Bind("127.0.0.1", 0))
        stack.push_async_callback(hub.close)
        stack.callback(proxy.close)
        yield Through(kubectl.fleet, tmp_path, namespace, hub)


@pytest.fixture
async def pod(through: Through, kubectl: Kubectl) -> str:
    """A running Pod in the namespace."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": through.namespace},
        "spec": {
            "containers": [{"name": "web", "image": "nginx", "ports": [{"containerPort": 80}], "stdin": True}],
            "automountServiceAccountToken": False,
        },
    }

    def created() -> bool:
        try:  # the namespace's service account comes a moment after it
            kubectl.apply("east", manifest)
        except GroundError:
            return False
        return True

    def running() -> bool:
        found = kubectl.get("east", "pod", "web", through.namespace)
        return bool(found and found["status"].get("phase") == "Running")

    await eventually(created)
    await eventually(running)
    return "web"


async def test_plain_verbs_work_as_a_user_with_rights(through: Through, people: People) -> None:
    """S30: what arrives is the user's own right on the target."""
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: '1'}\n"
    applied = await through.run(people.alice, "apply", "-f", "-", stdin=manifest)
    assert applied.stdout == "configmap/settings created\n", applied.stderr
    again = await through.run(people.alice, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
    assert again.returncode == 0, again.stderr
    got = await through.run(people.alice, "get", "configmap", "settings", "-o", "yaml")
    assert yaml.safe_load(got.stdout)["data"] == {"a": "1"}
    assert "settings" in (await through.run(people.alice, "get", "configmaps")).stdout
    described = await through.run(people.alice, "describe", "configmap", "settings")
    assert "Name:         settings" in described.stdout
    assert "whoami" not in described.stderr
    me = await through.run(people.alice, "auth", "whoami", "-o", "yaml")
    assert yaml.safe_load(me.stdout)["status"]["userInfo"]["username"] == people.alice, me.stderr
    deleted = await through.run(people.alice, "delete", "configmap", "settings")
    assert deleted.returncode == 0, deleted.stderr


async def test_wide_lists_and_descriptions_tell_what_a_direct_kubectl_tells(
    through: Through, people: People, pod: str, kubectl: Kubectl
) -> None:
    """Tables with their columns, several kinds at once, and an object with its Events."""
    wide = await through.run(people.alice, "get", "pods", "-o", "wide")
    header, row = wide.stdout.splitlines()
    assert {"NODE", "NOMINATED"} <= set(header.split()), wide.stderr
    node = kubectl.get("east", "pod", pod, through.namespace)
    assert node is not None
    assert node["spec"]["nodeName"] in row.split()
    both = await through.run(people.alice, "get", "pods,configmaps", "-o", "name", "--show-kind")
    assert {f"pod/{pod}", "configmap/kube-root-ca.crt"} <= set(both.stdout.splitlines()), both.stderr
    described = await through.run(people.alice, "describe", "pod", pod)
    said = {line.split(":")[0] for line in described.stdout.splitlines() if ":" in line[:20]}
    assert {"Name", "Node", "Containers", "Conditions", "Events"} <= said, described.stdout
    assert described.stderr == ""


async def test_a_watch_shows_changes_as_they_come(through: Through, people: People, kubectl: Kubectl) -> None:
    watch = through.start(people.alice, "get", "configmaps", "--watch-only", "-o", "name")
    try:
        assert watch.stdout is not None
        line = asyncio.create_task(asyncio.to_thread(watch.stdout.readline))
        for number in range(200):  # until the watch has begun
            await asyncio.to_thread(
                kubectl, "east", "create", "configmap", f"n{number}", "-n", through.namespace, timeout_seconds=20
            )
            done, _ = await asyncio.wait({line}, timeout=0.3)
            if done:
                break
        assert re.fullmatch(r"configmap/\S+\n", await line)
    finally:
        await asyncio.to_thread(_end, watch)


def _end(process: subprocess.Popen[str]) -> str:
    process.kill()
    rest, _ = process.communicate(timeout=20)
    return rest


async def test_users_without_rights_are_refused_by_the_hub_or_by_the_target(through: Through, people: People) -> None:
    """P19: upstream decides about the proxy, the target about itself."""
    bob = await through.run(people.bob, "get", "pods")
    assert "synctargets/proxy of east" in bob.stderr
    assert bob.returncode == 1
    carol = await through.run(people.carol, "get", "pods")
    assert f'User "{people.carol}" cannot list resource "pods"' in carol.stderr
    reader = await through.run(people.reader, "get", "pods")
    assert reader.returncode == 0, reader.stderr
    write = await through.run(people.reader, "create", "configmap", "a")
    assert "may not create synctargets/proxy of east" in write.stderr


@BOTH
async def test_a_reader_gets_no_channel_into_a_pod(
    through: Through, people: People, pod: str, upgrade: dict[str, str]
) -> None:
    """S30: over WebSocket opening a channel is a GET, and still `create`."""
    for arguments in (("exec", pod, "--", "id"), ("attach", pod), ("port-forward", pod, ":80")):
        refused = await through.run(people.reader, *arguments, env=upgrade)
        assert refused.returncode == 1
        assert "may not create synctargets/proxy of east" in refused.stdout + refused.stderr, arguments


async def test_logs_come_at_once_and_go_on(through: Through, people: People, pod: str) -> None:
    logs = await through.run(people.alice, "logs", pod)
    assert LOG in logs.stdout, logs.stderr
    follow = through.start(people.alice, "logs", "-f", pod)
    try:
        assert follow.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(follow.stdout.readline), 30)
        assert LOG in line
        assert follow.poll() is None
    finally:
        await asyncio.to_thread(_end, follow)


@BOTH
@WAYS
async def test_exec_carries_both_directions_and_how_it_ended(
    through: Through, people: People, pod: str, upgrade: dict[str, str]
) -> None:
    """Three megabytes up, one down, stderr beside them. kwok tells an exit code in words, and never ends stdin."""
    text = "".join(f"{number:09}\n" for number in range(300_000))
    script = f"head -c {len(text)} | sha256sum; echo err >&2; exit 7"
    said = await through.run(people.alice, "exec", "-i", pod, "--", "sh", "-c", script, stdin=text, env=upgrade)
    assert said.stdout.split() == [hashlib.sha256(text.encode()).hexdigest(), "-"], said.stderr
    assert "err\n" in said.stderr
    assert "exit status 7" in said.stderr
    assert said.returncode == 1
    many = await through.run(people.alice, "exec", pod, "--", "seq", "1", "200000", env=upgrade)
    assert many.stdout.splitlines() == [str(number) for number in range(1, 200_001)], many.stderr


@BOTH
async def test_attach_hears_what_the_pod_says(
    through: Through, people: People, pod: str, upgrade: dict[str, str]
) -> None:
    attached = through.start(people.alice, "attach", pod, env=upgrade)
    try:
        assert attached.stdout is not None
        heard = asyncio.create_task(asyncio.to_thread(_until, attached.stdout, LOG))
        log = through.fleet.targets["east"].kubeconfig.parent / "pod.log"
        line = log.read_text().splitlines(keepends=True)[0]
        for _ in range(100):  # it hears what is said once it has attached
            with log.open("a") as file:
                file.write(line)
            done, _ = await asyncio.wait({heard}, timeout=0.2)
            if done:
                break
        said = await heard
        assert LOG in said[-1], said
    finally:
        await asyncio.to_thread(_end, attached)


def _until(lines: IO[str], text: str) -> list[str]:
    """Lines up to the first with the text, or to the end."""
    said = [""]
    for line in lines:
        said.append(line)
        if text in line:
            break
    return said


@BOTH
async def test_a_copy_arrives_whole(
    through: Through, people: People, pod: str, upgrade: dict[str, str], tmp_path: Path
) -> None:
    """From the Pod; to a kwok Pod kubectl cp hangs without us too, for tar there waits for the end of stdin."""
    data = os.urandom(3_000_000)
    (tmp_path / "there").write_bytes(data)
    back = await through.run(people.alice, "cp", f"{pod}:{tmp_path / 'there'}", str(tmp_path / "here"), env=upgrade)
    assert back.returncode == 0, back.stderr
    assert (tmp_path / "here").read_bytes() == data


@BOTH
@WAYS
async def test_forwarded_ports_carry_many_connections(
    through: Through, people: People, pod: str, upgrade: dict[str, str]
) -> None:
    forward = through.start(people.alice, "port-forward", pod, ":80", env=upgrade)
    try:
        assert forward.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(forward.stdout.readline), 30)
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found, line

        async def fetch() -> tuple[bytes, bytes]:
            async with connected(int(found[1])) as (reader, writer):
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                return await read_message(reader)

        answers = await asyncio.gather(*(fetch() for _ in range(50)))
        assert all(head.startswith(b"HTTP/1.1 200") and body == b"ok" for head, body in answers), answers
    finally:
        await asyncio.to_thread(_end, forward)
