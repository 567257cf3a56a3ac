"""One source object: what its targets say, kept as slots and running totals, and the status that follows."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

import orjson

from status.conditions import FALSE, TRUE, UNKNOWN, ConditionIndex, Finding, Judgement, judgements, write_condition
from status.kinds import rules_for
from status.kinds.base import View
from status.report import NOT_THERE, SEVERITY, Expected, Health, Mode, Report, Slot
from status.sanitize import MAX_INT32, clean_text
from status.values import compact, count, mapping, objects, same, text, time_text

STATUS_MANAGER: Final = "syncline-status"
_READY_TYPES: Final = ("Available", "Ready")
PATIENCE: Final = timedelta(seconds=10)  # a start reads all targets in less, and a write meanwhile would be taken back
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_DEFAULTED: Final = ("phase", "qosClass")  # what an API server sets in the status of a new object
_SERVER_SET: Final = ("lastPhaseTransitionTime",)  # an API server sets it itself while it takes a status
_GOOD: Final = (Health.HEALTHY, Health.SUSPENDED)


class _Slot:
    """What is known of one target. Counted only while the target is expected and the mode lets it count."""

    __slots__ = ("counts", "expected", "note", "passed", "rank", "refused", "report", "stale_since", "target")

    def __init__(self, target: str) -> None:
        self.target = target
        self.expected: Expected | None = None
        self.report: Report | None = None
        self.stale_since: float | None = None
        self.note: tuple[str, str] = ("", "")  # reason, message
        self.refused = ""
        self.passed = 0  # newest source generation whose rollout passed here
        self.rank: tuple[int, str] | None = None  # None while it is not counted
        self.counts: tuple[int, ...] = ()

    @property
    def present(self) -> bool:
        return self.report is not None and self.report.present

    @property
    def ended(self) -> bool:
        return self.report is not None and self.report.terminal

    @property
    def health(self) -> Health:
        if self.report is None or self.stale_since is not None:
            return Health.UNKNOWN
        return self.report.health

    def silence(self, kind: str) -> Judgement:
        """What it means that the target says nothing about a condition type."""
        if self.stale_since is not None:
            return Judgement(UNKNOWN, "Unreachable", f"no contact since {time_text(self.stale_since)}, no status yet")
        if self.report is None:
            return Judgement(UNKNOWN, "NoData", "no status yet")
        if not self.report.present:
            status = FALSE if kind in _READY_TYPES else UNKNOWN
            return Judgement(status, self.report.reason or "Missing", self.report.message)
        return Judgement(UNKNOWN, "NotReported", "not reported")

    def given(self, base: Sequence[str]) -> dict[str, Judgement]:
        """The target's conditions: unknown while it is unreachable, with the reason why its Pods do not run."""
        if self.report is None or not self.report.present:
            return {}
        given = judgements(self.report.status)
        if self.stale_since is not None:
            since = f"no contact since {time_text(self.stale_since)}"
            return {kind: Judgement(UNKNOWN, "Unreachable", since) for kind in given}
        reason, message = self.note
        if reason:
            told = f"{reason}: {message}" if message else reason
            for kind in {*base, *_READY_TYPES, "Progressing"} & given.keys():
                said = given[kind]
                if kind == "Progressing":  # kubectl reads its reason
                    given[kind] = said._replace(message=told)
                elif said.status != TRUE:
                    given[kind] = said._replace(reason=reason, message=told)
        return given


class Aggregator:
    """Merges the reports of one source object; `put` costs O(log targets), `status` is called per write.

    Call `expect` first. For a target that is known not to hold the object put `status.report.missing`;
    of a target that says nothing `Available` is Unknown. After a start of the process the status that
    is there is the last word of targets that have not spoken yet: nothing is written until they
    have, or are unreachable, or 10 s have passed, and counters do not fall meanwhile.

    `observedGeneration` becomes g only when every target that should hold the object carries g, has
    observed it and has passed kubectl's rollout rule once for g; it never falls. A True condition
    must be evidence of the generation that is written, or of the source's own generation where the
    kind has no `observedGeneration`.
    """

    def __init__(self, group_kind: tuple[str, str], source_uid: str, mode: Mode | None = None) -> None:
        self.group_kind = group_kind
        self.source_uid = source_uid
        self.mode = mode or Mode()
        self._rules = rules_for(*group_kind)
        self._slots: dict[str, _Slot] = {}
        self._told = False  # expect() was called
        # Running totals over the counted slots; `_enter` and `_leave` are their only writers.
        self._order: list[str] = []  # names
        self._ranks: list[tuple[int, str]] = []  # worst first
        self._absent: set[str] = set()  # no report of a present object
        self._totals = [0] * len(self._rules.counters)
        self._passed: Counter[int] = Counter()  # {generation passed: targets}
        self._evidence: Counter[int] = Counter()  # {observed generation: targets}
        self._conditions = ConditionIndex()
        # What was written.
        self._observed_generation = 0
        self._own: deque[bytes] = deque(maxlen=32)  # digests of statuses that are ours or were there before
        self._settled: tuple[bytes, bytes] | None = None  # digests: (wanted, what the server made of it)
        self._foreign_generation: int | None = None
        self._inherits_until: datetime | None = None  # None before the first question, _NEVER without an inheritance

    # What targets say.

    def expect(self, targets: Mapping[str, Expected]) -> list[str]:
        """Set which targets should hold the object now; every other one loses its slot, whatever it said.

        Returns:
            those of which there is no report here: one that came back may have spoken before.
        """
        self._told = True
        for target in self._slots.keys() - targets.keys():
            self._leave(self._slots.pop(target))
        for target, expected in targets.items():
            slot = self._slots.get(target) or self._slots.setdefault(target, _Slot(target))
            if slot.expected != expected:
                self._leave(slot)
                slot.expected = expected
                self._judge(slot)
                self._enter(slot)
        return [target for target in targets if self._slots[target].report is None]

    def put(self, report: Report) -> bool:
        """Replace the target's slot; True if anything merged may differ.

        A report for another incarnation of the source is ignored, and so is the absence of a Job
        or Pod that the target has already reported as finished.
        """
        if report.source_uid != self.source_uid:
            return False
        slot = self._slots.get(report.target) or self._slots.setdefault(report.target, _Slot(report.target))
        old = slot.report
        if old is not None:
            if self._rules.keeps_end and old.terminal and not report.present:
                return False
            if not slot.refused and replace(old, collected_at=report.collected_at) == report:
                slot.report = report
                return False
            if old.target_uid != report.target_uid:
                slot.passed = 0
        self._leave(slot)
        changed = old is None or old.source_generation != report.source_generation
        if changed or report.health in _GOOD or not report.present:
            slot.note = ("", "")
        slot.report = report
        slot.refused = ""
        slot.counts = tuple(count(report.status, name) for name in self._rules.counters)
        self._judge(slot)
        self._enter(slot)
        return slot.rank is not None

    def stale(self, target: str, since: float | None) -> bool:
        """Mark a target unreachable since (seconds since the epoch), or reachable with None; True if that is news."""
        slot = self._slots.get(target)
        if slot is None or slot.stale_since == since:
            return False
        self._leave(slot)
        slot.stale_since = since
        self._enter(slot)
        return slot.rank is not None

    def note(self, target: str, reason: str, message: str) -> bool:
        """Say why the target's Pods do not run, "" takes it back; a healthy report or a new generation does, too."""
        slot = self._slots.get(target)
        note = (clean_text(reason, 128), clean_text(message, 512))
        if slot is None or slot.note == note:
            return False
        self._leave(slot)
        slot.note = note
        self._enter(slot)
        return slot.rank is not None

    def refuse(self, target: str, message: str) -> None:
        """Note that the target's last word was refused; its last good report stays."""
        slot = self._slots.get(target) or self._slots.setdefault(target, _Slot(target))
        slot.refused = clean_text(message, 512)

    def _judge(self, slot: _Slot) -> None:
        report, expected = slot.report, slot.expected
        if report is None or expected is None or not report.rolled_out:
            return
        # An annotation that lies ahead of what was asked for is no evidence of it.
        if report.observed_generation == report.source_generation <= expected.generation:
            slot.passed = max(slot.passed, report.source_generation)

    def _enter(self, slot: _Slot) -> None:
        if slot.expected is None or not self.mode.counts(slot.target):
            return
        slot.rank = (SEVERITY[slot.health], slot.target)
        insort(self._order, slot.target)
        insort(self._ranks, slot.rank)
        self._passed[slot.passed] += 1
        if slot.report is None or not slot.report.present:
            self._absent.add(slot.target)
            return
        self._evidence[slot.report.observed_generation] += 1
        for index, value in enumerate(slot.counts):
            self._totals[index] += value
        self._conditions.put(slot.target, slot.rank[0], slot.given(self._rules.base_conditions))

    def _leave(self, slot: _Slot) -> None:
        if slot.rank is None:
            return
        del self._order[bisect_left(self._order, slot.target)]
        del self._ranks[bisect_left(self._ranks, slot.rank)]
        slot.rank = None
        _take(self._passed, slot.passed)
        if slot.report is None or not slot.report.present:
            self._absent.discard(slot.target)
            return
        _take(self._evidence, slot.report.observed_generation)
        for index, value in enumerate(slot.counts):
            self._totals[index] -= value
        self._conditions.drop(slot.target)

    # What follows.

    def status(self, source: Mapping[str, Any], *, now: datetime) -> dict[str, Any] | None:
        """The whole new `.status`, or None when the source says it already or nothing may be said yet.

        Args:
            source: the source manifest with its present `.status`.
            now: UTC.
        """
        previous = mapping(source, "status")
        if not self._told or self._waits(previous, now) or self._rules.frozen(previous) or self._nothing_yet(previous):
            return None
        if not self._own:
            self._own.append(self._digest(previous))
        wanted = self._rules.merge(self._view(source, previous, now))
        if wanted is None or same(wanted, previous, zeros=self._rules.typed):
            return None
        digest = self._digest(wanted)
        if self._settled == (digest, self._digest(previous)):
            return None  # the server prunes what it does not know: writing it again changes nothing
        self._own.append(digest)
        return wanted

    def wrote(self, wanted: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Take note of what the API server made of a status.

        Args:
            wanted: as returned by `status`.
            answer: the manifest that the server answered with.
        """
        made = self._digest(mapping(answer, "status"))
        self._own.append(made)
        self._settled = (self._digest(wanted), made)

    def foreign_writer(self, source: Mapping[str, Any]) -> bool:
        """Whether somebody else writes this source's status: an upstream controller acts on the kind.

        With `metadata.managedFields` the newest writer of the status subresource tells. Without
        them, for built-in kinds, a status tells that is neither one of ours nor the one found at
        first; that True stays until the source has a new generation or managedFields deny it.
        """
        metadata, status = mapping(source, "metadata"), mapping(source, "status")
        generation = count(metadata, "generation")
        ours = theirs = ""
        for entry in objects(metadata, "managedFields"):
            if text(entry, "subresource") == "status":
                if text(entry, "manager") == STATUS_MANAGER:
                    ours = max(ours, text(entry, "time"))
                else:
                    theirs = max(theirs, text(entry, "time"))
        if ours and ours != theirs:  # before our first write nobody writes against us
            foreign = theirs > ours
        elif self._foreign_generation == generation:
            foreign = True
        else:
            told = self._rules.typed and self._own and compact(status, zeros=True)
            foreign = bool(told) and self._digest(status) not in self._own
        self._foreign_generation = generation if foreign else None
        return foreign

    def _waits(self, previous: Mapping[str, Any], now: datetime) -> bool:
        """Whether to wait, after a start of this process, for targets that have been told of in `previous`.

        What is there when this aggregator is first asked comes from its predecessor. Until every
        target has spoken, the numbers of those that have not are in there only.
        """
        if self._inherits_until is None:
            inherited = bool(compact(self._said(previous), zeros=self._rules.typed))
            self._inherits_until = now + PATIENCE if inherited else _NEVER
        silent = self._silent()
        if not silent:
            self._inherits_until = _NEVER
        return now < self._inherits_until and any(self._slots[name].stale_since is None for name in silent)

    def _silent(self) -> list[str]:
        return [name for name in self._absent if self._slots[name].report is None]

    def _said(self, status: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in status.items() if key not in _DEFAULTED}

    def _nothing_yet(self, previous: Mapping[str, Any]) -> bool:
        """No target has said anything of its own yet: not heard of, or the object is new and nobody acted on it."""
        if not self._order or any(self._totals):
            return False
        new = not compact(self._said(previous), zeros=self._rules.typed)
        return all(self._speechless(self._slots[name], new) for name in self._order)

    def _speechless(self, slot: _Slot, new: bool) -> bool:
        """Whether a target has nothing to say of an object that may be `new`: its copy is on the way or untouched."""
        report = slot.report
        if slot.stale_since is not None:
            return False
        if report is None:
            return True
        if not new or slot.note[0]:
            return False
        if not report.present:
            return report.reason == NOT_THERE
        if self._rules.generational is None and not compact(report.status, zeros=self._rules.typed):
            return True
        return self._rules.generational is True and report.observed_generation < report.source_generation

    def _digest(self, status: Mapping[str, Any]) -> bytes:
        """Equal for statuses that say the same."""
        said = {key: value for key, value in status.items() if key not in _SERVER_SET}
        text = orjson.dumps(compact(said, zeros=self._rules.typed), option=orjson.OPT_SORT_KEYS)
        return blake2b(text, digest_size=16).digest()

    def _view(self, source: Mapping[str, Any], previous: Mapping[str, Any], now: datetime) -> View:
        generation = count(mapping(source, "metadata"), "generation")
        observed = self._observe(previous, generation)
        silent = self._silent()
        held = bool(silent) and self._inherits_until is not _NEVER
        present = [name for name in self._order if name not in self._absent]
        worst = next((name for _, name in self._ranks if name not in self._absent), None)
        if self.mode.mode == "Worst":
            present = [worst] if worst else []
            sums: Sequence[int] = self._slots[worst].counts if worst else self._totals
        else:
            sums = self._totals
        totals = dict(zip(self._rules.counters, sums, strict=True))
        if self._rules.wanting:
            lacking = (self._slots[name].expected for name in self._absent.difference(silent))
            totals[self._rules.wanting] += sum(one.replicas or 0 for one in lacking if one is not None)
        totals = {name: min(total, MAX_INT32) for name, total in totals.items()}
        if held:
            totals = {name: max(total, count(previous, name)) for name, total in totals.items()}
        return View(
            source=source,
            previous=previous,
            observed_generation=observed,
            targets=self._order,
            reports=[report for name in present if (report := self._slots[name].report) is not None],
            worst=self._slots[worst].report if worst else None,
            totals=totals,
            conditions=self._merged_conditions(previous, observed or generation, now),
            now=now,
            complete=not self._absent,
            ended=all(self._slots[name].ended for name in self._order),
            held=held,
        )

    def _observe(self, previous: Mapping[str, Any], generation: int) -> int:
        """`observedGeneration` to write; 0 for a kind or object that has none."""
        if self._rules.generational is False:
            return 0
        if self._rules.generational is None:
            statuses = (slot.report.status for slot in self._slots.values() if slot.report is not None)
            if not any("observedGeneration" in status for status in (previous, *statuses)):
                return 0
        known = [self._observed_generation, count(previous, "observedGeneration")]
        if self._passed and min(self._passed) >= generation:
            known.append(generation)
        self._observed_generation = max(known)
        return self._observed_generation

    def _merged_conditions(self, previous: Mapping[str, Any], needed: int, now: datetime) -> list[dict[str, Any]]:
        earlier = {text(item, "type"): item for item in objects(previous, "conditions")}
        moment, base = time_text(now), self._rules.base_conditions
        if not self._order:
            named = f"target {self.mode.target} is not selected" if self.mode.target else "no target is selected"
            kinds = base or [kind for kind in _READY_TYPES if kind in earlier]
            findings = [Finding(kind, FALSE, "NoTargets", named) for kind in kinds]
        else:
            outdated: set[str] = set()
            if self._evidence and min(self._evidence) < needed:
                reports = (slot.report for slot in self._slots.values() if slot.report is not None)
                outdated = {report.target for report in reports if report.observed_generation < needed}
            found = (
                self._conditions.worst(kind, self._order, needed, outdated, self._silence)
                for kind in self._conditions.types(base)
            )
            findings = [finding for finding in found if finding is not None]
        bounded = (
            finding if finding.generation is None else finding._replace(generation=min(finding.generation, needed))
            for finding in findings
        )
        return [write_condition(finding, earlier.get(finding.type), moment, self._rules.touched) for finding in bounded]

    def _silence(self, target: str, kind: str) -> Judgement:
        return self._slots[target].silence(kind)

    # Per-target detail.

    def slots(self) -> list[Slot]:
        """The expected targets in name order."""
        return [self._detail(slot) for _, slot in sorted(self._slots.items()) if slot.expected is not None]

    def summary(self, target: str) -> tuple[bool, Health, str]:
        """(ready, health, message) of one target; (False, Unknown, …) for one that is not expected."""
        slot = self._slots.get(target)
        if slot is None or slot.expected is None:
            return False, Health.UNKNOWN, "not selected"
        detail = self._detail(slot)
        return detail.ready, detail.health, detail.message

    def _detail(self, slot: _Slot) -> Slot:
        report, expected = slot.report, slot.expected or Expected(0)
        current = slot.present and report is not None and report.observed_generation >= expected.generation
        if slot.stale_since is not None:
            message = f"no contact since {time_text(slot.stale_since)}"
        elif report is None:
            message = "no status yet"
        elif slot.note[0]:
            message = f"{slot.note[0]}: {slot.note[1]}" if slot.note[1] else slot.note[0]
        elif slot.present and not current:
            message = report.message or f"generation {expected.generation} is not there yet"
        else:
            message = report.message
        return Slot(
            target=slot.target,
            expected=expected,
            report=report,
            ready=current and slot.health in _GOOD,
            health=slot.health,
            message=f"refused: {slot.refused}" if slot.refused and not message else message,
            stale_since=slot.stale_since,
            note_reason=slot.note[0],
            note_message=slot.note[1],
            refused=slot.refused,
            passed_generation=slot.passed,
        )


def _take(counter: Counter[int], key: int) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
