"""Whether globs can meet."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.webhooks.overlap import globs_meet


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("web", "web", True),
        ("web", "api", False),
        ("web*", "*web", True),
        ("a*c", "ab*", True),
        ("a?", "abc", False),
        ("a?", "ab", True),
        ("[ab]x", "cx", True),  # a class stands for any character: a warning too many, never one too few
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
