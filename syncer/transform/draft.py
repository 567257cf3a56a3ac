"""A manifest being edited without touching what it was read from."""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]


class Draft:
    """Copy-on-write view of one manifest.

    `root` starts as a shallow copy; every container below it is shared with the input until it is opened
    for writing through `mapping` or `child`, which copy it once. Rules for whoever edits: write only into
    containers that the draft handed out, read anywhere.
    """

    __slots__ = ("_own", "root")

    def __init__(self, manifest: Manifest) -> None:
        self.root: Manifest = dict(manifest)
        # id -> container; holding the container keeps its id from being given to another one.
        self._own: dict[int, Any] = {id(self.root): self.root}

    def read(self, *path: str) -> Any:
        """The value at a path of object members, or None where the path ends early."""
        value: Any = self.root
        for key in path:
            if type(value) is not dict:
                return None
            value = value.get(key)
        return value

    def adopt(self, container: Any) -> Any:
        """Take a fresh container, shared with nobody, as writable; returns it."""
        self._own[id(container)] = container
        return container

    def child(self, parent: Any, key: Any) -> Any:
        """The value at `parent[key]`, writable if it is an object or a list; `parent` must be writable."""
        value = parent[key]
        if type(value) in (dict, list) and id(value) not in self._own:
            value = parent[key] = self.adopt(value.copy())
        return value

    def mapping(self, *path: str) -> Manifest | None:
        """The writable object at a path, or None where there is no object."""
        node = self.root
        for key in path:
            if type(node.get(key)) is not dict:
                return None
            node = self.child(node, key)
        return node

    def ensure(self, *path: str) -> Manifest:
        """The writable object at a path; missing and null members on the way become empty objects.

        Raises:
            ValueError: something on the way is neither an object nor null.
        """
        node = self.root
        for depth, key in enumerate(path):
            if node.get(key) is None:
                node[key] = self.adopt({})
            elif type(node[key]) is not dict:
                raise ValueError(f"/{'/'.join(path[: depth + 1])} is not an object")
            node = self.child(node, key)
        return node

    def items(self, parent: Manifest, key: str) -> list[Any] | None:
        """The writable list at `parent[key]`, or None where there is no list."""
        value = parent.get(key)
        return self.child(parent, key) if type(value) is list else None
