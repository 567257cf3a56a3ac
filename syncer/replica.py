"""What runs in every replica, whether or not it leads: kopf, and with it admission.

Admission must not wait for an election: while nobody answers, every new placement is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from syncer.controllers.kopf_edge import Admission, KopfEdge
from syncer.hub.certificates import KeyPair
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.settings import OperatorSettings
from syncer.webhooks.handlers import AdmissionHandlers, Known, SubjectAccessReviews
from syncer.webhooks.server import AdmissionServer
from syncer.webhooks.view import AdmissionView


class Replica:
    """Runs from the start of the process to its end.

    Args:
        control: client of the upstream without a guard; only read through.
        credentials: makes new credentials of the upstream.
        authority: signs what the webhooks show; the same in all replicas.
        leads: whether this replica leads at this moment; asked in kopf's thread.
        loop_factory: makes a loop for kopf's thread; None for asyncio's.

    Attributes:
        edge: tells of SyncTargets.
    """

    def __init__(
        self,
        settings: OperatorSettings,
        *,
        control: ClusterClient,
        hub_id: str,
        credentials: Callable[[], ClusterCredentials],
        authority: KeyPair,
        leads: Callable[[], bool],
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
    ) -> None:
        self._settings = settings
        self._hub_id = hub_id
        self._authority = authority
        self._leads = leads
        self._view = AdmissionView(control) if settings.webhooks == "auto" else None
        self._server: AdmissionServer | None = None
        self.edge = KopfEdge(
            credentials=credentials,
            admission=self._admission if self._view is not None else None,
            loop=asyncio.get_running_loop(),
            loop_factory=loop_factory,
        )

    @property
    def health(self) -> str:
        """Why the process should be restarted; "" if it should not."""
        return f"kopf: {self.edge.dead}" if self.edge.dead else ""

    @property
    def readiness(self) -> str:
        """What is not up yet; "" once everything is, reviews at the registered address included."""
        if self.edge.problem:
            return f"kopf {self.edge.problem}"
        if self._view is None:
            return ""
        return self._view.problem or (self._server.problem if self._server is not None else "the webhooks are starting")

    async def run(self) -> None:
        """Work until cancelled."""
        self.edge.start()
        if self._view is not None:
            await self._view.run()

    async def close(self) -> None:
        """End what does not end with `run`."""
        await self.edge.stop()

    def _admission(self, client: ClusterClient) -> Admission:
        """Called in kopf's thread, with a client of its loop, at each start of kopf."""
        assert self._view is not None
        view, settings = self._view, self._settings
        known = Known(
            targets=view.targets, placements=view.placements, resolve=view.resolve, hub_id=lambda: self._hub_id
        )
        self._server = AdmissionServer(
            client, self._authority, bind=settings.webhook_bind, url=settings.webhook_url, leads=self._leads
        )
        return Admission(self._server, AdmissionHandlers(SubjectAccessReviews(client), known).register)
