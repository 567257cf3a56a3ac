"""What reading, comparing and writing objects costs: µs of CPU time for each step, and MiB for each import.

Run: `python -m bench.kube_micro`. CPU time, so that a busy machine changes little; the least of five runs. Applies go
over HTTP on loopback to a server in another process that answers at once, so the figure is the client's alone.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import uvloop
from aiohttp import web

from bench.render_micro import deployment
from syncer.kube.changes import split_lines
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.fields import FieldSet, differing, digest, surplus, uncovered
from syncer.kube.kubeconfig import Access
from syncer.kube.objects import ResourceInfo, decode_list, decode_object, decode_watch_event

DEPLOYMENTS = ResourceInfo("apps", "v1", "deployments", "Deployment", True)
_RUNS = 5
_APPLIES = 3000
_IN_FLIGHT = 32
_MODULES = ("asyncio", "aiohttp", "yaml", "msgspec, orjson", "syncer.kube.informer", "kubernetes", "kopf")


def own(value: Any) -> dict[str, Any]:
    """Ownership of everything, as a server would store it: lists of named items by key, other lists whole."""
    if isinstance(value, dict):
        return {f"f:{key}": own(child) for key, child in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict) and "name" in value[0]:
        return {f"k:{orjson.dumps({'name': item['name']}).decode()}": {".": {}, **own(item)} for item in value}
    return {}


def answer() -> tuple[dict[str, Any], bytes]:
    """(manifest, the object as a server sends it): about 4 KB and 7 KB."""
    live = deployment()
    manifest = {key: value for key, value in live.items() if key != "status"}
    manifest["metadata"] = {
        key: live["metadata"][key] for key in ("name", "namespace", "labels") if key in live["metadata"]
    }
    body = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata")}
    applied = {"f:metadata": {"f:labels": own(manifest["metadata"]["labels"])}, **own(body)}
    status = {"f:status": own(live.get("status", {}))}
    entries = [("syncline", "Apply", "", applied), ("kube-controller-manager", "Update", "status", status)]
    live["metadata"]["managedFields"] = [
        {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "subresource": sub, "fieldsV1": fields}
        for manager, operation, sub, fields in entries
    ]
    return manifest, orjson.dumps(live)


def measure(name: str, work: Callable[[], object], *, times: int = 2000, per: int = 1) -> None:
    """Print the CPU time of one call, divided by `per`."""
    least = float("inf")
    for _ in range(_RUNS):
        started = time.process_time()
        for _ in range(times):
            work()
        least = min(least, time.process_time() - started)
    report(name, least / times / per * 1e6, "µs")


def report(name: str, value: float, unit: str) -> None:
    sys.stdout.write(f"{name:<58}{value:>10.1f} {unit}\n")


def reading() -> None:
    """Decode and compare."""
    manifest, data = answer()
    line = orjson.dumps({"type": "MODIFIED", "object": orjson.loads(data)})
    item = orjson.loads(data)
    page = orjson.dumps(
        {"kind": "DeploymentList", "apiVersion": "apps/v1", "metadata": {"resourceVersion": "1"}, "items": [item] * 500}
    )
    item_ = decode_object(data)
    live, owned = item_.manifest(), item_.owned
    sizes = (
        f"{len(line) / 1000:.1f} KB, ownership {len(owned or b'') / 1000:.1f} KB, kept {len(item_.raw) / 1000:.1f} KB"
    )
    fields = FieldSet.parse(owned)

    def drift() -> bool:
        return bool(uncovered(manifest, fields) or surplus(manifest, fields) or differing(manifest, live, fields))

    assert not drift(), "the synthetic ownership must fit"
    sys.stdout.write(f"one watch event: {sizes}\n")
    measure("decode a watch event", lambda: decode_watch_event(line))
    measure("decode an object", lambda: decode_object(data))
    measure("decode a list of 500, per object", lambda: decode_list(page), times=5, per=500)
    measure("manifest() of a cached object", item_.manifest)
    measure("field('spec', 'replicas') of a cached object", lambda: item_.field("spec", "replicas"))
    measure("digest of what we own, seen before", lambda: digest(owned))
    measure("digest of what we own, new", lambda: FieldSet.parse(owned).digest())
    measure("FieldSet.parse", lambda: FieldSet.parse(owned))
    measure("what drifted: nothing", drift, times=300)
    uvloop.run(streaming(line))


async def streaming(line: bytes) -> None:
    """Split and decode a stream of 64 KiB pieces."""
    count = 5000
    text = (line + b"\n") * count
    pieces = [text[at : at + 65536] for at in range(0, len(text), 65536)]

    async def coming() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    started = time.process_time()
    async for lines in split_lines(coming()):
        for one in lines:
            decode_watch_event(one)
    report("watch stream without transport, per event", (time.process_time() - started) / count * 1e6, "µs")


async def applying(server: str) -> None:
    """Server-side apply, many in flight."""
    manifest, _ = answer()
    body = orjson.dumps(manifest)
    client = ClusterClient(ClusterCredentials(Access(server)), name="bench", max_connections=_IN_FLIGHT)
    left = iter(range(_APPLIES))

    async def worker() -> None:
        for _ in left:
            await client.apply(DEPLOYMENTS, "shop", "web", body, force=True)

    started, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(_IN_FLIGHT)))
    report("apply, CPU of the client", (time.process_time() - started) / _APPLIES * 1e6, "µs")
    report("apply, wall time with 32 in flight", (time.perf_counter() - wall) / _APPLIES * 1e6, "µs")
    await client.close()


async def serve() -> None:
    """Answer every request with one object; print the address; end when stdin ends."""
    _, data = answer()

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=data, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


def writing() -> None:
    """Start the other process and apply to it."""
    command = [sys.executable, "-m", "bench.kube_micro", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (ourselves)
        assert process.stdout is not None
        uvloop.run(applying(process.stdout.readline().strip()))


def imports() -> None:
    """Resident memory of a process that only imports."""
    for module in _MODULES:
        code = f"import {module}; print(next(x for x in open('/proc/self/status') if x.startswith('VmRSS')).split()[1])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 (ourselves)
        report(f"import {module}", int(done.stdout) / 1024, "MiB")


def main() -> None:
    if "--serve" in sys.argv:
        uvloop.run(serve())
        return
    reading()
    writing()
    imports()
    report("this process at the end", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MiB")


if __name__ == "__main__":
    main()
