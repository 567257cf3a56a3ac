"""Authorities and certificates of a running installation are replaced; nobody joins again, nothing is evicted."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from syncer.agent.credentials import AgentCredentials, renew
from syncer.agent.credentials_secret import CredentialsSecret
from syncer.hub.certificates import KeyPair, make_authority
from syncer.hub.hub import AGENT_CA_SECRET, CA_SECRET, TRUSTED
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from tests.e2e.kind.manifests import web
from tests.e2e.manifests import config_map
from tests.support.fleet import wait_until
from tests.support.incluster import AGENT, HUB_PORT, NAMESPACE, OPERATOR, InCluster

AUTHORITIES = (CA_SECRET, AGENT_CA_SECRET)
AGENT_SECRET = "syncline-agent-credentials"


def pair(installed: InCluster, name: str) -> KeyPair:
    found = installed.kubectl.get("upstream", "secret", name, NAMESPACE)
    assert found is not None
    return KeyPair(base64.b64decode(found["data"]["tls.crt"]), base64.b64decode(found["data"]["tls.key"]))


def use(installed: InCluster, sign: Mapping[str, KeyPair], beside: Mapping[str, KeyPair]) -> None:
    """Operators that start from now on sign with these, and count those beside them."""
    for name, signs in sign.items():
        trusted = beside[name].certificate if beside else b""
        data = {"tls.crt": signs.certificate, "tls.key": signs.key, TRUSTED: trusted}
        patch = json.dumps({"data": {key: base64.b64encode(text).decode() for key, text in data.items()}})
        installed.kubectl("upstream", "-n", NAMESPACE, "patch", "secret", name, "--type=merge", "-p", patch)
    restart(installed, "upstream", OPERATOR)


def restart(installed: InCluster, cluster: str, deployment: str) -> None:
    """New Pods in place of all that there are; those that drain still answer, and know nothing new."""

    def pods() -> set[str]:
        found = installed.kubectl.items(cluster, "pods", NAMESPACE, "app.kubernetes.io/part-of=syncline")
        return {pod["metadata"]["uid"] for pod in found}

    before, where = pods(), (cluster, "-n", NAMESPACE, "rollout")
    installed.kubectl(*where, "restart", deployment)
    installed.kubectl(*where, "status", deployment, "--timeout=120s", timeout_seconds=130)
    wait_until(lambda: not before & pods(), timeout_seconds=90, every_seconds=0.5)


def renew_agents(installed: InCluster, folder: Path) -> None:
    """What each agent does by itself within 21 days, and a new Pod that begins with it."""

    async def again(target: str) -> None:
        credentials = ClusterCredentials.from_kubeconfig(installed.fleet.targets[target].kubeconfig)
        client = ClusterClient(credentials, name=target)
        try:
            kept = CredentialsSecret(client, NAMESPACE, AGENT_SECRET)
            await kept.restore(folder / target)
            await renew(AgentCredentials(folder / target))
            await kept.save(folder / target)
        finally:
            await client.close()

    for target in installed.fleet.targets:
        asyncio.run(again(target))
        restart(installed, target, AGENT)
    installed.until_targets_are_ready(timeout_seconds=120)


def signed_by(installed: InCluster, authority: KeyPair) -> bool:
    """Whether the hub shows a certificate of that authority now."""
    shown = ssl.get_server_certificate((installed.fleet.upstream.address, HUB_PORT))
    found = x509.load_pem_x509_certificate(shown.encode())
    try:
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))
    except (ValueError, InvalidSignature):
        return False
    return True


def registrations(installed: InCluster) -> set[str]:
    found = installed.kubectl.items("upstream", "clusterregistrations")
    return {item["metadata"]["uid"] for item in found}


def webhook_authority(installed: InCluster) -> str:
    found = installed.kubectl.get("upstream", "validatingwebhookconfiguration", "syncline.io")
    assert found is not None
    return hashlib.sha256(found["webhooks"][0]["clientConfig"]["caBundle"].encode()).hexdigest()


@pytest.mark.timeout(600)
def test_the_authorities_of_hub_and_agents_are_replaced(installed: InCluster, room: str, tmp_path: Path) -> None:
    """F33, as docs/joining.md says: announce, switch, forget. The webhooks follow, their authority is the hub's."""
    installed.place(room, "web", web(), config_map(room, "c", value="1"))
    installed.until_placed(room, "web")
    before = installed.uids(room), registrations(installed)
    old = {name: pair(installed, name) for name in AUTHORITIES}
    new = {name: make_authority(now=datetime.now(UTC)) for name in AUTHORITIES}
    webhooks = webhook_authority(installed)
    assert signed_by(installed, old[CA_SECRET])

    use(installed, old, beside=new)
    renew_agents(installed, tmp_path / "announced")
    use(installed, new, beside=old)
    wait_until(lambda: signed_by(installed, new[CA_SECRET]), timeout_seconds=60)
    renew_agents(installed, tmp_path / "switched")
    use(installed, new, beside={})
    installed.until_targets_are_ready(timeout_seconds=120)
    assert not signed_by(installed, old[CA_SECRET])
    wait_until(lambda: webhook_authority(installed) != webhooks, timeout_seconds=60)

    installed.place(room, "web", web(), config_map(room, "c", value="2"))  # by way of the new webhooks

    def changed(target: str) -> bool:
        found = installed.kubectl.get(target, "configmap", "c", room)
        return found is not None and found["data"] == {"value": "2"}

    for target in installed.fleet.targets:
        wait_until(lambda target=target: changed(target), timeout_seconds=90)  # type: ignore[misc]
    assert (installed.uids(room), registrations(installed)) == before
