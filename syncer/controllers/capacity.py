"""What a target's nodes hold in sum. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from syncer.kube.quantities import parse_quantity

MAX_RESOURCES: Final = 16  # names in a status; the well-known ones first
_FIRST: Final = ("cpu", "memory", "pods", "ephemeral-storage")
_BINARY: Final = ("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)


class _Spec(msgspec.Struct):
    unschedulable: bool = False


class _Status(msgspec.Struct):
    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}


class Node(msgspec.Struct):
    """The fields of a Node that are read; everything else is skipped while decoding."""

    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class _Meta(msgspec.Struct, rename={"continue_": "continue"}):
    continue_: str = ""


class NodePage(msgspec.Struct):
    """One page of a node list."""

    metadata: _Meta = msgspec.field(default_factory=_Meta)
    items: list[Node] = []


decode_page = msgspec.json.Decoder(NodePage).decode


def sum_nodes(nodes: Iterable[Node]) -> tuple[dict[str, str], dict[str, str]]:
    """(capacity of all nodes, allocatable of those that take Pods), as quantities."""
    capacity: dict[str, Decimal] = {}
    allocatable: dict[str, Decimal] = {}
    for node in nodes:
        _add(capacity, node.status.capacity)
        if not node.spec.unschedulable:
            _add(allocatable, node.status.allocatable)
    return _render(capacity), _render(allocatable)


def _add(total: dict[str, Decimal], amounts: Mapping[str, str]) -> None:
    for name, text in amounts.items():
        amount = parse_quantity(text)
        # A target's nodes are not trusted: what is no quantity is left out.
        if amount is not None and amount >= 0 and len(name) <= 317:
            total[name] = total.get(name, Decimal(0)) + amount


def _render(total: Mapping[str, Decimal]) -> dict[str, str]:
    ordered = sorted(total, key=lambda name: (name not in _FIRST, name))[:MAX_RESOURCES]
    return {name: format_quantity(total[name], binary="memory" in name or "storage" in name) for name in ordered}


def format_quantity(amount: Decimal, *, binary: bool) -> str:
    """Shortest exact spelling: `1500m`, `3`, `12Gi`."""
    if binary and amount == amount.to_integral_value():
        for suffix, size in _BINARY:
            if amount >= size and amount % size == 0:
                return f"{int(amount // size)}{suffix}"
    if amount == amount.to_integral_value():
        return str(int(amount))
    milli = (amount * 1000).to_integral_value(rounding="ROUND_DOWN")
    return f"{int(milli)}m"
