"""How many unproven deletes a target gets, and how a person lets more go."""

from __future__ import annotations

import random

from syncer.engine.budget import CONSENT_SECONDS, WINDOW_SECONDS, DeletionBudget


def budget() -> DeletionBudget:
    return DeletionBudget(random.Random(42))


def spend(one: DeletionBudget, count: int, *, synced: int, now: float = 0.0, first: int = 0) -> int:
    """Ask for `count` deletes of objects that shrink the target; returns how many were allowed."""
    allowed = 0
    for number in range(first, first + count):
        if one.spend("east", number, f"uid-{number}", synced=synced - allowed, now=now):
            allowed += 1
    return allowed


def test_a_small_target_gets_ten_a_minute() -> None:
    one = budget()
    assert spend(one, 30, synced=30) == 10


def test_a_large_target_gets_five_percent_a_minute() -> None:
    """F55: one label change that unplaces everything stops at 5 %."""
    one = budget()
    assert spend(one, 2000, synced=2000) == 100
    freeze = one.frozen("east")
    assert freeze is not None
    assert freeze.waiting == 1900


def test_the_budget_comes_back_after_the_window() -> None:
    one = budget()
    assert spend(one, 10, synced=50, now=0.0) == 10
    assert one.frozen("east") is None
    assert spend(one, 10, synced=40, now=WINDOW_SECONDS, first=10) == 10


def test_a_frozen_target_stays_frozen_until_its_token_is_said() -> None:
    """F55: resumes only on acknowledgement."""
    one = budget()
    spend(one, 25, synced=25)
    freeze = one.frozen("east")
    assert freeze is not None
    assert spend(one, 25, synced=15, now=10 * WINDOW_SECONDS) == 0
    assert not one.acknowledge("east", "wrong", 0.0)
    assert not one.acknowledge("west", freeze.token, 0.0)
    assert one.acknowledge("east", freeze.token, 700.0)
    assert one.frozen("east") is None
    assert not one.acknowledge("east", freeze.token, 700.0)


def test_acknowledged_deletes_go_and_new_ones_have_their_own_budget() -> None:
    one = budget()
    spend(one, 40, synced=40)
    freeze = one.frozen("east")
    assert freeze is not None
    assert one.acknowledge("east", freeze.token, 5.0)
    assert spend(one, 30, synced=30, now=5.0, first=10) == 30
    assert spend(one, 30, synced=200, now=5.0, first=100) == 10
    again = one.frozen("east")
    assert again is not None
    assert again.token != freeze.token


def test_an_acknowledgement_is_not_kept_for_ever() -> None:
    one = budget()
    spend(one, 40, synced=40)
    freeze = one.frozen("east")
    assert freeze is not None
    one.acknowledge("east", freeze.token, 5.0)
    assert spend(one, 30, synced=30, now=5.0 + CONSENT_SECONDS, first=10) == 10


def test_an_object_that_is_wanted_again_does_not_stay_acknowledged() -> None:
    one = budget()
    spend(one, 12, synced=12)
    one.withdraw("east", 10, "uid-10")
    one.withdraw("nowhere", 10, "uid-10")
    freeze = one.frozen("east")
    assert freeze is not None
    assert freeze.waiting == 1


def test_one_target_does_not_use_up_the_budget_of_another() -> None:
    one = budget()
    spend(one, 20, synced=20)
    assert one.spend("west", 0, "uid-0", synced=20, now=0.0)
    assert one.frozen("west") is None


def test_an_announced_size_goes_through_within_ten_minutes() -> None:
    one = budget()
    one.announce("east", 20, now=0.0)
    assert spend(one, 31, synced=31) == 30
    one.forget("east")
    one.announce("east", 20, now=0.0)
    assert spend(one, 31, synced=31, now=CONSENT_SECONDS) == 10


def test_a_freeze_survives_a_restart_with_its_token() -> None:
    one = budget()
    assert one.frozen("east") is None
    shown = budget().freeze("east", 0.0).token
    assert one.freeze("east", 0.0, shown).token == shown
    assert one.freeze("east", 1.0).token == shown
    assert not one.spend("east", 1, "uid-1", synced=1, now=2.0)
    assert one.acknowledge("east", shown, 3.0)


def test_tokens_follow_from_the_randomness_handed_in() -> None:
    assert budget().freeze("east", 0.0) == budget().freeze("east", 0.0)


def test_a_delete_that_is_tried_again_costs_one_unit() -> None:
    """F55: a webhook that refuses ten deletes freezes nothing, however often they are tried."""
    one = budget()
    for attempt in range(40):
        assert one.spend("east", 1, "uid-1", synced=50, now=attempt * 30.0)
    now = 39 * 30.0
    assert spend(one, 9, synced=50, now=now, first=2) == 9  # what was left for others
    assert one.frozen("east") is None


def test_another_object_of_the_same_name_costs_a_unit_of_its_own() -> None:
    one = budget()
    allowed = [one.spend("east", 1, f"uid-{number}", synced=10, now=0.0) for number in range(12)]
    assert allowed == [True] * 10 + [False] * 2


def test_what_was_paid_does_not_pass_a_freeze_and_is_not_kept_for_ever() -> None:
    one = budget()
    assert spend(one, 10, synced=10) == 10
    assert spend(one, 10, synced=10) == 10
    assert spend(one, 10, synced=10, now=1.0, first=10) == 0
    assert spend(one, 10, synced=10, now=1.0) == 0  # a person decides now
    freeze = one.frozen("east")
    assert freeze is not None
    one.acknowledge("east", freeze.token, 2.0)
    for attempt in range(3):  # acknowledged once, and paid from then on
        assert spend(one, 20, synced=10, now=3.0 + attempt) == 20
    assert spend(one, 20, synced=10, now=10.0 + CONSENT_SECONDS) == 10
