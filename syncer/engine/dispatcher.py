"""Runs what a queue hands out, one task per key in hand, and sleeps until something is due."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from syncer.engine.workqueue import KeyedQueue

K = TypeVar("K", bound=Hashable)


class Dispatcher(Generic[K]):
    """Takes keys while it runs. How many are in hand at once is the queue's business (lane limits)."""

    def __init__(self, queue: KeyedQueue[K], work: Callable[[K], Awaitable[None]], clock: Callable[[], float]) -> None:
        self._queue = queue
        self._work = work
        self._clock = clock
        self._due = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def wake(self) -> None:
        """Something was added; cheap, call it after every add."""
        if not self._due.is_set():
            self._due.set()

    async def run(self) -> None:
        """Work until cancelled; tasks in flight are cancelled with it."""
        try:
            while not self._stopping:
                self._due.clear()
                key = self._queue.take(self._clock())
                if key is not None:
                    task = asyncio.create_task(self._one(key))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                    continue
                await self._sleep()
        finally:
            for task in self._tasks:
                task.cancel()

    async def drain(self) -> None:
        """Take nothing more, and wait for what is in flight."""
        self._stopping = True
        self.wake()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _sleep(self) -> None:
        deadline = self._queue.next_deadline()
        if deadline is None:
            await self._due.wait()
            return
        delay = deadline - self._clock()
        if delay <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(delay):
                await self._due.wait()
        except TimeoutError:
            return

    async def _one(self, key: K) -> None:
        try:
            await self._work(key)
        finally:
            self._queue.done(key)
            self.wake()
