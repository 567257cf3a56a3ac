"""`python -m deploy.helm` writes what is derived; `--check` compares it, and fails where it differs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deploy.helm.render import MANIFESTS, REPOSITORY, copies, manifests
from deploy.helm.tool import find_helm
from deploy.local.errors import GroundError


def differing(wanted: dict[Path, str], *, folder: Path | None = None) -> list[Path]:
    """Those files that are missing, say something else, or lie in the folder without being wanted."""
    extra = set(folder.glob("*.yaml")) - wanted.keys() if folder else set()
    return sorted(extra | {path for path, text in wanted.items() if not path.is_file() or path.read_text() != text})


def main(arguments: list[str]) -> int:
    """Returns 1 where `--check` finds a difference, or helm cannot be had."""
    check = "--check" in arguments
    try:
        for find, folder in ((copies, None), (lambda: manifests(_helm()), MANIFESTS)):
            wanted = find()  # manifests are rendered from charts that are up to date
            found = differing(wanted, folder=folder)
            if check and found:
                names = ", ".join(str(path.relative_to(REPOSITORY)) for path in found)
                sys.stderr.write(f"out of date: {names}; run python -m deploy.helm\n")
                return 1
            for path in found:
                if path in wanted:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(wanted[path])
                else:
                    path.unlink()
    except GroundError as error:
        sys.stderr.write(f"error: {error}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return 1
    return 0


def _helm() -> Path:
    return find_helm(os.environ, lambda line: print(line, file=sys.stderr))  # noqa: T201  progress


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
