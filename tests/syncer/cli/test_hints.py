"""The table of hints: complete, short, and one sentence each."""

from __future__ import annotations

import pytest

from syncer.api.hints import HINTS, POD_HINTS, hint
from syncer.api.names import Reason


def test_every_reason_has_a_hint() -> None:
    assert set(HINTS) == set(Reason)


@pytest.mark.parametrize("text", [*HINTS.values(), *POD_HINTS.values()])
def test_a_hint_is_one_short_line_that_ends_like_a_sentence(text: str) -> None:
    assert text[0].isupper()
    assert "\n" not in text
    assert len(text) <= 160
    assert text.endswith(".")
    assert "- " not in text


def test_the_words_of_a_target_have_hints_too_and_unknown_words_have_none() -> None:
    assert "image" in hint("ImagePullBackOff")
    assert hint("Frozen") == HINTS[Reason.FROZEN]
    assert hint("SomethingElse") == ""
