"""Lines of a watch, however its bytes arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from syncer.kube.changes import split_lines
from syncer.kube.errors import MalformedAnswer


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_lines_are_found_however_the_bytes_are_cut(size: int) -> None:
    text = b"one\ntwo\n\nthree\nfour"

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(text), size):
            yield text[at : at + size]

    assert [line async for lines in split_lines(pieces()) for line in lines] == [b"one", b"two", b"three"]


async def test_a_line_above_the_limit_is_refused() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"ok\n12345"
        yield b"67890"

    found = split_lines(pieces(), 8)
    assert await anext(found) == [b"ok"]
    with pytest.raises(MalformedAnswer):
        await anext(found)
