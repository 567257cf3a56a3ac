"""Replica shares: exact sums, honest rounding, few moves."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.placement import divide

NAMES = st.text("abcdef", min_size=1, max_size=3)
WEIGHTS = st.dictionaries(NAMES, st.integers(0, 50), max_size=8)
TOTALS = st.integers(0, 200)
SHARES = st.dictionaries(NAMES, st.integers(0, 60), max_size=8)


def quota(total: int, weights: dict[str, int], name: str) -> Fraction:
    return Fraction(total * weights[name], sum(weights.values()))


def moves(before: dict[str, int], after: dict[str, int]) -> int:
    return sum(abs(after[name] - before.get(name, 0)) for name in after)


def test_weights_divide_replicas() -> None:
    assert divide(3, {"east": 2, "west": 1}) == {"east": 2, "west": 1}
    assert divide(10, {"east": 1, "west": 1, "south": 1}) == {"east": 4, "west": 3, "south": 3}


def test_a_weight_of_zero_is_not_placed() -> None:
    assert divide(3, {"east": 1, "west": 0}) == {"east": 3}
    assert divide(3, {"east": 0}) == {}
    assert divide(3, {}) == {}


def test_no_replicas_are_still_placed() -> None:
    assert divide(0, {"east": 2, "west": 1}) == {"east": 0, "west": 0}


@pytest.mark.parametrize(("total", "weights"), [(-1, {"east": 1}), (1, {"east": -1})])
def test_negative_numbers_are_refused(total: int, weights: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        divide(total, weights)


def test_what_is_in_place_keeps_the_extra_replica() -> None:
    assert divide(3, {"east": 1, "west": 1}) == {"east": 2, "west": 1}
    assert divide(3, {"east": 1, "west": 1}, {"east": 1, "west": 2}) == {"east": 1, "west": 2}


def test_scaling_up_takes_no_replica_away_though_largest_remainders_would() -> None:
    """The paradox of the method: with one more replica the smallest remainder loses its own."""
    weights = {"a": 6, "b": 6, "c": 2}
    before = divide(10, weights)
    assert before["c"] == 2
    assert divide(11, weights)["c"] == 1
    after = divide(11, weights, before)
    assert all(after[name] >= before[name] for name in weights)


@given(TOTALS, WEIGHTS, st.none() | SHARES)
def test_shares_sum_exactly_and_stay_within_one_of_the_quota(
    total: int, weights: dict[str, int], previous: dict[str, int] | None
) -> None:
    shares = divide(total, weights, previous)
    assert set(shares) == {name for name, weight in weights.items() if weight}
    if shares:
        assert sum(shares.values()) == total
    for name, share in shares.items():
        assert abs(share - quota(total, weights, name)) < 1


@given(TOTALS, WEIGHTS)
def test_a_larger_weight_never_gets_less(total: int, weights: dict[str, int]) -> None:
    shares = divide(total, weights)
    for one in shares:
        for other in shares:
            if weights[one] > weights[other]:
                assert shares[one] >= shares[other]


@given(TOTALS, WEIGHTS, st.randoms(use_true_random=False))
def test_the_order_of_the_weights_does_not_matter(total: int, weights: dict[str, int], shuffle: object) -> None:
    items = list(weights.items())
    shuffle.shuffle(items)  # type: ignore[attr-defined] # the strategy gives a random.Random
    assert divide(total, dict(items)) == divide(total, weights)


@given(TOTALS, WEIGHTS)
def test_dividing_again_moves_nothing(total: int, weights: dict[str, int]) -> None:
    shares = divide(total, weights)
    assert divide(total, weights, shares) == shares


@given(
    st.integers(0, 12),
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 6), min_size=1, max_size=4),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 8), max_size=4),
)
def test_no_honest_division_moves_fewer_replicas(total: int, weights: dict[str, int], previous: dict[str, int]) -> None:
    shares = divide(total, weights, previous)
    names = sorted(weights)
    quotas = {name: quota(total, weights, name) for name in names}
    honest = [
        dict(zip(names, choice, strict=True))
        for choice in product(range(total + 1), repeat=len(names))
        if sum(choice) == total and all(abs(share - quotas[n]) < 1 for n, share in zip(names, choice, strict=True))
    ]
    assert moves(previous, shares) == min(moves(previous, other) for other in honest)
