"""The docker command, and what may be missing for it to work."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from deploy.local.errors import GroundError
from deploy.local.kind import engine

_ANSWER_SECONDS: Final = 20.0


def why_unusable() -> str:
    """Why no image can be built on this machine; "" if one can."""
    return "there is no docker command" if shutil.which("docker") is None else _silence(_environment())


def _environment() -> dict[str, str]:
    """Ours; where no engine answers that the user has, that of a kind fleet of ours on this machine."""
    ours = dict(os.environ)
    if "DOCKER_HOST" not in ours and engine.runs() and _silence(ours):
        return ours | engine.environment()
    return ours


def _silence(environ: dict[str, str]) -> str:
    """Why no engine answers; "" if one does."""
    try:
        asked = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],  # noqa: S607  docker
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
            env=environ,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"docker did not answer within {_ANSWER_SECONDS:g} seconds"
    return "" if asked.returncode == 0 else (asked.stderr.strip().splitlines() or ["docker does not answer"])[0]


def docker(*arguments: str, stdin: Path | None = None) -> str:
    """Run docker and give what it prints.

    Raises:
        GroundError: it failed; the last lines that it said.
    """
    environ = _environment()
    if arguments[0] == "build" and not _has_buildx():
        environ["DOCKER_BUILDKIT"] = "0"  # newer clients build with it alone, but Debian's come without it
    with open(stdin or os.devnull, "rb") as stream:
        done = subprocess.run(  # noqa: S603  docker
            ["docker", *arguments],  # noqa: S607  docker
            stdin=stream,
            capture_output=True,
            text=True,
            env=environ,
            check=False,
        )
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-15:]
        raise GroundError(f"docker {arguments[0]} failed:\n" + "\n".join(said))
    return done.stdout.strip()


def _has_buildx() -> bool:
    return subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode == 0  # noqa: S607  docker
