"""`status`, `explain`, `pods`: what the operator knows, asked through its hub."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from syncer.api.shapes import CLUSTER_SCOPED, Explanation, ObjectStatus, PodList, Problem, ProblemList
from syncer.cli import render, resolve
from syncer.cli.access import Upstream, open_upstream
from syncer.cli.errors import CliError, printable
from syncer.cli.hub import Hub, HubDown, open_hub
from syncer.cli.options import Access
from syncer.cli.output import Output, emit, emit_data
from syncer.cli.resolve import Served
from syncer.kube import errors

Shape = TypeVar("Shape", bound=msgspec.Struct)
WATCH_SECONDS = 2.0  # between two looks; nobody reads faster


class Answer(NamedTuple):
    """What the hub said, in both forms."""

    data: msgspec.Struct
    text: str
    exit_code: int = 0


Question = Callable[[], Awaitable[Answer]]


async def show_status(
    argument: str | None, namespace: str | None, watch: bool, output: Output | None, access: Access
) -> int:
    """`syncline status`: all problems (exit code 1 if there are any), or one object on every target."""
    wanted = None if argument is None else resolve.split(argument)
    async with open_upstream(access) as upstream, open_hub(upstream, access.hub) as hub:
        ask: Question
        if wanted is None:
            ask = partial(_problems, hub, namespace, output is Output.WIDE)
        else:
            named = await named_object(upstream, wanted, namespace)
            ask = partial(_object, upstream, hub, "status", named, ObjectStatus, render.status)
        if watch:
            return await _watch(ask, output)
        return _show(await ask(), output)


async def show_explanation(argument: str, namespace: str | None, output: Output | None, access: Access) -> int:
    """`syncline explain`."""
    wanted = resolve.split(argument)
    async with open_upstream(access) as upstream, open_hub(upstream, access.hub) as hub:
        named = await named_object(upstream, wanted, namespace)
        return _show(await _object(upstream, hub, "explain", named, Explanation, render.explanation), output)


async def show_pods(argument: str, namespace: str | None, output: Output | None, access: Access) -> int:
    """`syncline pods`."""
    wanted = resolve.split(argument)
    async with open_upstream(access) as upstream, open_hub(upstream, access.hub) as hub:
        named = await named_object(upstream, wanted, namespace)
        draw = partial(render.pods, wide=output is Output.WIDE)
        return _show(await _object(upstream, hub, "pods", named, PodList, draw), output)


class NamedObject(NamedTuple):
    """An object upstream, as the command line names it."""

    kind: Served
    namespace: str  # "" for cluster-scoped objects
    name: str

    def hub_path(self, what: str) -> str:
        """Where the hub tells of it."""
        parts = (str(self.kind.id), self.namespace or CLUSTER_SCOPED, self.name)
        return "/".join(["/api/v1", what, *(quote(part, safe="") for part in parts)])

    def __str__(self) -> str:
        return f"{self.kind.id}/{self.name}" + (f" in namespace {self.namespace}" if self.namespace else "")


async def named_object(upstream: Upstream, wanted: tuple[str, str], namespace: str | None) -> NamedObject:
    """Which object the words of the command line mean."""
    word, name = wanted
    kind = await resolve.resolve(upstream.client, word)
    return NamedObject(kind, (namespace or upstream.namespace) if kind.namespaced else "", name)


async def _object(
    upstream: Upstream, hub: Hub, what: str, named: NamedObject, shape: type[Shape], draw: Callable[[Shape], str]
) -> Answer:
    """Ask the hub about one object.

    Raises:
        CliError: it does not exist, or nothing places it.
    """
    try:
        found = await hub.get(named.hub_path(what), shape)
    except errors.NotFound as error:
        try:
            await upstream.client.request("GET", named.kind.path(named.namespace, named.name))
        except errors.NotFound:
            raise CliError(f"upstream has no {named}", "Check the name; -n names another namespace.") from error
        raise CliError(
            f"{named} exists upstream, but the operator does not know it",
            "Is its kind in spec.resources of a placement? syncline get placements lists them.",
        ) from error
    return Answer(found, draw(found))


async def _problems(hub: Hub, namespace: str | None, wide: bool) -> Answer:
    found = await hub.get("/api/v1/problems", ProblemList, params={"namespace": namespace} if namespace else None)
    return Answer(found, render.problems(found, wide=wide), 1 if found.items else 0)


def _show(answer: Answer, output: Output | None) -> int:
    if not emit_data(msgspec.to_builtins(answer.data), output):
        emit(answer.text)
    return answer.exit_code


def _content(answer: Answer) -> bytes:
    """What makes two answers differ for a reader: everything but the ages, which always grow."""
    return re.sub(rb'"age_seconds":[^,}]*', b"", msgspec.json.encode(answer.data))


async def _watch(ask: Question, output: Output | None) -> int:
    """Ask again and again until Ctrl-C; on a terminal the last answer is redrawn, elsewhere each new one is printed."""
    redraw = sys.stdout.isatty() and output in (None, Output.WIDE)
    last: bytes | None = None
    while True:
        try:
            answer = await ask()
        except HubDown as error:
            if last is None:
                raise
            # The operator restarts, or another replica takes over: say so and go on.
            answer = Answer(Problem(message=str(error)), f"No answer now: {printable(str(error))}", 1)
        content = _content(answer)
        if redraw or content != last:
            if output in (None, Output.WIDE):
                clear = "\x1b[H\x1b[2J" if redraw else ""
                emit(f"{clear}{time.strftime('%H:%M:%S')}\n{answer.text}\n")
            else:
                _show(answer, output)
            sys.stdout.flush()
        last = content
        await asyncio.sleep(WATCH_SECONDS)
