"""Another manager owns a field that we want to set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Whether the apply is forced. If it is not, the server names the fields and they are left to their owner.
STRATEGIES: Final[Mapping[str, bool]] = {"UpstreamWins": True, "DownstreamWins": False}


def forces_fields(strategy: str) -> bool:
    """Whether an apply takes fields over from their owners.

    Raises:
        KeyError: no such strategy; the API admits only names in `STRATEGIES`.
    """
    return STRATEGIES[strategy]
