"""What becomes of the process when a part of it, or its part in the election, ends by an error."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from syncer.lease import AlwaysLeading
from syncer.metrics import Metrics
from syncer.operator import Operator
from syncer.settings import OperatorSettings


class Part:
    """Stands for all that a replica runs: works until cancelled, or ends by an error at once."""

    replica_url = "https://127.0.0.1:1"
    agent_url = ""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.ended: list[str] = []

    async def run(self, *_: object) -> None:
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()

    keep_fresh = run

    def close(self) -> None:
        self.ended.append("close")

    async def drain(self) -> None:
        self.ended.append("drain")

    async def leave(self) -> None:
        self.ended.append("leave")


class Replica(Part):
    async def close(self) -> None:  # type: ignore[override]
        self.ended.append("close")


class Candidate(AlwaysLeading):
    """Never leads."""

    def __init__(self) -> None:
        super().__init__(Metrics())
        self.error: Exception | None = None
        self.released = False

    async def run(self) -> None:
        if self.error is not None:
            raise self.error
        await super().run()

    async def wait_leading(self) -> None:
        await asyncio.Event().wait()

    async def release(self) -> None:
        self.released = True


@pytest.mark.parametrize("broken", ["lease", "hub", "replica", "registered", "events", "tunnels", "registry"])
async def test_a_part_that_ends_by_an_error_ends_the_process_in_order(broken: str) -> None:
    operator = Operator(cast(Any, OperatorSettings)())
    parts: dict[str, Any] = {
        name: Part() for name in ("hub", "registered", "events", "tunnels", "registry", "proxy")
    } | {"replica": Replica(), "lease": Candidate()}
    for name, part in parts.items():
        setattr(operator, f"_{name}", part)
    parts[broken].error = RuntimeError("a bug")
    assert await asyncio.wait_for(operator.serve(), 20) == 1
    assert parts["lease"].released
    assert [parts[name].ended for name in ("registry", "proxy", "tunnels", "replica")] == [
        ["leave"],
        ["close"],
        ["drain"],
        ["close"],
    ]
