"""The command lines of joining: what is refused before anything is asked."""

from __future__ import annotations

import pytest

from tests.syncer.cli.test_app import Cli, assert_two_lines

JOIN = ("join", "--hub", "https://h", "--ca-hash", "sha256:0", "--target", "east", "--credentials", "/nowhere/x")


@pytest.mark.parametrize(
    "words",
    [
        ("token", "create", "East"),
        ("token", "create", "east", "--ttl", "2h"),
        ("token", "create", "east", "--ttl", "1s"),
        ("token", "create", "east", "--ttl", "soon"),
        ("token", "create", "east", "--label", "eu"),
        ("token", "create", "east", "--cluster-uid", "A B"),
        ("approve", "East"),
        ("deny", "x" * 41),
        (*JOIN, "--token", "not-a-token"),
    ],
    ids=" ".join,
)
def test_wrong_use_is_told_in_two_lines(cli: Cli, words: tuple[str, ...]) -> None:
    """B38, S01: a token lives an hour at most."""
    assert_two_lines(cli(*words), 2)


def test_a_token_is_never_repeated(cli: Cli) -> None:
    """S50."""
    result = cli(*JOIN, "--token", "0123456789ab.c4n4ry")
    assert "c4n4ry" not in result.out + result.err
