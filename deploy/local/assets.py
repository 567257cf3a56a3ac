"""Where the control-plane binaries come from: the first source that has all of them.

Folders named by SYNCLINE_ASSETS and KUBEBUILDER_ASSETS, PATH at the pinned minor version, the user's cache, a build.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KUBERNETES_VERSION = "v1.36.4"
ETCD_VERSION = "v3.6.14"
KWOK_VERSION = "v0.8.0"

KUBERNETES_TOOLS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
TOOLS = (*KUBERNETES_TOOLS, "etcd", "kwok")
FOLDER_VARIABLES = ("SYNCLINE_ASSETS", "KUBEBUILDER_ASSETS")
MODULES = Path(__file__).parent / "tools"

_PINNED = {**dict.fromkeys(KUBERNETES_TOOLS, KUBERNETES_VERSION), "etcd": ETCD_VERSION, "kwok": KWOK_VERSION}
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.\d+")


@dataclass(frozen=True)
class Module:
    """One Go module of `tools/`, apart from the others so that version selection cannot mix them.

    Attributes:
        packages: {tool: Go package}.
        ldflags: stamps versions into the binaries; the API server's version is behaviour, not decoration.
        tags: Go build tags, with commas.
    """

    name: str
    packages: Mapping[str, str]
    ldflags: str = "-s -w"
    tags: str = ""

    @property
    def folder(self) -> Path:
        """Where go.mod and go.sum lie."""
        return MODULES / self.name


def kubernetes_ldflags() -> str:
    """Stamp the version that every binary of Kubernetes says."""
    major, minor = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
    stamps = {
        "gitVersion": KUBERNETES_VERSION,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": f"{1:040x}",  # 40 hex digits are expected; the module proxy does not tell the real one
        "buildDate": "2026-01-01T00:00:00Z",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(
        ["-s -w", *(f"-X {package}.{key}={value}" for key, value in stamps.items() for package in packages)]
    )


BUILD_MODULES = (
    Module("kubernetes", {tool: f"k8s.io/kubernetes/cmd/{tool}" for tool in KUBERNETES_TOOLS}, kubernetes_ldflags()),
    Module(
        "etcd",
        {"etcd": "go.etcd.io/etcd/server/v3"},
        f"-s -w -X go.etcd.io/etcd/api/v3/version.GitSHA={ETCD_VERSION}",
    ),
    Module(
        "kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}, f"-s -w -X sigs.k8s.io/kwok/pkg/consts.Version={KWOK_VERSION}"
    ),
)
BUILD_FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false")


@dataclass(frozen=True)
class Assets:
    """A complete set of binaries.

    Attributes:
        source: where they were found, for people.
    """

    paths: Mapping[str, Path]
    source: str

    @property
    def folder(self) -> Path:
        """The folder with kubectl, to be put into PATH."""
        return self.paths["kubectl"].parent


def cache_root(environ: Mapping[str, str]) -> Path:
    """The user's cache folder of this project."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path(environ.get("HOME", "~")).expanduser() / ".cache") / "syncline"


def digest_of(modules: Sequence[Module]) -> str:
    """Hash of everything that decides what a build of these modules on this kind of machine gives."""
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()} {BUILD_FLAGS}".encode())
    for module in modules:
        digest.update(f"{module.packages} {module.ldflags}{module.tags}".encode())
        digest.update((module.folder / "go.mod").read_bytes())
        digest.update((module.folder / "go.sum").read_bytes())
    return digest.hexdigest()[:16]


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Folder of the binaries that a build of today's pins and flags on this kind of machine gives."""
    return cache_root(environ) / f"assets-{digest_of(BUILD_MODULES)}"


def in_folder(folder: Path) -> dict[str, Path]:
    """The tools that a folder holds as executables."""
    return {tool: folder / tool for tool in TOOLS if os.access(folder / tool, os.X_OK) and (folder / tool).is_file()}


def version_of(path: Path) -> str:
    """What a binary says of its version, or "" when it says nothing."""
    arguments = ["version", "--client"] if path.name == "kubectl" else ["--version"]
    try:
        said = subprocess.run(  # noqa: S603  a tool found on PATH
            [str(path), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = _VERSION.search(said.stdout + said.stderr)
    return found.group(0) if found else ""


def same_minor(version: str, pinned: str) -> bool:
    """Whether two versions agree in major and minor number."""
    left, right = _VERSION.match(version), _VERSION.match(pinned)
    return bool(left and right and left.groups() == right.groups())


def find(
    environ: Mapping[str, str],
    *,
    note: Callable[[str], None],
    version: Callable[[Path], str] = version_of,
) -> Assets | None:
    """Look for a complete set without building anything.

    Args:
        environ: variables and PATH.
        note: told why a source that somebody named does not fit, one line each.
        version: asks a binary for its version; only binaries on PATH are asked.
    """
    for variable in FOLDER_VARIABLES:
        if not environ.get(variable):
            continue
        folder = Path(environ[variable]).expanduser().absolute()
        found = in_folder(folder)
        if len(found) == len(TOOLS):
            return Assets(found, f"{variable}={folder}")
        lacking = ", ".join(tool for tool in TOOLS if tool not in found)
        note(f"{variable}={folder} lacks {lacking}; looking elsewhere")
    on_path = {tool: Path(hit) for tool in TOOLS if (hit := shutil.which(tool, path=environ.get("PATH", "")))}
    if len(on_path) == len(TOOLS) and all(same_minor(version(path), _PINNED[tool]) for tool, path in on_path.items()):
        return Assets(on_path, "PATH")
    cached = in_folder(cache_folder(environ))
    return Assets(cached, f"cache {cache_folder(environ)}") if len(cached) == len(TOOLS) else None
