"""Replica shares."""

from __future__ import annotations

from collections.abc import Mapping


def divide(total: int, weights: Mapping[str, int], previous: Mapping[str, int] | None = None) -> dict[str, int]:
    """Divide replicas over targets in proportion to their weights.

    Every share is the exact quota rounded down or up, and shares sum to `total`. Who is rounded up: those whose
    previous share is above the rounded-down quota already (so that the fewest replicas move), then the largest
    remainders, then the first names.

    Args:
        total: replicas, at least 0.
        weights: by target name; targets of weight 0 are not placed and not in the result.
        previous: shares now in place; targets in it that are gone do not matter.

    Returns:
        Shares by target name; empty if no weight is above 0, whatever `total` is.
    """
    if total < 0 or any(weight < 0 for weight in weights.values()):
        raise ValueError("replicas and weights are at least 0")
    placed = {name: weight for name, weight in weights.items() if weight > 0}
    whole = sum(placed.values())
    shares = {name: total * weight // whole for name, weight in placed.items()}
    before = previous or {}

    def claim(name: str) -> tuple[bool, int, str]:
        return before.get(name, 0) <= shares[name], -(total * placed[name] % whole), name

    # A quota without remainder is never rounded up: there are at most as many to hand out as there are remainders.
    uneven = sorted((name for name in placed if total * placed[name] % whole), key=claim)
    for name in uneven[: total - sum(shares.values())]:
        shares[name] += 1
    return shares
