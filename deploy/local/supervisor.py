"""The parent of a fleet's processes: `python -m deploy.local.supervisor FOLDER [OWNER_PID]`.

It detaches, then starts what is named on its FIFO, reaps what ends, and ends everything on SIGTERM. On Linux the kernel
kills its children when it is killed itself; elsewhere the next `up` or `down` ends them by their records.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import psutil

from deploy.local.files import write_atomically
from deploy.local.processes import SUPERVISOR, ProcessTable, Record, end, in_ending_order, record_of

_OWNER_CHECK_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


class Supervisor:
    """Starts, reaps and ends the processes of one fleet folder."""

    def __init__(self, table: ProcessTable, *, owner: Record | None) -> None:
        self._table = table
        self._owner = owner
        self._children: dict[str, tuple[subprocess.Popen[bytes], Record]] = {}
        self._ending = False
        self._tie_to_us = _death_signal()

    def serve(self, control: int, wakeup: socket.socket) -> None:
        """Work until SIGTERM, SIGINT or the owner's end; then end all children.

        Args:
            control: the FIFO, open for reading without blocking.
            wakeup: becomes readable when a signal arrived.
        """
        pending = b""
        while not self._ending:
            timeout = _OWNER_CHECK_SECONDS if self._owner else None
            readable, _, _ = select.select([control, wakeup.fileno()], [], [], timeout)
            if wakeup.fileno() in readable:
                wakeup.recv(4096)
            self._reap()
            if control in readable:
                pending += os.read(control, 65536)
                *names, pending = pending.split(b"\n")
                for name in names:
                    self._start(name.decode())
            if self._owner and not self._owner.alive:
                _say(f"the owner, pid {self._owner.pid}, is gone")
                break
        for group in in_ending_order(record for _, record in self._children.values()):
            self._end(group)
        self._table.forget(SUPERVISOR)

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: leave the loop."""
        self._ending = True

    def _start(self, name: str) -> None:
        spec = json.loads((self._table.run / f"{name}.spec.json").read_text())
        try:
            with self._table.log_path(name).open("ab") as log:
                child = subprocess.Popen(  # noqa: S603  commands come from this fleet's folder, mode 0700
                    spec["argv"],
                    env=spec["env"],
                    cwd=spec["cwd"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,
                    preexec_fn=self._tie_to_us,
                )
            record = record_of(name, child.pid)
        except (OSError, psutil.NoSuchProcess) as error:
            _say(f"{name} cannot be started: {error}")
            write_atomically(self._table.run / f"{name}.failed", str(error))
            return
        self._children[name] = (child, record)
        self._table.save(record)
        _say(f"{name} started, pid {child.pid}")

    def _reap(self) -> None:
        for name, (child, _) in list(self._children.items()):
            if child.poll() is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)  # what it may have left in its group
                del self._children[name]
                _say(f"{name} ended, pid {child.pid}, status {child.returncode}")

    def _end(self, group: list[Record]) -> None:
        end(group)
        self._reap()


def _death_signal() -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return tie


def _say(text: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, flush=True)  # noqa: T201  its log file


def main(folder: Path, owner_pid: int | None) -> None:
    """Detach from the caller, who gets exit status 0 once names can be written to the FIFO."""
    table = ProcessTable(folder)
    ready, tell = os.pipe()
    if os.fork():
        os.close(tell)
        os._exit(0 if os.read(ready, 1) else 1)
    os.close(ready)
    os.setsid()
    fifo = table.run / "control"
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo, 0o600)
    control = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)  # for writing too, so that it never reads as closed
    ours, theirs = socket.socketpair()
    for end_of_pair in (ours, theirs):
        end_of_pair.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    supervisor = Supervisor(table, owner=record_of("owner", owner_pid) if owner_pid else None)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGTERM, supervisor.stop)
    signal.signal(signal.SIGINT, supervisor.stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    table.save(record_of(SUPERVISOR, os.getpid()))
    os.write(tell, b"1")
    os.close(tell)
    supervisor.serve(control, ours)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
