"""A tunnelled target over a network that fails, with real processes: nothing is deleted, and all is caught up with.

`SYNCLINE_TEST_NIGHTLY=1` keeps up for ten minutes what takes seconds otherwise.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import psutil
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from syncer.agent.credentials import AgentCredentials, renew
from syncer.api.names import SYSTEM_NAMESPACE
from syncer.hub.agent_certificates import issue
from syncer.hub.certificates import KeyPair, authority_hash, make_authority
from syncer.hub.hub import AGENT_CA_SECRET, CA_SECRET
from syncer.hub.identity import read_identity
from syncer.kube.connector import TcpConnector
from tests.e2e.test_tunnel import QUICK_PROBES, TARGET, away, back, fresh, tunnel_status, uid_of_web, value
from tests.support.agent import Agent, join, join_command, new_token
from tests.support.api import MERGE
from tests.support.fault_proxy import ProxyProcess
from tests.support.fleet import start_fleet, stop_fleet, wait_until
from tests.support.operator import Installation
from tests.support.process import free_port, get

NIGHTLY = bool(os.environ.get("SYNCLINE_TEST_NIGHTLY"))
DIAL_SECONDS = 10.0  # how long a call waits for a link
SILENCE_SECONDS = 15.0  # after which a link is lost
SECRETS = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets"
REGISTRATIONS = "/apis/syncline.io/v1alpha1/clusterregistrations"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An upstream with an operator, and a cluster that is reached by its agent only."""
    fleet = start_fleet(tmp_path_factory.mktemp("faults"), targets=(TARGET,))
    installed = Installation(fleet, *QUICK_PROBES)
    installed.prepare()
    yield installed
    installed.close()
    stop_fleet(fleet)
    strange = [line for line in installed.operator.log().splitlines() if '"exception"' in line or "Traceback" in line]
    assert not strange


@pytest.fixture(scope="module")
def network(ground: Installation) -> Iterator[ProxyProcess]:
    """Between the agent and the hub."""
    proxy = ProxyProcess("127.0.0.1", ground.operator.hub_port)
    ground.operator.options = (*ground.operator.options, "--replica-url", f"https://127.0.0.1:{proxy.port}")
    ground.operator.start()
    yield proxy
    proxy.end()


@pytest.fixture(scope="module")
def token(ground: Installation, network: ProxyProcess) -> dict[str, str]:
    """What the agent joined with."""
    return new_token(ground, TARGET)


@pytest.fixture(scope="module")
def credentials(ground: Installation, token: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return join(ground, TARGET, TARGET, tmp_path_factory.mktemp("agent") / "credentials", token)


@pytest.fixture(scope="module")
def the_agent(ground: Installation, network: ProxyProcess, credentials: Path) -> Iterator[Agent]:
    hub = f"https://127.0.0.1:{network.port}"
    made = Agent(ground, "agent", TARGET, credentials, "--drain-seconds", "1", "--hub", hub)
    made.start()
    yield made
    made.end()
    assert "Traceback" not in made.log()


@pytest.fixture
def agent(ground: Installation, network: ProxyProcess, the_agent: Agent) -> Iterator[Agent]:
    """The agent, linked through the network, its target Ready."""
    if not the_agent.alive:
        the_agent.start()
    wait_until(lambda: ground.target_ready(TARGET), timeout_seconds=60)
    yield the_agent
    network.tell("heal")


@pytest.fixture(scope="module")
def room(ground: Installation, the_agent: Agent) -> str:
    """A namespace with a ConfigMap and a Deployment that are synced; each test leaves them so."""
    ground.kubectl("upstream", "create", "namespace", "faults")
    wait_until(lambda: ground.target_ready(TARGET), timeout_seconds=60)
    fresh(ground, "faults")
    return "faults"


@pytest.fixture(scope="module")
def alice(ground: Installation) -> Path:
    """Kubeconfig of an ordinary user: upstream she may use the proxy, on the target she may look."""
    for cluster, role in (("upstream", "syncline-proxy-targets"), (TARGET, "view")):
        ground.kubectl(
            cluster, "create", "clusterrolebinding", f"alice-{role}", f"--clusterrole={role}", "--user=alice"
        )
    return ground.fleet.upstream.user("alice")


@pytest.fixture
def caller(ground: Installation, alice: Path, tmp_path: Path) -> ssl.SSLContext:
    """What she shows the hub, and trusts."""
    user = yaml.safe_load(alice.read_text())["users"][0]["user"]
    pair = tmp_path / "alice.pem"
    pair.write_bytes(b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("key", "certificate")))
    context = ssl.create_default_context(cadata=secret(ground, CA_SECRET).certificate.decode())
    context.load_cert_chain(pair)
    return context


def look(ground: Installation, caller: ssl.SSLContext, *, timeout_seconds: float = 60) -> tuple[int, float]:
    """(status, seconds) of a look at the target's ConfigMaps through the hub."""
    url = f"https://127.0.0.1:{ground.operator.hub_port}/targets/{TARGET}/api/v1/namespaces/default/configmaps"
    began = time.monotonic()
    return get(url, tls=caller, timeout_seconds=timeout_seconds).status, time.monotonic() - began


def secret(ground: Installation, name: str) -> KeyPair:
    data = ground.api["upstream"].request("GET", f"{SECRETS}/{name}")[1]["data"]
    return KeyPair(base64.b64decode(data["tls.crt"]), base64.b64decode(data["tls.key"]))


def change(ground: Installation, room: str, text: str) -> None:
    ground.api["upstream"].patch("configmap", room, "c", {"data": {"value": text}})


def registered(ground: Installation) -> list[tuple[str, int]]:
    """(phase, generation) of each registration, by generation."""
    found = ground.api["upstream"].request("GET", REGISTRATIONS)[1]["items"]
    return sorted((one["status"]["phase"], one["status"]["registrationGeneration"]) for one in found)


def target_uid(ground: Installation) -> str:
    found = ground.api["upstream"].get("synctarget", "", TARGET)
    assert found is not None
    return str(found["metadata"]["uid"])


@pytest.mark.timeout(900)
def test_an_agent_in_a_black_hole_is_told_as_unknown_and_catches_up(
    ground: Installation, network: ProxyProcess, agent: Agent, room: str, caller: ssl.SSLContext
) -> None:
    """F25: Unknown within 60 s; calls end with 503 within the time that a dial waits; nothing is deleted."""
    fresh(ground, room)
    uid = uid_of_web(ground, room)
    wait_until(lambda: look(ground, caller)[0] == 200)
    network.tell("change", silent=True)
    with ThreadPoolExecutor() as pool:
        under_way = pool.submit(look, ground, caller)
        began = time.monotonic()
        away(ground, room)
        assert time.monotonic() - began < 60
        wait_until(lambda: tunnel_status(ground) == {"links": 0}, timeout_seconds=30)
        later = pool.submit(look, ground, caller)
    for call, limit in ((under_way, SILENCE_SECONDS + DIAL_SECONDS), (later, DIAL_SECONDS)):
        status, seconds = call.result()
        assert status == 503
        assert seconds < limit + 3
    if NIGHTLY:
        time.sleep(600)
    assert uid_of_web(ground, room) == uid
    network.tell("heal")
    back(ground, room, uid)
    assert look(ground, caller)[0] == 200


@pytest.mark.timeout(900)
def test_a_link_that_is_reset_every_five_seconds_brings_everything_in_the_end(
    ground: Installation, network: ProxyProcess, agent: Agent, room: str
) -> None:
    """F26, P18: three resets here, ten minutes in the nightly run: what counts is what a reset leaves."""
    uid = uid_of_web(ground, room)
    operator = psutil.Process(ground.operator.pid)
    before = operator.num_fds()
    end = time.monotonic() + (600 if NIGHTLY else 15)
    number = resets = 0
    while time.monotonic() < end:
        number += 1
        change(ground, room, f"reset {number}")
        resets += network.tell("reset")
        time.sleep(5)
    assert resets >= 3
    change(ground, room, "at last")
    wait_until(lambda: value(ground, room) == "at last", timeout_seconds=60)
    wait_until(lambda: ground.target_ready(TARGET), timeout_seconds=60)
    assert uid_of_web(ground, room) == uid
    wait_until(lambda: operator.num_fds() <= before + 2)
    assert ground.operator.metric("syncline_tunnel_links") == 1


@pytest.mark.timeout(180)
def test_a_target_that_accepts_and_never_answers_fails_each_call_and_keeps_none(
    ground: Installation, agent: Agent, room: str, caller: ssl.SSLContext
) -> None:
    """F29: a thousand calls; the callers' own time ends them, and their streams with them."""
    url = f"https://127.0.0.1:{ground.operator.hub_port}/targets/{TARGET}/api/v1/namespaces/default/configmaps"

    async def calls() -> list[int]:
        here = psutil.Process()
        held = here.num_fds()
        limit = aiohttp.ClientTimeout(total=3)
        async with aiohttp.ClientSession(timeout=limit, connector=TcpConnector(limit=0, ssl=caller)) as session:

            async def one() -> int:
                try:
                    async with session.get(url) as answer:
                        return answer.status
                except TimeoutError:
                    return 0

            answers = await asyncio.gather(*(one() for _ in range(1000)))
        async with asyncio.timeout(30):
            while here.num_fds() > held:  # noqa: ASYNC110 - TLS connections close behind our back
                await asyncio.sleep(0.05)
        return answers

    cluster = ground.fleet.targets[TARGET]
    before = ground.operator.metric("syncline_tunnel_streams_open")
    cluster.stop()
    try:
        began = time.monotonic()
        answers = asyncio.run(calls())
        assert time.monotonic() - began < 20
        assert set(answers) <= {0, 502, 503}
        wait_until(lambda: ground.operator.metric("syncline_tunnel_streams_open") <= before + 8, timeout_seconds=20)
    finally:
        cluster.cont()
    wait_until(lambda: ground.target_ready(TARGET), timeout_seconds=40)
    assert look(ground, caller)[0] == 200


@pytest.mark.timeout(900)
def test_a_long_and_lossy_way_is_no_outage(
    ground: Installation, network: ProxyProcess, agent: Agent, room: str
) -> None:
    """F31: 300 ms there and back and 1 % loss: changes arrive, and the target is Ready all the time."""
    network.tell("change", delay_seconds=0.15, loss=0.01, repair_seconds=0.3)
    since = ground.target_condition(TARGET)["lastTransitionTime"]
    ends = time.monotonic() + (600 if NIGHTLY else 5)
    number = 0
    while time.monotonic() < ends:
        number += 1
        text = f"far away {number}"
        change(ground, room, text)
        wait_until(lambda text=text: value(ground, room) == text, timeout_seconds=10)  # type: ignore[misc]
    assert number >= 3
    assert ground.target_ready(TARGET)
    assert ground.target_condition(TARGET)["lastTransitionTime"] == since


def authorities(ground: Installation, signs: KeyPair, *others: KeyPair) -> None:
    """The hub's authority from its next start on, and those that count beside it."""
    data = {"tls.crt": signs.certificate, "tls.key": signs.key}
    data["trusted.crt"] = b"".join(other.certificate for other in others)
    patch = {"data": {name: base64.b64encode(text).decode() for name, text in data.items()}}
    assert ground.api["upstream"].request("PATCH", f"{SECRETS}/{CA_SECRET}", patch, MERGE)[0] == 200


@pytest.mark.timeout(240)
def test_the_hub_changes_certificate_authority_and_address_and_its_agents_come_back(
    ground: Installation, network: ProxyProcess, agent: Agent, room: str, credentials: Path
) -> None:
    """F33, as docs/joining.md says: announce, switch, forget. Nothing is evicted, and nobody registers again."""
    before = uid_of_web(ground, room), target_uid(ground), registered(ground)
    old, new = secret(ground, CA_SECRET), make_authority(now=datetime.now(UTC))
    authorities(ground, old, new)
    ground.operator.end()
    ground.operator.start()
    asyncio.run(renew(AgentCredentials(credentials)))  # in a real life within 21 days
    authorities(ground, new, old)
    ground.operator.end()
    ground.operator.hub_port = free_port()
    network.tell("lead", "127.0.0.1", ground.operator.hub_port)  # the same name, another address
    ground.operator.start()
    change(ground, room, "another authority")
    wait_until(lambda: value(ground, room) == "another authority", timeout_seconds=60)
    url = f"https://127.0.0.1:{ground.operator.hub_port}"
    asyncio.run(renew(AgentCredentials(credentials), hub=url))
    agent.end()
    moved = Agent(ground, "agent-moved", TARGET, credentials, "--hub", url)
    moved.start()
    try:
        change(ground, room, "another address")
        wait_until(lambda: value(ground, room) == "another address", timeout_seconds=60)
    finally:
        moved.end()
        agent.start()
    assert (uid_of_web(ground, room), target_uid(ground), registered(ground)) == before


def expired(ground: Installation, credentials: Path) -> bytes:
    """The agent's key, and the certificate that it would have if it had been away for a month."""
    now = datetime.now(UTC)
    authority = secret(ground, AGENT_CA_SECRET)
    pem = (credentials / "agent.pem").read_bytes()
    certificate = x509.load_pem_x509_certificate(pem)
    who = read_identity(
        certificate.public_bytes(serialization.Encoding.DER),
        [x509.load_pem_x509_certificate(authority.certificate)],
        now=now,
    )
    key = serialization.load_pem_private_key(pem, None)
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return text + issue(
        authority,
        key.public_key(),  # type: ignore[arg-type]  # it is one of ours
        target=who.target,
        cluster_uid=who.cluster_uid,
        registration_uid=who.registration_uid,
        generation=who.registration_generation,
        now=now - timedelta(days=30, hours=1),
    )


@pytest.mark.timeout(240)
def test_an_agent_whose_certificate_ended_while_it_was_away_has_to_join_again(
    ground: Installation, agent: Agent, room: str, credentials: Path, token: dict[str, str]
) -> None:
    """F34: refused, with the reason; its token is used up; a new one and an approval bring it back as it was."""
    uid, target = uid_of_web(ground, room), target_uid(ground)
    agent.end()
    said = len(agent.log())
    (credentials / "agent.pem").write_bytes(expired(ground, credentials))
    agent.start()
    ended = "the agent's certificate ended on "
    wait_until(lambda: agent.log()[said:].count(ended) >= 3, timeout_seconds=30)
    assert ground.operator.metric("syncline_tunnel_links") == 0
    agent.end()
    hub = f"https://127.0.0.1:{ground.operator.hub_port}"
    used = {**token, "hub": hub, "caHash": authority_hash(secret(ground, CA_SECRET).certificate)}
    again = subprocess.run(
        join_command(ground, used, TARGET, credentials), capture_output=True, text=True, timeout=60, check=False
    )
    assert again.returncode == 1
    assert "the bootstrap token is not accepted" in again.stderr
    join(ground, TARGET, TARGET, credentials)
    agent.start()
    change(ground, room, "joined again")
    wait_until(lambda: value(ground, room) == "joined again", timeout_seconds=60)
    assert (uid_of_web(ground, room), target_uid(ground)) == (uid, target)
    assert registered(ground) == [("Approved", 2), ("Expired", 1)]
