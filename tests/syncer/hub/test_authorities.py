"""One authority takes the other's place, with a real TLS hub and an agent's real folder: nobody joins anew."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from cryptography import x509

from syncer.agent.credentials import (
    AgentCredentials,
    Description,
    certificate_request,
    new_key,
    open_folder,
    renew,
    save,
    write_private,
)
from syncer.agent.http import HubNotReached
from syncer.binds import Bind
from syncer.errors import StartError, SyncError
from syncer.events import EventRecorder
from syncer.hub.agent_certificates import check_request, issue
from syncer.hub.certificates import KeyPair, authority_hash, make_authority
from syncer.hub.hub import AGENT_CA_SECRET, Hub, ensure_authority
from syncer.hub.identity import Identities
from syncer.hub.registrations import RegistrationEndpoint
from syncer.kube.errors import Unreachable
from syncer.metrics import Metrics
from tests.syncer.hub.test_identity import registration, sync_target

NOW = datetime.now(UTC)
A, B = make_authority(now=NOW), make_authority(now=NOW)  # of the hub
P, Q = (make_authority(now=NOW, name=AGENT_CA_SECRET) for _ in "12")  # of agents


def beside(one: KeyPair, *others: KeyPair) -> KeyPair:
    return replace(one, trusted=b"".join(other.certificate for other in others))


class Upstream:
    """Holds one Secret, and is away for everything else."""

    def __init__(self, secret: dict[str, bytes] | None = None) -> None:
        self._secret = secret

    async def get_json(self, path: str) -> dict[str, Any]:
        if self._secret is None or "/secrets/" not in path:
            raise Unreachable(0, "Unreachable", "upstream is away")
        return {"data": {name: base64.b64encode(value).decode() for name, value in self._secret.items()}}


@asynccontextmanager
async def hub(authority: KeyPair, agents: KeyPair, port: int = 0) -> AsyncIterator[tuple[int, Metrics]]:
    """A replica that started with these; its port."""
    client: Any = Upstream()
    identities, metrics, app = Identities(agents.bundle), Metrics(), web.Application()
    identities.bindings.sync_target("east", sync_target())
    identities.bindings.registration("east-r1", registration())
    identities.problem = ""
    RegistrationEndpoint(
        client,
        identities,
        agents=agents,
        hub_authority=authority.bundle,
        events=EventRecorder(client, metrics),
        metrics=metrics,
    ).add_to(app)
    made = Hub(client, authority, url=None, clients=agents.bundle)
    await made.start(app, Bind("127.0.0.1", port))
    try:
        yield int(made.url.rpartition(":")[2]), metrics
    finally:
        await made.close()


def agent(folder: Path, port: int) -> AgentCredentials:
    """An agent that joined under the first authorities."""
    open_folder(folder)
    key = new_key()
    public = check_request(certificate_request(key, "east"), "east")
    certificate = issue(P, public, target="east", cluster_uid="u1", registration_uid="r1", generation=1, now=NOW)
    save(folder, key, certificate)
    write_private(folder / "hub-ca.crt", A.certificate)
    told = Description(hub=f"https://127.0.0.1:{port}", target="east", cluster_uid="u1", token_id="t1")
    write_private(folder / "agent.json", msgspec.json.encode(told))
    return AgentCredentials(folder)


def signed_by(credentials: AgentCredentials, authority: KeyPair) -> bool:
    try:
        credentials.certificate().verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))
    except Exception:
        return False
    return True


async def test_the_certificate_holds_the_names_that_were_asked_for() -> None:
    """A Service, or an address before it: clients that come that way check the name they dialled."""
    client: Any = Upstream()
    made = Hub(client, A, url="https://hub.example", names=("syncline-hub.syncline-system.svc", "10.0.0.9"))
    await made.start(web.Application(), Bind("127.0.0.1", 0))
    try:
        context = ssl.create_default_context(cadata=A.certificate.decode())
        for name in ("hub.example", "syncline-hub.syncline-system.svc", "10.0.0.9"):
            port = made._listener.bind.port if made._listener else 0
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
            writer.close()
    finally:
        await made.close()


async def test_both_authorities_are_replaced_in_three_steps_and_agents_go_on(tmp_path: Path) -> None:
    """F33, S06: announce, switch, forget; who slept through it joins anew, and nobody else."""
    async with hub(A, P) as (port, metrics):
        awake, asleep = agent(tmp_path / "awake", port), agent(tmp_path / "asleep", port)
        await renew(awake)
        assert metrics.registry.get_sample_value("syncline_registrations_total", {"outcome": "renewed"}) == 1
    async with hub(beside(A, B), beside(P, Q), port):
        await renew(awake)
        assert (awake.folder / "hub-ca.crt").read_bytes() == A.certificate + B.certificate
        assert signed_by(awake, P)
    async with hub(beside(B, A), beside(Q, P), port):
        await renew(awake)
        assert signed_by(awake, Q)
        with pytest.raises(HubNotReached):
            await renew(asleep)  # never heard of B
    async with hub(B, Q, port):
        await renew(awake)
        assert (awake.folder / "hub-ca.crt").read_bytes() == B.certificate
        write_private(asleep.folder / "hub-ca.crt", B.certificate)
        with pytest.raises(SyncError):
            await renew(asleep)  # its certificate is P's


async def test_the_secret_says_what_counts_besides() -> None:
    client: Any = Upstream({"tls.crt": P.certificate, "tls.key": P.key, "trusted.crt": Q.certificate})
    found = await ensure_authority(client, now=NOW, secret=AGENT_CA_SECRET)
    assert found.bundle == P.certificate + Q.certificate
    assert authority_hash(found.bundle) == authority_hash(P.certificate)
    ssl.create_default_context(cadata=found.bundle.decode())
    broken: Any = Upstream({"tls.crt": P.certificate, "tls.key": P.key, "trusted.crt": b"no certificate"})
    with pytest.raises(StartError, match="holds no usable authority"):
        await ensure_authority(broken, now=NOW, secret=AGENT_CA_SECRET)
