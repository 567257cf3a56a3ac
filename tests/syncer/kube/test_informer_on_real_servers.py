"""Mirrors of real API servers: followed, compacted, killed, hung, and restored from a backup."""

from __future__ import annotations

import asyncio
import shutil
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import orjson
import pytest

from deploy.local.fleet import Cluster, Fleet
from deploy.local.local import LocalProvider
from deploy.local.plan import FleetRequest
from syncer.kube.changes import EventType, InformerEvent
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.informer import Informer
from syncer.kube.kubeconfig import Access
from tests.support.fleet import eventually, start_fleet, stop_fleet
from tests.syncer.kube.real import CONFIGMAPS, NAMESPACES, apply, configmap

WITHOUT_STREAMS = {"east.apiserver": ("--feature-gates=WatchList=false",)}
Connect = Callable[[Cluster], ClusterClient]


class Follower:
    """An informer with what it told and sleeps that a test may hold."""

    def __init__(self, client: ClusterClient, namespace: str, **options: Any) -> None:
        self.events: list[InformerEvent] = []
        self.rewound_at_deletes: list[bool] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.informer = Informer(
            client, CONFIGMAPS, on_event=self._told, namespace=namespace, sleep=self._sleep, **options
        )
        self.task = self.informer.start("follower")

    def _told(self, event: InformerEvent) -> None:
        self.events.append(event)
        if event.type is EventType.DELETED and event.object and not event.object.name.startswith("kube-root"):
            self.rewound_at_deletes.append(self.informer.rewound)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.2))
        await self.may_go_on.wait()

    def names(self) -> list[str]:
        return sorted(name for _, name in self.informer.cache if not name.startswith("kube-root"))

    async def until(self, *names: str, seconds: float = 20) -> None:
        await eventually(lambda: self.names() == sorted(names) and self.informer.fresh, timeout_seconds=seconds)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


Follow = Callable[..., Follower]


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = start_fleet(tmp_path_factory.mktemp("informers"), targets=("east",), light=True, arguments=WITHOUT_STREAMS)
    yield fleet
    stop_fleet(fleet)


@pytest.fixture
def ground(breakable: Fleet) -> Iterator[Fleet]:
    """Servers to break; they are whole again after each test. The east has no streaming lists."""
    yield breakable
    for cluster in breakable.clusters.values():
        for record in cluster.processes.values():
            record.send(signal.SIGCONT)
    request = FleetRequest(targets=("east",), light=True, arguments=WITHOUT_STREAMS)
    LocalProvider(breakable.folder).up(request, lambda line: None)


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    made: list[ClusterClient] = []

    def make(cluster: Cluster) -> ClusterClient:
        made.append(ClusterClient(ClusterCredentials.from_kubeconfig(cluster.kubeconfig), name=cluster.name))
        return made[-1]

    yield make
    for client in made:
        await client.close()


@pytest.fixture
async def follow(connect: Connect) -> AsyncIterator[Follow]:
    """Starts followers; they end before the clients."""
    made: list[Follower] = []

    def start(client: ClusterClient, namespace: str, **options: Any) -> Follower:
        made.append(Follower(client, namespace, **options))
        return made[-1]

    yield start
    for follower in made:
        await follower.stop()


async def new_namespace(client: ClusterClient) -> str:
    name = f"followed-{uuid.uuid4().hex[:8]}"
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await client.create(NAMESPACES, "", orjson.dumps(manifest))
    return name


@pytest.mark.parametrize("way", ["stream", "pages"])
async def test_a_real_server_is_mirrored(
    upstream: ClusterClient, namespace: str, follow: Follow, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncer.kube.informer.PAGE_SIZE", 3)
    if way == "pages":
        upstream.refused_streams.add(CONFIGMAPS.group_resource)
    for index in range(7):
        await apply(upstream, CONFIGMAPS, configmap(f"c{index}", a="1"), namespace)
    follower = follow(upstream, namespace)
    await follower.until(*(f"c{i}" for i in range(7)))
    changed, _ = await apply(upstream, CONFIGMAPS, configmap("c0", a="2"), namespace)
    await upstream.delete(CONFIGMAPS, namespace, "c1", uid=(await upstream.get(CONFIGMAPS, namespace, "c1")).uid)
    await follower.until(*(f"c{i}" for i in (0, 2, 3, 4, 5, 6)))
    cached = follower.informer.cache[(namespace, "c0")]
    assert cached == changed
    assert (cached.api_version, cached.kind) == ("v1", "ConfigMap")
    assert cached.owned is not None
    told = len(follower.events)
    follower.informer.audit_soon()
    await eventually(lambda: follower.events[-1].type is EventType.RELISTED)
    assert [e.type for e in follower.events[told:]] == [EventType.RELISTED]
    assert follower.informer.statistics().lists == 2
    assert upstream.refused_streams == (set() if way == "stream" else {CONFIGMAPS.group_resource})


async def test_a_server_without_streaming_lists_is_read_in_pages(
    ground: Fleet, connect: Connect, follow: Follow
) -> None:
    """F14: the gate is off, as on 1.33."""
    client = connect(ground.targets["east"])
    namespace = await new_namespace(client)
    await apply(client, CONFIGMAPS, configmap("a"), namespace)
    follower = follow(client, namespace)
    await follower.until("a")
    await apply(client, CONFIGMAPS, configmap("b"), namespace)
    await follower.until("a", "b")
    assert client.refused_streams == {CONFIGMAPS.group_resource}
    assert follower.informer.error is None


async def etcd_call(cluster: Cluster, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The JSON gateway of the fleet's etcd."""
    arguments = (await asyncio.to_thread(open_cmdline, cluster)).split("\0")
    server = next(a.partition("=")[2] for a in arguments if a.startswith("--etcd-servers="))
    client = ClusterClient(ClusterCredentials(Access(server)), name="etcd")
    answer = await client.request("POST", path, body=orjson.dumps(body), content_type="application/json")
    await client.close()
    return dict(orjson.loads(answer.body))


def open_cmdline(cluster: Cluster) -> str:
    with open(f"/proc/{cluster.processes['apiserver'].pid}/cmdline") as file:
        return file.read()


async def test_compacted_history_is_survived(ground: Fleet, connect: Connect, follow: Follow) -> None:
    """F01: the engine slept, history was compacted, the server restarted; one list, and the diff of what happened."""
    cluster = ground.upstream
    client = connect(cluster)
    namespace = await new_namespace(client)
    for name in ("kept", "gone", "again"):
        await apply(client, CONFIGMAPS, configmap(name, a="1"), namespace)
    follower = follow(client, namespace)
    await follower.until("again", "gone", "kept")
    uid = follower.informer.cache[(namespace, "gone")].uid
    follower.may_go_on.clear()
    await asyncio.to_thread(cluster.restart, "apiserver")
    writer = connect(cluster)
    for name in ("gone", "again"):
        item = await writer.get(CONFIGMAPS, namespace, name)
        await writer.delete(CONFIGMAPS, namespace, name, uid=item.uid)
    await apply(writer, CONFIGMAPS, configmap("again", a="2"), namespace)
    await apply(writer, CONFIGMAPS, configmap("kept", a="2"), namespace)
    last, _ = await apply(writer, CONFIGMAPS, configmap("new", a="1"), namespace)
    await etcd_call(cluster, "/v3/kv/compaction", {"revision": last.resource_version, "physical": True})
    await asyncio.to_thread(cluster.restart, "apiserver")
    told = len(follower.events)
    follower.may_go_on.set()
    await follower.until("again", "kept", "new")
    events = {
        (e.type.value, e.object.name, e.proof)
        for e in follower.events[told:]
        if e.object is not None and not e.object.name.startswith("kube-root")
    }
    assert events == {
        ("DELETED", "gone", "relist"),
        ("DELETED", "again", "relist"),
        ("ADDED", "again", "relist"),
        ("MODIFIED", "kept", "relist"),
        ("ADDED", "new", "relist"),
    }
    assert (
        next(
            e.object.uid
            for e in follower.events
            if e.object and e.object.name == "gone" and e.type is EventType.DELETED
        )
        == uid
    )
    assert follower.informer.statistics().lists == 2
    assert not follower.informer.rewound


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_server_that_dies_or_hangs_is_noticed_and_followed_again(
    ground: Fleet, connect: Connect, follow: Follow, how: str
) -> None:
    """F02."""
    cluster = ground.upstream
    client = connect(cluster)
    namespace = await new_namespace(client)
    await apply(client, CONFIGMAPS, configmap("a"), namespace)
    follower = follow(client, namespace, inactivity_seconds=1.0)
    await follower.until("a")
    await asyncio.to_thread(cluster.kill if how == "killed" else cluster.stop, "apiserver")
    await eventually(lambda: not follower.informer.fresh and follower.informer.error is not None)
    assert follower.informer.synced
    assert follower.names() == ["a"]
    await asyncio.to_thread(cluster.start if how == "killed" else cluster.cont, "apiserver")
    await eventually(lambda: follower.informer.fresh, timeout_seconds=40)
    await apply(client, CONFIGMAPS, configmap("b"), namespace)
    await eventually(lambda: follower.names() == ["a", "b"])
    assert all(e.type is not EventType.DELETED for e in follower.events)


async def test_a_restored_backup_is_noticed_before_its_losses_are_told(
    ground: Fleet, connect: Connect, follow: Follow
) -> None:
    """F09: etcd comes back with an older state; versions go back, and deletes that follow are told as a rewind's."""
    cluster = ground.upstream
    client = connect(cluster)
    namespace = await new_namespace(client)
    await apply(client, CONFIGMAPS, configmap("old", a="1"), namespace)

    def stop() -> None:
        for one in ground.clusters.values():
            one.kill("apiserver")
        cluster.kill("etcd")

    def start() -> None:
        cluster.start("etcd")
        for one in ground.clusters.values():
            one.start("apiserver")

    await asyncio.to_thread(stop)
    await asyncio.to_thread(shutil.copytree, ground.folder / "etcd", ground.folder / "backup")
    await asyncio.to_thread(start)
    for index in range(100):
        await apply(client, CONFIGMAPS, configmap("young", a=str(index)), namespace)
    follower = follow(client, namespace, inactivity_seconds=2.0)
    informer = follower.informer
    await eventually(lambda: informer.fresh and (namespace, "young") in informer.cache)
    await asyncio.to_thread(stop)
    await asyncio.to_thread(shutil.rmtree, ground.folder / "etcd")
    await asyncio.to_thread(shutil.copytree, ground.folder / "backup", ground.folder / "etcd")
    await asyncio.to_thread(start)
    await eventually(lambda: follower.rewound_at_deletes, timeout_seconds=60)
    assert follower.rewound_at_deletes == [True]
    assert (namespace, "old") in informer.cache
    assert (namespace, "young") not in informer.cache
