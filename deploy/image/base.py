"""Where the image's Python comes from: the base that the Dockerfile pins or, with no registry, Debian's packages.

The second is made by mmdebstrap, which checks Debian's signatures, with the security updates of the day. It is kept for
a week in the user's cache: longer, and updates would be missing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.image.docker import docker
from deploy.image.names import ROOT
from deploy.local.assets import cache_root
from deploy.local.build import Report
from deploy.local.errors import GroundError

PACKAGES: Final = ("python3", "python3-pip", "ca-certificates", "libstdc++6")
SUITE: Final = "bookworm"
SOURCES: Final = (
    f"deb http://deb.debian.org/debian {SUITE} main",
    f"deb http://deb.debian.org/debian {SUITE}-updates main",
    f"deb http://deb.debian.org/debian-security {SUITE}-security main",
)
FRESH_SECONDS: Final = 7 * 24 * 3600
_PINNED: Final = re.compile(r"^ARG BASE=(\S+)$", re.MULTILINE)


def pinned(dockerfile: Path = ROOT / "Dockerfile") -> str:
    """The base that the Dockerfile names."""
    (found,) = _PINNED.findall(dockerfile.read_text())
    return str(found)


def choose(wanted: str, environ: Mapping[str, str], report: Report) -> str:
    """The base to build from, present in the container engine.

    Args:
        wanted: an image; "debian" makes one from Debian's packages; "" is the pinned one where it can be had.
    Raises:
        GroundError: there is none, and none can be made.
    """
    if wanted and wanted != "debian":
        return wanted
    if not wanted:
        try:
            docker("pull", "--quiet", pinned())
        except GroundError as error:
            report(f"{pinned()} cannot be had ({str(error).splitlines()[-1]}): making a base from Debian's packages")
        else:
            return pinned()
    archive = _archive(cache_root(environ), report)
    name = f"syncline-base:{SUITE}-{archive.stem.rpartition('-')[2]}"
    docker("import", str(archive), name)
    return name


def _archive(cache: Path, report: Report) -> Path:
    recipe = hashlib.sha256("\n".join((*SOURCES, *PACKAGES)).encode()).hexdigest()[:12]
    archive = cache / f"image-base-{SUITE}-{recipe}.tar"
    if archive.exists() and time.time() - archive.stat().st_mtime < FRESH_SECONDS:
        return archive
    if shutil.which("mmdebstrap") is None:
        raise GroundError(
            "no registry answers, and mmdebstrap, which makes a base from Debian's packages, is not installed",
            hint="apt-get install mmdebstrap (on Debian or Ubuntu), or name an image that you have: make image BASE=…",
        )
    report(f"making a base from Debian's packages ({SUITE}, half a minute)")
    cache.mkdir(parents=True, exist_ok=True)
    part = archive.with_suffix(".part")
    command = ["mmdebstrap", "--quiet", "--variant=essential", f"--include={','.join(PACKAGES)}", "--format=tar"]
    done = subprocess.run(  # noqa: S603  mmdebstrap
        [*command, SUITE, str(part), *SOURCES], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    if done.returncode:
        part.unlink(missing_ok=True)
        raise GroundError("mmdebstrap failed:\n" + "\n".join(done.stderr.strip().splitlines()[-10:]))
    part.replace(archive)
    return archive
