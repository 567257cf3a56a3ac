"""JSON pointers (`syncer.kube.pointers`) into a draft, and the fields that no transform may reach."""

from __future__ import annotations

from typing import Any, Final

from syncer.kube.pointers import join_pointer, list_index, split_pointer
from syncer.transform.draft import Draft
from syncer.transform.errors import OperationError
from syncer.transform.prune import SERVER_METADATA

Steps = tuple[str, ...]

# Who the object is, and what belongs to servers, garbage collectors and controllers.
GUARDED_ROOT: Final = frozenset({"apiVersion", "kind"})
GUARDED_METADATA: Final = SERVER_METADATA | {"name", "namespace"}


def parse_pointer(pointer: str) -> Steps:
    """The unescaped steps. The whole document is refused: a transform changes an object, it does not replace it.

    Raises:
        OperationError: not a pointer to something inside the object.
    """
    if not pointer.startswith("/"):
        raise OperationError(f"{pointer!r} is not a JSON pointer into the object")
    return tuple(split_pointer(pointer))


def check_writable(steps: Steps) -> None:
    """Raises OperationError for a path that names, holds or lies below a guarded field."""
    guarded = steps[0] in GUARDED_ROOT
    if steps[0] == "metadata":
        guarded = len(steps) == 1 or steps[1] in GUARDED_METADATA
    if guarded:
        raise OperationError(f"a transform may not change {join_pointer(steps[:2])}")


def lookup(root: Any, steps: Steps) -> Any:
    """The value at a pointer, to read from.

    Raises:
        OperationError: there is nothing.
    """
    node = root
    for depth, step in enumerate(steps):
        if type(node) is dict and step in node:
            node = node[step]
        elif type(node) is list and (index := list_index(step, len(node))) is not None:
            node = node[index]
        else:
            raise OperationError(f"there is no {join_pointer(steps[: depth + 1])} in the object")
    return node


def parent_of(draft: Draft, steps: Steps, *, create: bool = False) -> Any:
    """The writable object or list that holds the last step.

    Args:
        create: missing and null objects on the way are made.
    Raises:
        OperationError: there is no such container.
    """
    node: Any = draft.root
    for depth, step in enumerate(steps[:-1]):
        if type(node) is dict:
            if create and node.get(step) is None:
                node[step] = draft.adopt({})
            if step not in node:
                raise OperationError(f"there is no {join_pointer(steps[: depth + 1])} in the object")
            node = draft.child(node, step)
        elif type(node) is list:
            node = draft.child(node, index_in(node, steps[: depth + 1]))
    if type(node) not in (dict, list):
        raise OperationError(f"{join_pointer(steps[:-1])} is neither an object nor a list")
    return node


def index_in(entries: list[Any], steps: Steps) -> int:
    """The last step as an index of an existing entry; raises OperationError."""
    index = list_index(steps[-1], len(entries))
    if index is None:
        raise OperationError(f"there is no {join_pointer(steps)} in the object: the list has {len(entries)} entries")
    return index


def put(draft: Draft, steps: Steps, value: Any, *, create: bool = False) -> None:
    """`add` of RFC 6902: sets a member, inserts into a list, `-` appends."""
    parent = parent_of(draft, steps, create=create)
    last = steps[-1]
    if type(parent) is dict:
        parent[last] = value
    elif last == "-" or last == str(len(parent)):
        parent.append(value)
    else:
        parent.insert(index_in(parent, steps), value)


def replace(draft: Draft, steps: Steps, value: Any) -> None:
    """`replace` of RFC 6902: the member or entry must exist."""
    parent = parent_of(draft, steps)
    if type(parent) is list:
        parent[index_in(parent, steps)] = value
    elif steps[-1] in parent:
        parent[steps[-1]] = value
    else:
        raise OperationError(f"there is no {join_pointer(steps)} in the object")


def take(draft: Draft, steps: Steps) -> Any:
    """`remove` of RFC 6902: the member or entry must exist; it is returned."""
    parent = parent_of(draft, steps)
    if type(parent) is list:
        return parent.pop(index_in(parent, steps))
    if steps[-1] not in parent:
        raise OperationError(f"there is no {join_pointer(steps)} in the object")
    return parent.pop(steps[-1])
