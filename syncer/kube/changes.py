"""What lists and watches change in a cache, and the lines that watches come in. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from enum import StrEnum
from typing import Final, Literal, NamedTuple

from syncer.kube.errors import MalformedAnswer
from syncer.kube.objects import KubeObject

EVENT_LIMIT: Final = 8 * 1024 * 1024  # bytes; API servers take 3 MiB, and JSON escapes make it longer

CacheKey = tuple[str, str]  # (namespace, name)


class EventType(StrEnum):
    """What an informer tells."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    SYNCED = "SYNCED"  # the first complete list is in the cache
    RELISTED = "RELISTED"  # another complete list is
    ERROR = "ERROR"  # the cache is no longer followed; `Informer.error` says why


class InformerEvent(NamedTuple):
    """One change of the cache.

    `object` is the new object, for DELETED the final or last known one, None for the last three types. `old` is what
    the cache held before. `proof` is `watch` only where the server said so itself; `relist` is concluded from a list.
    """

    type: EventType
    object: KubeObject | None = None
    old: KubeObject | None = None
    proof: Literal["watch", "relist"] = "watch"


async def split_lines(pieces: AsyncIterator[bytes], limit: int = EVENT_LIMIT) -> AsyncIterator[list[bytes]]:
    """The complete lines in each piece; what follows the last newline waits for the next piece.

    Raises:
        MalformedAnswer: a line longer than `limit` bytes.
    """
    rest: list[bytes] = []
    size = 0
    async for piece in pieces:
        *lines, last = piece.split(b"\n")
        if lines:
            lines[0] = b"".join((*rest, lines[0]))
            rest, size = [], 0
            yield [line for line in lines if line]
        rest.append(last)
        size += len(last)
        if size > limit:
            raise MalformedAnswer(0, "MalformedAnswer", f"an event of a watch is longer than {limit} bytes")


def changes(before: Mapping[CacheKey, KubeObject], after: Mapping[CacheKey, KubeObject]) -> Iterator[InformerEvent]:
    """What a complete list changed."""
    for key, item in after.items():
        yield from change(before.get(key), item, "relist")
    for key, known in before.items():
        if key not in after:
            yield InformerEvent(EventType.DELETED, known, known, "relist")


def change(known: KubeObject | None, item: KubeObject, proof: Literal["watch", "relist"]) -> Iterator[InformerEvent]:
    """One object that is there: new, another one of the same name, changed, or as before."""
    if known is None:
        yield InformerEvent(EventType.ADDED, item, None, proof)
    elif known.uid != item.uid:
        yield InformerEvent(EventType.DELETED, known, known, "relist")
        yield InformerEvent(EventType.ADDED, item, None, proof)
    elif known.resource_version != item.resource_version:
        yield InformerEvent(EventType.MODIFIED, item, known, proof)


def version_number(version: str) -> int:
    """A version as a number for comparing; 0 where it is none."""
    return int(version) if version.isascii() and version.isdigit() else 0
