"""The raw limit's hands: requests to one API server with nothing in between but aiohttp."""

from __future__ import annotations

import asyncio
import base64
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson
import yaml
from yarl import URL

from bench.counters import Write, parse_writes

APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
JSON: Final = "application/json"
OURS: Final = "?fieldManager=syncline&force=true"  # how the engine applies
AT_ONCE: Final = 16  # requests in flight per cluster in tight loops
RETRIES: Final = 20  # of a request that the API server puts off

OnChange = Callable[[float, str, dict[str, Any]], None]  # monotonic seconds, event type, object


class RequestFailed(Exception):
    """An API server refused what a benchmark needs."""


class Api:
    """One cluster as its admin. Belongs to the loop that it is made in."""

    def __init__(self, name: str, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.name = name
        self.server = str(cluster["server"]).rstrip("/")
        tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as file:
            file.write(base64.b64decode(user["client-certificate-data"]))
            file.write(base64.b64decode(user["client-key-data"]))
            file.flush()
            tls.load_cert_chain(file.name)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls, keepalive_timeout=60),
            headers={"Accept": JSON, "Accept-Encoding": "identity", "User-Agent": "syncline-bench"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def send(self, method: str, path: str, body: bytes | None = None, content: str = JSON) -> tuple[int, bytes]:
        """One request; returns HTTP status and body."""
        async with self._session.request(
            method, URL(self.server + path, encoded=True), data=body, headers={"Content-Type": content}
        ) as answer:
            return answer.status, await answer.read()

    async def must(
        self, method: str, path: str, body: Any = None, content: str = JSON, also: Iterable[int] = ()
    ) -> dict[str, Any]:
        """A request that has to succeed.

        Args:
            also: HTTP statuses that are fine besides those below 300.
        """
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        for _ in range(RETRIES):
            status, answer = await self.send(method, path, data, content)
            if status != 429:  # "storage is (re)initializing", after a CRD has changed
                break
            await asyncio.sleep(1)
        if status >= 300 and status not in also:
            raise RequestFailed(f"{self.name}: {method} {path}: {status} {answer[:300].decode(errors='replace')}")
        return dict(orjson.loads(answer))

    async def names(self, collection: str) -> set[str]:
        """Names of the objects of a collection."""
        return {item["metadata"]["name"] for item in (await self.must("GET", collection))["items"]}

    async def writes(self) -> Counter[Write]:
        """The API server's own count of writes so far."""
        _, text = await self.send("GET", "/metrics")
        return parse_writes(text.decode())

    async def close(self) -> None:
        await self._session.close()

    async def _changes(self, path: str, version: str) -> AsyncIterator[tuple[float, dict[str, Any]]]:
        join = "&" if urlsplit(path).query else "?"
        url = URL(f"{self.server}{path}{join}watch=1&resourceVersion={version}", encoded=True)
        rest = b""
        async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as answer:
            async for piece in answer.content.iter_any():
                at = time.monotonic()
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield at, orjson.loads(line)
        raise RequestFailed(f"{self.name}: the watch of {path} ended")


class Watching:
    """An async context: tells every change of a collection that comes after entering it, as soon as it is read."""

    def __init__(self, api: Api, collection: str, on_change: OnChange) -> None:
        self._api, self._collection, self._on_change = api, collection, on_change

    async def __aenter__(self) -> Watching:
        join = "&" if "?" in self._collection else "?"
        listed = await self._api.must("GET", f"{self._collection}{join}limit=1")
        version = listed["metadata"]["resourceVersion"]
        self._task = asyncio.create_task(self._read(version))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        ended = self._task.done()
        self._task.cancel()
        outcome = (await asyncio.gather(self._task, return_exceptions=True))[0]
        if ended and kind is None and isinstance(outcome, Exception):
            raise outcome

    async def _read(self, version: str) -> None:
        async for at, event in self._api._changes(self._collection, version):
            if event["type"] == "ERROR":
                raise RequestFailed(f"{self._api.name}: {event['object'].get('message')}")
            self._on_change(at, event["type"], event["object"])


async def in_parallel(jobs: Iterable[Callable[[], Awaitable[object]]], at_once: int = AT_ONCE) -> None:
    """Run many small jobs, so many at once; the first failure ends them all."""
    waiting = iter(jobs)

    async def worker() -> None:
        for job in waiting:
            await job()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())


async def at_rate(jobs: Sequence[Callable[[], Awaitable[object]]], per_second: float) -> None:
    """Begin one job after the other at a fixed rate, no matter how long each takes; returns when all are done."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number, job in enumerate(jobs):
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            group.create_task(_as_coroutine(job))


async def _as_coroutine(job: Callable[[], Awaitable[object]]) -> None:
    await job()


async def until(holds: Callable[[], Awaitable[bool]] | Callable[[], bool], what: str, seconds: float) -> None:
    """Poll until something holds.

    Raises:
        TimeoutError: it did not, within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = holds()
        if await answer if isinstance(answer, Awaitable) else answer:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.05)
