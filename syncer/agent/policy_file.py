"""The policy's file, followed while the agent runs. What is wrong is told, and the policy of before goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from syncer.agent.policy import SIZE_LIMIT, Policy, parse_policy
from syncer.api.names import Reason
from syncer.errors import TerminalError

LOOK_SECONDS: Final = 2.0

log = structlog.get_logger()


class PolicyFile:
    """One file, read at start by `load_policy`.

    Attributes:
        problem: why the file as it is now does not count; "" while it does.
    """

    def __init__(self, path: Path, use: Callable[[Policy], bool]) -> None:
        """Args: use: takes a policy into use; False if it is the one in use."""
        self.problem = ""
        self._path = path
        self._use = use
        self._seen: bytes | str | None = None  # at the last look
        self._judged: bytes | str | None = None

    async def follow(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Look at the file again and again, until cancelled."""
        while True:
            await sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Take what the file says, once it has said the same twice: editors write in pieces."""
        found = self._read()
        settled, self._seen = found == self._seen, found
        if not settled or found == self._judged:
            return
        self._judged = found
        try:
            if isinstance(found, str):
                raise TerminalError(Reason.INVALID, f"{self._path}: cannot be read: {found}")
            policy = parse_policy(found, where=str(self._path))
        except TerminalError as error:
            self.problem = str(error)
            log.error("policy not taken, the one of before counts", reason=self.problem)
            return
        self.problem = ""
        if self._use(policy):
            log.info("policy taken", file=str(self._path))

    def _read(self) -> bytes | str:
        """What the file holds, cut beyond what a policy may have; as text why it cannot be read."""
        try:
            with self._path.open("rb") as file:
                return file.read(SIZE_LIMIT + 1)
        except OSError as error:
            return error.strerror or type(error).__name__
