"""The server refuses to change a field."""

from __future__ import annotations

from typing import get_args

import pytest

from syncer.api.keys import GroupKind
from syncer.api.placement import ConflictPolicy
from syncer.conflict.immutable import NEVER_RECREATED, STRATEGIES, may_recreate


def test_recreation_only_where_it_was_asked_for() -> None:
    """B15"""
    assert may_recreate("Recreate", GroupKind("batch", "Job"))
    assert not may_recreate("Fail", GroupKind("batch", "Job"))


@pytest.mark.parametrize("kind", sorted(NEVER_RECREATED), ids=str)
def test_what_holds_data_or_other_objects_is_never_recreated(kind: GroupKind) -> None:
    """B15"""
    assert not may_recreate("Recreate", kind)


def test_only_the_kinds_of_the_server_itself_are_protected_by_name() -> None:
    assert may_recreate("Recreate", GroupKind("example.com", "Namespace"))


def test_the_strategies_are_those_of_the_api() -> None:
    assert set(STRATEGIES) == set(get_args(ConflictPolicy.model_fields["on_immutable"].annotation))
