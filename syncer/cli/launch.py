"""From the command line to an agent that runs for months, without what only a command line needs.

What parses commands takes 20 MiB that nothing gives back. So once the flags are understood, the process starts itself
again: same program, same arguments, same process ID, and what was understood in a variable.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, NoReturn

from syncer.agent.settings import AgentSettings

VARIABLE: Final = "SYNCLINE_AGENT_STARTS"


def start(settings: AgentSettings, *, anew: bool) -> int:
    """Run the agent to its end; its exit code.

    Args:
        anew: replace this process; only where it is ours from its first argument on.
    Raises:
        StartError, Unusable: it could not start.
    """
    if anew and sys.platform != "win32":  # Windows would make another process of it, which nobody waits for
        _begin_again(settings)
    return run_agent(settings)


def _begin_again(settings: AgentSettings) -> NoReturn:
    import msgspec

    # The number says for whom it is: those who inherit the variable by accident are other processes.
    text = msgspec.json.encode({"process": os.getpid(), "settings": settings}, enc_hook=str).decode()
    command = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, command, os.environ | {VARIABLE: text})  # noqa: S606  ourselves, without a shell


def handed_over() -> AgentSettings | None:
    """What the process before us understood, if there was one."""
    text = os.environ.pop(VARIABLE, "")
    if not text:
        return None
    import msgspec

    told = msgspec.json.decode(text)
    if told["process"] != os.getpid():
        return None
    return msgspec.convert(told["settings"], AgentSettings, dec_hook=lambda _, path: Path(path))


def run_agent(settings: AgentSettings) -> int:
    """Run it in this process. Raises StartError, Unusable."""
    from importlib.metadata import version

    import syncer.lean  # noqa: F401  # first: decides what the libraries of the process load
    from syncer.agent.process import run

    return run(settings, version=version("syncline"))
