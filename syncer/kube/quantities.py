"""Kubernetes quantities as exact numbers, for comparing spellings (`1000m` is `1`, `1Gi` is `1073741824`)."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

_SUFFIXES: Final = {
    "": Decimal(1),
    **{
        suffix: Decimal(10) ** power
        for suffix, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
    },
    **{f"{suffix}i": Decimal(1024) ** (power + 1) for power, suffix in enumerate("KMGTPE")},
}
_QUANTITY = re.compile(
    r"([+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40}))(?:([numkMGTPE]|[KMGTPE]i)?|[eE]([+-]?\d{1,2}))", re.ASCII
)


def parse_quantity(value: Any) -> Decimal | None:
    """The exact number of a quantity (text or JSON number); None for everything else, bool included."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    found = _QUANTITY.fullmatch(value if isinstance(value, str) else repr(value))
    if found is None:
        return None
    number, suffix, exponent = found.groups()
    return Decimal(number) * (Decimal(10) ** int(exponent) if exponent else _SUFFIXES[suffix or ""])
