"""A tunnel that no agent ever dials."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import BaseConnector

from syncer.api.synctarget import TunnelStatus


class NoLinks:
    """`TunnelLinks` for tests about direct targets."""

    url = "https://hub.example:8443"

    def follow(self, follower: Callable[[str], None] | None) -> None:
        return

    def connector(self, target: str) -> Callable[[int, float], BaseConnector]:
        raise AssertionError("there is no link")

    def status(self, target: str) -> TunnelStatus:
        return TunnelStatus()

    def duplicate(self, target: str) -> bool:
        return False

    def cut(self, target: str, reason: str) -> None:
        return
