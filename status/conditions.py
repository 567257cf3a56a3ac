"""Many targets' conditions become one: the worst of the current reports wins."""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from status.sanitize import MAX_CONDITIONS, MAX_TEXT_CHARS, clean_reason, clean_text
from status.values import objects

TRUE: Final = "True"
FALSE: Final = "False"
UNKNOWN: Final = "Unknown"
NAMED_TARGETS: Final = 3  # so many targets are named in a message, the rest is counted

_BAD: Final = re.compile(
    r"Fail(ed|ure)|Error|Degraded|Stalled|Pressure|Unavailable|Terminating|Unhealthy|Invalid|Conflict|Deadlock"
    r"|NotReady|DisruptionTarget|ScalingLimited|Resiz|Suspended|Dangling|Lost"
)


_TYPE: Final = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")  # else a 422 for all


class Judgement(NamedTuple):
    """What one target says about one condition type."""

    status: str  # True | False | Unknown
    reason: str
    message: str
    generation: int | None = None  # source generation, where the kind's conditions carry one


class Finding(NamedTuple):
    """What all targets together say about one condition type."""

    type: str
    status: str
    reason: str
    message: str
    generation: int | None = None


Rank = tuple[int, str]  # severity of the slot's health, target name: the worst target comes first
Absence = Callable[[str, str], Judgement]  # (target, condition type) -> what its silence means


def bad_when_true(condition_type: str) -> bool:
    """Whether True is the worst status of this type: `ReplicaFailure`, not `Available`."""
    return _BAD.search(condition_type) is not None


def judgements(status: Mapping[str, Any]) -> dict[str, Judgement]:
    """The well-formed conditions of a status: {type: judgement}; of a type given twice, the first."""
    found: dict[str, Judgement] = {}
    for item in objects(status, "conditions"):
        kind, value = item.get("type"), item.get("status")
        if not isinstance(kind, str) or kind in found or not _TYPE.fullmatch(kind):
            continue
        if value in (TRUE, FALSE, UNKNOWN):
            generation = item.get("observedGeneration")
            reason, message = item.get("reason"), item.get("message")
            found[kind] = Judgement(
                value,
                reason if isinstance(reason, str) else "",
                message if isinstance(message, str) else "",
                generation if isinstance(generation, int) else None,
            )
    return found


class ConditionIndex:
    """Conditions of many targets, kept so that one report costs O(log targets).

    ``_ranks``: {type: {status: ranks, worst first}}; ``_given``: {target: (severity, {type: judgement})}.
    """

    def __init__(self) -> None:
        self._ranks: dict[str, dict[str, list[Rank]]] = {}
        self._given: dict[str, tuple[int, Mapping[str, Judgement]]] = {}

    def put(self, target: str, severity: int, given: Mapping[str, Judgement]) -> None:
        """Replace what a target says; {} when it says nothing."""
        self.drop(target)
        if not given:
            return
        self._given[target] = (severity, given)
        for kind, judgement in given.items():
            insort(self._ranks.setdefault(kind, {}).setdefault(judgement.status, []), (severity, target))

    def drop(self, target: str) -> None:
        """Forget a target."""
        severity, given = self._given.pop(target, (0, {}))
        for kind, judgement in given.items():
            by_status = self._ranks[kind]
            ranks = by_status[judgement.status]
            del ranks[bisect_left(ranks, (severity, target))]
            if not ranks:
                del by_status[judgement.status]
                if not by_status:
                    del self._ranks[kind]

    def types(self, first: Sequence[str]) -> list[str]:
        """Types to report, at most 100: `first`, then those that most targets have, listed by name."""
        others = sorted(self._ranks.keys() - set(first), key=lambda kind: (-self._size(kind), kind))
        return [*first, *sorted(others[: MAX_CONDITIONS - len(first)])]

    def _size(self, kind: str) -> int:
        return sum(map(len, self._ranks[kind].values()))

    def worst(
        self, kind: str, expected: Iterable[str], needed: int, outdated: Collection[str], absence: Absence
    ) -> Finding | None:
        """Fold one type.

        Args:
            expected: the targets that should speak. Of a type that is good when True, the silence
                of one counts as `absence` says; of one that is bad when True, it counts as False.
            needed: source generation of which a True must be evidence; an older True counts as Unknown.
            outdated: targets whose whole status is evidence of an older generation.
            absence: what the silence of a target means.
        """
        by_status = self._ranks.get(kind, {})
        bad = bad_when_true(kind)
        extra: dict[str, list[tuple[Rank, Judgement]]] = {}
        if not bad:
            for target in expected:
                severity, given = self._given.get(target, (2, {}))
                judgement = given.get(kind)
                if judgement is None:
                    silent = absence(target, kind)
                    extra.setdefault(silent.status, []).append(((severity, target), silent))
                elif judgement.status == TRUE and (
                    target in outdated or (judgement.generation is not None and judgement.generation < needed)
                ):
                    old = Judgement(UNKNOWN, "OldGeneration", "true for an older generation", judgement.generation)
                    extra.setdefault(UNKNOWN, []).append(((severity, target), old))
        for status in (TRUE, UNKNOWN, FALSE) if bad else (FALSE, UNKNOWN, TRUE):
            ranks, more = by_status.get(status, []), extra.get(status, [])
            if ranks or more:
                heads = [(rank, self._given[rank[1]][1][kind]) for rank in ranks[:NAMED_TARGETS]]
                heads = sorted(heads + more, key=lambda head: head[0])[:NAMED_TARGETS]
                return _finding(kind, status, heads, len(ranks) + len(more))
        return None


def _finding(kind: str, status: str, heads: list[tuple[Rank, Judgement]], total: int) -> Finding:
    names = [rank[1] for rank, _ in heads]
    messages = [judgement.message for _, judgement in heads]
    rest = f" and {total - len(heads)} more" if total > len(heads) else ""
    if len(set(messages)) == 1:
        message = f"{', '.join(names)}{rest}: {messages[0]}" if messages[0] else f"{', '.join(names)}{rest}"
    else:
        told = "; ".join(f"{name}: {said}" if said else name for name, said in zip(names, messages, strict=True))
        message = f"{told};{rest}" if rest else told
    generations = [judgement.generation for _, judgement in heads if judgement.generation is not None]
    return Finding(
        kind,
        status,
        clean_reason(heads[0][1].reason, "Reported"),
        clean_text(message, MAX_TEXT_CHARS),
        min(generations) if generations else None,
    )


def write_condition(
    finding: Finding, previous: Mapping[str, Any] | None, now: str, touched: str = ""
) -> dict[str, Any]:
    """One condition for `.status.conditions`.

    Args:
        previous: the condition of this type that is there now.
        now: API time; `lastTransitionTime` takes it only when the status differs from `previous`.
        touched: name of a time field that moves with any change (`lastUpdateTime`), "" for none.
    """
    condition: dict[str, Any] = {
        "type": finding.type,
        "status": finding.status,
        "reason": finding.reason,
        "message": finding.message,
    }
    if finding.generation is not None:
        condition["observedGeneration"] = finding.generation
    stays = previous is not None and previous.get("status") == finding.status
    if previous is None or not stays:
        condition["lastTransitionTime"] = now
    elif previous.get("lastTransitionTime"):
        condition["lastTransitionTime"] = previous["lastTransitionTime"]
    if touched:
        unchanged = previous is not None and all(
            previous.get(field, "") == condition[field] for field in ("status", "reason", "message")
        )
        condition[touched] = (previous.get(touched) if previous is not None and unchanged else None) or now
    return condition
