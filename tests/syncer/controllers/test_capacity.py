"""Capacity: exact sums of untrusted node lists."""

from __future__ import annotations

from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.controllers.capacity import Node, decode_page, format_quantity, sum_nodes
from syncer.kube.quantities import parse_quantity


def nodes(*items: dict[str, object]) -> list[Node]:
    return decode_page(orjson.dumps({"kind": "NodeList", "items": items, "metadata": {"continue": "c"}})).items


def node(
    cpu: str, memory: str, more: dict[str, str] | None = None, *, unschedulable: bool = False
) -> dict[str, object]:
    amounts = {"cpu": cpu, "memory": memory, **(more or {})}
    return {"spec": {"unschedulable": unschedulable}, "status": {"capacity": amounts, "allocatable": amounts, "x": 1}}


def test_capacity_counts_all_nodes_and_allocatable_those_that_take_pods() -> None:
    capacity, allocatable = sum_nodes(
        nodes(node("4", "8Gi", {"pods": "110"}), node("3500m", "512Mi", {"pods": "110"}, unschedulable=True))
    )
    assert capacity == {"cpu": "7500m", "memory": "8704Mi", "pods": "220"}
    assert allocatable == {"cpu": "4", "memory": "8Gi", "pods": "110"}


def test_no_nodes_and_nodes_without_status_sum_to_nothing() -> None:
    assert sum_nodes([]) == ({}, {})
    assert sum_nodes(nodes({}, {"metadata": {"name": "new"}})) == ({}, {})


def test_what_is_no_quantity_is_left_out_and_names_are_bounded() -> None:
    """B27: nodes of a target are not trusted."""
    extra = {f"example.com/gpu{number}": "1" for number in range(100)}
    capacity, _ = sum_nodes(nodes(node("lots", "-5Gi", {"pods": "3", **extra})))
    assert len(capacity) == 16
    assert "cpu" not in capacity
    assert "memory" not in capacity
    assert capacity["pods"] == "3"


@given(st.decimals(min_value=0, max_value=10**15, places=3), st.booleans())
def test_a_formatted_quantity_reads_back_as_the_same_number(amount: Decimal, binary: bool) -> None:
    assert parse_quantity(format_quantity(amount, binary=binary)) == amount


@pytest.mark.parametrize(("amount", "text"), [("0", "0"), ("1024", "1Ki"), ("1025", "1025"), ("17179869184", "16Gi")])
def test_memory_is_spelled_the_way_people_read_it(amount: str, text: str) -> None:
    assert format_quantity(Decimal(amount), binary=True) == text
