"""`kubeconfig` and `logs`: at targets behind the tunnel, through the hub, with the caller's own upstream credential."""

from __future__ import annotations

import asyncio
import base64
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import yaml

from syncer.api.shapes import PodInfo, PodList
from syncer.cli import resolve
from syncer.cli.access import open_upstream
from syncer.cli.cluster import patient
from syncer.cli.errors import CliError, WrongUse, printable
from syncer.cli.hub import HubDown, hub_of, open_hub
from syncer.cli.insight import named_object
from syncer.cli.options import Access
from syncer.cli.output import emit
from syncer.cli.targets import get_target
from syncer.kube import errors
from syncer.kube.kubeconfig import Access as ClusterAccess
from syncer.kube.kubeconfig import ExecPlugin, Source

if TYPE_CHECKING:
    from syncer.kube.client import ClusterClient

PREFIX: Final = "targets"
AGAIN_SECONDS: Final = 2.0  # between two looks for new Pods with -f, and after a log that broke off
_STEERING: Final = re.compile(r"\x1b(?!\[[0-9;]{0,20}m)|[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f]")
_STAMP: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
MAX_LINE: Final = 65_536  # bytes after which a line without an end is printed in pieces


async def write_kubeconfig(name: str, access: Access) -> None:
    """`syncline kubeconfig TARGET`: the caller's own kubeconfig with the target's address at the hub, on stdout."""
    async with open_upstream(access) as upstream:
        target = await get_target(upstream.client, name)
        _must_be_tunnelled(target)
        hub = await hub_of(upstream, access.hub)
    cluster: dict[str, Any] = {"server": f"{hub.server}/{PREFIX}/{name}"}
    if hub.ca is not None:
        cluster["certificate-authority-data"] = base64.b64encode(hub.ca.read()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user_of(upstream.chosen.access)}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": upstream.namespace}}],
        "current-context": name,
    }
    emit(yaml.safe_dump(config, sort_keys=False))


def user_of(access: ClusterAccess) -> dict[str, Any]:
    """The user entry of a kubeconfig for the credential that the caller has; files stay files. Pure but for paths."""
    user: dict[str, Any] = {}
    if access.certificate is not None and access.key is not None:
        user |= _source("client-certificate", access.certificate) | _source("client-key", access.key)
    if access.token is not None:
        token = access.token
        user |= {"tokenFile": str(_absolute(token.path))} if token.path else {"token": (token.data or b"").decode()}
    if access.plugin is not None:
        user["exec"] = _exec(access.plugin)
    return user


def _source(name: str, source: Source) -> dict[str, str]:
    if source.path is not None:
        return {name: str(_absolute(source.path))}
    return {f"{name}-data": base64.b64encode(source.data or b"").decode()}


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _exec(plugin: ExecPlugin) -> dict[str, Any]:
    return {
        "apiVersion": plugin.api_version,
        "command": plugin.command,
        "args": list(plugin.args),
        "env": [{"name": name, "value": value} for name, value in plugin.env.items()],
        "interactiveMode": "IfAvailable",
        "provideClusterInfo": plugin.provide_cluster_info,
    }


def _direct(target: dict[str, Any]) -> str:
    """Why a target is not reached through the hub; "" if it is."""
    if target["spec"]["connection"].get("tunnel") is not None:
        return ""
    return f"target {target['metadata']['name']} is reached directly, not through the hub"


def _must_be_tunnelled(target: dict[str, Any]) -> None:
    if why := _direct(target):
        raise CliError(why, "Use the target's own kubeconfig for it.")


async def show_logs(
    argument: str,
    target: str | None,
    container: str | None,
    follow: bool,
    tail: int | None,
    namespace: str | None,
    access: Access,
) -> int:
    """`syncline logs`: lines of all Pods of a workload on all targets, each with where it comes from.

    Returns 1 if some Pods could not be read, or there are none.
    """
    wanted = resolve.split(argument)
    async with open_upstream(access) as upstream, open_hub(upstream, access.hub) as hub:
        named = await named_object(upstream, wanted, namespace)
        if target is not None:
            _must_be_tunnelled(await get_target(upstream.client, target))
        reader = _Reader(hub.client, partial(get_target, upstream.client), follow, container, tail)
        if named.kind.id == ("", "pods"):
            if target is None:
                raise WrongUse("a Pod is on one target", "Name it with --target, or name the workload: deploy/web")
            found = PodList(items=[PodInfo(target=target, namespace=named.namespace, name=named.name)])
            return await reader.read_all(found)
        ask = partial(hub.get, named.hub_path("pods"), PodList)
        return await reader.watch(ask, target) if follow else await reader.read_all(chosen(await ask(), target))


def chosen(found: PodList, target: str | None) -> PodList:
    """The Pods on one target, or all."""
    if target is None:
        return found
    items = [pod for pod in found.items if pod.target == target]
    return PodList(items=items, unreachable=[name for name in found.unreachable if name == target])


class _Reader:
    """Prints logs of many Pods, whole lines, none twice."""

    def __init__(
        self,
        client: ClusterClient,
        find_target: Callable[[str], Awaitable[dict[str, Any]]],
        follow: bool,
        container: str | None,
        tail: int | None,
    ) -> None:
        self._client = client
        self._find_target = find_target
        self._direct: dict[str, bool] = {}  # {target: whether it is not reached through the hub}
        # With its time before each line, a log that broke off is read on from the line that came last.
        self._params = {"follow": "true", "timestamps": "true"} if follow else {}
        if container:
            self._params["container"] = container
        if tail is not None:
            self._params["tailLines"] = str(tail)
        self._failed = False
        self._running: dict[tuple[str, str, str], asyncio.Task[str]] = {}

    async def read_all(self, found: PodList) -> int:
        """One after another, so that Pods do not mix; with -f together."""
        self._complain(found)
        if not found.items:
            sys.stderr.write("note: there are no Pods\n")
            return 1
        pods = await self._behind_the_tunnel(found)
        if self._params.get("follow"):
            await asyncio.gather(*(self._read(pod) for pod in pods))
        else:
            for pod in pods:
                await self._read(pod)
        return 1 if self._failed or found.unreachable else 0

    async def watch(self, ask: Callable[[], Awaitable[PodList]], target: str | None) -> int:
        """Follow Pods as they come, and go on where a log broke off, until Ctrl-C."""
        known: set[str] = set()
        try:
            while True:
                try:
                    found = chosen(await patient(ask), target)
                except HubDown as error:
                    sys.stderr.write(f"note: {printable(str(error))}\n")
                    found = PodList()
                self._complain(PodList(unreachable=[name for name in found.unreachable if name not in known]))
                known = set(found.unreachable)
                for pod in await self._behind_the_tunnel(found):
                    key = (pod.target, pod.namespace, pod.name)
                    before = self._running.get(key)
                    if pod.phase == "Running" and (before is None or before.done()):
                        since = "" if before is None else before.result()
                        self._running[key] = asyncio.create_task(self._read(pod, since=since))
                await asyncio.sleep(AGAIN_SECONDS)
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _behind_the_tunnel(self, found: PodList) -> list[PodInfo]:
        """The Pods that can be read here; of each other target it is said once that they cannot."""
        for name in sorted({pod.target for pod in found.items} - self._direct.keys()):
            why = _direct(await self._find_target(name))
            self._direct[name] = bool(why)
            if why:
                self._failed = True
                sys.stderr.write(f"note: {why}: read its Pods with its own kubeconfig\n")
        return [pod for pod in found.items if not self._direct[pod.target]]

    def _complain(self, found: PodList) -> None:
        if found.unreachable:
            sys.stderr.write(f"note: cannot be asked now, its Pods are unknown: {', '.join(found.unreachable)}\n")
        if found.omitted:
            sys.stderr.write(f"note: {found.omitted} further Pods are left out\n")

    async def _read(self, pod: PodInfo, *, since: str = "") -> str:
        """Print one log.

        Args:
            since: time of the last line that was printed; it and those before it are not printed again.
        Returns:
            That time now; "" if no line came.
        """
        params, last = self._params, since
        if since:
            params = {**{name: value for name, value in params.items() if name != "tailLines"}, "sinceTime": since}
        where = f"{pod.target}/{pod.name}"
        parts = (PREFIX, pod.target, "api", "v1", "namespaces", pod.namespace, "pods", pod.name, "log")
        path = "/" + "/".join(quote(part, safe="") for part in parts)
        try:
            async with self._client.stream(path, params=params) as pieces:
                async for line in lines(pieces):
                    stamp, text = stamped(line) if "timestamps" in params else ("", line)
                    if stamp and since and not is_later(stamp, since):
                        continue
                    since, last = "", stamp or last  # lines come in order: one that is later ends the search
                    emit(f"[{where}] {printable_line(text)}")
                    sys.stdout.flush()
        except errors.ApiError as error:
            self._failed = True
            sys.stderr.write(f"note: {where}: {printable(str(error))}\n")
        return last


async def lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Whole lines out of pieces of any size; the last one may lack its end."""
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > MAX_LINE:
            yield rest
            rest = b""
    if rest:
        yield rest


def stamped(line: bytes) -> tuple[str, bytes]:
    """(time, text) of a line that was asked for with its time; "" for one that has none, as some errors."""
    stamp, _, text = line.partition(b" ")
    return (stamp.decode("ascii"), text) if _STAMP.fullmatch(stamp) else ("", line)


def is_later(stamp: str, other: str) -> bool:
    """Whether one time of `stamped` is after another, to the microsecond."""
    return datetime.fromisoformat(stamp) > datetime.fromisoformat(other)


def printable_line(line: bytes) -> str:
    """A line of a log as text, with its colours; what else would steer a terminal is left out."""
    return _STEERING.sub("", line.decode("utf-8", "replace"))
