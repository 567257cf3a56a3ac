"""What a hash-locked requirements file says. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_VIA: Final = re.compile(r"^\s+#\s+(?:via\s+)?(\S.*)$")


class Pin(NamedTuple):
    """One locked package.

    Attributes:
        name: as indexes spell it: lower case, with hyphens.
        hashes: SHA-256 of every file that may be installed.
        via: names of those that need it; "" is the project itself.
    """

    name: str
    version: str
    hashes: frozenset[str]
    via: tuple[str, ...]


def canonical(name: str) -> str:
    """`Typing_Extensions` → `typing-extensions`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(text: str) -> tuple[Pin, ...]:
    """Every package of a lock, in its order.

    Raises:
        ValueError: a package without a version of its own or without a hash.
    """
    pins = []
    for entry in re.split(r"\n(?=[A-Za-z0-9-])", "\n" + text)[1:]:
        match = _PIN.match(entry)
        hashes = frozenset(_HASH.findall(entry))
        if match is None or not hashes:
            raise ValueError(f"{entry.splitlines()[0][:80]!r} is not pinned to one version with hashes")
        told = [found[1] for line in entry.splitlines() if (found := _VIA.match(line))]
        via = tuple(_needed_by(line) for line in told if line != "via" and not line.startswith(("-c ", "-r ")))
        pins.append(Pin(canonical(match[1]), match[2], hashes, via))
    return tuple(pins)


def _needed_by(line: str) -> str:
    return "" if "(pyproject.toml)" in line else canonical(line.split("[")[0].strip())
