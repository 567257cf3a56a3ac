"""Fixtures of the status room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.local.fleet import Fleet
from tests.status.upstream import Api


@pytest.fixture
def upstream(fleet: Fleet) -> Iterator[Api]:
    """A connection to the upstream of the session's fleet."""
    api = Api(fleet.upstream)
    yield api
    api.close()
