"""Properties of the merge that hold for every history of reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from status.aggregator import Aggregator
from status.conditions import bad_when_true
from status.report import Expected, Health, Report, missing
from status.sanitize import MAX_INT32
from tests.status.builders import DEPLOYMENT, NOW, condition, conditions, source
from tests.status.job_rules import refusals

TARGETS = ("a", "b", "c")
COUNTERS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")
STATUSES = st.sampled_from(("True", "True", "True", "False", "Unknown"))
SETTINGS = settings(max_examples=250, deadline=None)


@st.composite
def reports(draw: st.DrawFn, target: st.SearchStrategy[str], generations: st.SearchStrategy[int]) -> Report:
    """Any report that a Deployment controller could cause."""
    name = draw(target)
    if draw(st.integers(0, 9)) == 0:
        return missing(name, target_uid=name, source_uid="u-1", now=0.0)
    generation = draw(generations)
    observed = generation if draw(st.integers(0, 3)) else max(0, generation - 1)
    replicas = draw(st.sampled_from((0, 1, 3, MAX_INT32)))
    ready = draw(st.integers(0, replicas))
    status: dict[str, Any] = dict(
        zip(
            COUNTERS,
            (replicas, draw(st.integers(0, replicas)), ready, draw(st.integers(0, ready)), replicas - ready),
            strict=True,
        )
    )
    kinds = ["Available", *draw(st.lists(st.sampled_from(("Progressing", "ReplicaFailure")), unique=True))]
    status["conditions"] = [
        condition(kind, draw(STATUSES), draw(st.sampled_from(("A", "B"))), draw(st.sampled_from(("x", "y"))))
        for kind in kinds
    ]
    if draw(st.booleans()):
        status["collisionCount"] = draw(st.integers(0, 3))
    return Report(
        target=name,
        target_uid=name,
        source_uid="u-1",
        source_generation=generation,
        observed_generation=observed,
        present=True,
        health=draw(st.sampled_from(list(Health))),
        status=status,
        collected_at=0.0,
        rolled_out=observed == generation and draw(st.integers(0, 3)) > 0,
    )


Step = tuple[str, Any]


def steps(generations: st.SearchStrategy[int]) -> st.SearchStrategy[Step]:
    names = st.sampled_from(TARGETS)
    return st.one_of(
        st.tuples(st.just("put"), reports(names, generations)),
        st.tuples(st.just("put"), reports(names, generations)),
        st.tuples(st.just("stale"), st.tuples(names, st.sampled_from((None, 5.0, 9.0)))),
        st.tuples(st.just("note"), st.tuples(names, st.sampled_from(("", "ImagePullBackOff")), st.just("a-1: no"))),
        st.tuples(st.just("refuse"), st.tuples(names, st.just("nonsense"))),
        st.tuples(st.just("expect"), st.sets(names, max_size=2)),
        st.tuples(st.just("generation"), st.none()),
    )


def apply(made: Aggregator, step: Step, generation: int) -> None:
    verb, argument = step
    if verb == "put":
        made.put(argument)
    elif verb == "expect":
        made.expect({name: Expected(generation, 3) for name in argument})
    elif verb != "generation":
        getattr(made, verb)(*argument)


class World:
    """A source upstream whose status is written after every step."""

    def __init__(self) -> None:
        self.made = Aggregator(DEPLOYMENT, "u-1")
        self.source = source()
        self.expected: set[str] = {"a"}
        self.moment = NOW
        apply(self.made, ("expect", self.expected), 1)

    @property
    def generation(self) -> int:
        return int(self.source["metadata"]["generation"])

    def step(self, step: Step) -> dict[str, Any] | None:
        self.moment += timedelta(seconds=1)
        if step[0] == "generation":
            self.source["metadata"]["generation"] += 1
            step = ("expect", self.expected)
        if step[0] == "expect":
            self.expected = set(step[1])
        apply(self.made, step, self.generation)
        written = self.made.status(self.source, now=self.moment)
        if written is not None:
            self.source["status"] = written
        return written


HISTORIES = st.lists(steps(st.integers(1, 4)), max_size=25)


@SETTINGS
@given(HISTORIES)
def test_incremental_totals_equal_a_fold_over_all_slots(history: list[Step]) -> None:
    """A new aggregator that is told only the last word of each target says the same."""
    world = World()
    for step in history:
        world.step(step)
    slots = world.made.slots()
    fresh = Aggregator(DEPLOYMENT, "u-1")
    fresh.expect({})
    fresh.status(source(generation=10**6), now=NOW)  # there is no predecessor whose numbers would have to be kept
    for slot in reversed(slots):
        if slot.report is not None and slot.passed_generation:
            passed = replace(
                slot.report,
                present=True,
                source_generation=slot.passed_generation,
                observed_generation=slot.passed_generation,
                rolled_out=True,
            )
            fresh.expect({**{s.target: s.expected for s in slots}})
            fresh.put(passed)
        if slot.report is not None:
            fresh.put(slot.report)
    fresh.expect({slot.target: slot.expected for slot in slots})
    for slot in slots:
        fresh.note(slot.target, slot.note_reason, slot.note_message)
        fresh.stale(slot.target, slot.stale_since)
    blank = {**world.source, "status": {"observedGeneration": world.source["status"].get("observedGeneration", 0)}}
    assert world.made.status(blank, now=NOW) == fresh.status(blank, now=NOW)
    said = world.made.status(blank, now=NOW)
    if said is not None:
        held = [slot.report.status for slot in slots if slot.report is not None and slot.report.present]
        lacking = sum(3 for slot in slots if slot.report is not None and not slot.report.present)
        for name in COUNTERS:
            total = sum(status[name] for status in held) + (lacking if name == "unavailableReplicas" else 0)
            assert said[name] == min(total, MAX_INT32)


@SETTINGS
@given(st.data())
def test_the_result_does_not_depend_on_arrival_order(data: st.DataObject) -> None:
    """Each target's own reports arrive in order; how the targets interleave changes nothing."""
    words = {name: data.draw(st.lists(reports(st.just(name), st.integers(1, 3)), max_size=4)) for name in TARGETS}
    order = [name for name, said in words.items() for _ in said]
    results = []
    for _ in range(2):
        queues = {name: iter(said) for name, said in words.items()}
        made = Aggregator(DEPLOYMENT, "u-1")
        made.expect({name: Expected(2, 3) for name in data.draw(st.permutations(TARGETS))})
        for name in data.draw(st.permutations(order)):
            made.put(next(queues[name]))
        results.append((made.status(source(generation=2), now=NOW), made.slots()))
    assert results[0] == results[1]


@SETTINGS
@given(HISTORIES)
def test_observed_generation_never_falls_and_never_runs_ahead(history: list[Step]) -> None:
    """P8: and it becomes g only when each expected target has passed g."""
    world, before = World(), 0
    for step in history:
        world.step(step)
        now = world.source["status"].get("observedGeneration", 0)
        assert before <= now <= world.generation
        if now > before:
            assert now == world.generation
            assert all(slot.passed_generation >= now for slot in world.made.slots())
        before = now


@SETTINGS
@given(HISTORIES)
def test_no_condition_is_true_on_evidence_of_an_older_generation(history: list[Step]) -> None:
    """P8: True needs the word of every expected target, reachable, about the generation that is written."""
    world = World()
    for step in history:
        written = world.step(step)
        for kind, said in conditions(written or {}).items():
            if said["status"] != "True" or bad_when_true(kind):
                continue
            needed = (written or {}).get("observedGeneration") or world.generation
            for slot in world.made.slots():
                assert slot.stale_since is None
                assert slot.report is not None
                assert slot.report.present
                assert slot.report.observed_generation >= needed
                assert conditions(slot.report.status)[kind]["status"] == "True"


@SETTINGS
@given(HISTORIES)
def test_what_was_written_is_not_written_again_and_stays_valid(history: list[Step]) -> None:
    """P5; and the sums keep what the API server checks of a Deployment."""
    world, collisions = World(), 0
    for step in history:
        before: Mapping[str, Any] = world.source["status"]
        written = world.step(step)
        assert world.made.status(world.source, now=world.moment + timedelta(hours=1)) is None
        assert not world.made.foreign_writer(world.source)
        if written is None:
            continue
        assert all(0 <= written[name] <= MAX_INT32 for name in COUNTERS)
        assert written["availableReplicas"] <= written["readyReplicas"] <= written["replicas"]
        assert written["updatedReplicas"] <= written["replicas"]
        assert written.get("collisionCount", 0) >= collisions
        collisions = written.get("collisionCount", 0)
        earlier = conditions(before)
        for kind, said in conditions(written).items():
            same = kind in earlier and earlier[kind]["status"] == said["status"]
            assert (said["lastTransitionTime"] == earlier.get(kind, {}).get("lastTransitionTime")) == same


START = "2026-11-20T09:00:00Z"


@st.composite
def job_statuses(draw: st.DrawFn) -> dict[str, Any]:
    """Any status that a Job controller could write."""
    started: dict[str, Any] = {"startTime": draw(st.sampled_from((START, "2026-11-20T10:00:00Z")))}
    done = {"succeeded": draw(st.integers(0, 3)), "failed": draw(st.integers(0, 3))}
    match draw(st.sampled_from(("none", "suspended", "running", "announced", "complete", "failed"))):
        case "none":
            return {}
        case "suspended":
            return {**done, "conditions": [condition("Suspended", "True", "JobSuspended")]}
        case "running":
            active = draw(st.integers(0, 3))
            return {
                **started,
                **done,
                "active": active,
                "ready": draw(st.integers(0, active)),
                "terminating": draw(st.integers(0, 2)),
            }
        case "announced":
            kind = draw(st.sampled_from(("FailureTarget", "SuccessCriteriaMet")))
            return {**started, **done, "terminating": 1, "conditions": [condition(kind, "True", "R")]}
        case "complete":
            ended = draw(st.sampled_from((START, "2026-11-20T11:00:00Z", "2999-01-01T00:00:00Z")))
            return {
                **started,
                **done,
                "completionTime": ended,
                "conditions": [condition("SuccessCriteriaMet", "True", "R"), condition("Complete", "True", "R")],
            }
        case _:
            return {
                **started,
                **done,
                "conditions": [condition("FailureTarget", "True", "R"), condition("Failed", "True", "R")],
            }


@SETTINGS
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(TARGETS), job_statuses()),
            st.tuples(st.just("expect"), st.sets(st.sampled_from(TARGETS))),
            st.tuples(st.sampled_from(TARGETS), st.none()),
        ),
        max_size=30,
    )
)
def test_no_sequence_of_job_reports_leads_to_a_write_that_the_server_refuses(history: list[tuple[str, Any]]) -> None:
    """The model of the server's rules is checked against a real one by test_real_job."""
    made = Aggregator(("batch", "Job"), "u-1")
    origin = source()
    made.expect({name: Expected(1) for name in TARGETS[:2]})
    for who, what in history:
        if who == "expect":
            made.expect({name: Expected(1) for name in what})
        elif what is None:
            made.put(missing(who, target_uid=who, source_uid="u-1", now=0.0))
        else:
            finished = any(item["type"] in ("Complete", "Failed") for item in what.get("conditions", []))
            made.put(
                Report(
                    target=who,
                    target_uid=who,
                    source_uid="u-1",
                    source_generation=1,
                    observed_generation=1,
                    present=True,
                    health=Health.PROGRESSING,
                    status=what,
                    collected_at=0.0,
                    terminal=finished,
                )
            )
        written = made.status(origin, now=NOW)
        if written is not None:
            assert refusals(origin["status"], written) == []
            origin["status"] = written
            assert made.status(origin, now=NOW + timedelta(hours=1)) is None
