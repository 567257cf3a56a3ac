"""Which headers of a request go on to the API server. Pure."""

from __future__ import annotations

from typing import Final

from syncer.kube.http1 import RequestHead, connection_names, plain_name

_IMPERSONATE: Final = b"impersonate-"
# Identity is ours to give, and what proxies before us noted is nobody's business behind us.
_DROPPED: Final = frozenset({b"authorization", b"host", b"content-length", b"cookie", b"cookie2", b"forwarded", b"via"})
_DROPPED_PREFIXES: Final = (b"x-remote-", b"x-forwarded-", b"proxy-")


def forwarded(request: RequestHead, authority: bytes, authorization: str | None) -> list[tuple[bytes, bytes]]:
    """The headers that go on to the API server: ours for identity and connection, the rest as sent."""
    dropped = connection_names(request.headers) | _DROPPED
    headers = [(b"host", authority)]
    for name, value in request.headers:
        if name.startswith(_IMPERSONATE):
            headers.append((name, value))  # judged; kept even if Connection names it, for it is no hop's matter
        elif name not in dropped and not name.startswith(_DROPPED_PREFIXES) and plain_name(name):
            headers.append((name, value))
    if authorization is not None:
        headers.append((b"authorization", authorization.encode("ascii")))
    if request.upgrade:
        headers += [(b"connection", b"Upgrade"), (b"upgrade", request.upgrade)]
    if request.length is None:
        headers.append((b"transfer-encoding", b"chunked"))
    elif request.length or request.method in ("POST", "PUT", "PATCH"):
        headers.append((b"content-length", b"%d" % request.length))
    return headers
