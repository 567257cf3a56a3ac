"""Rendezvous hashing: who of several serves a key, told by everybody alike and without a word between them. Pure.

One that joins or leaves moves only its own share of the keys. Source: Thaler and Ravishankar, "Using name-based
mappings to increase hit rates" (1998).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def ranked(key: str, members: Iterable[str]) -> list[str]:
    """Members without repetition, the best for the key first."""
    return sorted(set(members), key=lambda member: (_score(key, member), member), reverse=True)


def _score(key: str, member: str) -> bytes:
    return hashlib.sha256(f"{key}\n{member}".encode()).digest()
