"""All agents of a hub that was killed come back to the next one, and it answers others meanwhile.

`SYNCLINE_TEST_NIGHTLY=1` takes a thousand agents instead of a hundred.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from tests.nightly.churn import certificates
from tests.nightly.ends import agent_tls
from tests.support.commanded import Commanded
from tests.tunneler.faulty import until
from tunneler.config import TunnelConfig
from tunneler.core import Role
from tunneler.frames import Hello
from tunneler.links.base import LinkUser
from tunneler.links.dial import DialTarget, dial
from tunneler.manager import LinkKeeper
from tunneler.session import TunnelSession

NIGHTLY = bool(os.environ.get("SYNCLINE_TEST_NIGHTLY"))
AGENTS = 1000 if NIGHTLY else 100
ALL_UP_SECONDS = 30.0
PATIENCE_SECONDS = 1.0  # of who asks the hub something else, in 99 of 100 cases


class Agents:
    """So many agents, each with its own target and link, with the waits that agents have."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port, self._tls = port, agent_tls(folder)
        self._keepers = [self._keeper(f"agent-{number}") for number in range(AGENTS)]
        self._tasks = [asyncio.create_task(keeper.run()) for keeper in self._keepers]

    def _keeper(self, target: str) -> LinkKeeper:
        async def connect(reload: bool) -> TunnelSession:
            def make() -> LinkUser:
                return TunnelSession(Role.AGENT, TunnelConfig(), hello=Hello(agent=target, instance=target))

            url = f"https://127.0.0.1:{self._port}"
            link, session = await dial(DialTarget(url, {"X-Target": target}, self._tls), make)
            assert isinstance(session, TunnelSession)
            session.attach(link)
            return session

        return LinkKeeper(connect, chance=random.Random(target).random)

    def up(self) -> int:
        """Those whose link takes streams."""
        return sum(keeper.session is not None and keeper.session.is_open for keeper in self._keepers)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.mark.timeout(240)
async def test_all_agents_come_back_at_once_when_their_hub_was_killed(tmp_path: Path) -> None:
    """F36: all up within 30 s. How long others wait meanwhile is held to a second where nothing else runs."""
    certificates(tmp_path)
    hub = await asyncio.to_thread(Commanded, "tests.nightly.ends", "hub", str(tmp_path))
    port = int(hub.first)
    asker = await asyncio.to_thread(Commanded, "tests.nightly.ends", "asker", str(tmp_path), str(port))
    agents = Agents(port, tmp_path)
    try:
        await until(lambda: agents.up() == AGENTS, 120)
        await asyncio.to_thread(hub.kill)
        await until(lambda: agents.up() == 0)
        hub = await asyncio.to_thread(Commanded, "tests.nightly.ends", "hub", str(tmp_path), str(port))
        await asyncio.to_thread(asker.tell, "start")
        await until(lambda: agents.up() == AGENTS, ALL_UP_SECONDS)
        taken = await asyncio.to_thread(asker.tell, "stop")
    finally:
        await agents.close()
        await asyncio.to_thread(asker.end)
        await asyncio.to_thread(hub.end)
    assert taken
    if NIGHTLY:
        assert taken[int(0.99 * len(taken))] < PATIENCE_SECONDS
