"""Fleets, kubectl and waiting, for tests on real control planes."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from deploy.local.assets import find
from deploy.local.errors import GroundError
from deploy.local.fleet import Fleet
from deploy.local.local import LocalProvider
from deploy.local.plan import FleetRequest
from tests.support.api import PATHS, Api

REUSE_VARIABLE = "SYNCLINE_TEST_FLEET"
REAL_FIXTURES = frozenset({"fleet", "own_fleet", "namespace", "kubectl", "apis"})

T = TypeVar("T")


def start_fleet(
    folder: Path,
    *,
    targets: tuple[str, ...] = ("east", "west"),
    light: bool = False,
    nodes: int = 3,
    arguments: Mapping[str, tuple[str, ...]] | None = None,
) -> Fleet:
    """Start a fleet that ends with this test process, even when that is killed.

    Args:
        arguments: extra flags, {component or "CLUSTER.COMPONENT": flags}.

    Raises:
        GroundError: no binaries are there; a test never builds them, for that takes minutes.
    """
    if find(os.environ, note=lambda line: None) is None:
        raise GroundError("the control-plane binaries are missing", hint="run `make assets` once")
    request = FleetRequest(targets=targets, light=light, nodes=nodes, arguments=arguments or {})
    return LocalProvider(folder, owner_pid=os.getpid()).up(request, report=lambda line: None)


def stop_fleet(fleet: Fleet) -> None:
    """End a fleet that `start_fleet` gave."""
    LocalProvider(fleet.folder).down(report=lambda line: None)


class Kubectl:
    """kubectl on the clusters of a fleet, as admin unless another kubeconfig is given.

    Every call ends: kubectl itself would wait for ever. From async tests call it through `asyncio.to_thread`, or within
    `eventually`, so that an operator on the same loop goes on.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._apis: dict[tuple[int, str], Api] = {}  # of each thread and cluster
        weakref.finalize(self, _close, self._apis)

    def __call__(
        self,
        cluster: str,
        *arguments: str,
        stdin: str | None = None,
        timeout_seconds: float = 30,
        kubeconfig: Path | None = None,
    ) -> str:
        """Run kubectl and return what it prints; raises GroundError with its message when it fails."""
        return self.fleet.kubectl(
            cluster, *arguments, stdin=stdin, timeout_seconds=timeout_seconds, kubeconfig=kubeconfig
        ).stdout

    def attempt(
        self,
        cluster: str,
        *arguments: str,
        stdin: str | None = None,
        timeout_seconds: float = 30,
        kubeconfig: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl and return exit status, stdout and stderr, for calls that may fail."""
        return self.fleet.kubectl(
            cluster, *arguments, stdin=stdin, timeout_seconds=timeout_seconds, kubeconfig=kubeconfig, check=False
        )

    def apply(self, cluster: str, *manifests: Mapping[str, Any], arguments: tuple[str, ...] = ()) -> str:
        """`kubectl apply` of manifests, in one call; `arguments` such as `("--server-side",)`."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        return self(cluster, "apply", *arguments, "-f", "-", stdin=json.dumps(items))

    def get(self, cluster: str, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        """Return an object, or None when there is none of that name.

        What tests wait for by asking again and again is asked for without a process.

        Raises:
            GroundError: it could not be asked for.
        """
        if kind in PATHS:
            api = self.api(cluster)
            try:
                return api.get(kind, namespace, name)
            except (AssertionError, OSError, http.client.HTTPException) as error:
                api.close()
                raise GroundError(f"{cluster}: {kind}/{name}: {error!r}") from error
        scope = ("-n", namespace) if namespace else ()
        said = self(cluster, "get", kind, name, *scope, "-o", "json", "--ignore-not-found")
        return json.loads(said) if said else None

    def api(self, cluster: str) -> Api:
        """This thread's client of a cluster, for what needs no process of kubectl."""
        key = threading.get_ident(), cluster
        if key not in self._apis:
            self._apis[key] = Api(self.fleet.clusters[cluster])
        return self._apis[key]

    def items(self, cluster: str, kind: str, namespace: str = "", selector: str = "") -> list[dict[str, Any]]:
        """List objects, of all namespaces when none is given."""
        scope = ("-n", namespace) if namespace else ("--all-namespaces",)
        listed = json.loads(self(cluster, "get", kind, *scope, "-l", selector, "-o", "json"))
        found: list[dict[str, Any]] = listed["items"]
        return found


def _close(apis: dict[tuple[int, str], Api]) -> None:
    for api in apis.values():
        api.close()


def wait_until(check: Callable[[], T], *, timeout_seconds: float = 20, every_seconds: float = 0.05) -> T:
    """Call `check` until it returns something true, and return that.

    A failed assertion and a GroundError count as "not yet".

    Raises:
        AssertionError: not within the time; names what `check` said last.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        last: object
        try:
            if value := check():
                return value
            last = value
        except (AssertionError, GroundError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_seconds:g} s, last: {last!r}")
        time.sleep(every_seconds)


async def eventually(check: Callable[[], T], *, timeout_seconds: float = 20, every_seconds: float = 0.05) -> T:
    """`wait_until` for async tests: the checks run on a thread, so the loop of the test goes on meanwhile."""
    return await asyncio.to_thread(wait_until, check, timeout_seconds=timeout_seconds, every_seconds=every_seconds)
