"""What every replica knows of our kinds, and that it says so while it does not know yet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from syncer.errors import TransientError
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.kubeconfig import Access
from syncer.webhooks import view as module
from syncer.webhooks.view import AdmissionView
from tests.support.fakeapi import FakeApi


async def test_before_anything_was_read_nothing_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown is never absent: a review is told to come again, and a bug in one look ends no other."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    api = await FakeApi().start()
    client = ClusterClient(ClusterCredentials(Access(api.url)), name="upstream")
    view = AdmissionView(client)
    assert view.problem == "not read yet: synctargets, placements, clusterplacements, served kinds"
    for ask in (view.targets, view.placements, lambda: view.resolve("v1", "ConfigMap")):
        with pytest.raises(TransientError):
            ask()
    looks: list[Any] = [RuntimeError("a bug"), TransientError("away")]
    done = asyncio.Event()

    async def refresh() -> bool:
        if looks:
            raise looks.pop(0)
        done.set()
        return True

    monkeypatch.setattr(view._discovery, "refresh", refresh)
    running = asyncio.create_task(view.run())
    try:
        async with asyncio.timeout(10):
            await done.wait()
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()
        await api.stop()
