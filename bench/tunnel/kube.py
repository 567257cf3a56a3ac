"""Small requests of the hub's own client (L05): `ClusterClient` → stream → agent's `kube-api` → API server stand-in.

`python -m bench.tunnel.kube --role hub|agent` are the two processes; the hub's end makes the load as well, so its CPU
contains the client. It reads one question per line (JSON: way, in_flight, seconds) and answers in one line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from asyncio.subprocess import PIPE
from typing import Any, Final

from bench.figures import Goal, Line, median, percentile
from bench.tunnel.bed import MIB, Bed, Way
from bench.tunnel.load import WARMUP_SECONDS, LoadFailed
from bench.tunnel.report import Row
from bench.tunnel_rig import END_SECONDS, LINKS, accept_agent, dial_hub, end, run_role, say, start_pair
from syncer.agent.kube_api import KubeApi
from syncer.agent.role import default_policy
from syncer.hub.tunnel_targets import SERVICE, open_stream_of
from syncer.kube.client import ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.kubeconfig import Access, Source
from syncer.kube.stream_connector import connector_factory, stream_credentials
from syncer.logs import configure_logs

PATH: Final = "/api/v1/namespaces/shop/configmaps/web"
IN_FLIGHT: Final = 100
TUNNEL: Final = "tunnel"


async def ask(client: ClusterClient, in_flight: int, seconds: float) -> dict[str, Any]:
    """GET again and again, so many at a time; seconds are measured after the warm-up."""
    delays: list[float] = []
    total = 0
    begin = time.perf_counter() + WARMUP_SECONDS
    until = begin + seconds

    async def one_by_one() -> None:
        nonlocal total
        now = time.perf_counter()
        while now < until:
            await client.request("GET", PATH)
            before, now = now, time.perf_counter()
            total += 1
            if before >= begin:
                delays.append(now - before)

    await asyncio.gather(*(one_by_one() for _ in range(in_flight)))
    took = time.perf_counter() - begin
    p50, p99 = (percentile(delays, percent) * 1e3 for percent in (50, 99))
    return {"rate": len(delays) / took, "all": total, "p50_ms": p50, "p99_ms": p99}


async def hub(tls_dir: str, link: Any) -> None:
    """Answer questions until standard input ends."""
    session = await (await accept_agent(tls_dir, link))
    say("ready")
    through = connector_factory(open_stream_of(TUNNEL, lambda _: session))
    tunnelled = ClusterClient(stream_credentials(), name=TUNNEL, connector=through, max_connections=IN_FLIGHT)
    clients = {TUNNEL: tunnelled}
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while question := await reader.readline():
        words = json.loads(question)
        way = words["way"]
        if way not in clients:
            access = Access(f"http://127.0.0.1:{way}")
            clients[way] = ClusterClient(ClusterCredentials(access), name=way, max_connections=IN_FLIGHT)
        say(json.dumps(await ask(clients[way], words["in_flight"], words["seconds"])))
    for client in clients.values():
        await client.close()


async def agent(url: str, target: str, tls_dir: str, link: Any) -> None:
    """Serve `kube-api` in front of the stand-in until the link ends."""
    credentials = ClusterCredentials(Access(f"http://127.0.0.1:{target}", token=Source(b"bench")))
    service = KubeApi(credentials, default_policy())
    await (await dial_hub(url, tls_dir, link, {SERVICE: lambda _: service.protocol()})).closed


async def requests(bed: Bed) -> list[Row]:
    """Requests a second, and what one alone waits longer than directly."""
    settings = bed.settings
    command = ["-m", "bench.tunnel.kube", "--link", settings.link, "--target", str(bed.server_port)]
    pair = await start_pair(command, tls=settings.tls, stdin=PIPE)
    one = pair[0]
    many: list[list[dict[str, float]]] = [[], [], []]
    alone: list[list[float]] = [[], [], []]

    async def question(way: str, in_flight: int) -> dict[str, float]:
        assert one.stdin is not None and one.stdout is not None  # noqa: PT018
        words = {"way": way, "in_flight": in_flight, "seconds": settings.seconds}
        one.stdin.write(json.dumps(words).encode() + b"\n")
        answer = await one.stdout.readline()
        if not answer:
            raise LoadFailed("the hub's client ended; its error is above")
        return dict(json.loads(answer))

    try:
        async with bed.hop(bed.server_port) as hop:
            ours = Way("tunnel", 0, pair)
            ways = [(str(bed.server_port), ours), (str(hop.port), Way("hop", 0, (one, *hop.processes))), (TUNNEL, ours)]
            for _ in range(settings.rounds):
                for number, (name, way) in enumerate(ways):
                    before = way.cpu_seconds()
                    found = await question(name, IN_FLIGHT)
                    found["cpu"] = (way.cpu_seconds() - before) / found["all"] * 1e6
                    many[number].append(found)
                    alone[number].append((await question(name, 1))["p50_ms"])
        rss = ours.rss_bytes() / MIB
        assert one.stdin is not None
        one.stdin.close()
        await asyncio.wait_for(one.wait(), END_SECONDS)
    finally:
        await end(*pair)
    return _rows(many, alone, rss)


def _rows(many: list[list[dict[str, float]]], alone: list[list[float]], rss_mib: float) -> list[Row]:
    """Of the rounds on each way: direct, hop, tunnel."""
    rates = [[found["rate"] for found in way] for way in many]
    cpu = [median(found["cpu"] for found in way) for way in many]
    p50, p99 = (median(found[name] for found in many[2]) for name in ("p50_ms", "p99_ms"))
    line = Line(
        "kube", f"small GETs of the hub's client, {IN_FLIGHT} at a time", "/s", median(rates[2]), median(rates[0]),
        Goal(10_000, at_least=True), f"CPU with the client, directly {cpu[0]:.0f}; p50 {p50:.1f}, p99 {p99:.1f} ms",
    )  # fmt: skip
    direct, hop, ours = (median(way) for way in alone)
    added = [mine - theirs for mine, theirs in zip(alone[2], alone[0], strict=True)]
    wait = Line(
        "kube", "the same, one at a time: added p50", "ms", median(added), None, Goal(0.5),
        f"p50 {ours:.2f}, directly {direct:.2f}, by the hop {hop:.2f} ms",
    )  # fmt: skip
    return [
        Row(
            line, hop=median(rates[1]), rounds=tuple(rates[2]), cpu=cpu[2], hop_cpu=cpu[1], cpu_unit="µs each",
            rss_mib=rss_mib,
        ),
        Row(wait, hop=hop - direct if not math.isnan(hop) else None, rounds=tuple(added)),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tunnel.kube", description=__doc__)
    parser.add_argument("--role", choices=["hub", "agent"], required=True)
    parser.add_argument("--target", required=True, help="port of the stand-in")
    parser.add_argument("--link", choices=LINKS, required=True)
    parser.add_argument("--url")
    parser.add_argument("--tls-dir", default="")
    given = parser.parse_args()
    configure_logs(level="warning")
    if given.role == "hub":
        run_role("hub", hub(given.tls_dir, given.link))
    else:
        run_role("agent", agent(given.url, given.target, given.tls_dir, given.link))


if __name__ == "__main__":
    main()
