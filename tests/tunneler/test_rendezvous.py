"""Everybody ranks alike, and one that leaves moves nobody else's share."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tunneler.rendezvous import ranked

NAMES = st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=6)


@given(st.text(), NAMES)
def test_the_order_depends_on_nothing_but_the_members(key: str, members: set[str]) -> None:
    order = ranked(key, members)
    assert set(order) == members
    assert order == ranked(key, [*reversed(order), *order])


@given(st.text(), NAMES)
def test_one_that_leaves_changes_nothing_between_the_others(key: str, members: set[str]) -> None:
    order = ranked(key, members)
    for gone in members:
        assert ranked(key, members - {gone}) == [name for name in order if name != gone]


def test_each_gets_about_its_share() -> None:
    first = Counter(ranked(f"target-{number}", ["a", "b", "c"])[0] for number in range(3000))
    assert all(900 < count < 1100 for count in first.values())
