"""What a transform may know of a target, and `${target.…}` in its values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from syncer.transform.errors import OperationError

Expand = Callable[["TargetView"], Any]

_MARKER: Final = "${target."
_REFERENCE: Final = re.compile(r'\$\{target\.(?:(name|uid)|(labels|annotations)\["([^"]+)"\])\}')


@dataclass(frozen=True)
class TargetView:
    """The facts of one SyncTarget that rendering depends on: equal views render equal bytes."""

    name: str
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def compile_text(text: str) -> str | Expand:
    """A text as it is, or a function of the target if it holds `${target.…}`; nothing else is expanded.

    Raises:
        OperationError: `${target.` followed by something that is not a known field.
    """
    if _MARKER not in text:
        return text
    if text.count(_MARKER) != len(_REFERENCE.findall(text)):
        raise OperationError(
            'after "${target." comes name}, uid}, labels["KEY"]} or annotations["KEY"]}; this text has something else'
        )
    return lambda target: _REFERENCE.sub(lambda match: _resolve(match, target), text)


def compile_value(value: Any) -> Any:
    """A JSON value whose texts are compiled; hand it to `expand`. Object members are expanded, their names are not."""
    dynamic = _compile(value)
    return value if dynamic is _STATIC else dynamic


def expand(value: Any, target: TargetView) -> Any:
    """The value for one target. Static values come back as the same object: copy before writing into it."""
    return value(target) if callable(value) else value


_STATIC: Final = object()


def _compile(value: Any) -> Any:
    if isinstance(value, str):
        text = compile_text(value)
        return _STATIC if isinstance(text, str) else text
    if isinstance(value, dict):
        members = {key: compile_value(member) for key, member in value.items()}
        if all(members[key] is value[key] for key in value):
            return _STATIC
        return lambda target: {key: expand(member, target) for key, member in members.items()}
    if isinstance(value, list | tuple):
        entries = [compile_value(entry) for entry in value]
        if all(compiled is entry for compiled, entry in zip(entries, value, strict=True)):
            return _STATIC
        return lambda target: [expand(entry, target) for entry in entries]
    return _STATIC


def _resolve(match: re.Match[str], target: TargetView) -> str:
    plain, mapping, key = match.groups()
    if plain:
        return str(getattr(target, plain))
    values = target.labels if mapping == "labels" else target.annotations
    if key not in values:
        raise OperationError(f'target {target.name} has no {mapping[:-1]} "{key}"')
    return values[key]
