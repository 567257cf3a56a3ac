"""What an image must not hold, looked for in its archive; and that it holds what the lock says."""

from __future__ import annotations

import re
import stat
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Final

from deploy.image.archive import ImageArchive
from deploy.image.lock import Pin
from deploy.image.sbom import OURSELVES, of_image

MAX_COMPRESSED: Final = 150 * 1024 * 1024  # bytes
SHELLS: Final = frozenset({"ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "rbash", "sh", "tcsh", "zsh"})
INSTALLERS: Final = frozenset({"apk", "apt", "apt-get", "conda", "dpkg", "pip", "pip3", "rpm", "uv", "yum"})
_PROGRAMS: Final = ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin")
# Keys in PEM that hold something, tokens of clouds, code hosts and Kubernetes. Words in documentation do not fit these.
_SECRET: Final = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b"
    rb"|\bglpat-[A-Za-z0-9_-]{20}\b|\beyJhbGciOi[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.|\bpypi-AgEIcHlwaS[\w-]{20}"
)
_SECRET_FILES: Final = frozenset({".docker", ".env", ".git", ".kube", ".netrc", ".pypirc", ".ssh", "pip.conf"})


def findings(image: ImageArchive, pins: Iterable[Pin]) -> list[str]:
    """Everything that is wrong with an image, one line each; none is well."""
    found = [*_configuration(image)]
    for file in image.files():
        path = PurePosixPath(file.info.name)
        found += [f"/{path} {why}" for why in _entry(path, file.info)]
        if file.info.isreg() and (match := _SECRET.search(file.read())):
            found.append(f"/{path} holds what looks like a secret: {match[0][:12].decode('latin-1')}…")
    found += _packages(image, pins)
    compressed = sum(image.compressed_sizes())
    if compressed > MAX_COMPRESSED:
        found.append(f"{compressed >> 20} MiB compressed; at most {MAX_COMPRESSED >> 20} are meant")
    return found


def _configuration(image: ImageArchive) -> Iterator[str]:
    config = image.config["config"]
    user = str(config.get("User", "")).partition(":")[0]
    if not user.isdigit() or int(user) == 0:
        yield f"the user is {user!r}; a number other than 0 lets clusters check that it is not root"
    if config.get("Entrypoint") != ["syncline"]:
        yield f"the entrypoint is {config.get('Entrypoint')!r}, not syncline"
    for variable in config.get("Env") or ():
        if re.search(r"(?i)(secret|token|password|credential|_key)=", variable):
            yield f"variable {variable.partition('=')[0]} looks like a secret"


def _entry(path: PurePosixPath, info: tarfile.TarInfo) -> Iterator[str]:
    if info.mode & (stat.S_ISUID | stat.S_ISGID):
        yield "is setuid or setgid"
    if info.mode & stat.S_IWOTH and not info.issym() and not (info.isdir() and info.mode & stat.S_ISVTX):
        yield "can be written by everybody"
    if info.uid or info.gid:
        yield f"belongs to {info.uid}:{info.gid}, not to root: the process could change it"
    if not (info.isreg() or info.isdir() or info.issym()):
        yield "is a device or a pipe"
    if str(path.parent) in _PROGRAMS:
        if path.name in SHELLS:
            yield "is a shell"
        if path.name in INSTALLERS:
            yield "installs packages"
    if path.name in _SECRET_FILES:
        yield "is where credentials are kept"


def _packages(image: ImageArchive, pins: Iterable[Pin]) -> Iterator[str]:
    python, _, _ = of_image(image)
    held = {name: str(told["Version"]) for name, told in python.items() if name != OURSELVES}
    locked = {pin.name: pin.version for pin in pins}
    for name in sorted(held.keys() | locked.keys()):
        if held.get(name) != locked.get(name):
            yield f"Python package {name}: image {held.get(name, 'none')}, lock {locked.get(name, 'none')}"
