"""Nothing that comes through the tunnel chooses where the agent connects to: that is its own API server, always."""

from __future__ import annotations

import asyncio

import pytest

from syncer.agent.kube_api import KubeApi
from syncer.agent.role import default_policy
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.kubeconfig import Access
from tests.support.http1 import StandIn, connected, gone, listening, read_message, running
from tests.support.tunnelled import tunnel
from tests.syncer.hub.proxied import ALICE, GET, caller, hub
from tunneler.errors import StreamCode, StreamRefused
from tunneler.ports import StreamRequest

PLACES = (
    *("169.254.169.254", "169.254.169.254:80", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518"),
    *("[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]:80", "127.0.0.1:10250", "127.1", "0", "localhost", "[::1]:6443"),
    *("metadata.google.internal", "rebinding.example", "unix:/var/run/docker.sock", "/var/run/docker.sock", "tcp"),
)


class Answered(asyncio.Protocol):
    """Collects what comes until the stream ends."""

    def __init__(self) -> None:
        self.data = b""
        self.whole = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.data.endswith(b"{}"):
            self.whole.set_result(None)


async def test_a_service_is_a_name_of_the_agents_own_and_metadata_is_no_address() -> None:
    """S20: through a real tunnel."""
    api = StandIn()
    async with running(api):
        service = KubeApi(ClusterCredentials(Access(api.url)), default_policy())

        def accept(_: StreamRequest) -> asyncio.Protocol:
            return service.protocol()

        async with tunnel({"kube-api": accept}) as opener:
            for place in PLACES:
                with pytest.raises(StreamRefused) as refused:
                    await opener.open_stream(Answered, place)
                assert refused.value.code is StreamCode.UNKNOWN_SERVICE
                told = {"host": place, "address": place, "target": place, "url": f"http://{place}/"}
                transport, answered = await opener.open_stream(Answered, "kube-api", told)
                transport.write(b"GET /version HTTP/1.1\r\nHost: %b\r\n\r\n" % place.encode())
                await asyncio.wait_for(answered.whole, 20)
                transport.abort()
    assert len(api.heads) == len(PLACES)
    assert {head.split(b"\r\n")[1] for head in api.heads} == {b"host: 127.0.0.1:%d" % api.port}


@pytest.mark.parametrize("place", PLACES)
async def test_no_request_leads_elsewhere_neither_at_the_hub_nor_at_the_agent(place: str) -> None:
    """S20: as the target's name, in absolute form, by CONNECT, as Host, and through the API server's own proxies."""
    where = place.encode()
    elsewhere = (
        b"GET http://%b/latest/meta-data/ HTTP/1.1\r\n" % where,
        b"CONNECT %b HTTP/1.1\r\n" % where,
        b"GET //%b/api HTTP/1.1\r\n" % where,
    )
    east = StandIn()
    async with hub(east) as port:
        for line in (*elsewhere, b"GET /targets/%b/api HTTP/1.1\r\n" % where):
            async with connected(port) as (reader, writer):
                writer.write(line + ALICE + b"Connection: close\r\n\r\n")
                assert (await gone(reader)).split(b" ")[1] in (b"400", b"404", b"405")
    assert east.connections == 0
    async with caller(east) as (reader, writer):
        writer.write(GET + ALICE.replace(b"Host: hub", b"Host: " + where) + b"\r\n")
        assert (await read_message(reader))[1] == b"{}"
    assert b"host: kubernetes\r\n" in east.heads[0]

    api = StandIn()
    async with running(api):
        service = KubeApi(ClusterCredentials(Access(api.url)), default_policy())
        async with listening(service.protocol) as port:
            for line in elsewhere:
                async with connected(port) as (reader, writer):
                    writer.write(line + b"Host: %b\r\n\r\n" % where)
                    assert (await gone(reader)).split(b" ")[1] in (b"400", b"405")
    assert api.connections == 0


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/shop/services/http:169.254.169.254:80/proxy/",
        "/api/v1/namespaces/shop/services/web/proxy/latest",
        "/api/v1/namespaces/shop/pods/http:web:80/proxy/",
        "/api/v1/nodes/169.254.169.254:80/proxy/",
        "/api/v1/nodes/node-1:10250/proxy/run/x",
    ],
)
@pytest.mark.parametrize("identity", [b"", b"Impersonate-User: alice\r\n"])
async def test_the_api_servers_proxies_are_granted_to_nobody_by_default(path: str, identity: bytes) -> None:
    """S20: they would reach whatever that server reaches."""
    api = StandIn()
    async with running(api):
        service = KubeApi(ClusterCredentials(Access(api.url)), default_policy())
        async with listening(service.protocol) as port, connected(port) as (reader, writer):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n".encode() + identity + b"\r\n")
            assert (await read_message(reader))[0].startswith(b"HTTP/1.1 403 ")
    assert api.connections == 0
