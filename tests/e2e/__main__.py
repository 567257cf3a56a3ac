"""`python -m tests.e2e local|kind|existing`: end to end on a provider's clusters; `make e2e PROVIDER=…` runs it.

local  tests/e2e on control planes with fake nodes, and then a list of what only real containers can show.
kind   tests/e2e/kind on three kind clusters that are made for it: image and charts as a user installs them, targets
       that the hub cannot dial. They are taken down again, and the machine must then be as it was before.
existing  those of tests/e2e that break no process, on clusters of yours; what they installed is taken away after them.

Exit status: that of pytest; 1 too where clusters, image or helm cannot be had, or something was left behind.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.helm.tool import find_helm
from deploy.image import build
from deploy.image.archive import ImageArchive
from deploy.local.cli import parse_request
from deploy.local.errors import GroundError
from deploy.local.kind import traces, ways
from deploy.local.kind.nodeimage import image_folder
from deploy.local.kind.provider import MARK, KindProvider, command_environment, load
from deploy.local.kind.site import Site
from deploy.local.plan import FleetRequest
from tests.e2e import existing
from tests.ids import ROOT
from tests.support.incluster import ARCHIVE_VARIABLE, HELM_VARIABLE, IMAGE_VARIABLE

LOCAL, KIND = ROOT / "tests" / "e2e", ROOT / "tests" / "e2e" / "kind"
MINUTES, COLD_MINUTES = 14, 30  # with room: two cores that do nothing else need about 10 and 26
PYTEST = (sys.executable, "-m", "pytest")


def say(line: str) -> None:
    """Progress, at once, beside what pytest prints."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201  this is a command


def lacking(minutes: float | None) -> str:
    """Why the tests on kind cannot run on this machine; empty when they can.

    Args:
        minutes: that there are; None: as many as it takes.
    """
    found = [f"{check.name}: {check.problem}" for check in ways.checks(os.environ) if not check.holds]
    if shutil.which("mmdebstrap") is None:
        found.append("commands: missing: mmdebstrap")
    built = (image_folder(os.environ) / "image.json").exists()
    needed = MINUTES if built else COLD_MINUTES
    if minutes is not None and minutes < needed:
        found.append(
            f"time: {minutes:.0f} minutes are left, and it may take {needed}{'' if built else ', image included'}"
        )
    return "; ".join(found)


def run_local(arguments: Sequence[str]) -> int:
    """The tests on local control planes, and the list of the others."""
    status = subprocess.run([*PYTEST, str(LOCAL), f"--ignore={KIND}", *arguments], cwd=ROOT, check=False).returncode
    say("\nNot run on PROVIDER=local, for they need real containers; `make e2e PROVIDER=kind` runs them:")
    for path in sorted(KIND.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                reason = (ast.get_docstring(node) or "").splitlines()[0]
                say(f"  {path.relative_to(ROOT)}::{node.name}: {reason}")
    return status


def run_kind(arguments: Sequence[str]) -> int:
    """Clusters, image, tests, and everything taken down again; only then does a pass count."""
    before, began = traces.picture(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="syncline-e2e-") as scratch:
        folder = Path(scratch, "fleet")
        provider = KindProvider(folder, owner_pid=os.getpid())
        try:
            helm = find_helm(os.environ, say)
            provider.up(FleetRequest(), say)
            image = put_image(folder)
            inside, environ = command_environment(folder)
            environ |= {IMAGE_VARIABLE: image, HELM_VARIABLE: str(helm)}
            say(f"end to end on kind: {image}, installed by {helm}")
            command = [*inside, *PYTEST, str(KIND), *arguments]
            status = subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode
        finally:
            provider.down(say)
    left = traces.differences(before, traces.picture())
    for line in left:
        say(f"left behind: {line}")
    say(f"end to end on kind: {'failed' if status or left else 'passed'}, {time.monotonic() - began:.0f} s in all")
    return status or int(bool(left))


def put_image(folder: Path) -> str:
    """The image of this checkout, or of the archive that is named, on every node; its reference.

    Raises:
        GroundError: it cannot be built.
    """
    if named := os.environ.get(ARCHIVE_VARIABLE):
        archive = Path(named)
        (reference,) = ImageArchive(archive).references
    else:
        source = build.source()
        archive, reference = build.archive_of(source), source.reference
        if not archive.exists():
            os.environ.update(Site.load(folder / MARK).variables)  # the engine of the clusters builds it
            build.make("", os.environ, say)
    load(folder, str(archive), [])
    return reference


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.e2e", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("provider", choices=("local", "kind", "existing"))
    parser.add_argument("--upstream", type=Path, metavar="FILE", help="existing: upstream's kubeconfig")
    parser.add_argument("--targets", default="", metavar="east=FILE,west=FILE", help="existing: those of the targets")
    parser.add_argument("--if-possible", action="store_true", help="kind: exit 0, saying why, where it cannot run")
    parser.add_argument("--minutes", type=float, help="with --if-possible: the time that is left for it")
    parser.add_argument("arguments", nargs="*", help="for pytest, after --")
    given = parser.parse_args()
    if given.provider == "local":
        return run_local(given.arguments)
    if given.if_possible and (why := lacking(given.minutes)):
        say(f"end to end on kind: NOT RUN: {why}")
        return 0
    os.environ[ways.WAY_VARIABLE] = "built"  # its nodes have the images that the tests run
    try:
        if given.provider == "existing":
            request = parse_request(given.targets, given.upstream, light=False, nodes=0)
            return existing.run(request, given.arguments, say)
        return run_kind(given.arguments)
    except GroundError as error:
        say(f"error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""))
        return 1


if __name__ == "__main__":
    sys.exit(main())
