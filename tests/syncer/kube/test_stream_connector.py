"""A client of a cluster over streams: lists, watches and applies through an agent's service to a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from deploy.local.fleet import Fleet
from syncer.agent.kube_api import KubeApi
from syncer.agent.policy import Policy, Rule
from syncer.agent.role import default_policy
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.discovery import Discovery
from syncer.kube.errors import Forbidden, NotFound, Unreachable
from syncer.kube.kubeconfig import Access
from syncer.kube.stream_connector import connector_factory, stream_credentials
from tests.support.fleet import Kubectl
from tests.support.http1 import Answering, StandIn, listening, running
from tests.syncer.kube.real import CONFIGMAPS, configmap
from tunneler.errors import LinkLost


@asynccontextmanager
async def client_of(service: KubeApi) -> AsyncIterator[tuple[ClusterClient, list[int]]]:
    """A client whose streams end at the service, and how many it has opened."""
    opened: list[int] = []
    async with listening(service.protocol) as port:

        async def open_stream(factory: Callable[[], asyncio.Protocol]) -> Any:
            opened.append(1)
            return await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", port)

        client = ClusterClient(stream_credentials(), name="east", connector=connector_factory(open_stream))
        try:
            yield client, opened
        finally:
            await client.close()


async def test_a_target_is_used_through_streams_as_directly(fleet: Fleet, kubectl: Kubectl, namespace: str) -> None:
    kubectl("east", "create", "namespace", namespace)
    service = KubeApi(ClusterCredentials.from_kubeconfig(fleet.targets["east"].kubeconfig), default_policy())
    async with client_of(service) as (client, opened):
        discovery = Discovery(client)
        await discovery.refresh()
        assert discovery.find("apps/v1", "Deployment") is not None
        path = CONFIGMAPS.path(namespace)
        seen: asyncio.Queue[Any] = asyncio.Queue()

        async def watch() -> None:
            async with client.stream(path, params={"watch": "true"}) as pieces:
                seen.put_nowait("begun")
                rest = b""
                async for piece in pieces:
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        seen.put_nowait(orjson.loads(line))

        watching = asyncio.create_task(watch())
        assert await asyncio.wait_for(seen.get(), 20) == "begun"
        body = orjson.dumps(configmap(a="1"))
        name = configmap()["metadata"]["name"]
        applied, status = await client.apply(CONFIGMAPS, namespace, name, body, force=True)
        assert (status, applied.field("data")) == (201, {"a": "1"})
        while (event := await asyncio.wait_for(seen.get(), 20))["object"]["metadata"]["name"] != name:
            pass
        assert event["type"] == "ADDED"
        listed = await client.get_json(path)
        assert name in [item["metadata"]["name"] for item in listed["items"]]
        await client.delete(CONFIGMAPS, namespace, name, uid=applied.uid)
        with pytest.raises(NotFound):
            await client.get(CONFIGMAPS, namespace, name)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert len(opened) < 12  # streams carry one request after another


async def test_what_the_agent_refuses_is_forbidden_and_names_the_agent() -> None:
    """S10."""
    async with running(StandIn()) as api:
        policy = Policy(sync=(Rule(resources=("configmaps",), verbs=("get",)),))
        async with client_of(KubeApi(ClusterCredentials(Access(api.url)), policy)) as (client, _):
            with pytest.raises(Forbidden, match="the agent's policy does not allow to list configmaps"):
                await client.get_json("/api/v1/namespaces/shop/configmaps")


async def test_no_stream_is_an_unreachable_cluster() -> None:
    async def open_stream(factory: Callable[[], asyncio.Protocol]) -> Any:
        raise ConnectionRefusedError(111, "no link to east")

    client = ClusterClient(stream_credentials(), name="east", connector=connector_factory(open_stream))
    with pytest.raises(Unreachable, match="no link to east"):
        await client.get_json("/version")
    await client.close()


async def test_a_stream_that_never_opens_is_given_up() -> None:
    async def open_stream(factory: Callable[[], asyncio.Protocol]) -> Any:
        await asyncio.get_running_loop().create_future()

    client = ClusterClient(stream_credentials(), name="east", connector=connector_factory(open_stream))
    with pytest.raises(Unreachable, match="no answer in time"):
        await client.request("GET", "/version", timeout_seconds=0.2)
    await client.close()


@pytest.mark.parametrize("when", ["waiting", "in use"])
async def test_a_stream_of_a_link_that_drains_carries_no_further_request(when: str) -> None:
    opened: list[Answering] = []

    async def open_stream(factory: Callable[[], asyncio.Protocol]) -> None:
        opened.append(Answering(factory()))
        opened[0].drains = when == "in use"

    client = ClusterClient(stream_credentials(), name="east", connector=connector_factory(open_stream))
    await client.get_json("/version")
    assert opened[0].closed == (when == "in use")
    opened[0].drains = True
    for _ in range(2):
        await client.get_json("/version")
        assert opened[0].closed
        assert len(opened) == 2
    await client.close()


class Doomed(asyncio.Transport):
    """A stream whose link is lost when it is asked something."""

    def __init__(self, protocol: asyncio.Protocol, answer: bytes) -> None:
        super().__init__()
        self._protocol, self._answer = protocol, answer

    def write(self, data: Any) -> None:
        loop = asyncio.get_running_loop()
        if self._answer:
            loop.call_soon(self._protocol.data_received, self._answer)
        loop.call_soon(self._protocol.connection_lost, LinkLost(2, "the agent ends"))

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        return

    def abort(self) -> None:
        return


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"], ids=["before", "within"])
async def test_a_lost_link_is_a_cluster_that_does_not_answer(answer: bytes) -> None:
    """Whatever error ends a stream: who asked hears `Unreachable`, and tries again."""

    async def open_stream(factory: Callable[[], asyncio.Protocol]) -> None:
        protocol = factory()
        protocol.connection_made(Doomed(protocol, answer))

    client = ClusterClient(stream_credentials(), name="east", connector=connector_factory(open_stream))
    with pytest.raises(Unreachable):
        await client.get_json("/version")
    await client.close()
