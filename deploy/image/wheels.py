"""The wheelhouse: every wheel that the image installs, downloaded by hash, so that the build needs no network."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

from deploy.image.lock import canonical, read_lock
from deploy.image.names import ROOT
from deploy.local.errors import GroundError

LOCKS: Final = (ROOT / "requirements.txt", ROOT / "deploy" / "image" / "build-requirements.txt")
FOLDER: Final = ROOT / "build" / "wheelhouse"  # as the Dockerfile names it
PYTHON: Final = "3.11"  # of the pinned base, and of Debian bookworm
GLIBC: Final = 36  # 2.36, as both have
MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64", "x86_64": "x86_64", "aarch64": "aarch64"}


def fill(machine: str) -> list[Path]:
    """Bring the folder to what the locks say, and give its wheels; asks an index only for those that are missing.

    Args:
        machine: of the image, as container engines spell it: amd64, arm64.
    Raises:
        GroundError: a wheel cannot be had, or is none that the lock knows.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    pins = [pin for lock in LOCKS for pin in read_lock(lock.read_text())]
    locked = {(pin.name, pin.version): pin.hashes for pin in pins}
    found = check(sorted(FOLDER.glob("*")), locked, MACHINES[machine])
    if len(found) < len(locked):
        _download(MACHINES[machine])
        found = check(sorted(FOLDER.glob("*")), locked, MACHINES[machine])
    if missing := sorted(locked.keys() - found.keys()):
        raise GroundError(f"no wheel of {', '.join('=='.join(key) for key in missing)} in {FOLDER}")
    return list(found.values())


def _download(machine: str) -> None:
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 16, -1)]
    platforms += [f"manylinux2014_{machine}", f"linux_{machine}"]
    command = [
        *[sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes"],
        *["--only-binary=:all:", "--no-deps", "--implementation=cp", f"--python-version={PYTHON}"],
        *["--abi=cp311", "--abi=abi3", "--abi=none", f"--dest={FOLDER}"],
        *[f"--platform={platform}" for platform in platforms],
    ]
    for lock in LOCKS:
        done = subprocess.run([*command, f"--requirement={lock}"], capture_output=True, text=True, check=False)  # noqa: S603  our own pip
        if done.returncode:
            raise GroundError(
                "pip download failed:\n" + "\n".join(done.stderr.strip().splitlines()[-4:]),
                hint="an index of Python packages must answer, the first time for each lock",
            )


def check(
    files: list[Path], locked: dict[tuple[str, str], frozenset[str]], machine: str
) -> dict[tuple[str, str], Path]:
    """The wheels of the lock among these files; those of an earlier lock or of another machine are removed.

    Raises:
        GroundError: a wheel's content is none that the lock allows.
    """
    found: dict[tuple[str, str], Path] = {}
    for file in files:
        name, _, rest = file.name.partition("-")
        key = canonical(name), rest.partition("-")[0]
        if key not in locked or key in found or not file.name.endswith(("-any.whl", f"_{machine}.whl")):
            file.unlink()
        elif hashlib.sha256(file.read_bytes()).hexdigest() not in locked[key]:
            raise GroundError(f"{file} is not what the lock allows", hint="remove it and try again")
        else:
            found[key] = file
    return found
