"""The tests of the whole installation on clusters that somebody has; what they installed is taken away after them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.local.errors import GroundError
from deploy.local.existing import ExistingProvider
from deploy.local.fleet import Fleet
from deploy.local.plan import UPSTREAM, FleetRequest
from syncer.api.names import SYSTEM_NAMESPACE
from tests.e2e.conftest import INSTALLATION_VARIABLE, REGIONS
from tests.ids import ROOT
from tests.lanes import LANE_OF

REMOVE_SECONDS = 120
SHOP = ROOT / "examples" / "shop"


def run(request: FleetRequest, arguments: Sequence[str], say: Callable[[str], None]) -> int:
    """Exit status of pytest.

    The API servers must reach this machine: the operator runs on it, with its webhooks. Each target should run Pods.

    Raises:
        GroundError: a cluster does not answer, upstream has Syncline already, or ours could not be taken away.
    """
    if set(request.targets) != set(REGIONS):
        raise GroundError("the tests know two targets, east and west", hint="TARGETS=east=FILE,west=FILE")
    with tempfile.TemporaryDirectory(prefix="syncline-e2e-") as scratch:
        provider = ExistingProvider(Path(scratch, "fleet"))
        fleet = provider.up(request, say)
        try:
            _refuse_what_is_in_use(fleet)
            files = [file for file, lane in LANE_OF.items() if lane == "installation"]
            environ = os.environ | {INSTALLATION_VARIABLE: str(fleet.folder)}
            command = [sys.executable, "-m", "pytest", *files, *arguments]
            try:
                return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode
            finally:
                _remove(fleet, say)
        finally:
            provider.down(say)


def _refuse_what_is_in_use(fleet: Fleet) -> None:
    """The tests install and uninstall; an installation that people use would not survive that."""
    found = fleet.kubectl(UPSTREAM, "get", "crd", "synctargets.syncline.io", "--ignore-not-found", "-o", "name")
    if found.stdout.strip():
        raise GroundError(
            "upstream has Syncline already, and the tests would take it away",
            hint="give clusters without it, or remove it there: docs/install.md, Uninstalling",
        )


def _remove(fleet: Fleet, say: Callable[[str], None]) -> None:
    """The example, targets with what they hold, kinds, roles, namespaces."""
    say("taking away what the tests installed")
    wait = ("--ignore-not-found", f"--timeout={REMOVE_SECONDS}s")
    for folder in (SHOP, SHOP / "rbac"):
        fleet.kubectl(UPSTREAM, "delete", "-f", str(folder), *wait, timeout_seconds=REMOVE_SECONDS)
    upstream = str(fleet.upstream.kubeconfig)
    command = [sys.executable, "-m", "syncer.cli", "target", "remove", "--all", f"--timeout={REMOVE_SECONDS}"]
    done = subprocess.run([*command, "--kubeconfig", upstream], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GroundError(f"targets could not be removed: {done.stderr.strip()[:500]}", hint="look at them upstream")
    for name in fleet.clusters:
        fleet.kubectl(name, "delete", "-f", str(SHOP / "crd"), *wait, timeout_seconds=REMOVE_SECONDS)
    for part in ("crds", "rbac"):
        fleet.kubectl(UPSTREAM, "delete", "-f", str(ROOT / "deploy" / part), *wait, timeout_seconds=REMOVE_SECONDS)
    for name in fleet.targets:
        for kind in ("clusterrolebinding", "clusterrole"):
            found = fleet.kubectl(name, "get", kind, "-o", "name").stdout.split()
            for ours in (one for one in found if one.partition("/")[2].startswith("syncline-")):
                fleet.kubectl(name, "delete", ours, *wait, timeout_seconds=REMOVE_SECONDS)
        fleet.kubectl(name, "delete", "namespace", SYSTEM_NAMESPACE, *wait, timeout_seconds=REMOVE_SECONDS)
