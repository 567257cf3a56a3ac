"""Running other programs: a failure is one line with what the program said last."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.errors import GroundError

_TOLD_CHARACTERS = 600


def run(
    command: Sequence[str | Path],
    *,
    timeout_seconds: float,
    environ: Mapping[str, str] | None = None,
    log: Path | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a command without a shell and return what it said.

    Args:
        environ: the whole environment; None hands on this process's.
        log: a file that gets stdout and stderr too.
        check: raise when it fails; else look at `returncode`.

    Raises:
        GroundError: it is missing, it failed, or it did not end in time.
    """
    words = [str(word) for word in command]
    said = " ".join(words)[:160]
    try:
        done = subprocess.run(  # noqa: S603  our own commands, no shell
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
            env=dict(environ) if environ is not None else None,
        )
    except FileNotFoundError as error:
        raise GroundError(f"{words[0]} is missing") from error
    except subprocess.TimeoutExpired as error:
        raise GroundError(f"`{said}` did not end within {timeout_seconds:g} s") from error
    if log:
        with log.open("a") as file:
            file.write(f"$ {' '.join(words)}\n{done.stdout}{done.stderr}")
    if check and done.returncode != 0:
        told = " | ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-4:])[-_TOLD_CHARACTERS:]
        raise GroundError(f"`{said}` failed with status {done.returncode}: {told}", hint=f"see {log}" if log else "")
    return done
