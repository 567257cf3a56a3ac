"""`remove`, `jsonPatch` (RFC 6902) and `mergePatch` (RFC 7396).

Own code over the draft: a few dozen lines that copy only the path they change, where `jsonpatch` copies the
whole object for each run; the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import yaml

from syncer.api.transforms import JsonPatchOperation
from syncer.kube.pointers import join_pointer
from syncer.transform.draft import Draft, Manifest
from syncer.transform.errors import OperationError
from syncer.transform.operations.base import Context, Operation
from syncer.transform.pointer import Steps, check_writable, lookup, parse_pointer, put, replace, take
from syncer.transform.target import compile_value, expand

_Change = Callable[[Draft, Context], None]
_MAX_YAML_BYTES = 65536


def compile_remove(pointers: Sequence[str]) -> Operation:
    """A field that is not there is fine: the wish is already fulfilled."""
    paths = [_located(_writable, pointer, at=f"/{index}") for index, pointer in enumerate(pointers)]

    def apply(draft: Draft, context: Context) -> None:
        for steps in paths:
            try:
                lookup(draft.root, steps)
            except OperationError:
                continue
            take(draft, steps)

    return apply


def compile_json_patch(operations: Sequence[JsonPatchOperation]) -> Operation:
    """All or nothing: the draft is thrown away when one fails."""
    changes = [_located(_change, operation, at=f"/{index}") for index, operation in enumerate(operations)]

    def apply(draft: Draft, context: Context) -> None:
        for index, change in enumerate(changes):
            _located(change, draft, context, at=f"/{index}")

    return apply


def compile_merge_patch(patch: dict[str, Any] | str) -> Operation:
    """Null removes, objects merge, anything else replaces."""
    document = _parsed(patch) if isinstance(patch, str) else patch
    _check_json(document, ())
    for key, value in document.items():
        if key == "metadata" and isinstance(value, dict):
            for field in value:
                check_writable((key, field))
        else:
            check_writable((key,))
    compiled = compile_value(document)
    return lambda draft, context: _merge(draft, draft.root, expand(compiled, context.target))


def json_equal(left: Any, right: Any) -> bool:
    """Equality of JSON values: 1 equals 1.0, but not true."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(json_equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(json_equal, left, right))
    return bool(left == right)


def _located(function: Callable[..., Any], *args: Any, at: str) -> Any:
    """Call, and let an error say which entry of the operation it came from."""
    try:
        return function(*args)
    except OperationError as error:
        raise OperationError(str(error), at=at + error.at) from error


def _writable(pointer: str) -> Steps:
    steps = parse_pointer(pointer)
    check_writable(steps)
    return steps


def _change(operation: JsonPatchOperation) -> _Change:
    op = operation.op
    steps = parse_pointer(operation.path) if op == "test" else _writable(operation.path)
    if op == "remove":
        return lambda draft, context: _discard(take(draft, steps))
    if op in ("move", "copy"):
        if operation.from_ is None:
            raise OperationError(f"{op} needs from")
        source = _writable(operation.from_) if op == "move" else parse_pointer(operation.from_)
        if op == "move":
            return _move(source, steps)
        # Deep, for a container that the draft may write to must not appear in two places.
        return lambda draft, context: put(draft, steps, deepcopy(lookup(draft.root, source)))
    if "value" not in operation.model_fields_set:
        raise OperationError(f"{op} needs a value")
    _check_json(operation.value, ())
    value = compile_value(operation.value)
    if op == "test":
        return _test(steps, value)
    write = put if op == "add" else replace
    return lambda draft, context: write(draft, steps, expand(value, context.target))


def _move(source: Steps, steps: Steps) -> _Change:
    if steps[: len(source)] == source and steps != source:
        raise OperationError(f"{join_pointer(source)} cannot be moved into itself")
    return lambda draft, context: put(draft, steps, take(draft, source))


def _test(steps: Steps, value: Any) -> _Change:
    def apply(draft: Draft, context: Context) -> None:
        if not json_equal(lookup(draft.root, steps), expand(value, context.target)):
            raise OperationError(f"test failed: {join_pointer(steps)} has another value")  # which one may be secret

    return apply


def _discard(_: Any) -> None:
    return None


def _merge(draft: Draft, node: Manifest, patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            node.pop(key, None)
        elif isinstance(value, dict):
            if type(node.get(key)) is not dict:
                node[key] = draft.adopt({})
            _merge(draft, draft.child(node, key), value)
        else:
            node[key] = value


def _parsed(text: str) -> dict[str, Any]:
    if len(text) > _MAX_YAML_BYTES:
        raise OperationError(f"longer than {_MAX_YAML_BYTES} characters")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.CSafeLoader)):
            raise OperationError("YAML aliases are not accepted here")  # a few of them expand to gigabytes
        document = yaml.load(text, Loader=yaml.CSafeLoader)  # CSafeLoader is the safe loader in C
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        raise OperationError(f"not valid YAML{where}") from error
    if not isinstance(document, dict):
        raise OperationError("a merge patch is an object")
    return document


def _check_json(value: Any, steps: Steps) -> None:
    """Dates, binary and keys that are no text: YAML has them, JSON does not."""
    if isinstance(value, dict):
        for key, member in value.items():
            if not isinstance(key, str):
                raise OperationError(f"{join_pointer(steps)} has a key that is no text; quote it")
            _check_json(member, (*steps, key))
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            _check_json(entry, (*steps, str(index)))
    elif value is not None and not isinstance(value, str | bool | int | float):
        raise OperationError(f"{join_pointer(steps)} is a {type(value).__name__}, which JSON does not have; quote it")
