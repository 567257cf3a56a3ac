"""A policy that changes while the agent runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from syncer.agent.kube_api import KubeApi
from syncer.agent.policy import Policy, parse_policy
from syncer.agent.policy_file import PolicyFile
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.kubeconfig import Access
from tests.support.http1 import StandIn, connected, gone, listening, read_head, read_message, running

READS = b"sync: [{resources: [pods, configmaps], verbs: [get, list, watch]}]\n"
PODS = b"sync: [{resources: [pods], verbs: [get, list, watch]}]\n"


class Used:
    """What the file gave."""

    def __init__(self) -> None:
        self.policies: list[Policy] = []

    def __call__(self, policy: Policy) -> bool:
        self.policies.append(policy)
        return True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_bytes(READS)
    return file


def test_a_change_counts_once_it_has_stood_still(path: Path) -> None:
    used = Used()
    file = PolicyFile(path, used)
    file.look()
    file.look()
    path.write_bytes(b"")  # an editor begins; an empty file would allow nothing
    file.look()
    path.write_bytes(PODS)
    file.look()
    assert used.policies == [parse_policy(READS)]
    for _ in range(3):
        file.look()
    assert used.policies == [parse_policy(READS), parse_policy(PODS)]


@pytest.mark.parametrize("broken", [b"sinc: []\n", b"{", b"people: {groups: ['system:masters']}\n", None])
def test_a_broken_file_keeps_the_policy_of_before_and_says_so(path: Path, broken: bytes | None) -> None:
    """B39: until it is whole again."""
    used = Used()
    file = PolicyFile(path, used)
    file.look()
    file.look()
    if broken is None:
        path.unlink()
    else:
        path.write_bytes(broken)
    file.look()
    assert file.problem == ""
    file.look()
    assert str(path) in file.problem
    assert len(used.policies) == 1
    path.write_bytes(PODS)
    file.look()
    file.look()
    assert (file.problem, used.policies[1:]) == ("", [parse_policy(PODS)])


async def test_what_a_stricter_policy_does_not_allow_ends_and_the_rest_goes_on() -> None:
    """S79: a watch under way too; the same policy again changes nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await reader.read(-1)

    api = StandIn(serve=serve)
    async with running(api):
        service = KubeApi(ClusterCredentials(Access(api.url)), parse_policy(READS))
        async with listening(service.protocol) as port, connected(port) as pods, connected(port) as maps:
            for (reader, writer), kind in ((pods, b"pods"), (maps, b"configmaps")):
                writer.write(b"GET /api/v1/%b?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n" % kind)
                assert (await read_head(reader)).startswith(b"HTTP/1.1 200 ")
            assert not service.use(parse_policy(READS))
            assert service.use(parse_policy(PODS))
            assert await gone(maps[0]) == b""
            assert service.open_streams == 1
            async with connected(port) as (reader, writer):
                writer.write(b"GET /api/v1/configmaps HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await read_message(reader))[0].startswith(b"HTTP/1.1 403 ")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await pods[0].read(1)
