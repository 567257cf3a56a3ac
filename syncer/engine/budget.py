"""The deletion budget: how many deletes a target gets per minute when nobody was seen asking for each of them.

Only deletes without a seen deletionTimestamp or DELETED event of that very object ask here: un-placements, and sources
that are proven absent after a gap. Beyond the budget the target freezes and shows a token; who repeats the token lets
the deletes go that were waiting at that moment, and no others.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

FLOOR: Final = 10
SHARE: Final = 0.05
WINDOW_SECONDS: Final = 60.0
CONSENT_SECONDS: Final = 600.0  # what was acknowledged or announced and did not happen by then is forgotten


@dataclass(frozen=True, slots=True)
class Freeze:
    """A target that waits for a person."""

    token: str
    since: float  # monotonic seconds
    waiting: int  # deletes refused so far


@dataclass(slots=True)
class _Account:
    spent: deque[float] = field(default_factory=deque)  # times of deletes in the window
    token: str | None = None  # set while frozen
    since: float = 0.0
    waiting: set[Hashable] = field(default_factory=set)  # refused while frozen; at most one entry per synced object
    acknowledged: set[Hashable] = field(default_factory=set)  # allowed once each
    acknowledged_until: float = 0.0
    announced: int = 0
    announced_until: float = 0.0
    paid: dict[str, float] = field(default_factory=dict)  # {uid of an object that may go: when it was last asked for}

    def pay(self, uid: str, now: float) -> bool:
        """True, and keep in mind, that this very object may be deleted: a delete that fails is not paid twice."""
        self.paid.pop(uid, None)  # to the end: the oldest come first
        self.paid[uid] = now
        return True


class DeletionBudget:
    """max(10, 5 % of the target's synced objects) deletes per target and minute.

    Args:
        rng: makes the tokens; hand in a seeded one and they are the same again.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._accounts: dict[str, _Account] = {}  # by target

    def spend(self, target: str, key: Hashable, uid: str, *, synced: int, now: float) -> bool:
        """Ask for one delete. False: do not send it; the target is frozen.

        A unit is spent per object, not per try: while the delete of a uid is tried again and again, it stays paid.

        Args:
            key: the object; asking again for it while frozen counts once.
            uid: which of all objects of that name.
            synced: objects that are on the target now, before this delete.
        """
        account = self._accounts.setdefault(target, _Account())
        if key in account.acknowledged:
            account.acknowledged.discard(key)
            if now < account.acknowledged_until:
                return account.pay(uid, now)
        if account.token is None:
            while account.paid and next(iter(account.paid.values())) <= now - CONSENT_SECONDS:
                del account.paid[next(iter(account.paid))]
            if uid in account.paid:
                return account.pay(uid, now)
            while account.spent and account.spent[0] <= now - WINDOW_SECONDS:
                account.spent.popleft()
            # What this minute already deleted still counts as synced, else the limit would shrink while it is used.
            if len(account.spent) < max(FLOOR, int(SHARE * (synced + len(account.spent)))):
                account.spent.append(now)
                return account.pay(uid, now)
            if account.announced and now < account.announced_until:
                account.announced -= 1
                return account.pay(uid, now)
            self._freeze(account, self._token(), now)
        account.waiting.add(key)
        return False

    def frozen(self, target: str) -> Freeze | None:
        """The freeze of a target, or None."""
        account = self._accounts.get(target)
        if account is None or account.token is None:
            return None
        return Freeze(account.token, account.since, len(account.waiting))

    def freeze(self, target: str, now: float, token: str | None = None) -> Freeze:
        """Freeze a target: for another reason, or as its status said before a restart (then with that token)."""
        account = self._accounts.setdefault(target, _Account())
        if account.token is None:
            self._freeze(account, token or self._token(), now)
        assert account.token is not None
        return Freeze(account.token, account.since, len(account.waiting))

    def acknowledge(self, target: str, token: str, now: float) -> bool:
        """Thaw a target whose token this is; its refused deletes may go within 10 minutes.

        False: no such freeze, nothing changed.
        """
        account = self._accounts.get(target)
        if account is None or account.token is None or account.token != token:
            return False
        account.token = None
        account.spent.clear()
        account.acknowledged = account.waiting
        account.acknowledged_until = now + CONSENT_SECONDS
        account.waiting = set()
        return True

    def announce(self, target: str, deletes: int, now: float) -> None:
        """Allow this many deletes beyond the budget for 10 minutes: a change whose size was announced."""
        account = self._accounts.setdefault(target, _Account())
        account.announced = deletes
        account.announced_until = now + CONSENT_SECONDS

    def withdraw(self, target: str, key: Hashable, uid: str) -> None:
        """The delete of an object is not wanted any more (its source or placement came back)."""
        account = self._accounts.get(target)
        if account is not None:
            account.waiting.discard(key)
            account.acknowledged.discard(key)
            account.paid.pop(uid, None)

    def forget(self, target: str) -> None:
        """The target is gone."""
        self._accounts.pop(target, None)

    @staticmethod
    def _freeze(account: _Account, token: str, now: float) -> None:
        account.token = token
        account.since = now

    def _token(self) -> str:
        return f"{self._rng.getrandbits(40):010x}"
