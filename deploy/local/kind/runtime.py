"""A runtime for the engine that asks for no capability which this machine's root lacks: `runtime.py ARGUMENTS OF RUNC`.

`docker run --privileged` asks for every capability, and runc fails when one is not to be had. Stands alone: the engine
runs it with `python -I`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

# Names by bit, as in linux/capability.h.
CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
    "CHECKPOINT_RESTORE",
)


def missing(status: str) -> set[str]:
    """Names of the capabilities that a process lacks, from the text of its /proc/PID/status."""
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    held = int(line.split()[1], 16)
    return {f"CAP_{name}" for bit, name in enumerate(CAPABILITIES) if not held >> bit & 1}


def without(document: dict[str, Any], lacking: set[str]) -> dict[str, Any]:
    """A bundle's config or a process spec of runc, less the capabilities in `lacking`."""
    process = document.get("process", document)
    sets = process.get("capabilities") or {}
    for kind, names in sets.items():
        sets[kind] = [name for name in names if name not in lacking]
    return document


def spec_of(arguments: list[str]) -> Path | None:
    """The file with the capabilities that a call of runc is about; None when it is about none."""
    values = {"--bundle": "", "-b": "", "--process": "", "-p": ""}
    for before, argument in zip(["", *arguments], arguments, strict=False):
        name, sign, value = argument.partition("=")
        if before in values:
            values[before] = argument
        elif sign and name in values:
            values[name] = value
    if "exec" in arguments:
        process = values["--process"] or values["-p"]
        return Path(process) if process else None
    if "create" in arguments or "run" in arguments:
        return Path(values["--bundle"] or values["-b"] or ".") / "config.json"
    return None


def main() -> None:
    """Rewrite the spec of this call, then become runc."""
    spec = spec_of(sys.argv[1:])
    if spec:
        lacking = missing(Path("/proc/self/status").read_text())
        spec.write_text(json.dumps(without(json.loads(spec.read_text()), lacking)))
    os.execvp("runc", ["runc", *sys.argv[1:]])  # noqa: S606, S607  the engine's own runtime


if __name__ == "__main__":
    main()
