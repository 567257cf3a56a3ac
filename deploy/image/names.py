"""What an image is called, from the version of the project and the commit. Pure but for `of_checkout`."""

from __future__ import annotations

import hashlib
import subprocess
import tomllib
from pathlib import Path
from typing import NamedTuple

from deploy.local.errors import GroundError

ROOT = Path(__file__).parents[2]
REPOSITORY = "syncline"
_SHORT = 12  # digits of the commit


class Source(NamedTuple):
    """What an image is made from.

    Attributes:
        commit: 40 hexadecimal digits.
        seconds: when that commit was made, since 1970: the time of everything in the image.
        changes: what differs from the commit; b"" for a clean checkout.
    """

    version: str
    commit: str
    seconds: int
    changes: bytes = b""

    @property
    def tag(self) -> str:
        """`0.1.0-1a2b3c4d5e6f`; with changes also their hash, so that no tag ever names two contents."""
        changes = f"-dirty-{hashlib.sha256(self.changes).hexdigest()[:8]}" if self.changes else ""
        return f"{self.version}-{self.commit[:_SHORT]}{changes}".replace("+", "-")  # a tag may hold no plus sign

    @property
    def reference(self) -> str:
        """Repository and tag."""
        return f"{REPOSITORY}:{self.tag}"

    @property
    def revision(self) -> str:
        """For the image's label."""
        return f"{self.commit}-dirty" if self.changes else self.commit


def project_version(root: Path = ROOT) -> str:
    """As pyproject.toml has it."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def of_checkout(paths: tuple[str, ...], root: Path = ROOT) -> Source:
    """The checkout as it is; only changes in `paths` count, for others do not come into the image.

    Raises:
        GroundError: this is no git checkout.
    """

    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout  # noqa: S603, S607  git

    try:
        commit, seconds = git("log", "-1", "--format=%H %ct").decode().split()
        changes = git("diff", "HEAD", "--", *paths)
        for name in git("ls-files", "--others", "--exclude-standard", "-z", "--", *paths).decode().split("\0")[:-1]:
            changes += f"\n{name}\n".encode() + (root / name).read_bytes()
    except (OSError, subprocess.CalledProcessError) as error:
        raise GroundError(
            f"{root} is no git checkout with a commit: the tag of an image names its commit",
            hint="build with docker build . and a tag of your own",
        ) from error
    return Source(project_version(root), commit, int(seconds), changes)
