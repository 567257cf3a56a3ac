"""Whether globs can meet."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.api.placement import Placement
from syncer.webhooks.overlap import Effort, globs_meet, overlapping_entry
from tests.syncer.api.cases import CONFIGMAPS, placement


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("web", "web", True),
        ("web", "api", False),
        ("web*", "*web", True),
        ("a*c", "ab*", True),
        ("a?", "abc", True),  # only the ends are compared: a warning too many, never one too few
        ("a?", "ab", True),
        ("[ab]x", "cx", True),
        ("web-*", "*-config", True),
        ("web-*-a", "web-*-b", False),
        ("*", "anything", True),
        ("a*b", "c*", False),
    ],
)
def test_globs_meet(one: str, other: str, meet: bool) -> None:
    assert globs_meet([one], [other]) is meet
    assert globs_meet([other], [one]) is meet


@given(st.text("ab", max_size=6), st.text("ab*?", max_size=6), st.text("ab*?", max_size=6))
def test_globs_that_match_one_name_meet(name: str, one: str, other: str) -> None:
    """Never a miss: what both match is found."""
    if fnmatchcase(name, one) and fnmatchcase(name, other):
        assert globs_meet([one], [other])


def test_a_review_ends_in_time_whatever_the_lists() -> None:
    """B09: the longest lists of the longest globs, against many of the same."""
    names = ["*a" * 126] * 64
    longest = placement(resources=[CONFIGMAPS | {"names": names}] * 64)
    apart = placement("other", resources=[CONFIGMAPS | {"names": ["*b" * 126] * 64}] * 64)
    others = [Placement.parse(apart)] * 50
    effort = Effort()
    assert not any(overlapping_entry(Placement.parse(longest), other, effort) for other in others)
    assert not effort.spend(1)
