"""`syncer.kube.quantities`: exact, and in the server's spelling."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity as official_parse

from syncer.kube.quantities import QuantityError, exact_quantity, scale_quantity

SUFFIXES = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
QUANTITIES = st.builds(
    lambda number, suffix: f"{number}{suffix}",
    st.integers(0, 10**6) | st.decimals(0, 10**4, places=3, allow_nan=False),
    st.sampled_from(SUFFIXES),
)


@given(QUANTITIES)
def test_the_official_client_reads_the_same_number(text: str) -> None:
    assert exact_quantity(text) == official_parse(text)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("text", "number"), [("1e3", 1000), ("2E2", 200), ("1E", 10**18), ("-1", -1), ("+.5", "0.5"), (3, 3), (0.5, "0.5")]
)
def test_exponents_signs_and_numbers_are_quantities(text: str | float, number: str | int) -> None:
    assert exact_quantity(text) == Decimal(number)


@pytest.mark.parametrize(
    "text", ["", "m", "1 Gi", "1gi", "1KB", "0x1", "1e", "1.2.3", "NaN", "inf", "1e999", "9" * 99, "1Gi\n"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(QuantityError):
        exact_quantity(text)


@pytest.mark.parametrize(
    ("text", "factor", "resource", "scaled"),
    [
        ("500m", "0.5", "cpu", "250m"),
        ("1", "0.5", "cpu", "500m"),
        ("4000m", "0.5", "cpu", "2"),
        ("1m", "0.5", "cpu", "1m"),
        ("0", "2", "cpu", "0"),
        ("1.5", "2", "cpu", "3"),
        ("100m", "0.333", "cpu", "34m"),
        ("1Gi", "0.5", "memory", "512Mi"),
        ("1Gi", "1.5", "memory", "1536Mi"),
        ("100Mi", "0.3", "memory", "30Mi"),
        ("1Gi", "0.3", "memory", "322122548"),
        ("1G", "0.5", "memory", "500M"),
        ("1e3", "2", "memory", "2k"),
        ("128974848", "2", "memory", "257949696"),
        ("1", "0.5", "nvidia.com/gpu", "1"),
        ("3", "0.5", "nvidia.com/gpu", "2"),
        ("4Mi", "0.5", "hugepages-2Mi", "2Mi"),
        ("4Mi", "0.75", "hugepages-2Mi", "4Mi"),
        ("10Gi", "0", "ephemeral-storage", "0"),
    ],
)
def test_scaling_rounds_up_to_what_can_be_counted(text: str, factor: str, resource: str, scaled: str) -> None:
    assert scale_quantity(text, Decimal(factor), resource=resource) == scaled


@given(QUANTITIES, st.decimals("0.001", 100, places=3), st.sampled_from(["cpu", "memory"]))
def test_scaling_never_gives_less_and_less_than_one_step_more(text: str, factor: Decimal, resource: str) -> None:
    step = Decimal("0.001") if resource == "cpu" else Decimal(1)
    with localcontext(prec=100):
        exact = exact_quantity(text) * factor
        scaled = exact_quantity(scale_quantity(text, factor, resource=resource))
        assert exact <= scaled < exact + step


@given(QUANTITIES, st.sampled_from(["cpu", "memory"]))
def test_scaling_by_one_twice_is_scaling_by_one(text: str, resource: str) -> None:
    once = scale_quantity(text, Decimal(1), resource=resource)
    twice = scale_quantity(once, Decimal(1), resource=resource)
    assert exact_quantity(twice) == exact_quantity(once)  # the spelling may change: a plain number is decimal
