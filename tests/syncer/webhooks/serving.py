"""The webhooks of a test: kopf with our handlers and server, in a thread of its own."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kopf

from syncer.api.placement import AnyPlacement
from syncer.api.synctarget import SyncTarget
from syncer.controllers.kopf_edge import open_session
from syncer.hub.certificates import make_authority
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.webhooks.handlers import AdmissionHandlers, Known, SubjectAccessReviews
from syncer.webhooks.server import AdmissionServer
from tests.support.fleet import Kubectl, wait_until
from tests.syncer.api.cases import sync_target

CONFIGURATIONS = ("validatingwebhookconfigurations", "mutatingwebhookconfigurations")


class Webhooks:
    """Serves until `stop`; the configurations stay, as they would after a crash."""

    def __init__(self, kubeconfig: Path, kubectl: Kubectl) -> None:
        self._kubeconfig = kubeconfig
        self._kubectl = kubectl
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.targets = {"east": SyncTarget.parse(sync_target("east"))}
        self.placements: Sequence[AnyPlacement] = ()
        self.client_config: dict[str, Any] = {}
        self.server: AdmissionServer | None = None

    def start(self) -> None:
        """Return once the API server calls them."""
        self._thread.start()
        wait_until(lambda: self.server is not None and self.server.problem == "")

    def stop(self) -> None:
        """End the server; nothing answers any more."""
        self._stop.set()
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()

    def remove_configurations(self) -> None:
        """Leave the upstream as it was."""
        for kind in CONFIGURATIONS:
            self._kubectl("upstream", "delete", kind, "syncline.io", "--ignore-not-found")

    async def _run(self) -> None:
        client = ClusterClient(ClusterCredentials.from_kubeconfig(self._kubeconfig), name="upstream")
        known = Known(targets=lambda: self.targets, placements=lambda: self.placements)
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        AdmissionHandlers(SubjectAccessReviews(client), known).register(registry)
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        server = AdmissionServer(client, make_authority(now=datetime.now(UTC)), check_seconds=0.2)
        self.server = server

        async def serve(fn: Any) -> Any:
            async for client_config in server(fn):
                self.client_config = client_config
                yield client_config

        settings.admission.server = serve
        try:
            await kopf.operator(
                registry=registry, settings=settings, standalone=True, clusterwide=True, stop_flag=self._stop
            )
        finally:
            await client.close()

    async def _login(self, **_: Any) -> Any:
        credentials = ClusterCredentials.from_kubeconfig(self._kubeconfig)
        session = open_session(credentials, await credentials.grant())
        return kopf.AiohttpSession(server=credentials.server, aiohttp_session=session)

    @property
    def ca(self) -> str:
        """The CA certificate that the API server is told, PEM."""
        return base64.b64decode(self.client_config["caBundle"]).decode()
