"""Processes of a fleet: recorded by pid and start time, each in its own process group, children of one supervisor.

Folder layout below the fleet's folder: `run/NAME.json` is the record of a started process, `run/NAME.spec.json` what
to start, `run/control` the FIFO on which the supervisor takes names, `logs/NAME.log` what the process prints.
A name is `etcd`, `CLUSTER.COMPONENT` or any other word for what somebody starts beside them (`operator`).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deploy.local.errors import GroundError
from deploy.local.files import write_json

SUPERVISOR = "supervisor"
ETCD = "etcd"
GRACE_SECONDS = 12.0  # an operator drains for at most 10 s, kube-apiserver needs about one
_POLL_SECONDS = 0.02
_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_SAME_START_SECONDS = 5.0  # start times move with corrections of the machine's clock


@dataclass(frozen=True)
class Record:
    """A process that was started: its identity is pid and start time (seconds since the epoch) together."""

    name: str
    pid: int
    started: float

    @property
    def alive(self) -> bool:
        """Whether this very process still runs; a stopped one does, a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_START_SECONDS
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def stop(self) -> bool:
        """Freeze the process group, and return when it stands still: a busy machine delivers a signal late.

        False when the process is gone.
        """
        deadline = time.monotonic() + _STOP_SECONDS
        while self.send(signal.SIGSTOP):
            with contextlib.suppress(psutil.NoSuchProcess):
                if psutil.Process(self.pid).status() == psutil.STATUS_STOPPED or time.monotonic() > deadline:
                    return True
            time.sleep(_POLL_SECONDS)
        return False

    def send(self, number: signal.Signals) -> bool:
        """Signal the process group; False when the process is gone."""
        if not self.alive:
            return False
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def record_of(name: str, pid: int) -> Record:
    """Describe a process that runs now.

    Raises:
        psutil.NoSuchProcess: it ended already.
    """
    return Record(name, pid, psutil.Process(pid).create_time())


def end(records: Iterable[Record], *, grace_seconds: float = GRACE_SECONDS) -> None:
    """End processes with SIGTERM, after the grace with SIGKILL; returns when all are gone."""
    waiting = [record for record in records if record.send(signal.SIGTERM)]
    for record in waiting:
        record.send(signal.SIGCONT)  # a stopped process takes no SIGTERM
    deadline = time.monotonic() + grace_seconds
    while waiting and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        waiting = [record for record in waiting if record.alive]
    kill(waiting)


def kill(records: Iterable[Record]) -> None:
    """Kill processes with SIGKILL, no word before; returns when all are gone."""
    waiting = [record for record in records if record.send(signal.SIGKILL)]
    while any(record.alive for record in waiting):
        time.sleep(_POLL_SECONDS)


def in_ending_order(records: Iterable[Record]) -> list[list[Record]]:
    """Sort into groups to end one after the other: what others started, then the components, then etcd.

    API servers hold their ports for many seconds when etcd goes before them.
    """
    groups: list[list[Record]] = [[], [], []]
    for record in records:
        if record.name != SUPERVISOR:
            groups[2 if record.name == ETCD else 1 if "." in record.name else 0].append(record)
    return groups


class ProcessTable:
    """The processes of one fleet folder, as seen by anybody who may read that folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.logs = folder / "logs"

    def read(self, name: str) -> Record | None:
        """Return the last record under a name, whether the process still runs or not."""
        try:
            return Record(**json.loads((self.run / f"{name}.json").read_text()))
        except FileNotFoundError:
            return None

    def records(self) -> list[Record]:
        """All records, by name."""
        paths = sorted(path for path in self.run.glob("*.json") if not path.name.endswith(".spec.json"))
        return [record for path in paths if (record := self.read(path.name.removesuffix(".json")))]

    def save(self, record: Record) -> None:
        """Remember a process under its name."""
        write_json(self.run / f"{record.name}.json", asdict(record))

    def forget(self, name: str) -> None:
        """Drop the record of a process that is gone."""
        (self.run / f"{name}.json").unlink(missing_ok=True)

    def log_path(self, name: str) -> Path:
        """Where the process of that name prints; starts append."""
        return self.logs / f"{name}.log"

    def ensure_supervisor(self, *, owner_pid: int | None = None, inside: Sequence[str] = ()) -> None:
        """Start the supervisor unless it runs.

        Args:
            owner_pid: the supervisor ends itself and everything below it once this process is gone.
            inside: words before its command, which take it and all that it starts elsewhere: `nsenter …`.
        """
        supervisor = self.read(SUPERVISOR)
        if supervisor and supervisor.alive:
            return
        self.run.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.logs.mkdir(exist_ok=True)
        owner = [str(owner_pid)] if owner_pid is not None else []
        command = [*inside, sys.executable, "-m", "deploy.local.supervisor", str(self.folder.resolve()), *owner]
        with self.log_path(SUPERVISOR).open("ab") as log:
            started = subprocess.run(  # noqa: S603  our own module
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=_ROOT, check=False, timeout=30
            )
        if started.returncode != 0:
            raise GroundError("the supervisor did not start", hint=f"see {self.log_path(SUPERVISOR)}")

    def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Record:
        """Have the supervisor start a process, and return once it has a pid.

        Args:
            name: under which it is recorded; must not be in use by a living process.
            argv: the command; argv[0] is a path.
            env: the whole environment; None hands on this process's.
            cwd: working folder; None is the fleet's folder.

        Raises:
            GroundError: the name is in use, there is no supervisor, or the command cannot be executed.
        """
        before = self.read(name)
        if before and before.alive:
            raise GroundError(f"{name} runs already, pid {before.pid}")
        self.forget(name)
        failure = self.run / f"{name}.failed"
        failure.unlink(missing_ok=True)
        spec = {"argv": list(argv), "env": dict(env if env is not None else os.environ), "cwd": str(cwd or self.folder)}
        write_json(self.run / f"{name}.spec.json", spec)
        return self._ask(name, failure)

    def start_again(self, name: str) -> Record:
        """Start a process that has ended with the command that it had.

        Raises:
            GroundError: it was never started here, or still runs.
        """
        try:
            spec = json.loads((self.run / f"{name}.spec.json").read_text())
        except FileNotFoundError as error:
            known = ", ".join(record.name for record in self.records()) or "none"
            raise GroundError(f"{self.folder} has no process {name}", hint=f"processes: {known}") from error
        return self.start(name, spec["argv"], env=spec["env"], cwd=Path(spec["cwd"]))

    def _ask(self, name: str, failure: Path) -> Record:
        try:
            control = os.open(self.run / "control", os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno not in (errno.ENXIO, errno.ENOENT):
                raise
            raise GroundError(
                f"the supervisor of {self.folder} is gone", hint="run `make down`, then `make up`"
            ) from error
        with os.fdopen(control, "wb", buffering=0) as pipe:
            pipe.write(f"{name}\n".encode())  # shorter than PIPE_BUF, so writes of several callers never mix
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if record := self.read(name):
                return record
            if failure.exists():
                raise GroundError(f"{name} cannot be started: {failure.read_text()}")
            time.sleep(_POLL_SECONDS / 4)
        raise GroundError(f"the supervisor did not start {name} within {_START_SECONDS:.0f} s")

    def end_everything(self, *, grace_seconds: float = GRACE_SECONDS) -> list[Record]:
        """End all recorded processes and the supervisor; returns those that had been alive."""
        alive = [record for record in self.records() if record.alive]
        for group in in_ending_order(alive):
            end(group, grace_seconds=grace_seconds)
        end((record for record in alive if record.name == SUPERVISOR), grace_seconds=grace_seconds)
        for record in self.records():
            self.forget(record.name)
        with contextlib.suppress(FileNotFoundError):
            (self.run / "control").unlink()
        return alive


_ROOT = Path(__file__).resolve().parents[2]
