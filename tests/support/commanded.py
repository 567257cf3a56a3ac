"""Processes of tests that do what they are told: calls go in as JSON lines, answers come out as JSON lines.

A process ends when its stdin does, so none outlives the test that started it.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Commanded:
    """A process that runs a module which ends in `obey`.

    Attributes:
        first: what it said when it was ready.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        self.first = self._hear()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, what: str, *arguments: Any, **fields: Any) -> Any:
        """Call a method there, or read an attribute; returns what it gives.

        Raises:
            AssertionError: the process ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, arguments, fields]) + "\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self._process.args!r} ended with {self._process.wait(10)}"
        return json.loads(line)

    def end(self) -> None:
        """Let it end in order."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._gone(0)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._gone(-9)

    def _gone(self, code: int) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert self._process.wait(30) == code


async def obey(master: object, first: Any) -> None:
    """In the process: say that it is ready, then do what is told with `master` until stdin ends."""
    _say(first)
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, arguments, fields = json.loads(line)
        found = getattr(master, what)
        answer = found(*arguments, **fields) if callable(found) else found
        _say(await answer if inspect.isawaitable(answer) else answer)


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
