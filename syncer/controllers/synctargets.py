"""All SyncTargets: one session each, started when its name is first heard of, ended when the SyncTarget is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

import structlog

from syncer.controllers.ports import TargetEngine, TunnelLinks
from syncer.controllers.probe import ProbeSettings
from syncer.controllers.secrets import SecretWatch
from syncer.controllers.surroundings import Surroundings
from syncer.controllers.target import TargetSession
from syncer.errors import NotLeadingError
from syncer.events import EventRecorder
from syncer.kube.client import ClusterClient
from syncer.kube.objects import ResourceInfo
from syncer.metrics import Metrics

RESTART_SECONDS: Final = 5.0

log = structlog.get_logger()


class SyncTargetController:
    """Runs a session per SyncTarget; a fault in one session is told, and ends no other."""

    def __init__(
        self,
        *,
        upstream: ClusterClient,
        upstream_kinds: Callable[[], Iterable[ResourceInfo]],
        engine: TargetEngine,
        metrics: Metrics,
        events: EventRecorder,
        generation: Callable[[str], int],
        hub_id: str,
        guard: Callable[[], None],
        probe: ProbeSettings,
        links: TunnelLinks,
    ) -> None:
        """Args:
        generation: of the registration that a tunnelled target stands on, by its name; 0 without one.
        guard: called before each write to a target, see `ClusterClient`.
        """
        self._secrets = SecretWatch(upstream, self._secret_changed)
        self._sessions: dict[str, tuple[TargetSession, asyncio.Task[None]]] = {}
        self._stopped = False
        self._claims: dict[str, set[TargetSession]] = {}  # {cluster uid: sessions that lead there}
        self._links = links
        links.follow(self._link_changed)
        self._around = Surroundings(
            upstream=upstream,
            upstream_kinds=lambda: list(upstream_kinds()),
            engine=engine,
            secrets=self._secrets,
            links=links,
            metrics=metrics,
            events=events,
            generation=generation,
            hub_id=hub_id,
            guard=guard,
            probe=probe,
            claim=self._claim,
            release=self._release,
            now=lambda: datetime.now(UTC),
        )

    def notify(self, name: str) -> None:
        """The SyncTarget of that name came, changed or went. Call on the loop; never blocks."""
        if self._stopped:
            return
        known = self._sessions.get(name)
        if known is not None:
            known[0].wake(changed=True)
            return
        session = TargetSession(name, self._around)
        task = asyncio.create_task(self._supervise(session), name=f"synctarget {name}")
        self._sessions[name] = (session, task)

    def look_again(self, name: str) -> None:
        """Something that its status tells changed in the engine."""
        if name in self._sessions:
            self._sessions[name][0].wake()

    async def stop(self) -> None:
        """End every session; nothing is written or noticed any more, while connections stay for what is in flight."""
        self._stopped = True
        self._links.follow(None)
        tasks = [task for _, task in self._sessions.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._secrets.close()

    async def close(self) -> None:
        """End every session and its connections."""
        await self.stop()
        await asyncio.gather(*(session.close() for session, _ in self._sessions.values()))
        self._sessions.clear()

    async def _supervise(self, session: TargetSession) -> None:
        """Run the session until its SyncTarget is gone."""
        while True:
            try:
                await session.run()
                break
            except NotLeadingError:
                return  # whoever leads now runs a session of its own
            except Exception:
                log.exception("target session failed", target=session.name)
                await asyncio.sleep(RESTART_SECONDS)
        self._release(session)
        del self._sessions[session.name]
        await session.close()

    def _secret_changed(self, namespace: str, name: str) -> None:
        for session, _ in self._sessions.values():
            session.secret_changed(namespace, name)

    def _link_changed(self, name: str) -> None:
        if name in self._sessions:
            self._sessions[name][0].link_changed()

    def _claim(self, cluster_uid: str, session: TargetSession) -> str | None:
        """Two SyncTargets must not be one cluster: the older one has it."""
        sessions = self._claims.setdefault(cluster_uid, set())
        sessions.add(session)
        oldest = min(sessions, key=lambda one: (one.created, one.name))
        return None if oldest is session else oldest.name

    def _release(self, session: TargetSession) -> None:
        """The session's SyncTarget is gone or replaced: the next one may lead elsewhere."""
        for cluster_uid, sessions in list(self._claims.items()):
            sessions.discard(session)
            if not sessions:
                del self._claims[cluster_uid]
