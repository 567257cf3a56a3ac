"""Bootstrap tokens: `ID.SECRET`, for one cluster, once, for an hour at most. Pure but for the randomness.

Upstream a token is a Secret that holds only its hash. Its secret has 256 bits, so a plain hash cannot be guessed. The
first use binds the token to the key of that agent's request: the same agent may ask again how its registration stands,
and for everybody else the token is used up.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from syncer.api.names import SYSTEM_NAMESPACE

MAX_TTL: Final = timedelta(hours=1)
MIN_TTL: Final = timedelta(seconds=10)
ASK_AGAIN: Final = timedelta(hours=1)  # how long after its end the agent that used it may ask how it stands
SECRET_TYPE: Final = "syncline.io/bootstrap-token"  # noqa: S105 - a name
SECRET_PREFIX: Final = "syncline-join-"  # noqa: S105 - a name
_TOKEN: Final = re.compile(r"([0-9a-f]{12})\.([A-Za-z0-9_-]{43})")
_PURPOSE: Final = b"syncline bootstrap token v1"


@dataclass(frozen=True)
class Token:
    """A token as somebody shows it. Never logged whole: `repr` shows its id."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Token({self.id})"

    def __str__(self) -> str:
        return f"{self.id}.{self.secret}"

    @property
    def secret_name(self) -> str:
        """Name of the Secret upstream."""
        return SECRET_PREFIX + self.id


@dataclass(frozen=True)
class Grant:
    """What a token allows, as its Secret upstream says.

    Attributes:
        cluster_uid: only the cluster of that UID may use it; "" for any.
        used_by: hash of the key that it was used for; "" while unused.
    """

    hash: bytes
    target: str
    expires: datetime
    labels: Mapping[str, str]
    cluster_uid: str = ""
    used_by: str = ""


def new_token() -> Token:
    """A fresh token."""
    return Token(secrets.token_hex(6), secrets.token_urlsafe(32))


def parse_token(text: str) -> Token | None:
    """The token of a text; None if it is none."""
    match = _TOKEN.fullmatch(text)
    return Token(match[1], match[2]) if match else None


def token_hash(token: Token, target: str) -> bytes:
    """What is stored of it. The target belongs to it, so that no edit of a Secret moves a token to another one."""
    return hashlib.sha256(b"\0".join((_PURPOSE, target.encode(), str(token).encode()))).digest()


def token_secret(
    token: Token, target: str, *, expires: datetime, labels: Mapping[str, str], cluster_uid: str = ""
) -> dict[str, Any]:
    """The Secret to create upstream.

    Args:
        expires: UTC.
    """
    data = {
        "hash": token_hash(token, target),
        "target": target.encode(),
        "expires": expires.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode(),
        "labels": orjson.dumps(dict(labels)),
        "clusterUID": cluster_uid.encode(),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": token.secret_name,
            "namespace": SYSTEM_NAMESPACE,
            "labels": {"app.kubernetes.io/part-of": "syncline"},
        },
        "type": SECRET_TYPE,
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


def read_grant(secret: Mapping[str, Any]) -> Grant | None:
    """What a Secret allows; None if it is no token of ours."""
    if secret.get("type") != SECRET_TYPE:
        return None
    try:
        data = {key: base64.b64decode(value, validate=True) for key, value in (secret.get("data") or {}).items()}
        expires = _moment(data["expires"].decode())
        if created := (secret.get("metadata") or {}).get("creationTimestamp"):
            expires = min(expires, _moment(created) + MAX_TTL)  # whatever its maker wrote
        return Grant(
            data["hash"],
            data["target"].decode(),
            expires,
            dict(orjson.loads(data.get("labels") or b"{}")),
            data.get("clusterUID", b"").decode(),
            data.get("usedBy", b"").decode(),
        )
    except (KeyError, ValueError, TypeError, binascii.Error):
        return None


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


_NOBODY: Final = Grant(bytes(32), "", datetime.min.replace(tzinfo=UTC), {})


def why_refused(grant: Grant | None, token: Token, *, target: str, cluster_uid: str, key: str, now: datetime) -> str:
    """Why a token is not taken, for the audit log; "" if it is. Whoever shows it learns only that it is not.

    Every check is made whatever the others said, and the comparison takes the same time for an unknown token.

    Args:
        grant: None: there is no such Secret.
        key: hash of the request's public key.
        now: UTC.
    """
    known = grant or _NOBODY
    ours = hmac.compare_digest(known.hash, token_hash(token, target))
    if grant is None:
        return "unknown token"
    if not ours:
        return "wrong secret" if known.target == target else f"made for target {known.target}"
    if known.cluster_uid and known.cluster_uid != cluster_uid:
        return f"made for cluster {known.cluster_uid}"
    if known.used_by:
        if not hmac.compare_digest(known.used_by, key):
            return "used already"
        return "" if now <= known.expires + ASK_AGAIN else "expired"
    return "" if now <= known.expires else "expired"


def forgettable(grant: Grant, now: datetime) -> bool:
    """Whether nobody can use its Secret any more."""
    return now > grant.expires + ASK_AGAIN
