"""Kubernetes quantities in exact decimal arithmetic: compared (`1000m` is `1`), and scaled as the server spells them.

Own code: the official client reads quantities but does not write them, and importing it costs the operator 54 MiB.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal, localcontext
from typing import Any, Final

# Powers of each family, largest first: the spelling takes the first that fits.
_BINARY: Final = {f"{suffix}i": Decimal(1024) ** power for power, suffix in zip(range(6, 0, -1), "EPTGMK", strict=True)}
_DECIMAL: Final = {suffix: Decimal(1000) ** power for power, suffix in zip(range(6, 0, -1), "EPTGMk", strict=True)}
_MILLI: Final = Decimal("0.001")
_SMALL: Final = {"": Decimal(1), "m": _MILLI}  # the smallest rounding step; nothing is spelled with u or n
_SUFFIXES: Final = {**_BINARY, **_DECIMAL, **_SMALL, "u": Decimal("1e-6"), "n": Decimal("1e-9")}
_QUANTITY = re.compile(
    r"([+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40}))(?:([numkMGTPE]|[KMGTPE]i)?|[eE]([+-]?\d{1,2}))", re.ASCII
)
_HUGE_PAGES: Final = "hugepages-"
_QUOTED_CHARACTERS: Final = 64
_DIGITS: Final = 100  # enough for the largest exabytes times a factor of 16 characters, in milli units


class QuantityError(ValueError):
    """The value is not a Kubernetes quantity. Carries nothing beyond the value itself."""


def parse_quantity(value: Any) -> Decimal | None:
    """The exact number of a quantity (text or JSON number); None for everything else, bool included."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    found = _QUANTITY.fullmatch(value if isinstance(value, str) else repr(value))
    if found is None:
        return None
    number, suffix, exponent = found.groups()
    return Decimal(number) * (Decimal(10) ** int(exponent) if exponent else _SUFFIXES[suffix or ""])


def exact_quantity(value: Any) -> Decimal:
    """The exact number: "100m" is 0.1, "1Ki" is 1024, "2e3" is 2000.

    Raises:
        QuantityError: the API server would refuse the value.
    """
    number = parse_quantity(value)
    if number is None:
        raise QuantityError(f'{str(value)[:_QUOTED_CHARACTERS]!r} is not a quantity such as "100m" or "1Gi"')
    return number


def scale_quantity(value: Any, factor: Decimal, *, resource: str) -> str:
    """The quantity times `factor`, in the family of suffixes it was written in.

    Rounded up to what can be counted: cpu to 1m, huge pages to whole pages, anything else to whole units.
    """
    with localcontext(prec=_DIGITS):
        amount = exact_quantity(value) * factor
        if resource == "cpu":
            step = _MILLI
        elif resource.startswith(_HUGE_PAGES):
            step = exact_quantity(resource.removeprefix(_HUGE_PAGES))
        else:
            step = Decimal(1)
        amount = (amount / step).to_integral_value(ROUND_CEILING) * step
        return _spell(amount, (_BINARY if str(value).endswith("i") else _DECIMAL) | _SMALL)


def _spell(amount: Decimal, suffixes: dict[str, Decimal]) -> str:
    """With the largest suffix that leaves a whole number; both families go down to the smallest rounding step."""
    if amount == 0:
        return "0"
    suffix, factor = next((suffix, factor) for suffix, factor in suffixes.items() if amount % factor == 0)
    return f"{amount / factor:f}".partition(".")[0] + suffix
