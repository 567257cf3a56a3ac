"""Finds helm on PATH, else builds the pinned one from its Go module into the user's cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.assets import Module, cache_root, digest_of
from deploy.local.build import Report, build_once
from deploy.local.errors import GroundError

VERSION = "v4.3.1"
MODULE = Module(
    "helm", {"helm": "helm.sh/helm/v4/cmd/helm"}, f"-s -w -X helm.sh/helm/v4/internal/version.version={VERSION}"
)
MAJOR = 4  # others render and complain in other words


def find_helm(environ: Mapping[str, str], report: Report) -> Path:
    """The helm to be used.

    Raises:
        GroundError: there is none on PATH, and none can be built.
    """
    on_path = shutil.which("helm", path=environ.get("PATH", ""))
    if on_path and major(Path(on_path)) == MAJOR:
        return Path(on_path)
    folder = cache_root(environ) / f"helm-{digest_of([MODULE])}"
    told = f"building helm {VERSION} from its Go module, once for this machine; two minutes on two cores"
    build_once(folder, [MODULE], environ, report, told=told)
    return folder / "helm"


def major(helm: Path) -> int:
    """The major version that a helm says; 0 where it says none."""
    try:
        said = run(helm, ["version", "--short"], timeout_seconds=20)
    except GroundError:
        return 0
    found = re.search(r"v(\d+)\.", said)
    return int(found[1]) if found else 0


def run(helm: Path, arguments: Sequence[str], *, timeout_seconds: float = 60) -> str:
    """Run helm without the user's own settings and plugins; its stdout.

    Raises:
        GroundError: it failed; the cause is what it said.
    """
    try:
        done = subprocess.run(  # noqa: S603  helm, with arguments of ours
            [str(helm), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
            env={**os.environ, "HELM_PLUGINS": "/nonexistent"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GroundError(f"helm does not run: {error}") from error
    if done.returncode != 0:
        raise GroundError(f"helm {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
