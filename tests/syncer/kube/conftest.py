"""A fake API server and clients for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.local.fleet import Fleet
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.kubeconfig import Access
from tests.support.fakeapi import FakeApi
from tests.syncer.kube.watched import Start, Watched


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


@pytest.fixture
async def upstream(fleet: Fleet) -> AsyncIterator[ClusterClient]:
    made = ClusterClient(ClusterCredentials.from_kubeconfig(fleet.upstream.kubeconfig), name="upstream")
    yield made
    await made.close()


@pytest.fixture
async def start(api: FakeApi, client: ClusterClient) -> AsyncIterator[Start]:
    made: list[Watched] = []

    def begin(**options: Any) -> Watched:
        made.append(Watched(api, client, **options))
        return made[-1]

    yield begin
    for watched in made:
        await watched.stop()


@pytest.fixture(params=["stream", "pages"])
def way(request: pytest.FixtureRequest, api: FakeApi) -> str:
    """Both ways of taking a complete list."""
    api.refuse_streams = request.param == "pages"
    return str(request.param)
