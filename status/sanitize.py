"""Bounds on what a target may say: everything that leaves a target is untrusted text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

MAX_SLOT_BYTES: Final = 32 * 1024
MAX_TEXT_CHARS: Final = 1024
MAX_KEY_CHARS: Final = 317  # a qualified name: 253 of prefix, a slash, 63 of name
MAX_CONDITIONS: Final = 100
MAX_LIST_ITEMS: Final = 1000
MAX_DEPTH: Final = 24
MAX_INT32: Final = 2**31 - 1

_WHITE: Final = re.compile(r"[\t\n\r\v\f\u2028\u2029]+")
_REASON: Final = re.compile(r"[^A-Za-z0-9_,:]+")


def clean_text(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """The text on one line, without control or invisible characters, at most `limit` characters long."""
    if len(text) <= limit and text.isprintable():
        return text
    text = _WHITE.sub(" ", text[: 4 * limit])
    if not text.isprintable():
        text = "".join(char for char in text if char.isprintable())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def clean_reason(reason: str, fallback: str) -> str:
    """A reason that every API server takes: one word as `metav1.Condition` demands, at most 128 characters."""
    word = _REASON.sub("", reason)[:128].rstrip(",:").lstrip("0123456789_,:")
    return word or fallback


class Sanitizer:
    """Copies one status within the caps and counts the cuts.

    Attributes:
        cuts: strings shortened or stripped, items, keys and levels left out.
    """

    def __init__(self) -> None:
        self.cuts = 0

    def status(self, status: Mapping[str, Any], fields: frozenset[str] | None) -> dict[str, Any]:
        """The status with only `fields` (None keeps all), at most 32 KiB as JSON.

        Fields that the kind does not have are pruned without being counted: newer API servers
        have more of them. When the result is still too large, the largest fields go first.
        """
        kept = {key: value for key, value in status.items() if fields is None or key in fields}
        conditions = kept.get("conditions")
        if isinstance(conditions, list) and len(conditions) > MAX_CONDITIONS:
            self.cuts += len(conditions) - MAX_CONDITIONS
            kept["conditions"] = conditions[:MAX_CONDITIONS]
        cleaned: dict[str, Any] = self._value(kept, 0)
        if len(orjson.dumps(cleaned)) <= MAX_SLOT_BYTES:
            return cleaned
        sizes = {key: len(orjson.dumps(value)) + len(key) + 4 for key, value in cleaned.items()}
        total = sum(sizes.values())
        for key in sorted(sizes, key=lambda key: (-sizes[key], key)):
            if total <= MAX_SLOT_BYTES:
                break
            total -= sizes[key]
            del cleaned[key]
            self.cuts += 1
        return cleaned

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self._text(value, MAX_TEXT_CHARS)
        if isinstance(value, dict):
            if depth >= MAX_DEPTH:
                self.cuts += 1
                return {}
            self.cuts += max(0, len(value) - MAX_LIST_ITEMS)
            items = list(value.items())[:MAX_LIST_ITEMS]
            return {self._text(str(key), MAX_KEY_CHARS): self._value(item, depth + 1) for key, item in items}
        if isinstance(value, list):
            if depth >= MAX_DEPTH:
                self.cuts += 1
                return []
            self.cuts += max(0, len(value) - MAX_LIST_ITEMS)
            return [self._value(item, depth + 1) for item in value[:MAX_LIST_ITEMS]]
        return value

    def _text(self, text: str, limit: int) -> str:
        if len(text) <= limit and text.isprintable():
            return text
        self.cuts += 1
        return clean_text(text, limit)


def impossible(status: Mapping[str, Any], counters: Sequence[str], generation: int, phases: Sequence[str] = ()) -> str:
    """Why no honest controller can have written this status, "" when one can.

    Args:
        status: of the synced object, as observed.
        counters: names of its counters, non-negative 32-bit integers.
        generation: `metadata.generation` of the synced object, 0 when it has none.
        phases: the values that `phase` may have, none for any.
    """
    if phases and status.get("phase") not in (None, "", *phases):
        return f"status.phase is not a phase: {clean_text(str(status['phase']), 64)}"
    for name in counters:
        value = status.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INT32:
            return f"status.{name} is not a count: {clean_text(str(value), 64)}"
    observed = status.get("observedGeneration")
    if observed is not None:
        if not isinstance(observed, int) or isinstance(observed, bool) or observed < 0:
            return f"status.observedGeneration is not a generation: {clean_text(str(observed), 64)}"
        if observed > generation > 0:
            return f"status.observedGeneration {observed} lies ahead of the object's generation {generation}"
    conditions = status.get("conditions")
    if conditions is not None and not isinstance(conditions, list):
        return "status.conditions is not a list"
    return ""
