"""Which targets a placement selects."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.api.names import Reason
from syncer.placement import CompiledPlacement, Selection, TargetState, choose_targets
from tests.syncer.placement.builders import placement, target, targets


def choose(
    one: CompiledPlacement,
    *states: TargetState,
    holds: tuple[str, ...] = (),
    now: float = 0.0,
    since: dict[str, float] | None = None,
) -> Selection:
    return choose_targets(one, targets(*states), holds=frozenset(holds), now=now, not_ready_since=since or {})


def on(**selector: Any) -> CompiledPlacement:
    return placement(targets=selector)


EAST, WEST, SOUTH = target("east"), target("west"), target("south")


def test_all_says_every_target() -> None:
    assert choose(on(all=True), WEST, EAST).selected == ("east", "west")


def test_names_and_labels_are_anded() -> None:
    east = target("east", labels={"region": "eu"})
    west = target("west", labels={"region": "us"})
    south = target("south", labels={"region": "eu"})
    eu = {"matchLabels": {"region": "eu"}}
    assert choose(on(labelSelector=eu), east, west, south).selected == ("east", "south")
    assert choose(on(names=["east", "west"]), east, west, south).selected == ("east", "west")
    assert choose(on(names=["east", "west"], labelSelector=eu), east, west, south).selected == ("east",)


def test_names_without_a_target_are_missing() -> None:
    """B02: accepted, and told."""
    selection = choose(on(names=["east", "gone", "also-gone"]), EAST)
    assert selection.selected == ("east",)
    assert selection.missing == ("also-gone", "gone")


def test_no_target_is_an_answer() -> None:
    assert choose(on(all=True)) == Selection(selected=())


@pytest.mark.parametrize("holds", [(), ("east",)])
def test_a_target_that_is_being_deleted_is_never_selected(holds: tuple[str, ...]) -> None:
    selection = choose(on(all=True), target("east", deleting=True), WEST, holds=holds)
    assert selection.selected == ("west",)
    assert selection.refused["east"][0] == Reason.DELETING


def test_no_schedule_keeps_new_placements_away_and_leaves_old_ones() -> None:
    tainted = target("east", ("gpu", "yes", "NoSchedule"))
    selection = choose(on(all=True), tainted, WEST)
    assert selection.selected == ("west",)
    assert selection.refused["east"] == (Reason.TARGET_UNSCHEDULABLE, "taint gpu=yes:NoSchedule is not tolerated")
    assert choose(on(all=True), tainted, WEST, holds=("east",)).selected == ("east", "west")


def test_no_execute_takes_placements_away() -> None:
    tainted = target("east", ("maintenance", "", "NoExecute"))
    selection = choose(on(all=True), tainted, WEST, holds=("east", "west"))
    assert selection.selected == ("west",)
    assert selection.refused["east"] == (Reason.TARGET_UNSCHEDULABLE, "taint maintenance:NoExecute is not tolerated")


@pytest.mark.parametrize(
    "toleration",
    [
        {"operator": "Exists"},
        {"key": "gpu", "operator": "Exists"},
        {"key": "gpu", "value": "yes"},
        {"key": "gpu", "value": "yes", "effect": "NoExecute"},
    ],
)
def test_a_tolerated_taint_is_none(toleration: dict[str, str]) -> None:
    tainted = target("east", ("gpu", "yes", "NoExecute"))
    assert choose(on(all=True, tolerations=[toleration]), tainted).selected == ("east",)


@pytest.mark.parametrize(
    "toleration",
    [
        {"key": "gpu", "value": "no"},
        {"key": "cpu", "operator": "Exists"},
        {"operator": "Exists", "effect": "NoSchedule"},
    ],
)
def test_a_toleration_of_something_else_does_not_help(toleration: dict[str, str]) -> None:
    tainted = target("east", ("gpu", "yes", "NoExecute"))
    assert choose(on(all=True, tolerations=[toleration]), tainted).selected == ()


def test_every_taint_wants_its_toleration() -> None:
    tainted = target("east", ("a", "", "NoSchedule"), ("b", "", "NoSchedule"))
    selection = choose(on(all=True, tolerations=[{"key": "a", "operator": "Exists"}]), tainted)
    assert "taint b:NoSchedule" in selection.refused["east"][1]


def test_a_cordoned_target_keeps_what_it_has_and_takes_nothing_new() -> None:
    cordoned = target("east", unschedulable=True)
    assert choose(on(all=True), cordoned).refused["east"][0] == Reason.TARGET_UNSCHEDULABLE
    assert choose(on(all=True), cordoned, holds=("east",)).selected == ("east",)


def test_plain_duplicates_wait_on_a_target_that_is_not_ready() -> None:
    assert choose(on(all=True), target("east", ready=False)).selected == ("east",)


@pytest.mark.parametrize(
    "spec",
    [{"targets": {"all": True, "maxTargets": 2}}, {"replicas": {"mode": "Divide"}}],
    ids=["maxTargets", "Divide"],
)
def test_where_another_target_can_stand_in_a_target_that_is_not_ready_gets_nothing_new(spec: dict[str, Any]) -> None:
    one = placement(**spec)
    down = target("east", ready=False)
    selection = choose(one, down, WEST)
    assert selection.selected == ("west",)
    assert selection.refused["east"][0] == Reason.TARGET_NOT_READY
    assert choose(one, down, WEST, holds=("east",)).selected == ("east", "west")


def test_weight_zero_is_not_placed() -> None:
    one = placement(replicas={"mode": "Divide", "weights": {"static": {"east": 1, "west": 0}}})
    selection = choose(one, EAST, WEST, SOUTH, holds=("west",))
    assert selection.selected == ("east",)
    assert selection.left_out == {"west": "its weight is 0", "south": "its weight is 0"}


def test_max_targets_prefers_held_then_ready_targets() -> None:
    one = on(all=True, maxTargets=2)
    selection = choose(one, EAST, WEST, SOUTH, holds=("south", "west"))
    assert selection.selected == ("south", "west")
    assert selection.left_out == {"east": "maxTargets is 2"}
    down = target("south", ready=False)
    assert choose(on(all=True, maxTargets=1), EAST, down, holds=("east", "south")).selected == ("east",)


def test_max_targets_spreads_placements_over_targets_and_repeats_itself() -> None:
    fleet = [target(f"t{number}") for number in range(5)]
    chosen = []
    for number in range(50):
        one = placement(f"p{number}", targets={"all": True, "maxTargets": 1})
        chosen.append(choose(one, *fleet).selected)
        assert choose(one, *reversed(fleet)).selected == chosen[-1]
    assert len(set(chosen)) == 5


@given(st.integers(1, 6), st.integers(0, 5), st.sets(st.integers(0, 5)))
def test_losing_one_target_moves_nothing_else(limit: int, lost: int, cordoned: set[int]) -> None:
    one = on(all=True, maxTargets=limit)
    fleet = [target(f"t{number}", unschedulable=number in cordoned) for number in range(6)]
    before = choose(one, *fleet).selected
    after = choose(one, *(state for state in fleet if state.name != f"t{lost}"), holds=before).selected
    assert set(before) - {f"t{lost}"} <= set(after)
    assert len(after) == min(limit, len([n for n in range(6) if n not in cordoned and n != lost]))


def evicting(name: str, **fields: Any) -> TargetState:
    """A target that is not ready since 0.0 and gives its work away after 60 s."""
    return target(name, ready=False, evict_after_seconds=60.0, **fields)


DIVIDED: dict[str, Any] = {"replicas": {"mode": "Divide"}}
LIMITED: dict[str, Any] = {"targets": {"all": True, "maxTargets": 1}}
SPARE = (WEST, SOUTH)


@pytest.mark.parametrize("spec", [DIVIDED, LIMITED], ids=["Divide", "maxTargets"])
def test_after_its_patience_a_target_is_replaced_by_a_ready_one(spec: dict[str, Any]) -> None:
    one = placement(**spec)
    early = choose(one, evicting("east"), *SPARE, holds=("east",), now=59.9, since={"east": 0.0})
    assert "east" in early.selected
    late = choose(one, evicting("east"), *SPARE, holds=("east",), now=60.0, since={"east": 0.0})
    assert "east" not in late.selected
    assert late.selected
    assert late.refused["east"][0] == Reason.TARGET_NOT_READY


@pytest.mark.parametrize(
    ("spec", "fleet"),
    [
        ({}, (evicting("east"), *SPARE)),
        ({"targets": {"names": ["east", "west", "south"], "maxTargets": 1}}, (evicting("east"), *SPARE)),
        ({**DIVIDED, "targets": {"names": ["east", "west"]}}, (evicting("east"), *SPARE)),
        (LIMITED, (target("east", ready=False), *SPARE)),
        (LIMITED, (evicting("east"), target("west", ready=False), SOUTH)),
        (DIVIDED, (evicting("east"), target("west", ready=False), SOUTH, target("north", ready=False))),
        (LIMITED, (evicting("east"), target("west", unschedulable=True), target("south", ("a", "", "NoExecute")))),
        ({"targets": {"all": True, "maxTargets": 3}}, (evicting("east"), *SPARE)),
    ],
    ids=[
        "every target has its own copy",
        "listed by name",
        "divided, listed by name",
        "evictAfter is never",
        "two of three are down: the hub is the suspect",
        "three of four are down",
        "no replacement",
        "the others are used anyway",
    ],
)
def test_a_target_that_is_not_ready_is_never_evicted_if(spec: dict[str, Any], fleet: tuple[TargetState, ...]) -> None:
    """F62: nothing is evicted when the hub itself is cut off."""
    selection = choose(placement(**spec), *fleet, holds=("east",), now=1e6, since={"east": 0.0})
    assert "east" in selection.selected


def test_no_more_targets_are_evicted_than_can_be_replaced() -> None:
    """Longest not ready first."""
    fleet = [evicting("a"), evicting("b"), target("c"), target("d", unschedulable=True), target("e"), target("f")]
    one = on(all=True, maxTargets=4)
    selection = choose(one, *fleet, holds=("a", "b", "e", "f"), now=1e6, since={"a": 9.0, "b": 3.0})
    assert selection.selected == ("a", "c", "e", "f")
    assert set(selection.refused) == {"b", "d"}


def test_a_target_without_a_known_time_is_not_evicted() -> None:
    assert "east" in choose(placement(**LIMITED), evicting("east"), *SPARE, holds=("east",), now=1e6).selected
