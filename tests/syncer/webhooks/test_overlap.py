"""Whether globs can meet."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.api.common import LabelSelector
from syncer.api.placement import Placement
from syncer.webhooks.overlap import Effort, _labels_meet, globs_meet, overlapping_entry
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


def _in(*values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": "a", "operator": "In", "values": list(values)}]}


def _not_in(*values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": list(values)}]}


_THERE = {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
_AWAY = {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}
_ONE = {"matchLabels": {"a": "1"}}


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (_ONE, {"matchLabels": {"a": "2"}}, False),
        (_ONE, {"matchLabels": {"a": "1", "b": "2"}}, True),
        (_ONE, {"matchLabels": {"b": "2"}}, True),
        (_ONE, _in("1", "2"), True),
        (_ONE, _in("2", "3"), False),
        (_in("1", "2"), _in("2", "3"), True),
        (_in("1", "2"), _in("3"), False),
        (_in("1", "2"), _not_in("2"), True),
        (_in("1", "2"), _not_in("2", "1"), False),
        (_ONE, _not_in("1"), False),
        (_not_in("1"), _not_in("2"), True),
        (_ONE, _THERE, True),
        (_ONE, _AWAY, False),
        (_THERE, _AWAY, False),
        (_not_in("1"), _AWAY, True),
    ],
)
def test_selectors_that_no_object_can_satisfy_together_are_no_overlap(one: Any, other: Any, meet: bool) -> None:
    """Of objects and of targets alike; the order does not matter."""

    def of(name: str, selector: Any, **targets: Any) -> Placement:
        entry = {"apiVersion": "v1", "kind": "ConfigMap", "labelSelector": selector}
        return Placement.parse(placement(name, resources=[entry], **targets))

    for left, right in ((one, other), (other, one)):
        found = overlapping_entry(of("a", left), of("b", right), Effort())
        assert (found is not None) is meet
        east, west = ({"targets": {"labelSelector": selector}} for selector in (left, right))
        found = overlapping_entry(of("a", _ONE, **east), of("b", _ONE, **west), Effort())
        assert (found is not None) is meet


@given(st.dictionaries(st.sampled_from("ab"), st.sampled_from("12")), st.data())
def test_selectors_that_match_one_object_overlap(labels: dict[str, str], data: st.DataObject) -> None:
    """Never a miss."""
    expression = st.builds(
        lambda key, operator, values: {
            "key": key,
            "operator": operator,
            "values": values if operator in ("In", "NotIn") else [],
        },
        st.sampled_from("ab"),
        st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
        st.lists(st.sampled_from("12"), min_size=1, max_size=2),
    )
    wire = st.builds(
        lambda fixed, terms: {"matchLabels": fixed, "matchExpressions": terms},
        st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"), max_size=1),
        st.lists(expression, min_size=1, max_size=2),
    )
    one, other = (LabelSelector.model_validate(data.draw(wire)) for _ in range(2))
    if one.matches(labels) and other.matches(labels):
        assert _labels_meet(one, other)
