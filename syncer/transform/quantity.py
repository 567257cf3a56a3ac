"""Kubernetes quantities in exact decimal arithmetic.

Own code: the official client's parser reads quantities but cannot write them, and importing that client costs
the operator 54 MiB.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

_SYNTAX: Final = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?[0-9]{1,2}|)")
_BINARY: Final = {
    suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)
}
_DECIMAL: Final = {
    suffix: Decimal(1000) ** power for power, suffix in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
}
# Largest first.
_DECIMAL_SPELLINGS: Final = dict(reversed(_DECIMAL.items()))
_BINARY_SPELLINGS: Final = dict(reversed(_BINARY.items())) | {"": _DECIMAL[""], "m": _DECIMAL["m"]}
_HUGE_PAGES: Final = "hugepages-"
_MILLI: Final = Decimal("0.001")
_MAX_LENGTH: Final = 64


class QuantityError(ValueError):
    """The text is not a Kubernetes quantity. Carries no value beyond the text itself."""


def parse_quantity(text: str | int | float) -> Decimal:
    """The exact number: "100m" is 0.1, "1Ki" is 1024, "2e3" is 2000.

    Raises:
        QuantityError: the API server would refuse the text.
    """
    number, factor, _ = _split(str(text))
    return number * factor


def scale_quantity(text: str | int | float, factor: Decimal, *, resource: str) -> str:
    """The quantity times `factor`, in the server's own spelling and in the family of suffixes it was written in.

    Rounded up to what can be counted: cpu to 1m, huge pages to whole pages, anything else to whole units.
    """
    number, unit, suffix = _split(str(text))
    amount = number * unit * factor
    if resource == "cpu":
        step = _MILLI
    elif resource.startswith(_HUGE_PAGES):
        step = parse_quantity(resource.removeprefix(_HUGE_PAGES))
    else:
        step = Decimal(1)
    amount = (amount / step).to_integral_value(ROUND_CEILING) * step
    return _spell(amount, _BINARY_SPELLINGS if suffix in _BINARY else _DECIMAL_SPELLINGS)


def _split(text: str) -> tuple[Decimal, Decimal, str]:
    match = _SYNTAX.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        raise QuantityError(f'{text[:_MAX_LENGTH]!r} is not a quantity such as "100m" or "1Gi"')
    number, suffix = match.groups()
    if suffix in _BINARY:
        factor = _BINARY[suffix]
    elif suffix in _DECIMAL:
        factor = _DECIMAL[suffix]
    else:
        factor = Decimal(10) ** int(suffix[1:])
    return Decimal(number), factor, suffix


def _spell(amount: Decimal, suffixes: dict[str, Decimal]) -> str:
    """With the largest suffix that leaves a whole number; both families go down to the smallest rounding step."""
    if amount == 0:
        return "0"
    suffix, factor = next((suffix, factor) for suffix, factor in suffixes.items() if amount % factor == 0)
    return f"{amount / factor:f}".partition(".")[0] + suffix
