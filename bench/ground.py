"""Where benchmarks run: a fleet, `syncline operator` as a process of its own, targets, namespaces that go again."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import psutil

from bench import manifests
from bench.api import JSON, MERGE, Api, RequestFailed, in_parallel, until
from bench.counters import Write
from deploy.local import ports
from deploy.local.fleet import Fleet
from deploy.local.processes import end

REGIONS: Final = {"east": "eu", "west": "us"}  # as the shop's transforms expect
ROOT: Final = Path(__file__).parents[1]
OPERATOR: Final = "operator"
# Far above what these API servers reach, so that Syncline's own limits are not what is measured.
LIMITS: Final = {"qps": 100_000, "burst": 100_000, "maxConcurrent": 32}
_SYNCLINE: Final = "/apis/syncline.io/v1alpha1"
_SAMPLE: Final = re.compile(r"^(\w+)(\{[^}]*\})? (\S+)$", re.MULTILINE)
READY_SECONDS: Final = 120.0
GONE_SECONDS: Final = 300.0
QUIET_SECONDS: Final = 120.0


class OperatorEnded(Exception):
    """The operator process is gone although nobody asked it to end."""


class Operator:
    """The operator process, as the fleet's process table knows it; `down` of the fleet ends it, too."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._http, self._hub = ports.choose(2, rng=random.Random())  # noqa: S311 - spreads ports, guards nothing

    async def start(self) -> float:
        """Start it; returns seconds until it was ready."""
        began = time.monotonic()
        binds = ["--http-bind", f"127.0.0.1:{self._http}", "--hub-bind", f"127.0.0.1:{self._hub}"]
        command = [*_command(), "operator", *binds, "--kubeconfig", str(self._fleet.upstream.kubeconfig)]
        await asyncio.to_thread(self._fleet.table.start, OPERATOR, command, cwd=ROOT)
        try:
            await until(self.ready, "the operator is ready", READY_SECONDS)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; its log: {self._fleet.table.log_path(OPERATOR)}") from error
        return time.monotonic() - began

    async def stop(self) -> None:
        """End it with SIGTERM; nothing happens if it does not run."""
        record = self._fleet.table.read(OPERATOR)
        if record is not None:
            await asyncio.to_thread(end, [record])

    async def ready(self) -> bool:
        """Whether it answers that it is."""
        try:
            return (await self._ask("/readyz"))[0] == 200
        except (aiohttp.ClientError, OSError):
            return False

    async def metric(self, name: str, *labels: str) -> float:
        """Sum of a metric's samples whose labels contain all the given texts, like `side="downstream"`."""
        _, text = await self._ask("/metrics")
        samples = _SAMPLE.findall(text)
        return sum(
            float(value) for found, have, value in samples if found == name and all(label in have for label in labels)
        )

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        record = self._fleet.table.read(OPERATOR)
        return record is not None and record.alive

    @property
    def process(self) -> psutil.Process:
        """The running process."""
        record = self._fleet.table.read(OPERATOR)
        if record is None:
            raise RequestFailed("the operator does not run")
        return psutil.Process(record.pid)

    def rss_mib(self) -> float:
        """Resident memory now, MiB."""
        return float(self.process.memory_info().rss) / 2**20

    def cpu_seconds(self) -> float:
        """CPU time since its start."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    async def _ask(self, path: str) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://127.0.0.1:{self._http}{path}") as answer,
        ):
            return answer.status, await answer.text()


class Ground:
    """A fleet with Syncline on it.

    Attributes:
        targets: names; SyncTargets are called as their clusters.
        api: {cluster: client}.
        say: shows one line of progress.
        crashed: whether the operator ended by itself since this was last set to False.
    """

    def __init__(self, fleet: Fleet, say: Callable[[str], None]) -> None:
        self.fleet = fleet
        self.targets = tuple(fleet.targets)
        self.api = {name: Api(name, cluster.kubeconfig) for name, cluster in fleet.clusters.items()}
        self.operator = Operator(fleet)
        self.say = say
        self.crashed = False

    @property
    def upstream(self) -> Api:
        return self.api["upstream"]

    def downstream(self) -> list[Api]:
        """Clients of the targets."""
        return [self.api[name] for name in self.targets]

    async def install(self, *, as_is: bool = False) -> None:
        """CRDs, operator, targets.

        Args:
            as_is: targets are stored with the admin's kubeconfig, as light ones need: nobody makes tokens there.
        """
        crds = await self._syncline("crds")
        await asyncio.to_thread(
            self.fleet.kubectl, "upstream", "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=crds
        )
        await until(self._served, "the CRDs are served", 30)
        await self.operator.stop()
        await self._sweep()
        self.say("starting the operator")
        await self.start_operator()
        if as_is:
            await in_parallel([partial(self._store_target, name) for name in self.targets])
        else:
            for name in self.targets:
                await self._add_target(name)
        for name in self.targets:
            await until(partial(self._target_ready, name), f"target {name} is Ready", READY_SECONDS)

    async def _sweep(self) -> None:
        """Remove what an interrupted run left behind; measured together with it, nothing would mean anything.

        Only while no operator runs: so many objects without a living source would freeze its targets.
        """
        for api in self.api.values():
            for name in sorted(await api.names("/api/v1/namespaces")):
                if name.startswith(manifests.PREFIX):
                    self.say(f"removing {name} of an earlier run from {api.name}")
                    await self.drop_namespace(name, [api])

    async def close(self) -> None:
        """End the operator and all connections."""
        await self.operator.stop()
        for api in self.api.values():
            await api.close()

    async def make_namespace(self, name: str, where: Sequence[Api] = ()) -> None:
        """A namespace upstream, or in the given clusters."""
        for api in where or (self.upstream,):
            await api.must("POST", "/api/v1/namespaces", {"metadata": {"name": name}}, also=(409,))

    async def create(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Create objects of a resource upstream."""
        await in_parallel([partial(self._create, item) for item in objects])

    async def place(self, namespace: str, resources: Sequence[str], **spec: Any) -> None:
        """Place everything of these resources in the namespace on all targets."""
        body = manifests.placement(namespace, self.targets, resources, **spec)
        await self.upstream.must("POST", f"{_SYNCLINE}/namespaces/{namespace}/placements", body)

    async def synced(self, namespace: str, counts: Mapping[str, int], seconds: float = 180) -> None:
        """Wait until so many objects of ours are on every target, and Deployments are ready there and upstream."""
        for resource, count in counts.items():
            for api in (*self.downstream(), self.upstream):
                look = partial(self._complete, api, resource, namespace, count)
                await self._until(look, f"{count} {resource} in {namespace} on {api.name}", seconds)

    async def clear(self, namespace: str, resources: Sequence[str]) -> None:
        """Remove everything that a scenario made in a namespace, and the namespace everywhere."""
        await self.remove_sources(namespace, resources)
        await self.upstream.must("DELETE", f"{_SYNCLINE}/namespaces/{namespace}/placements", also=(404,))
        await self.drop_namespace(namespace, list(self.api.values()))
        await self.revive()

    async def remove_sources(self, namespace: str, resources: Sequence[str]) -> None:
        """Delete the objects upstream, and wait until Syncline has deleted them downstream.

        That each source was seen to be deleted is the evidence on which it does so. If it ended meanwhile it has not
        seen that, and rightly hesitates; then this gives up.
        """
        self.say(f"cleaning up {namespace}")
        for resource in resources:
            await self.upstream.must("DELETE", manifests.collection(resource, namespace), also=(404,))
        try:
            for resource in resources:
                for api in self.downstream():
                    look = partial(self._empty, api, resource, namespace)
                    await self._until(look, f"no {resource} of {namespace} on {api.name}", GONE_SECONDS)
        except OperatorEnded as error:
            self.say(str(error))

    async def revive(self) -> None:
        """Start the operator again if it ended by itself, and remember that it did."""
        if not self.operator.alive:
            self.crashed = True
            await self.start_operator()

    async def start_operator(self) -> None:
        """Start it, and wait until Placements are admitted: it is ready before its webhooks are registered."""
        await self.operator.start()
        await until(self._admits, "Placements are admitted", READY_SECONDS)

    async def drop_namespace(self, name: str, where: Sequence[Api]) -> None:
        """Delete a namespace with all that is in it, and wait until it is gone."""
        for api in where:
            await api.must("DELETE", f"/api/v1/namespaces/{name}", also=(404, 409))
        for api in where:
            await until(partial(self._no_namespace, api, name), f"{api.name} has no namespace {name}", GONE_SECONDS)

    async def writes(self) -> dict[str, Counter[Write]]:
        """What every API server counted so far."""
        return {name: await api.writes() for name, api in self.api.items()}

    async def quiet(self, seconds: float = 2.0) -> None:
        """Wait until the operator sent no write of objects for a while.

        Raises:
            TimeoutError: it goes on writing.
        """
        last, since = -1.0, time.monotonic()
        deadline = since + QUIET_SECONDS
        while time.monotonic() - since < seconds:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the operator still writes after {QUIET_SECONDS:g} s")
            await asyncio.sleep(0.25)
            now = await self.operator.metric("syncline_api_writes_total", 'side="downstream"')
            now += await self.operator.metric("syncline_queue_depth")
            if now != last:
                last, since = now, time.monotonic()

    async def _until(self, holds: Callable[[], Awaitable[bool]], what: str, seconds: float) -> None:
        """Wait for what only a living operator brings about."""

        async def look() -> bool:
            if not self.operator.alive:
                self.crashed = True
                raise OperatorEnded(f"the operator ended by itself; {self.fleet.table.log_path(OPERATOR)} tells why")
            return await holds()

        await until(look, what, seconds)

    async def _create(self, item: Mapping[str, Any]) -> None:
        resource = manifests.resource_of(item)
        await self.upstream.must("POST", manifests.collection(resource, item["metadata"]["namespace"]), item)

    async def _complete(self, api: Api, resource: str, namespace: str, count: int) -> bool:
        path = manifests.collection(resource, namespace)
        selector = "" if api is self.upstream else "?labelSelector=syncline.io/managed-by"
        items = (await api.must("GET", path + selector))["items"]
        if resource == manifests.DEPLOYMENTS:
            each = 1 if api is not self.upstream else len(self.targets)
            items = [
                item for item in items if item["status"].get("readyReplicas", 0) >= each * item["spec"]["replicas"]
            ]
        return len(items) >= count

    async def _empty(self, api: Api, resource: str, namespace: str) -> bool:
        path = f"{manifests.collection(resource, namespace)}?labelSelector=syncline.io/managed-by&limit=1"
        return not (await api.must("GET", path))["items"]

    async def _no_namespace(self, api: Api, name: str) -> bool:
        return (await api.send("GET", f"/api/v1/namespaces/{name}"))[0] == 404

    async def _served(self) -> bool:
        return (await self.upstream.send("GET", f"{_SYNCLINE}/placements?limit=1"))[0] == 200

    async def _admits(self) -> bool:
        body = orjson.dumps(manifests.placement("default", ["any"], [manifests.CONFIG_MAPS]))
        path = f"{manifests.collection(manifests.PLACEMENTS, 'default')}?dryRun=All"
        return (await self.upstream.send("POST", path, body))[0] == 201

    async def _target_ready(self, name: str) -> bool:
        target = await self.upstream.must("GET", f"{_SYNCLINE}/synctargets/{name}")
        conditions = target.get("status", {}).get("conditions", ())
        return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)

    async def _add_target(self, name: str) -> None:
        self.say(f"syncline target add {name}")
        config = self.fleet.targets[name].kubeconfig
        options = ("--label", f"region={REGIONS.get(name, name)}", "--allow", "*.shop.example")
        await self._syncline("target", "add", name, "--target-kubeconfig", str(config), *options)
        await self.upstream.must("PATCH", f"{_SYNCLINE}/synctargets/{name}", {"spec": {"limits": LIMITS}}, MERGE)

    async def _store_target(self, name: str) -> None:
        """What `syncline target add --use-kubeconfig-as-is` stores, without starting a CLI 50 times."""
        config = self.fleet.targets[name].kubeconfig.read_bytes()
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": "syncline-system"},
            "data": {"kubeconfig": base64.b64encode(config).decode()},
        }
        await self.upstream.must("POST", "/api/v1/namespaces/syncline-system/secrets", secret, JSON, also=(409,))
        reference = {"namespace": "syncline-system", "name": name, "key": "kubeconfig"}
        target = {
            "apiVersion": "syncline.io/v1alpha1",
            "kind": "SyncTarget",
            "metadata": {"name": name},
            "spec": {"connection": {"direct": {"kubeconfigSecretRef": reference}}, "limits": LIMITS},
        }
        await self.upstream.must("POST", f"{_SYNCLINE}/synctargets", target, also=(409,))

    async def _syncline(self, *arguments: str) -> str:
        """Output of a CLI command that has to succeed."""
        run = partial(_run, self.fleet.upstream.kubeconfig, arguments)
        done = await asyncio.to_thread(run)
        if done.returncode:
            raise RequestFailed(f"syncline {' '.join(arguments)}: {(done.stderr or done.stdout)[-500:]}")
        return done.stdout


def _command() -> list[str]:
    """The installed program beside this Python."""
    program = Path(sys.executable).with_name("syncline")
    return [str(program)] if program.exists() else [sys.executable, "-m", "syncer.cli"]


def _run(kubeconfig: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
    environment["KUBECONFIG"] = str(kubeconfig)
    return subprocess.run(  # noqa: S603 - our own program
        [*_command(), *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
