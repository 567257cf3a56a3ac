"""JSON pointers (RFC 6901) on plain manifests; every change returns a new manifest and shares what it did not touch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeVar, cast

_INDEX_DIGITS: Final = 7  # no list of an object is longer, and Python refuses to read thousands of digits

T = TypeVar("T")


def split_pointer(pointer: str) -> list[str]:
    """The tokens of a pointer; [] for "" (the whole document).

    Raises:
        ValueError: it does not begin with a slash.
    """
    if not pointer:
        return []
    if not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is not a JSON pointer: it must begin with '/'")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def join_pointer(tokens: Iterable[str | int]) -> str:
    """The text of a pointer; the inverse of `split_pointer`."""
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens)


def get_pointer(manifest: Any, pointer: str, default: Any = None) -> Any:
    """The value at a pointer, or `default` where any step is missing."""
    value = manifest
    for token in split_pointer(pointer):
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and (index := list_index(token, len(value))) is not None:
            value = value[index]
        else:
            return default
    return value


def remove_pointer(manifest: T, pointer: str) -> T:
    """A manifest without the value at a pointer; the same manifest where there is none."""
    tokens = split_pointer(pointer)
    if not tokens:
        raise ValueError("the whole document cannot be removed")
    return cast("T", _without(manifest, tokens))


def set_pointer(manifest: T, pointer: str, value: Any) -> T:
    """A manifest with `value` at a pointer; missing maps on the way are made, `-` appends to a list.

    Raises:
        ValueError: a step goes through a scalar or names a list index that does not exist.
    """
    tokens = split_pointer(pointer)
    if not tokens:
        raise ValueError("the whole document cannot be set")
    return cast("T", _with(manifest, tokens, value, pointer))


def list_index(token: str, length: int) -> int | None:
    """The index of an entry of a list of that length, or None where the token is none (no signs, no leading zeros)."""
    if not (token.isascii() and token.isdigit() and len(token) <= _INDEX_DIGITS) or (
        len(token) > 1 and token[0] == "0"
    ):
        return None
    return index if (index := int(token)) < length else None


def _without(node: Any, tokens: list[str]) -> Any:
    head, rest = tokens[0], tokens[1:]
    if isinstance(node, dict) and head in node:
        if not rest:
            return {key: item for key, item in node.items() if key != head}
        child = _without(node[head], rest)
        return node if child is node[head] else {**node, head: child}
    if isinstance(node, list) and (index := list_index(head, len(node))) is not None:
        if not rest:
            return node[:index] + node[index + 1 :]
        child = _without(node[index], rest)
        return node if child is node[index] else [*node[:index], child, *node[index + 1 :]]
    return node


def _with(node: Any, tokens: list[str], value: Any, pointer: str) -> Any:
    if not tokens:
        return value
    head, rest = tokens[0], tokens[1:]
    if node is None:
        node = {}
    if isinstance(node, dict):
        return {**node, head: _with(node.get(head), rest, value, pointer)}
    if isinstance(node, list):
        if head == "-":
            return [*node, _with(None, rest, value, pointer)]
        if (index := list_index(head, len(node))) is not None:
            return [*node[:index], _with(node[index], rest, value, pointer), *node[index + 1 :]]
    raise ValueError(f"{pointer!r}: nothing to go into at {head!r}")
