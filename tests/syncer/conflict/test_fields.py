"""Another manager owns a field."""

from __future__ import annotations

import pytest

from syncer.conflict.fields import forces_fields


def test_upstream_takes_the_field_and_downstream_keeps_it() -> None:
    assert forces_fields("UpstreamWins")
    assert not forces_fields("DownstreamWins")


def test_a_strategy_that_comes_later_is_not_guessed() -> None:
    with pytest.raises(KeyError):
        forces_fields("Manual")
