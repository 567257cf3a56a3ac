"""Watches the event loop from a thread: a loop that stands still must not come back as a leader (F23)."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final

import structlog

from syncer.metrics import Metrics

BEAT_SECONDS: Final = 0.5
LAG_WINDOW_SECONDS: Final = 10.0

log = structlog.get_logger()


class LoopWatchdog:
    """Asks the loop for a sign of life twice a second and reports a stall while it lasts.

    The stall itself cannot write anything, since all writers live on the loop. What is left to do is to end the term
    (`on_stall`, from the watchdog's thread), so that nothing that was decided before the stall is written after it, and
    to log where the loop stands.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        *,
        limit_seconds: float,
        on_stall: Callable[[str], None],
    ) -> None:
        """Args: limit_seconds: a stall this long ends the term."""
        self._loop = loop
        self._metrics = metrics
        self._limit = limit_seconds
        self._on_stall = on_stall
        self._stop = threading.Event()
        self._beat = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)
        self._loop_thread = threading.get_ident()
        self._lags: list[tuple[float, float]] = []  # (when, seconds)

    def start(self) -> None:
        """Call on the loop's own thread."""
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2 * BEAT_SECONDS)

    def _watch(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            started = time.monotonic()
            self._beat.clear()
            try:
                self._loop.call_soon_threadsafe(self._beat.set)
            except RuntimeError:
                return  # the loop is closed
            if not self._beat.wait(self._limit) and not self._stop.is_set():
                self._report()
                while not self._beat.wait(BEAT_SECONDS) and not self._stop.is_set():
                    continue
            self._note(time.monotonic(), time.monotonic() - started)

    def _report(self) -> None:
        message = f"event loop blocked for {self._limit:g} s"
        self._on_stall(message)
        frame = sys._current_frames().get(self._loop_thread)
        stack = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_stack(frame)[-12:]] if frame else []
        log.error(message, where=stack)

    def _note(self, now: float, lag: float) -> None:
        self._lags = [(at, seconds) for at, seconds in self._lags if at > now - LAG_WINDOW_SECONDS] + [(now, lag)]
        self._metrics.loop_lag_seconds.set(max(seconds for _, seconds in self._lags))
