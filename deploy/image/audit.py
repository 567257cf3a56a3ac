"""Known vulnerabilities of what is locked, as pip-audit finds them where it is installed and its index answers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from deploy.local.errors import GroundError


class Audit(NamedTuple):
    """What was found out.

    Attributes:
        found: vulnerabilities, one line each.
        skipped: why something is not known; "" if everything was looked up.
    """

    found: tuple[str, ...]
    skipped: str


def audit(lock: Path) -> Audit:
    """Ask about every package of a lock. Raises GroundError: pip-audit gave no answer that can be read."""
    if shutil.which("pip-audit") is None:
        return Audit((), "pip-audit is not installed")
    command = ["pip-audit", "--format=json", "--progress-spinner=off", "--disable-pip", "--require-hashes"]
    done = subprocess.run([*command, f"--requirement={lock}"], capture_output=True, text=True, check=False)  # noqa: S603  pip-audit
    return read(done.stdout, done.stderr)


def read(answer: str, said: str = "") -> Audit:
    """What pip-audit's JSON tells. Raises GroundError: it is none."""
    try:
        packages = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError) as error:
        raise GroundError(f"pip-audit failed: {said.strip()[-300:]}") from error
    found = tuple(
        f"{package['name']} {package['version']}: {known['id']}, fixed in {', '.join(known['fix_versions']) or '-'}"
        for package in packages
        for known in package.get("vulns", ())
    )
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    why = f"the index tells nothing of {len(skipped)} of {len(packages)} packages" if skipped else ""
    return Audit(found, why)
