"""What a placement's status lists of its errors."""

from __future__ import annotations

import random

from syncer.api.placement import MAX_ERRORS
from syncer.engine.placementstatus import Fold


def test_the_same_errors_are_listed_whatever_order_they_are_found_in() -> None:
    """The target as a whole comes first, then objects by name; what is not listed is counted."""
    names = ["", *(f"v1/ConfigMap/shop/c{number:02}" for number in range(MAX_ERRORS + 4))]
    for seed in range(5):
        entry = Fold()
        for name in random.Random(seed).sample(names, len(names)):
            entry.tell(name, "Forbidden", "no", 0.0)
        entry.close()
        assert [error["object"] for error in entry.errors] == names[:MAX_ERRORS]
        assert entry.more == len(names) - MAX_ERRORS
