"""Bootstrap tokens: what each is for, and what its Secret gives away."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from syncer.hub.bootstrap import (
    ASK_AGAIN,
    Grant,
    Token,
    forgettable,
    new_token,
    parse_token,
    read_grant,
    token_secret,
    why_refused,
)

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
KEY, OTHER_KEY = "a" * 64, "b" * 64
TOKEN = Token("0123456789ab", "s" * 43)


def secret(**more: Any) -> dict[str, Any]:
    return token_secret(TOKEN, "east", expires=NOW + timedelta(hours=1), labels={"region": "eu"}, **more)


def grant(**more: Any) -> Grant:
    found = read_grant(secret())
    assert found is not None
    return replace(found, **more)


def why(found: Grant | None, token: Token = TOKEN, **more: Any) -> str:
    asked: dict[str, Any] = {"target": "east", "cluster_uid": "u1", "key": KEY, "now": NOW, **more}
    return why_refused(found, token, **asked)


def test_a_token_is_read_back_and_differs_each_time() -> None:
    made = {str(new_token()) for _ in range(50)}
    assert len(made) == 50
    assert all(str(parse_token(text)) == text for text in made)


@pytest.mark.parametrize(
    "text", ["", ".", "0123456789ab", "0123456789ab.", f"0123456789AB.{'s' * 43}", f"../../secret.{'s' * 43}", "é.x"]
)
def test_what_is_no_token_is_none(text: str) -> None:
    assert parse_token(text) is None


def test_the_secret_upstream_holds_a_hash_and_no_token() -> None:
    """S02."""
    made = new_token()
    stored = token_secret(made, "east", expires=NOW, labels={})
    values = b" ".join(base64.b64decode(value) for value in stored["data"].values())
    assert made.secret.encode() not in values
    assert made.secret not in repr(made)
    assert made.secret not in str(stored)


def test_a_secret_is_read_back() -> None:
    assert grant() == Grant(grant().hash, "east", NOW + timedelta(hours=1), {"region": "eu"})


def test_no_token_outlives_its_hour_whatever_its_secret_says() -> None:
    """S01, S08: counted from the Secret's making, by the API server's clock."""
    late = token_secret(TOKEN, "east", expires=NOW + timedelta(days=30), labels={})
    late["metadata"]["creationTimestamp"] = NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
    found = read_grant(late)
    assert found is not None
    assert found.expires == NOW + timedelta(hours=1)


@pytest.mark.parametrize("field", ["hash", "target", "expires"])
def test_a_secret_that_lacks_something_is_no_token(field: str) -> None:
    broken = secret()
    del broken["data"][field]
    assert read_grant(broken) is None
    assert read_grant({**secret(), "type": "Opaque"}) is None
    assert read_grant({**secret(), "data": {**secret()["data"], field: "%"}}) is None


def test_each_thing_that_is_wrong_is_a_refusal_of_its_own() -> None:
    """S01: reuse, expiry, wrong target, wrong cluster; for the log only."""
    assert why(grant()) == ""
    assert why(None) == "unknown token"
    assert why(grant(), Token(TOKEN.id, "x" * 43)) == "wrong secret"
    assert why(grant(), target="west") == "made for target east"
    assert why(replace(grant(), target="west"), target="west") == "wrong secret"  # the target belongs to the hash
    assert why(grant(cluster_uid="u2")) == "made for cluster u2"
    assert why(grant(cluster_uid="u1")) == ""
    assert why(grant(), now=NOW + timedelta(hours=1, seconds=1)) == "expired"
    assert why(grant(used_by=OTHER_KEY)) == "used already"


def test_who_used_it_may_ask_again_for_an_hour_and_nobody_else() -> None:
    """S01: only the key that it was used for."""
    used, end = grant(used_by=KEY), NOW + timedelta(hours=1)
    assert why(used, now=end + ASK_AGAIN) == ""
    assert why(used, now=end + ASK_AGAIN + timedelta(seconds=1)) == "expired"
    assert why(used, key=OTHER_KEY, now=NOW) == "used already"
    assert not forgettable(used, end + ASK_AGAIN)
    assert forgettable(used, end + ASK_AGAIN + timedelta(seconds=1))


def test_an_unknown_token_is_compared_as_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """S02: the same work whether or not there is such a token."""
    import hmac

    compared: list[int] = []
    real = hmac.compare_digest

    def counting(first: Any, second: Any) -> bool:
        compared.append(len(first))
        return real(first, second)

    monkeypatch.setattr("syncer.hub.bootstrap.hmac.compare_digest", counting)
    why(None)
    why(grant(), Token(TOKEN.id, "x" * 43))
    assert compared == [32, 32]
