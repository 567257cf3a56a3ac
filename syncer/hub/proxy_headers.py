"""What of a caller's headers reaches a target, who the target is told the caller is, and what comes back. Pure.

A caller's word about identity counts for nothing: all of it is erased, in every spelling, and `Impersonate-*` is
stamped from what upstream said about the caller's credential. A target's word counts for its own answer only: nothing
of it may send the caller, with their credential, elsewhere (CVE-2022-3172), or outlive it at the hub's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from syncer.hub.auth import User
from syncer.kube.http1 import HOP_BY_HOP, BadMessage, Headers, ResponseHead, connection_names, plain_name

UPGRADES: Final = (b"websocket", b"spdy/3.1")
# The token of a browser, in a header that else is needed.
_BEARER_PROTOCOL: Final = b"base64url.bearer.authorization.k8s.io."
_ERASED: Final = frozenset(
    {b"authorization", b"cookie", b"cookie2", b"forwarded", b"via", b"host", b"content-length", b"expect", b"origin"}
)
_ERASED_PREFIXES: Final = (
    b"impersonate-",
    b"x-remote-",
    b"x-forwarded-",
    b"x-real-",
    b"x-client-",
    b"x-ssl-",
    b"x-auth-",
    b"x-original-",
    b"ssl-client-",
    b"proxy-",
    b"x-syncline-",
)
_NOT_RETURNED: Final = frozenset(
    {b"set-cookie", b"set-cookie2", b"strict-transport-security", b"alt-svc", b"clear-site-data", b"public-key-pins"}
)
_KEY_SAFE: Final = "!#$&'*+-.^_`|~"  # what a header's name may hold besides letters and digits; % is the escape


def lowered(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Headers with names in lower case."""
    return [(name.lower(), value) for name, value in headers]


def upgrade_of(headers: Headers) -> bytes:
    """The protocol that a request wants to change to, as sent; b"" for none.

    Raises:
        BadMessage: something else than WebSocket or SPDY, or two at once.
    """
    tokens = {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}
    asked = [value for name, value in headers if name == b"upgrade"]
    if b"upgrade" not in tokens or not asked:
        return b""
    if len(asked) != 1 or asked[0].lower() not in UPGRADES:
        raise BadMessage("only upgrades to WebSocket and SPDY/3.1 are passed on")
    return asked[0]


def passed_on(headers: Headers, user: User, *, upgrade: bytes, length: int | None) -> Headers:
    """The headers of the request to the target.

    Args:
        headers: the caller's, names in lower case.
        upgrade: from `upgrade_of`.
        length: bytes of the body; None for chunks.
    Raises:
        BadMessage: the user's name cannot be told in a header.
    """
    dropped = connection_names(headers) | _ERASED
    passed: Headers = [(b"host", b"kubernetes")]
    for name, value in headers:
        if name in dropped or name.startswith(_ERASED_PREFIXES) or not plain_name(name):
            continue
        if name == b"sec-websocket-protocol":
            value = _without_token(value)
            if not value:
                continue
        passed.append((name, value))
    passed += stamp(user)
    if upgrade:
        passed += [(b"connection", b"Upgrade"), (b"upgrade", upgrade)]
    if length is None:
        passed.append((b"transfer-encoding", b"chunked"))
    else:
        passed.append((b"content-length", b"%d" % length))
    return passed


def passed_back(head: ResponseHead, *, upgrade: bytes) -> bytes:
    """What the caller gets for the head of a target's answer.

    Args:
        upgrade: what the caller asked to change to; b"" for nothing.
    Raises:
        BadMessage: a change that was not asked for, or a redirect.
    """
    switched = head.status == 101
    if switched and (not upgrade or head.header(b"upgrade").lower() != upgrade.lower()):
        raise BadMessage("it switched to what was not asked for")
    if 300 <= head.status < 400 and head.status != 304:
        raise BadMessage("it answered with a redirect, and those are not passed on")
    hops = HOP_BY_HOP - {b"connection", b"upgrade"} if switched else connection_names(head.headers)
    # The connection of an upgrade is never used again, whatever the target made of it.
    closing = bool(upgrade) and not switched
    return head.without((hops - {b"transfer-encoding"}) | _NOT_RETURNED, closing=closing)


def from_web_page(headers: Headers) -> bool:
    """Whether a browser sends this. None is a caller here; one that is made to call brings its user's certificate."""
    return any(name == b"origin" or name.startswith(b"sec-fetch-") for name, _ in headers)


def _without_token(value: bytes) -> bytes:
    protocols = [part.strip() for part in value.split(b",")]
    return b", ".join(part for part in protocols if part and not part.lower().startswith(_BEARER_PROTOCOL))


def stamp(user: User) -> Headers:
    """`Impersonate-*` for a user.

    Raises:
        BadMessage: a name with control characters.
    """
    headers = [(b"impersonate-user", _value(user.name))]
    headers += [(b"impersonate-group", _value(group)) for group in user.groups]
    if user.uid:
        headers.append((b"impersonate-uid", _value(user.uid)))
    for key, values in user.extra.items():
        name = b"impersonate-extra-" + quote(key.lower(), safe=_KEY_SAFE).lower().encode("ascii")
        headers += [(name, _value(value)) for value in values]
    return headers


def _value(text: str) -> bytes:
    if not text or text != text.strip() or any(letter < " " or letter == "\x7f" for letter in text):
        raise BadMessage("the caller's identity cannot be told in a header", 403)
    return text.encode()
