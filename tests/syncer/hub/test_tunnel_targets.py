"""Targets behind a real tunnel, for the proxy and for clients, and what is said while there is no link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import BaseConnector

from deploy.local.fleet import Fleet
from syncer.agent.kube_api import KubeApi
from syncer.agent.role import default_policy
from syncer.hub.proxy_exchange import TargetUnavailable, UnknownTarget
from syncer.hub.tunnel_targets import TunnelDialer, open_stream_of
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.discovery import Discovery
from syncer.kube.errors import Unreachable
from syncer.kube.stream_connector import connector_factory, stream_credentials
from tests.support.tunnelled import tunnel
from tests.syncer.hub.places import hub, until
from tunneler.errors import StreamCode, StreamRefused
from tunneler.ports import Opener


class Refusing:
    """An opener whose agent says no."""

    def open_stream_nowait(self, *_: Any) -> Any:
        raise AssertionError("not used")

    async def open_stream(self, *_: Any) -> Any:
        raise StreamRefused(StreamCode.DIAL_FAILED, "no API server there")


def find(opener: Opener) -> Callable[[str], Opener | None]:
    return {"east": opener}.get


async def test_no_target_and_no_link_are_two_answers() -> None:
    dialer = TunnelDialer(find(Refusing()))
    with pytest.raises(UnknownTarget):
        await dialer.open("west", asyncio.Protocol)
    with pytest.raises(TargetUnavailable, match="no API server there"):
        await dialer.open("east", asyncio.Protocol)


@pytest.mark.parametrize("target", ["east", "west"])
async def test_to_a_client_no_link_is_an_unreachable_cluster(target: str) -> None:
    connector = connector_factory(open_stream_of(target, find(Refusing())))
    client = ClusterClient(stream_credentials(), name=target, connector=connector)
    with pytest.raises(Unreachable):
        await client.get_json("/version")
    await client.close()


async def reads_and_watches(connector: Callable[[int, float], BaseConnector]) -> None:
    client = ClusterClient(stream_credentials(), name="east", connector=connector)
    discovery = Discovery(client)
    await discovery.refresh()
    assert discovery.find("apps/v1", "Deployment") is not None
    listed = await asyncio.gather(*(client.get_json("/api/v1/configmaps") for _ in range(20)))
    assert all(answer["kind"] == "ConfigMapList" for answer in listed)
    async with client.stream("/api/v1/namespaces", params={"watch": "true"}) as pieces:
        assert b'"type":"ADDED"' in await asyncio.wait_for(anext(aiter(pieces)), 20)
    await client.close()


async def test_a_client_reads_and_watches_a_target_through_the_tunnel(fleet: Fleet) -> None:
    service = KubeApi(ClusterCredentials.from_kubeconfig(fleet.targets["east"].kubeconfig), default_policy())
    async with tunnel({"kube-api": lambda _: service.protocol()}) as opener:
        await reads_and_watches(connector_factory(open_stream_of("east", find(opener))))


async def test_the_engines_client_needs_no_link_to_the_replica_that_leads(fleet: Fleet) -> None:
    service = KubeApi(ClusterCredentials.from_kubeconfig(fleet.targets["east"].kubeconfig), default_policy())
    async with hub("leader") as leader, hub("other") as other:
        other.service = service.protocol
        await other.agent()
        await until(other.tunnels.links)
        leader.sees(other)
        await reads_and_watches(leader.tunnels.connector("east"))
        assert leader.metric("syncline_tunnel_forwarded_total", direction="out") > 1
