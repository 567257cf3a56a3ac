"""Reading loosely typed manifests: counts, texts, times, and what counts as the same status."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

_QUANTITY: Final = re.compile(r"(\d+(\.\d*)?|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,2})?")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


def count(holder: Mapping[str, Any], name: str, default: int = 0) -> int:
    """An integer field; `default` when it is missing, null or something else."""
    value = holder.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def text(holder: Mapping[str, Any], name: str) -> str:
    """A string field; "" when it is missing, null or something else."""
    value = holder.get(name)
    return value if isinstance(value, str) else ""


def mapping(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object field; {} when it is missing, null or something else."""
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def objects(holder: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in a list field; other items are left out."""
    value = holder.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(holder: Mapping[str, Any], name: str) -> list[str]:
    """The strings in a list field; other items are left out."""
    value = holder.get(name)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def quantities(holder: Mapping[str, Any], name: str) -> dict[str, str]:
    """The entries of an object field that are non-negative quantities (`10Gi`)."""
    items = mapping(holder, name).items()
    return {key: value for key, value in items if isinstance(value, str) and _QUANTITY.fullmatch(value)}


def time_text(moment: datetime | float) -> str:
    """A moment (UTC, or seconds since the epoch) as the API writes it: `2026-11-21T09:00:00Z`."""
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def times(values: Iterable[Any], now: datetime) -> list[str]:
    """The valid API times among the values, oldest first; none lies after `now`, whatever a target's clock says."""
    latest = time_text(now)
    found = []
    for value in values:
        if isinstance(value, str) and _TIME.fullmatch(value):
            try:
                datetime.fromisoformat(value)
            except ValueError:
                continue
            found.append(min(value, latest))
    return sorted(found)


def compact(value: Any, *, zeros: bool) -> Any:
    """The value without nulls and, with `zeros`, without what typed API fields omit: 0, "", [] and {}."""
    if isinstance(value, dict):
        items = ((key, compact(item, zeros=zeros)) for key, item in value.items())
        return {key: item for key, item in items if item is not None and not (zeros and _empty(item))}
    if isinstance(value, list):
        return [compact(item, zeros=zeros) for item in value]
    return value


def _empty(value: Any) -> bool:
    return not isinstance(value, bool) and value in (0, "", [], {})


def same(wanted: Any, present: Any, *, zeros: bool) -> bool:
    """Whether writing `wanted` over `present` would change nothing that a reader can see."""
    return bool(compact(wanted, zeros=zeros) == compact(present, zeros=zeros))
