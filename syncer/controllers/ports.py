"""What the SyncTarget controller needs of the sync engine, and the kind it controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from aiohttp import BaseConnector

from syncer.api.synctarget import TunnelStatus
from syncer.kube.client import ClusterClient
from syncer.kube.discovery import Discovery
from syncer.kube.objects import ResourceInfo

SYNCTARGETS: Final = ResourceInfo("syncline.io", "v1alpha1", "synctargets", "SyncTarget", namespaced=False)


class TargetEngine(Protocol):
    """What the controller tells and asks the sync engine."""

    def attach_target(self, name: str, uid: str, client: ClusterClient, discovery: Discovery) -> None: ...
    def attached(self, name: str) -> bool: ...
    def detach_target(self, name: str, reason: str) -> None: ...
    def target_reachable(self, name: str, reachable: bool, since: float, message: str) -> None: ...
    def drained(self, name: str) -> bool: ...
    def objects(self, name: str) -> int | None:
        """Objects of ours that are there; None while that is not known."""

    def moving(self, name: str) -> list[str]:
        """Objects that stay on a target until they are ready elsewhere, each with where."""

    def frozen(self, name: str) -> tuple[str, str] | None:
        """(token, message); an empty token means that nothing may be written anywhere."""


class TunnelLinks(Protocol):
    """What the controller tells and asks the tunnel.

    Attributes:
        url: where agents dial, for people.
    """

    url: str

    def follow(self, follower: Callable[[str], None] | None) -> None:
        """Be told each change of a target's links, by its name; None ends that."""

    def connector(self, target: str) -> Callable[[int, float], BaseConnector]:
        """How a `ClusterClient` reaches the target."""

    def status(self, target: str) -> TunnelStatus:
        """Its links now."""

    def duplicate(self, target: str) -> bool:
        """Whether two agents took turns under its name within the last minutes."""

    def cut(self, target: str, reason: str) -> None:
        """The target is deleted: its links end."""
