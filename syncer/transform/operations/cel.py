"""`cel`: the result of an expression over `object` and `target`, put at a path.

The library stops at 10,000 loop steps and at 32 levels of nesting, but two things grow faster than its steps:
`map` over a long list is quadratic (measured: 1,000 entries 16 ms, 10,000 entries 4.4 s), and loops and additions
multiply texts. Both are bounded here before anything runs, since an evaluation holds the event loop and cannot be
interrupted.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any, Final

from syncer.api.keys import GroupKind
from syncer.api.transforms import CelTransform
from syncer.transform.draft import Draft, Manifest
from syncer.transform.errors import OperationError
from syncer.transform.operations.base import Context, Operation
from syncer.transform.pointer import Steps, check_writable, lookup, parse_pointer, put, replace, take

MAX_LOOPS: Final = 2
MAX_LOOP_ENTRIES: Final = 1000
MAX_RESULT_BYTES: Final = 1 << 27  # of the worst result that the expression could build from this object
_MAX_STEPS: Final = 10_000  # the library's own budget
_NODE_BYTES: Final = 8
_LOOP: Final = re.compile(r"\.\s*(?:map|filter|all|exists|exists_one)\s*\(")
_SECRET: Final = GroupKind("", "Secret")
_EXACT_DOUBLES: Final = 2**53
_CALL_ERROR: Final = "ERROR"
_JSON_TYPES: Final = (str, bool, int, float)


def compile_cel(model: CelTransform) -> Operation:
    """A null result removes the field. Missing objects on the way to the path are made."""
    try:
        steps = parse_pointer(model.path)
        check_writable(steps)
    except OperationError as error:
        raise OperationError(str(error), at="/path") from error
    loops = len(_LOOP.findall(model.expression))
    # The worst an author can do with so many additions: spread them evenly over the nested loops.
    growth = (model.expression.count("+") / (loops + 1) + 1) ** (loops + 1)
    literal_entries = model.expression.count(",") + 1
    if loops > MAX_LOOPS:
        raise OperationError(f"more than {MAX_LOOPS} of map, filter, all, exists, exists_one", at="/expression")
    try:
        program = _environment().compile(model.expression)
    except RuntimeError as error:
        raise OperationError(_first_line(str(error)), at="/expression") from error

    def apply(draft: Draft, context: Context) -> None:
        _check_size(draft.root, loops=loops, growth=growth, literal_entries=literal_entries)
        target = context.target
        facts = {
            "name": target.name,
            "uid": target.uid,
            "labels": dict(target.labels),
            "annotations": dict(target.annotations),
        }
        try:
            result = program.eval(data={"object": draft.root, "target": facts})
            failure = str(result.value()) if result.type().name() == _CALL_ERROR else ""
        except RuntimeError as error:
            failure = str(error)
        if failure:
            raise OperationError(_explain(failure, context.kind), at="/expression")
        _write(draft, steps, _as_json(result.plain_value()))

    return apply


@cache
def _environment() -> Any:
    """One for the process; imported on first use because the library costs 8 MiB."""
    from cel_expr_python import cel  # type: ignore[import-untyped]

    return cel.NewEnv(variables={"object": cel.Type.DYN, "target": cel.Type.DYN})


def _check_size(root: Manifest, *, loops: int, growth: float, literal_entries: int) -> None:
    if not loops and growth == 1:
        return
    entries, size = _measure(root)
    entries = max(entries, literal_entries)
    if loops and entries > MAX_LOOP_ENTRIES:
        raise OperationError(
            f"a list of {entries} entries is too long for a loop (at most {MAX_LOOP_ENTRIES})", at="/expression"
        )
    if size * growth * min(entries**loops, _MAX_STEPS) > MAX_RESULT_BYTES:
        raise OperationError(f"the object ({size} bytes) is too large for these loops and additions", at="/expression")


def _measure(value: Any) -> tuple[int, int]:
    """Entries of the largest collection, and roughly the bytes of everything."""
    if type(value) is str:
        return 0, _NODE_BYTES + len(value)
    if type(value) not in (dict, list):
        return 0, _NODE_BYTES
    largest, size = len(value), _NODE_BYTES
    for member in value.values() if type(value) is dict else value:
        entries, bytes_ = _measure(member)
        largest, size = max(largest, entries), size + bytes_
    return largest, size


def _explain(failure: str, kind: GroupKind) -> str:
    """The library quotes values (`Key not found in map : "…"`): a Secret's failure keeps only its class."""
    return failure.partition(":")[0] if kind == _SECRET else _first_line(failure)


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:200] if lines else "evaluation failed"


def _as_json(value: Any) -> Any:
    """The result as JSON; doubles that are whole become integers, which is what the fields of most objects want."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < _EXACT_DOUBLES:
        return int(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise OperationError("the result is not a finite number", at="/expression")
    if value is None or isinstance(value, _JSON_TYPES):
        return value
    if isinstance(value, list):
        return [_as_json(entry) for entry in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _as_json(member) for key, member in value.items()}
    raise OperationError(f"the result holds a {type(value).__name__}, which JSON does not have", at="/expression")


def _write(draft: Draft, steps: Steps, value: Any) -> None:
    try:
        lookup(draft.root, steps)
    except OperationError:
        if value is not None:
            put(draft, steps, value, create=True)
        return
    if value is None:
        take(draft, steps)
    else:
        replace(draft, steps, value)
