"""Which replica each link dials: two distinct ones, wherever the addresses came from."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.agent.hubs import HubChoice
from tunneler.rendezvous import ranked

A, B, C, BALANCER = (f"https://{name}.example:8443" for name in ("a", "b", "c", "hub"))
REPLICAS = {A: "ra", B: "rb", C: "rc"}


def up(choice: HubChoice, slot: int, *, others: tuple[str, ...], replica: str = "") -> str:
    """Dial and connect."""
    url = choice.choose(slot)
    assert url is not None
    choice.connected(slot, replica or REPLICAS[url], others)
    return url


def test_the_second_link_waits_until_the_first_tells_of_another_replica() -> None:
    choice = HubChoice("east", [A])
    up(choice, 0, others=())
    assert choice.choose(1) is None
    choice.told(0, [B])
    assert choice.choose(1) == B
    assert choice.linked(1) == ("ra",)


def test_two_seeds_are_two_links() -> None:
    choice = HubChoice("east", [A, B])
    first = up(choice, 0, others=())
    assert {first, choice.choose(1)} == {A, B}


def test_links_of_all_agents_are_shared_out() -> None:
    firsts = {HubChoice(f"target-{number}", [A, B]).choose(0) for number in range(20)}
    assert firsts == {A, B}


def test_behind_a_balancer_addresses_that_were_told_come_first_and_the_balancer_where_they_fail() -> None:
    choice = HubChoice("east", [BALANCER])
    up(choice, 0, others=(B,), replica="ra")
    dialled = [choice.choose(1) for _ in range(4)]
    assert dialled[:2] == [B, BALANCER]
    assert set(dialled[2:]) == {B, BALANCER}
    assert choice.linked(1) == ("ra",)


def test_a_balancer_is_not_asked_for_a_second_replica_where_there_is_none() -> None:
    choice = HubChoice("east", [BALANCER])
    up(choice, 0, others=(), replica="ra")
    assert choice.choose(1) is None


def test_a_replica_that_is_lost_makes_room_for_a_third() -> None:
    choice = HubChoice("east", [A, B])
    first = up(choice, 0, others=(C,))
    second = up(choice, 1, others=())
    (third,) = {A, B, C} - {first, second}
    choice.told(1, [first, third])
    choice.lost(0)
    assert choice.linked(1) == ()
    assert [choice.choose(0) for _ in range(2)] == [third, first]


def test_after_all_links_were_lost_everything_that_was_told_is_tried() -> None:
    choice = HubChoice("east", [A])
    up(choice, 0, others=(B,))
    up(choice, 1, others=(A,))
    choice.lost(0)
    choice.lost(1)
    assert {choice.choose(0) for _ in range(3)} == {A, B}


def test_a_link_is_misplaced_while_a_better_replica_has_none() -> None:
    """Each hub tells everybody but itself, so each link's own address is known, behind a balancer too."""
    best = ranked("east", [A, B, C])
    choice = HubChoice("east", [BALANCER])
    up(choice, 0, others=(best[0], best[1]), replica="worst")
    assert choice.misplaced() is None  # the second link comes first
    assert up(choice, 1, others=(best[1], best[2])) == best[0]
    assert choice.misplaced() == 0
    choice.lost(0)
    assert choice.misplaced() is None
    assert up(choice, 0, others=(best[0], best[2])) == best[1]
    assert choice.misplaced() is None


def test_an_address_that_failed_attracts_nobody_until_it_went_and_came() -> None:
    """Else an agent that cannot reach it would leave a good link for it again and again."""
    best = ranked("east", [A, B, C])
    choice = HubChoice("east", [best[0]])
    up(choice, 0, others=(best[1], best[2]))
    assert choice.choose(1) == best[1]
    assert up(choice, 1, others=(best[0], best[1])) == best[2]
    assert choice.misplaced() is None
    choice.told(0, [best[1], best[2]])
    assert choice.misplaced() is None
    choice.told(0, [best[2]])
    choice.told(0, [best[1], best[2]])
    assert choice.misplaced() == 1


def test_every_address_may_be_asked_for_more_those_of_links_that_are_up_first() -> None:
    choice = HubChoice("east", [BALANCER])
    assert choice.addresses() == [BALANCER]
    up(choice, 0, others=(B,), replica="ra")
    assert choice.choose(1) == B
    choice.connected(1, "rb", [A])
    choice.lost(0)
    assert choice.addresses() == [B, A, BALANCER]


def test_an_address_that_went_and_came_is_tried_as_if_it_had_never_failed() -> None:
    choice = HubChoice("east", [A])
    up(choice, 0, others=(B,))
    assert [choice.choose(1) for _ in range(2)] == [B, A]
    choice.told(0, [B])
    assert choice._failures[B] == 1
    choice.told(0, [])
    choice.told(0, [B])
    assert choice.choose(1) == B


def test_addresses_of_replicas_that_are_gone_are_forgotten() -> None:
    """An agent lives for years, and each replica that comes has a new address."""
    choice = HubChoice("east", [A])
    up(choice, 0, others=())
    for number in range(50):
        choice.told(0, [f"https://pod-{number}.example"])
        assert choice.choose(1) == f"https://pod-{number}.example"
    assert len(choice._failures) <= 2


ADDRESSES = st.sampled_from([A, B, C, BALANCER])


@given(
    st.lists(ADDRESSES, min_size=1, max_size=3, unique=True),
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(["connect", "fail", "lose", "tell"]), st.frozensets(ADDRESSES)),
        max_size=30,
    ),
)
def test_whatever_happens_a_lonely_link_always_has_an_address_to_dial(
    seeds: list[str], steps: list[tuple[int, str, frozenset[str]]]
) -> None:
    choice = HubChoice("east", seeds)
    state: dict[int, str] = {}
    for slot, what, others in steps:
        if what in ("connect", "fail") and slot not in state:
            url = choice.choose(slot)
            assert url is not None or state
            if url is not None and what == "connect":
                choice.connected(slot, url, sorted(others))
                state[slot] = url
        elif what == "lose" and state.pop(slot, ""):
            choice.lost(slot)
        elif what == "tell" and slot in state:
            choice.told(slot, sorted(others))
        assert choice.linked(0) == _linked(state, 1)
        assert choice.linked(1) == _linked(state, 0)


def _linked(state: Mapping[int, str], slot: int) -> tuple[str, ...]:
    return (state[slot],) if slot in state else ()


@pytest.mark.parametrize("links", [1, 2])
def test_seeds_that_fail_are_taken_in_turn(links: int) -> None:
    choice = HubChoice("east", [A, B, C], links)
    assert {choice.choose(0) for _ in range(3)} == {A, B, C}


def test_a_balancer_is_dialled_for_each_link_and_belongs_to_nobody() -> None:
    """Replicas without addresses of their own tell it of each other: no link is better placed elsewhere."""
    choice = HubChoice("east", [BALANCER])
    assert up(choice, 0, others=(BALANCER,), replica="ra") == BALANCER
    assert up(choice, 1, others=(BALANCER,), replica="rb") == BALANCER
    assert choice.misplaced() is None


def test_a_balancer_is_dialled_under_the_name_that_hubs_tell_too() -> None:
    choice = HubChoice("east", [A])
    assert up(choice, 0, others=(BALANCER,), replica="ra") == A
    assert up(choice, 1, others=(BALANCER,), replica="rb") == BALANCER
    assert choice.misplaced() is None
