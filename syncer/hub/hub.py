"""The hub's identity upstream (authority, ConfigMap) and its HTTPS listener."""

from __future__ import annotations

import asyncio
import base64
import binascii
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import structlog
from aiohttp import web

from syncer.api.names import HUB_CONFIGMAP, SPEC_MANAGER, SYSTEM_NAMESPACE
from syncer.binds import Bind
from syncer.errors import StartError, SyncError
from syncer.hub.certificates import (
    KeyPair,
    ServingCertificate,
    authority_hash,
    check_authority,
    make_authority,
    server_context,
)
from syncer.hub.identity import AUTHORITY_NAME
from syncer.hub.listener import Listener, listen
from syncer.kube.client import APPLY_PATCH, ClusterClient
from syncer.kube.errors import AlreadyExists, NotFound
from syncer.kube.objects import ResourceInfo

CA_SECRET: Final = "syncline-hub-ca"  # noqa: S105 - a name
SECRETS: Final = ResourceInfo("", "v1", "secrets", "Secret", namespaced=True)
TRUSTED: Final = "trusted.crt"  # in both: authorities that count beside tls.crt, while one takes the other's place
AGENT_CA_SECRET: Final = AUTHORITY_NAME
CLIENT_CA_PATH: Final = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
REFRESH_SECONDS: Final = 300.0  # client authorities are read again, the certificate's age is looked at

log = structlog.get_logger()


async def ensure_authority(client: ClusterClient, *, now: datetime, secret: str = CA_SECRET) -> KeyPair:
    """One of the installation's authorities out of its Secret, made at the very first start.

    Args:
        secret: name of the Secret in our namespace, and of the authority.
    Raises:
        StartError: the Secret holds something else.
        SyncError: the API server does not answer, or refuses.
    """
    try:
        return _authority(secret, await client.get_json(SECRETS.path(SYSTEM_NAMESPACE, secret)), now)
    except NotFound:
        pair = make_authority(now=now, name=secret)
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret, "namespace": SYSTEM_NAMESPACE},
        "type": "kubernetes.io/tls",
        "data": {
            "tls.crt": base64.b64encode(pair.certificate).decode(),
            "tls.key": base64.b64encode(pair.key).decode(),
        },
    }
    try:
        await client.create(SECRETS, SYSTEM_NAMESPACE, orjson.dumps(manifest))
    except AlreadyExists:
        # Another replica was faster: there is one authority for all.
        return _authority(secret, await client.get_json(SECRETS.path(SYSTEM_NAMESPACE, secret)), now)
    log.info("authority made", secret_name=f"{SYSTEM_NAMESPACE}/{secret}", ca_hash=authority_hash(pair.certificate))
    return pair


def _authority(name: str, secret: dict[str, Any], now: datetime) -> KeyPair:
    data = secret.get("data") or {}
    try:
        certificate, key = base64.b64decode(data["tls.crt"]), base64.b64decode(data["tls.key"])
        pair = KeyPair(certificate, key, base64.b64decode(data.get(TRUSTED, "")))
        check_authority(pair, now=now)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        why = "has no tls.crt and tls.key" if isinstance(error, KeyError) else "holds no usable authority"
        raise StartError(
            f"Secret {SYSTEM_NAMESPACE}/{name} {why}",
            "restore it, or delete it to have a new authority made (then every agent has to join again)"
            if name == AGENT_CA_SECRET
            else "restore it, or delete it to have a new authority made (every client then reads the new one)",
        ) from None
    return pair


async def publish_hub(client: ClusterClient, *, url: str, authority: bytes, version: str) -> None:
    """Tell clients where the hub is, in ConfigMap `syncline-system/syncline-hub`; keys of others stay.

    Args:
        authority: PEM, the one that signs first.
    """
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": HUB_CONFIGMAP},
        "data": {
            "url": url,
            "caBundle": authority.decode("ascii"),
            "caHash": authority_hash(authority),
            "version": version,
        },
    }
    await client.request(
        "PATCH",
        f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/{HUB_CONFIGMAP}",
        params={"fieldManager": SPEC_MANAGER, "force": "true"},
        body=orjson.dumps(manifest),
        content_type=APPLY_PATCH,
        verb="apply",
    )


async def client_authorities(client: ClusterClient) -> bytes | None:
    """The authorities of upstream's client certificates, PEM; b"" if there are none, None if they cannot be read."""
    try:
        config = await client.get_json(CLIENT_CA_PATH)
    except NotFound:
        return b""
    except SyncError as error:
        log.warning("upstream's client authorities cannot be read; those known go on counting", error=str(error))
        return None
    return str((config.get("data") or {}).get("client-ca-file", "")).encode()


def hub_url(bind: Bind, configured: str | None) -> str:
    """What clients are told: the configured URL, or the bound address."""
    if configured:
        return configured.rstrip("/")
    host = socket.gethostname() if bind.host in ("0.0.0.0", "::") else bind.host  # noqa: S104
    return f"https://{Bind(host, bind.port)}"


class Hub:
    """The HTTPS listener, with a certificate that stays fresh.

    Attributes:
        agent_url: where agents reach this one replica; "" is `replica_url`.
    """

    def __init__(
        self,
        client: ClusterClient,
        authority: KeyPair,
        *,
        url: str | None,
        replica_url: str | None = None,
        agent_url: str | None = None,
        names: Sequence[str] = (),
        clients: bytes = b"",
    ) -> None:
        """Args:
        url, replica_url: `--hub-url`, `--replica-url`; None makes them from the bound address.
        agent_url: `--agent-url`; None is `replica_url`.
        names: for the certificate, beside those of the URLs.
        clients: authorities of certificates that the TLS handshake takes beside those of upstream's users, PEM.
        """
        self._client = client
        self._authority = authority
        self._configured_url = url
        self._configured_replica_url = replica_url
        self.agent_url = agent_url or ""
        self._names = names
        self._clients = clients
        self._client_ca = b""  # of upstream's users, PEM
        self._certificate = self._serving(self._client_ca)
        self._listener: Listener | None = None
        self._hosts: set[str] = set()

    @property
    def url(self) -> str:
        """Where clients find it. Only while it listens."""
        assert self._listener is not None
        return hub_url(self._listener.bind, self._configured_url)

    @property
    def replica_url(self) -> str:
        """Where this one replica is found. Only while it listens."""
        assert self._listener is not None
        return hub_url(self._listener.bind, self._configured_replica_url)

    @property
    def authority(self) -> bytes:
        """What clients must trust, PEM; the authority that signs is the first."""
        return self._authority.bundle

    async def start(self, app: web.Application, bind: Bind) -> None:
        """Listen. Raises StartError if the address cannot be used."""
        own = {"localhost", "127.0.0.1", "::1", socket.gethostname(), bind.host, *self._names}
        self._hosts = own - {"0.0.0.0", "::"}  # noqa: S104
        for url in (self._configured_url, self._configured_replica_url, self.agent_url):
            if url:
                self._hosts.add(urlsplit(url).hostname or "localhost")
        await self._refresh()
        self._listener = await listen(
            app, bind, setting="hub_bind", tls=lambda: self._certificate.context, cancel_handlers=True
        )
        log.info("hub listens", bind=str(self._listener.bind), url=self.url)

    async def keep_fresh(self) -> None:
        """Renew the certificate and read client authorities again, until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self._refresh()
            except ValueError as error:
                log.error("hub certificate not renewed", error=str(error))

    async def close(self) -> None:
        if self._listener is not None:
            await self._listener.close()

    async def _refresh(self) -> None:
        upstream = await client_authorities(self._client)
        if upstream is not None and upstream != self._client_ca:
            self._trust(upstream)
        self._certificate.refresh(self._hosts, now=datetime.now(UTC))

    def _trust(self, upstream: bytes) -> None:
        """From now on count these authorities of upstream's users, and none of those before them."""
        try:
            serving = self._serving(upstream)
        except (ssl.SSLError, ValueError):
            log.warning("upstream's client authorities are no PEM", path=CLIENT_CA_PATH)
            return
        serving.refresh(self._hosts, now=datetime.now(UTC))
        self._certificate, self._client_ca = serving, upstream
        if self._listener is not None:
            log.info("upstream's client authorities changed", path=CLIENT_CA_PATH)
            self._listener.retire_certified()

    def _serving(self, upstream: bytes) -> ServingCertificate:
        """What serves with a context of its own: one that trusts an authority does so for ever, and its tickets too."""
        context = server_context()
        for authorities in (self._clients, upstream):
            if authorities.strip():
                context.load_verify_locations(cadata=authorities.decode("ascii"))
        return ServingCertificate(self._authority, context)
