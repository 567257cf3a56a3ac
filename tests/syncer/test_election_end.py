"""What becomes of the process when its part in the election ends by an error."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from syncer.lease import AlwaysLeading
from syncer.metrics import Metrics
from syncer.operator import Operator
from syncer.settings import OperatorSettings


class Broken(AlwaysLeading):
    """Never leads, and ends at once."""

    def __init__(self) -> None:
        super().__init__(Metrics())
        self.released = False

    async def run(self) -> None:
        raise RuntimeError("a bug")

    async def wait_leading(self) -> None:
        await asyncio.Event().wait()

    async def release(self) -> None:
        self.released = True


class Hub:
    async def keep_fresh(self) -> None:
        await asyncio.Event().wait()


class Running:
    async def run(self) -> None:
        await asyncio.Event().wait()


class Proxy:
    def close(self) -> None:
        return


class Tunnels(Running):
    drained = False

    async def drain(self) -> None:
        self.drained = True


class Replica(Running):
    closed = False

    async def close(self) -> None:
        self.closed = True


async def test_an_election_that_ends_ends_the_process_with_an_error() -> None:
    operator = Operator(cast(Any, OperatorSettings)())
    operator._lease = lease = Broken()
    operator._hub = cast(Any, Hub())
    operator._registered = cast(Any, Running())
    operator._tunnels = tunnels = cast(Any, Tunnels())
    operator._proxy = cast(Any, Proxy())
    operator._replica = replica = cast(Any, Replica())
    assert await asyncio.wait_for(operator.serve(), 5) == 1
    assert lease.released
    assert tunnels.drained
    assert replica.closed
