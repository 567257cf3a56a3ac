"""Which keys are due, in which order, and never twice at the same time.

A key belongs to one lane (its target). Lanes are served in turn, so that a target with much work, or one that is held
back (rate limit, open breaker, full of work in hand), delays nobody else. Inside a lane the better priority goes first,
then the better rank, then the older key; every 16th turn serves the key that waits longest, so that nothing starves.

No clock, no task, no lock: times are monotonic seconds handed in, and one thread calls.
"""

from __future__ import annotations

import heapq
import random
from bisect import insort
from collections import deque
from collections.abc import Callable, Hashable
from math import inf
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

USER_CHANGE: Final = 0
DRIFT: Final = 1
CATCH_UP: Final = 2

BACKOFF_BASE_SECONDS: Final = 0.2
BACKOFF_CAP_SECONDS: Final = 60.0
OLDEST_FIRST_EVERY: Final = 16  # 1 turn in 16 is a price that priority traffic does not notice

_RANK_BITS: Final = 16
_DEAD, _READY, _DELAYED, _IN_HAND = range(4)


def backoff_seconds(failures: int, rng: random.Random) -> float:
    """Full-jitter delay before try number `failures` + 1: 0.2 s doubled per failure, at most 60 s."""
    ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** min(failures - 1, 16))
    return rng.uniform(0.0, ceiling)


class _Item(Generic[K]):
    __slots__ = ("again", "at", "key", "lane", "level", "seq", "state")

    def __init__(self, key: K, lane: _Lane[K]) -> None:
        self.key = key
        self.lane = lane
        self.state = _DEAD
        self.at = 0.0  # 0 while ready
        self.level = 0  # priority and rank in one number, smaller is better
        self.seq = 0  # when it became ready, as a count
        self.again: tuple[float, int] | None = None  # (at, level) asked for while in hand


class _Lane(Generic[K]):
    __slots__ = ("buckets", "held_from", "held_until", "in_hand", "levels", "limit", "offered", "ready", "turns")

    def __init__(self, limit: float) -> None:
        self.buckets: dict[int, deque[_Item[K]]] = {}  # by level; may hold dead items, which are skipped
        self.levels: list[int] = []  # sorted; exactly the levels whose bucket is not empty
        self.ready = 0  # living items in the buckets
        self.in_hand = 0
        self.limit = limit
        self.held_until = 0.0
        self.held_from = 0  # levels from here on are held until then
        self.offered = False  # in the ring: ready > 0, below the limit, something is not held
        self.turns = 0


class KeyedQueue(Generic[K]):
    """Keys with a time, a priority and a rank. Duplicates merge: the earliest time and the best priority win.

    Args:
        lane_of: the lane of a key; default: all keys share one.
        lane_limit: keys in hand per lane at the same time, unless `limit` says otherwise; None is no limit.
    """

    def __init__(self, lane_of: Callable[[K], Hashable] | None = None, *, lane_limit: int | None = None) -> None:
        self._lane_of = lane_of
        self._lane_limit: float = inf if lane_limit is None else lane_limit
        self._items: dict[K, _Item[K]] = {}  # waiting or in hand
        self._lanes: dict[Hashable, _Lane[K]] = {}
        self._ring: deque[_Lane[K]] = deque()  # exactly the offered lanes
        self._delayed: list[tuple[float, int, _Item[K]]] = []  # heap; an entry that its item outgrew is skipped
        self._failures: dict[K, int] = {}
        self._waiting = 0
        self._seq = 0
        self._now = 0.0  # latest time seen
        self._next_release = inf  # earliest end of a hold

    def __len__(self) -> int:
        """Keys that wait: ready, delayed, or added again while in hand."""
        return self._waiting

    def __contains__(self, key: K) -> bool:
        """Whether the key waits (a key that is only in hand does not)."""
        item = self._items.get(key)
        return item is not None and (item.state != _IN_HAND or item.again is not None)

    @property
    def in_hand(self) -> int:
        """Keys that were taken and are not done."""
        return sum(lane.in_hand for lane in self._lanes.values())

    def add(self, key: K, *, at: float = 0.0, priority: int = USER_CHANGE, rank: int = 0) -> None:
        """Ask for a key, not before `at`; 0 or a past time is at once.

        Args:
            priority: `USER_CHANGE`, `DRIFT` or `CATCH_UP`; smaller goes first.
            rank: order inside a priority, 0 to 65535, smaller goes first (what others depend on).
        """
        level = priority << _RANK_BITS | rank
        item = self._items.get(key)
        if item is None:
            lane_of = self._lane_of
            lane = self._lane(None if lane_of is None else lane_of(key))
            self._items[key] = item = _Item(key, lane)
            self._waiting += 1
            self._schedule(item, at, level)
        elif item.state == _IN_HAND:
            if item.again is None:
                item.again = (at, level)
                self._waiting += 1
            else:
                item.again = (min(at, item.again[0]), min(level, item.again[1]))
        elif at < item.at or level < item.level:
            self._improve(item, min(at, item.at), min(level, item.level))

    def take(self, now: float) -> K | None:
        """Hand out the next due key, or None; `done` must follow. Never a key that is in hand."""
        if now > self._now:
            self._now = now
        if self._delayed and self._delayed[0][0] <= now:
            self._promote(now)
        if self._next_release <= now:
            self._release()
        if not self._ring:
            return None
        lane = self._ring.popleft()
        lane.turns += 1
        oldest = lane.turns % OLDEST_FIRST_EVERY == 0 and lane.held_until <= self._now
        item = self._pop_oldest(lane) if oldest else self._pop(lane)
        item.state = _IN_HAND
        lane.ready -= 1
        lane.in_hand += 1
        self._waiting -= 1
        lane.offered = False
        self._refresh(lane)
        return item.key

    def done(self, key: K) -> None:
        """Give a key back. If it was added meanwhile it is due right away, or at the time asked for.

        Raises:
            KeyError: the key is not in hand.
        """
        item = self._items.get(key)
        if item is None or item.state != _IN_HAND:
            raise KeyError(key)
        lane = item.lane
        lane.in_hand -= 1
        if item.again is None:
            del self._items[key]
        else:
            at, level = item.again
            item.again = None
            self._schedule(item, at, level)
        if lane.ready and not lane.offered:
            self._refresh(lane)

    def retry(self, key: K, now: float, rng: random.Random, floor_seconds: float | None = None) -> float:
        """Count a failure and add the key again after a backoff; returns that delay in seconds.

        The key keeps the priority and rank with which it was taken. `floor_seconds` (a Retry-After) is never undercut.
        """
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = max(backoff_seconds(failures, rng), floor_seconds or 0.0)
        item = self._items.get(key)
        level = 0 if item is None else item.level
        self.add(key, at=now + delay, priority=level >> _RANK_BITS, rank=level & ((1 << _RANK_BITS) - 1))
        return delay

    def forget(self, key: K) -> None:
        """Reset the failure count of a key: it succeeded, or failed for good."""
        self._failures.pop(key, None)

    def discard(self, key: K) -> None:
        """Drop a waiting key and its failure count; a key in hand stays in hand but does not come again."""
        self._failures.pop(key, None)
        item = self._items.get(key)
        if item is None:
            return
        if item.state == _IN_HAND:
            if item.again is not None:
                item.again = None
                self._waiting -= 1
            return
        if item.state == _READY:
            item.lane.ready -= 1
            self._refresh(item.lane)
        item.state = _DEAD
        del self._items[key]
        self._waiting -= 1

    def next_deadline(self) -> float | None:
        """When `take` may next succeed: 0.0 is now, None is not before `add`, `done`, `hold` or `limit` is called."""
        if self._ring:
            return 0.0
        delayed = self._delayed
        while delayed and not (delayed[0][2].state == _DELAYED and delayed[0][2].at == delayed[0][0]):
            heapq.heappop(delayed)
        first = delayed[0][0] if delayed else inf
        first = min(first, self._next_release)
        return None if first == inf else first

    def hold(self, lane: Hashable, until: float, *, above: int = USER_CHANGE) -> None:
        """Hand out nothing of a lane before `until`; inf holds until the next call, 0 releases at once.

        Args:
            above: keys of a better priority than this go on; the default holds all of them.
        """
        held = self._lane(lane)
        held.held_until = until
        held.held_from = above << _RANK_BITS
        if until > self._now:
            self._next_release = min(self._next_release, until)  # exact again at the next release
        self._refresh(held)

    def limit(self, lane: Hashable, in_hand: int | None) -> None:
        """Set how many keys of a lane may be in hand at the same time; None is no limit."""
        limited = self._lane(lane)
        limited.limit = inf if in_hand is None else in_hand
        self._refresh(limited)

    def drop_lane(self, lane: Hashable) -> None:
        """Forget a lane, its hold, its limit and its waiting keys (the target is gone)."""
        dropped = self._lanes.get(lane)
        if dropped is None:
            return
        for key in [key for key, item in self._items.items() if item.lane is dropped]:
            self.discard(key)
        dropped.held_until = 0.0
        dropped.limit = self._lane_limit
        if not dropped.in_hand:  # work in hand still counts on its lane, which then stays as an empty one
            del self._lanes[lane]

    def _lane(self, name: Hashable) -> _Lane[K]:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane(self._lane_limit)
        return lane

    def _refresh(self, lane: _Lane[K]) -> None:
        """Put the lane into the ring, or take it out, as its state says."""
        offered = lane.ready > 0 and lane.in_hand < lane.limit
        if offered and lane.held_until > self._now:
            self._drop_dead(lane)
            offered = lane.levels[0] < lane.held_from
        if offered and not lane.offered:
            self._ring.append(lane)
        elif lane.offered and not offered:
            self._ring.remove(lane)
        lane.offered = offered

    def _schedule(self, item: _Item[K], at: float, level: int) -> None:
        item.level = level
        if at > self._now:
            item.at = at
            item.state = _DELAYED
            self._push_delayed(item)
            return
        item.at = 0.0
        item.state = _READY
        self._seq = item.seq = self._seq + 1
        lane = item.lane
        bucket = lane.buckets.get(level)
        if bucket is None:
            bucket = lane.buckets[level] = deque()
        if not bucket:
            insort(lane.levels, level)
        bucket.append(item)
        lane.ready += 1
        if not lane.offered:
            self._refresh(lane)

    def _push_delayed(self, item: _Item[K]) -> None:
        delayed = self._delayed
        self._seq += 1
        heapq.heappush(delayed, (item.at, self._seq, item))
        if len(delayed) > 2 * len(self._items) + 64:  # keys that were asked for earlier leave entries behind
            delayed[:] = {id(e[2]): e for e in delayed if e[2].state == _DELAYED and e[2].at == e[0]}.values()
            heapq.heapify(delayed)

    def _improve(self, item: _Item[K], at: float, level: int) -> None:
        """Move a waiting item to a better time or level."""
        if item.state == _DELAYED and at > self._now:
            item.level = level
            if at < item.at:
                item.at = at
                self._push_delayed(item)
            return
        if item.state == _READY:
            if level == item.level:
                return
            # Leave a dead one behind: removing from the middle of a deque is linear.
            item.state = _DEAD
            item.lane.ready -= 1
            item = self._items[item.key] = _Item(item.key, item.lane)
        self._schedule(item, at, level)

    def _promote(self, now: float) -> None:
        delayed = self._delayed
        while delayed and delayed[0][0] <= now:
            at, _, item = heapq.heappop(delayed)
            if item.state == _DELAYED and item.at == at:
                self._schedule(item, 0.0, item.level)

    def _release(self) -> None:
        now = self._now
        self._next_release = min(
            (lane.held_until for lane in self._lanes.values() if lane.held_until > now), default=inf
        )
        for lane in self._lanes.values():
            if not lane.offered:
                self._refresh(lane)

    @staticmethod
    def _drop_dead(lane: _Lane[K]) -> None:
        """Make the first item of the first level a living one; the lane has some."""
        while lane.buckets[lane.levels[0]][0].state != _READY:
            bucket = lane.buckets[lane.levels[0]]
            bucket.popleft()
            if not bucket:
                del lane.levels[0]

    @staticmethod
    def _pop(lane: _Lane[K]) -> _Item[K]:
        while True:
            bucket = lane.buckets[lane.levels[0]]
            item = bucket.popleft()
            if not bucket:
                del lane.levels[0]
            if item.state == _READY:
                return item

    @staticmethod
    def _pop_oldest(lane: _Lane[K]) -> _Item[K]:
        while True:
            level = min(lane.levels, key=lambda level: lane.buckets[level][0].seq)
            bucket = lane.buckets[level]
            item = bucket.popleft()
            if not bucket:
                lane.levels.remove(level)
            if item.state == _READY:
                return item
