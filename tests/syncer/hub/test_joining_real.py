"""Joining, with a real upstream, a real operator and the real commands."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import ssl
import stat
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.local.fleet import Cluster
from syncer.agent.credentials import (
    AgentCredentials,
    Unusable,
    certificate_request,
    new_key,
    renew,
)
from syncer.api.registration import ClusterRegistration
from syncer.hub.hub import AGENT_CA_SECRET
from syncer.hub.identity import Closed, Identities
from syncer.hub.registered import Registered
from syncer.kube.client import ClusterClient
from syncer.kube.connector import TcpConnector
from syncer.kube.credentials import ClusterCredentials
from tests.support.api import Api
from tests.support.fleet import Kubectl, eventually, start_fleet, stop_fleet, wait_until
from tests.support.process import ROOT, OperatorProcess, get, install_crds

pytestmark = pytest.mark.real
CREGS = "/apis/syncline.io/v1alpha1/clusterregistrations"
TARGETS = "/apis/syncline.io/v1alpha1/synctargets"


@dataclass
class Ground:
    """An upstream with an operator that has no right but those of deploy/rbac, and two clusters to join."""

    kubectl: Kubectl
    operator: OperatorProcess
    upstream: Api
    folder: Path

    def cluster(self, name: str) -> Cluster:
        return self.kubectl.fleet.clusters[name]

    def uid(self, name: str) -> str:
        return self.kubectl(name, "get", "ns", "kube-system", "-o", "jsonpath={.metadata.uid}")

    def syncline(self, *arguments: str, cluster: str = "upstream", background: bool = False) -> Any:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
        environ["KUBECONFIG"] = str(self.cluster(cluster).kubeconfig)
        started = subprocess.Popen(
            [sys.executable, "-m", "syncer.cli", *arguments],
            env=environ, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        if background:
            return started
        out, err = started.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, started.returncode, out, err)

    def token(self, target: str, *options: str) -> dict[str, str]:
        done = self.syncline("token", "create", target, "-o", "json", *options)
        assert done.returncode == 0, done.stderr
        found: dict[str, str] = json.loads(done.stdout)
        return found

    def join(
        self, token: dict[str, str], folder: Path, *, cluster: str = "a", target: str = "", background: bool = False
    ) -> Any:
        words = ("--hub", token["hub"], "--token", token["token"], "--ca-hash", token["caHash"])
        where = ("--target", target or token["target"], "--credentials", str(folder), "--wait", "40")
        return self.syncline("join", *words, *where, cluster=cluster, background=background)

    def joined(self, target: str, folder: Path, *, cluster: str = "a") -> dict[str, str]:
        """Token, join, approve; ends when the agent has its certificate."""
        token = self.token(target)
        joining = self.join(token, folder, cluster=cluster, background=True)
        wait_until(lambda: self.registrations(target)[-1:] and self.phase(target) == "Pending")
        approved = self.syncline("approve", target)
        assert approved.returncode == 0, approved.stderr
        _, err = joining.communicate(timeout=60)
        assert joining.returncode == 0, err
        return token

    def registrations(self, target: str) -> list[ClusterRegistration]:
        """Of a target, oldest first."""
        items = self.upstream.request("GET", CREGS)[1]["items"]
        models = [ClusterRegistration.parse({"kind": "ClusterRegistration", **item}) for item in items]
        found = [one for one in models if one.spec.target_name == target]
        return sorted(found, key=lambda one: (one.metadata.creation_timestamp, one.status.registration_generation))

    def events(self, target: str) -> list[dict[str, Any]]:
        """Of its registrations."""
        names = {one.metadata.name for one in self.registrations(target)}
        items = self.upstream.request("GET", "/apis/events.k8s.io/v1/namespaces/default/events")[1]["items"]
        return [event for event in items if event.get("regarding", {}).get("name") in names]

    def counted(self, outcome: str) -> float:
        """What the metric says of joining so far."""
        series = f'syncline_registrations_total{{outcome="{outcome}"}} '
        lines = self.operator.health("/metrics").text.splitlines()
        return next(float(line.removeprefix(series)) for line in lines if line.startswith(series))

    def phase(self, target: str) -> str:
        """Of the newest; "" before the operator looked at it."""
        newest = self.registrations(target)[-1]
        return newest.status.phase if newest.status.reason else ""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("joining")
    fleet = start_fleet(folder / "fleet", targets=("a", "b"), light=True)
    kubectl = Kubectl(fleet)
    install_crds(kubectl)
    kubectl("upstream", "apply", "--server-side", "-f", str(ROOT / "deploy" / "rbac"))
    identity = fleet.upstream.user("syncline-operator")
    allowed = ("auth", "can-i", "create", "clusterregistrations", "--as=syncline-operator")
    wait_until(lambda: kubectl("upstream", *allowed), timeout_seconds=60)
    operator = OperatorProcess(folder / "operator", identity, "--no-leader-elect")
    wait_until(operator.ready, timeout_seconds=60)
    wait_until(lambda: kubectl("upstream", "get", "cm", "-n", "syncline-system", "syncline-hub"))
    made = Ground(kubectl, operator, Api(fleet.upstream), folder)
    yield made
    made.upstream.close()
    operator.end()
    stop_fleet(fleet)
    assert "Traceback" not in operator.log


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


def forget(ground: Ground, target: str) -> None:
    """Clusters are few and each may be one target: the next test may have it."""
    ground.upstream.request("DELETE", f"{TARGETS}/{target}")
    wait_until(lambda: ground.upstream.request("GET", f"{TARGETS}/{target}")[0] == 404)
    for one in ground.registrations(target):
        ground.upstream.request("DELETE", f"{CREGS}/{one.metadata.name}")


def test_a_cluster_joins_is_approved_and_gets_its_certificate(ground: Ground, name: str, tmp_path: Path) -> None:
    """S01, B40: the whole way; a second run finds everything done, and the token is used up for everybody else."""
    folder = tmp_path / "credentials"
    token = ground.token(name, "--label", "region=eu")
    assert token["command"].startswith(f"syncline join --hub {token['hub']} --token {token['token']} --ca-hash sha256:")
    joining = ground.join(token, folder, background=True)
    wait_until(lambda: ground.registrations(name) and ground.phase(name) == "Pending")
    waiting = ground.registrations(name)[0]
    assert waiting.spec.cluster_uid == ground.uid("a")
    assert waiting.status.reason == "WaitsForApproval"
    approved = ground.syncline("approve", name)
    assert approved.returncode == 0, approved.stderr
    assert ground.uid("a") in approved.stdout
    out, err = joining.communicate(timeout=30)
    assert joining.returncode == 0, err
    assert name in out
    fingerprint = re.search(r"key ([0-9a-f]{16})", err)
    assert fingerprint is not None
    assert fingerprint[1] in approved.stdout
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {"agent.json", "agent.pem", "hub-ca.crt"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    wait_until(lambda: ground.registrations(name)[0].status.target_uid)
    target = ground.upstream.request("GET", f"{TARGETS}/{name}")[1]
    assert target["spec"]["connection"] == {"tunnel": {}}
    assert target["metadata"]["labels"] == {"region": "eu"}
    assert ground.registrations(name)[0].status.registration_generation == 1

    told = [event["reason"] for event in ground.events(name)]
    assert {"JoinRequested", "WaitsForApproval", "ApprovedByPerson"} <= set(told)
    assert len(told) == len(set(told))
    for outcome in ("requested", "approved"):
        assert ground.counted(outcome) >= 1

    again = ground.join(token, folder)
    assert again.returncode == 0, again.stderr
    assert "already" in again.stderr
    other = ground.join(token, tmp_path / "thief", cluster="b")
    assert other.returncode == 1
    assert "not accepted" in other.stderr
    assert "used already" in ground.operator.log
    assert ground.counted("refused") >= 1
    stored = ground.upstream.request("GET", "/api/v1/namespaces/syncline-system/secrets")[1]
    assert token["token"].partition(".")[2] not in json.dumps(stored)
    assert token["token"].partition(".")[2] not in ground.operator.log
    forget(ground, name)


def test_what_a_token_is_not_for_is_refused_and_written_down(ground: Ground, name: str, tmp_path: Path) -> None:
    """S01, S02: another target, another cluster, too late, changed: one answer for all; the log tells them apart."""
    token = ground.token(name)
    wrong = ground.join(token, tmp_path / "1", target=f"{name}x")
    bound = ground.join(ground.token(name, "--cluster-uid", ground.uid("b")), tmp_path / "2")
    late = ground.token(name)
    secret = f"/api/v1/namespaces/syncline-system/secrets/syncline-join-{late['token'].partition('.')[0]}"
    past = {"stringData": {"expires": "2020-01-01T00:00:00Z"}}
    assert ground.upstream.request("PATCH", secret, past, "application/merge-patch+json")[0] == 200
    expired = ground.join(late, tmp_path / "3")
    forged = ground.join(
        {**token, "token": token["token"][:-1] + ("A" if token["token"][-1] != "A" else "B")}, tmp_path / "4"
    )
    answers = [wrong, bound, expired, forged]
    assert [done.returncode for done in answers] == [1, 1, 1, 1]
    assert len({done.stderr.splitlines()[-2] for done in answers}) == 1
    for why in (f"made for target {name}", f"made for cluster {ground.uid('b')}", "expired", "wrong secret"):
        assert why in ground.operator.log
    assert ground.registrations(name) == []


def test_a_wrong_hash_stops_the_join_before_the_token_is_sent(ground: Ground, name: str, tmp_path: Path) -> None:
    """S60."""
    token = ground.token(name)
    done = ground.join({**token, "caHash": "sha256:" + "0" * 64}, tmp_path / "c")
    assert done.returncode == 1
    assert "nothing was sent" in done.stderr
    assert token["token"].partition(".")[0] not in ground.operator.log


async def ask(ground: Ground, token: dict[str, str], key: Any, uid: str, *, request: str = "") -> tuple[int, Any]:
    """One request to join, without the command around it."""
    authority = get(f"{token['hub']}/registrations/v1/authority", tls=ssl._create_unverified_context()).text
    body = {
        "target": token["target"],
        "clusterUID": uid,
        "request": request or certificate_request(key, token["target"]),
    }
    context = ssl.create_default_context(cadata=authority)
    async with (
        aiohttp.ClientSession(connector=TcpConnector()) as session,
        session.post(
            f"{token['hub']}/registrations/v1",
            json=body, ssl=context, headers={"Authorization": f"Bearer {token['token']}"},
        ) as answer,
    ):  # fmt: skip
        return answer.status, await answer.json()


async def test_a_request_for_more_than_the_name_is_denied_with_the_reason(ground: Ground, name: str) -> None:
    """S03: told to who holds the token; the token is not used up by it."""
    token = await asyncio.to_thread(ground.token, name)
    status, answer = await ask(ground, token, None, "u1", request=certificate_request(new_key(), "other"))
    assert status == 403
    assert f"CN=system:syncline:target:{name}" in answer["message"]
    assert (await ask(ground, token, new_key(), "u1"))[0] == 200


def test_a_denied_cluster_is_told_so(ground: Ground, name: str, tmp_path: Path) -> None:
    token = ground.token(name)
    joining = ground.join(token, tmp_path / "c", cluster="b", background=True)
    wait_until(lambda: ground.registrations(name) and ground.phase(name) == "Pending")
    denied = ground.syncline("deny", name)
    assert denied.returncode == 0, denied.stderr
    _, err = joining.communicate(timeout=30)
    assert joining.returncode == 1
    assert "Denied" in err
    assert not (tmp_path / "c" / "agent.pem").exists()
    told = wait_until(lambda: [event for event in ground.events(name) if event["reason"] == "DeniedByPerson"])
    assert told[0]["type"] == "Warning"
    assert ground.counted("denied") >= 1
    assert ground.syncline("approve", name).returncode == 1
    again = {"spec": {"decision": "Approved"}}
    answer = ground.upstream.request(
        "PATCH", f"{CREGS}/{ground.registrations(name)[0].metadata.name}", again, "application/merge-patch+json"
    )
    assert answer[0] == 422
    assert "stays denied" in answer[1]["message"]


def test_another_cluster_under_the_name_and_another_name_for_the_cluster_are_refused(
    ground: Ground, name: str, tmp_path: Path
) -> None:
    """B40: both identities are named to the one who joins, and in the registration."""
    ground.joined(name, tmp_path / "first")
    other = ground.join(ground.token(name), tmp_path / "second", cluster="b")
    assert other.returncode == 1
    assert ground.uid("a") in other.stderr
    assert ground.uid("b") in other.stderr
    renamed = ground.join(ground.token(f"{name}x"), tmp_path / "third")
    assert renamed.returncode == 1
    assert f"cluster {ground.uid('a')} is target {name} already" in renamed.stderr
    assert {one.status.reason for one in ground.registrations(f"{name}x")} == {"IdentityMismatch"}
    forget(ground, name)


def test_a_certificate_is_renewed_without_a_gap_and_ends_with_its_registration(
    ground: Ground, name: str, tmp_path: Path
) -> None:
    """S06, S07: two certificates count at the same time; after the next registration or a denial none does."""
    folder = tmp_path / "first"
    ground.joined(name, folder)
    wait_until(lambda: ground.registrations(name)[0].status.target_uid)
    credentials = AgentCredentials(folder)
    first, old = credentials.certificate(), (folder / "agent.pem").read_bytes()
    wait_until(lambda: asyncio.run(renew(credentials)) is None)
    wait_until(lambda: "CertificateRenewed" in [event["reason"] for event in ground.events(name)])
    assert ground.counted("renewed") >= 1
    assert credentials.certificate().serial_number != first.serial_number
    assert credentials.certificate().public_key() != first.public_key()
    before = tmp_path / "before"
    before.mkdir(mode=0o700)
    for file in ("hub-ca.crt", "agent.json"):
        (before / file).write_bytes((folder / file).read_bytes())
    (before / "agent.pem").write_bytes(old)
    asyncio.run(renew(AgentCredentials(before)))  # the certificate of before still counts

    ground.joined(name, tmp_path / "second")  # the same cluster joins again: the registration before ends
    assert [one.status.registration_generation for one in ground.registrations(name)] == [1, 2]
    wait_until(lambda: ground.registrations(name)[0].status.reason == "Superseded")
    wait_until(lambda: refused(credentials, "403"))
    now = AgentCredentials(tmp_path / "second")
    wait_until(lambda: asyncio.run(renew(now)) is None)

    assert ground.syncline("deny", name).returncode == 0
    wait_until(lambda: refused(now, "403"), timeout_seconds=5)
    forget(ground, name)


def refused(credentials: AgentCredentials, why: str) -> bool:
    """Whether the hub renews no more."""
    try:
        asyncio.run(renew(credentials))
    except Unusable as error:
        return why in str(error)
    return False


VERBS = {
    "get": ("GET", "/x", ""),
    "list": ("GET", "", ""),
    "watch": ("GET", "", "?watch=1"),
    "create": ("POST", "", ""),
    "update": ("PUT", "/x", ""),
    "patch": ("PATCH", "/x", ""),
    "delete": ("DELETE", "/x", ""),
    "deletecollection": ("DELETE", "", ""),
}


def matrix(upstream: Api) -> list[tuple[str, str]]:
    """(method, path) of every verb on every resource and subresource that an API server serves."""
    groups = upstream.request("GET", "/apis")[1]["groups"]
    versions = ["/api/v1", *(f"/apis/{version['groupVersion']}" for group in groups for version in group["versions"])]
    found = set()
    for prefix in versions:
        for resource in upstream.request("GET", prefix)[1]["resources"]:
            plural, _, subresource = resource["name"].partition("/")
            where = f"{prefix}/namespaces/default/{plural}" if resource["namespaced"] else f"{prefix}/{plural}"
            for verb in resource["verbs"]:
                method, name, query = VERBS[verb]
                found.add((method, f"{where}/x/{subresource}" if subresource else f"{where}{name}{query}"))
    return sorted(found)


async def statuses(base: str, tls: ssl.SSLContext, asked: list[tuple[str, str]], **headers: str) -> Counter[int]:
    """What each request is answered with."""
    async with aiohttp.ClientSession(connector=TcpConnector(ssl=tls, limit=8)) as session:

        async def one(method: str, path: str) -> int:
            async with session.request(method, base + path, headers=headers) as answer:
                return answer.status

        return Counter(await asyncio.gather(*(one(*request) for request in asked)))


async def test_an_agent_is_no_user_of_the_hub_and_none_of_the_upstream(
    ground: Ground, name: str, tmp_path: Path
) -> None:
    """S08, S10: every verb on every resource, of upstream, of another target and of its own; no credential that an
    agent ever held opens one."""
    token = await asyncio.to_thread(ground.joined, name, tmp_path / "c")
    context = AgentCredentials(tmp_path / "c").context()
    server = ssl.create_default_context(cafile=str(ground.cluster("upstream").kubeconfig.parent / "pki" / "ca.crt"))
    pair = str(tmp_path / "c" / "agent.pem")
    server.load_cert_chain(pair, pair)
    hub, bearer = f"https://127.0.0.1:{ground.operator.hub}", f"Bearer {token['token']}"
    asked = matrix(ground.upstream)
    assert len(asked) > 300
    assert ("DELETE", "/apis/syncline.io/v1alpha1/synctargets/x") in asked
    nobody = Counter({401: len(asked)})
    assert await statuses(ground.cluster("upstream").server, server, asked) == nobody
    assert await statuses(f"{hub}/targets/other", context, asked) == nobody
    some = asked[::10]
    for base, tls in ((ground.cluster("upstream").server, server), (f"{hub}/targets/{name}", context)):
        assert await statuses(base, tls, some, Authorization=bearer) == Counter({401: len(some)})
    own = ("targets", "problems", "explain/pods/default/x", "status/pods/default/x", "pods/pods/default/x", "", "x")
    doors = [(method, f"/api/v1/{path}") for method in ("GET", "POST", "PUT", "DELETE") for path in own]
    assert await statuses(hub, context, [*doors, ("GET", "/"), ("GET", "/metrics")]) == Counter({401: len(doors) + 2})
    await asyncio.to_thread(forget, ground, name)


async def test_an_agent_renews_for_itself_alone(ground: Ground, name: str, tmp_path: Path) -> None:
    """S03, S10: the requester is the subject."""
    await asyncio.to_thread(ground.joined, name, tmp_path / "c")
    await eventually(lambda: ground.registrations(name)[0].status.target_uid)
    credentials = AgentCredentials(tmp_path / "c")
    body = {"clusterUID": credentials.cluster_uid, "request": certificate_request(new_key(), f"{name}x")}
    async with (
        aiohttp.ClientSession(connector=TcpConnector()) as session,
        session.post(f"{credentials.hub}/registrations/v1/renew", json=body, ssl=credentials.context()) as answer,
    ):
        assert answer.status == 403
        assert f"CN=system:syncline:target:{name}" in (await answer.json())["message"]
    await asyncio.to_thread(forget, ground, name)


def test_a_token_for_another_audience_is_nobodys(ground: Ground, name: str) -> None:
    """S08: upstream tells the hub whose a token is, and for whom it was made."""
    hub = ground.token(name)["hub"]
    tls = ssl.create_default_context(
        cadata=get(f"{hub}/registrations/v1/authority", tls=ssl._create_unverified_context()).text
    )
    make = ("create", "token", "default", "-n", "default", "--duration", "10m")
    other, own = (
        {"Authorization": f"Bearer {ground.kubectl('upstream', *make, *more).strip()}"}
        for more in (("--audience", "https://other.example"), ())
    )
    for path in ("/api/v1/targets", f"/targets/{name}/api/v1/pods"):
        assert get(f"{hub}{path}", tls=tls, headers=other).status == 401
        assert get(f"{hub}{path}", tls=tls, headers=own).status == 403  # known, and may nothing


async def test_a_denial_and_a_deletion_are_told_within_seconds(ground: Ground, name: str, tmp_path: Path) -> None:
    """S07: every replica hears of it from upstream by itself, and says which links must be cut."""
    await asyncio.to_thread(ground.joined, name, tmp_path / "c")
    secret = ground.upstream.request("GET", f"/api/v1/namespaces/syncline-system/secrets/{AGENT_CA_SECRET}")[1]
    identities = Identities(base64.b64decode(secret["data"]["tls.crt"]))
    told: asyncio.Queue[Closed] = asyncio.Queue()
    identities.on_closed.append(told.put_nowait)
    client = ClusterClient(ClusterCredentials.from_kubeconfig(ground.cluster("upstream").kubeconfig), name="upstream")
    following = asyncio.create_task(Registered(client, identities).run())
    try:
        await eventually(lambda: identities.bindings.of(name) is not None)
        await asyncio.to_thread(ground.syncline, "deny", name)
        async with asyncio.timeout(5):
            assert (await told.get()).target == name
        await asyncio.to_thread(forget, ground, name)
        await asyncio.to_thread(ground.joined, name, tmp_path / "again")
        await eventually(lambda: identities.bindings.of(name) is not None)
        await asyncio.to_thread(forget, ground, name)
        async with asyncio.timeout(5):
            assert await told.get() == Closed(name, "its SyncTarget is gone")
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await client.close()


def test_removing_the_target_ends_its_registration(ground: Ground, name: str, tmp_path: Path) -> None:
    """S07: it is not made again by itself; joining again is."""
    ground.joined(name, tmp_path / "c")
    wait_until(lambda: ground.registrations(name)[0].status.target_uid)
    ground.upstream.request("DELETE", f"{TARGETS}/{name}")
    wait_until(lambda: ground.registrations(name)[0].status.reason == "TargetRemoved")
    assert ground.upstream.request("GET", f"{TARGETS}/{name}")[0] == 404
    ground.joined(name, tmp_path / "d")
    assert ground.registrations(name)[-1].status.registration_generation == 2
    forget(ground, name)


async def test_of_many_who_use_a_token_at_the_same_moment_one_gets_through(ground: Ground, name: str) -> None:
    """S01: several keys, one token, one registration."""
    token = await asyncio.to_thread(ground.token, name)
    answers = await asyncio.gather(*(ask(ground, token, new_key(), f"cluster-{number}") for number in range(4)))
    assert sorted(status for status, _ in answers) == [200, *[401] * 3]
    assert len(ground.registrations(name)) == 1


async def test_guessing_is_slowed_down(ground: Ground, name: str) -> None:
    """S02: after ten wrong tokens the address waits. The last test here: it is this machine's address."""
    token = await asyncio.to_thread(ground.token, name)
    wrong = {**token, "token": f"{'0' * 12}.{'A' * 43}"}
    answers = [(await ask(ground, wrong, new_key(), "u"))[0] for _ in range(25)]
    assert set(answers) == {401, 429}
    assert answers[-1] == 429
    assert answers.count(401) <= 12
