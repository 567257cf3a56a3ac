"""A fake API server and clients for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.kubeconfig import Access
from tests.support.fakeapi import FakeApi


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    server = await FakeApi().start()
    yield server
    await server.stop()


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[ClusterClient]:
    made = ClusterClient(ClusterCredentials(Access(api.url)), name="east")
    yield made
    await made.close()
