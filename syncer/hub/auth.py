"""Who asks, and may they see it? Both answered by the upstream API server, for the caller's own upstream credential.

A bearer token goes through TokenReview; a client certificate was checked in the TLS handshake against the authority
that upstream publishes in `kube-system/extension-apiserver-authentication`. What a caller may see is asked with
SubjectAccessReview. Headers that claim an identity (`X-Remote-*`, `Impersonate-*`) are never read.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import orjson
from aiohttp import web

from syncer.api.keys import GroupResource
from syncer.errors import TransientError
from syncer.hub.identity import issued_to_agent
from syncer.hub.replica_identity import issued_to_replica
from syncer.kube.objects import decode_document

CACHE_SECONDS: Final = 10.0  # how long a withdrawn right still works here; as for API servers' own webhooks
CACHE_ENTRIES: Final = 4096
MAX_TOKEN: Final = 16_384  # bytes
CONCURRENT_REVIEWS: Final = 8
WAITING_REVIEWS: Final = 256  # of tokens, with those under way; each is somebody whom nobody knows, and up to 16 KiB
_REVIEW_TIMEOUT: Final = 5.0
_JSON: Final = "application/json"

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class User:
    """Whom the upstream API server says the caller is."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, list[str]] = field(default_factory=dict, hash=False)


class Access(NamedTuple):
    """One question to the authorizer; either about a resource or about a path."""

    verb: str
    resource: GroupResource = GroupResource("", "")
    namespace: str = ""  # "" is all namespaces, or a cluster-scoped resource
    name: str = ""  # "" is every name
    path: str = ""  # of a non-resource URL
    subresource: str = ""


class ReviewClient(Protocol):
    """The part of a `ClusterClient` that is needed."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
        timeout_seconds: float,
        verb: str = "",
    ) -> Any: ...


@dataclass(eq=False)
class _Question(Generic[V]):
    """One question, answered or not; how many wait for it, and until when its answer counts."""

    answer: asyncio.Task[V]
    until: float
    waiting: int = 0


class _Recent(Generic[K, V]):
    """Answers of the last seconds, bounded, and questions that somebody waits for; one question for each key."""

    def __init__(self, clock: Callable[[], float], *, limit: int | None = None) -> None:
        """Args: limit: how many questions may be open at a time; None: any number, whoever asks is known."""
        self._clock = clock
        self._limit = limit
        self._known: OrderedDict[K, _Question[V]] = OrderedDict()
        self._asked: set[asyncio.Task[V]] = set()  # without an answer yet

    async def get(self, key: K, ask: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The answer to a question. It ends when the last caller who waits for it is gone.

        Raises:
            TransientError: too many others are asked; or what `ask` raises.
        """
        question = self._known.get(key)
        if question is None or question.until <= self._clock():
            question = self._ask(key, ask)
        question.waiting += 1
        try:
            return await asyncio.shield(question.answer)
        except BaseException:
            if question.waiting == 1:
                question.answer.cancel()
            # An answer that did not come is no answer: the next caller asks again.
            if (question.waiting == 1 or question.answer.done()) and self._known.get(key) is question:
                del self._known[key]
            raise
        finally:
            question.waiting -= 1

    def _ask(self, key: K, ask: Callable[[], Coroutine[Any, Any, V]]) -> _Question[V]:
        if self._limit is not None and len(self._asked) >= self._limit:
            raise TransientError(f"{self._limit} reviews wait for it already", retry_after_seconds=1.0)
        answer = asyncio.get_running_loop().create_task(ask())
        self._asked.add(answer)
        answer.add_done_callback(self._asked.discard)
        question = self._known[key] = _Question(answer, self._clock() + CACHE_SECONDS)
        self._known.move_to_end(key)
        while len(self._known) > CACHE_ENTRIES:
            self._known.popitem(last=False)
        return question


class Authenticator:
    """Tells who a request is from; None for nobody."""

    def __init__(self, client: ReviewClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._recent: _Recent[bytes, User | None] = _Recent(clock, limit=WAITING_REVIEWS)
        self._slots = asyncio.Semaphore(CONCURRENT_REVIEWS)

    async def identify(self, request: web.Request) -> User | None:
        """The caller, by bearer token or else by client certificate.

        Raises:
            SyncError: the upstream API server could not be asked, or too many wait for it.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme:
            token = token.strip()
            if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN or not token.isascii():
                return None
            # Only a digest is kept: a cache of tokens would be worth stealing.
            return await self._recent.get(hashlib.sha256(token.encode()).digest(), lambda: self._review(token))
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport is not None else None
        return user_of_certificate(certificate) if certificate else None

    async def _review(self, token: str) -> User | None:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        async with self._slots:
            answer = await self._client.request(
                "POST",
                "/apis/authentication.k8s.io/v1/tokenreviews",
                body=orjson.dumps(body),
                content_type=_JSON,
                timeout_seconds=_REVIEW_TIMEOUT,
                verb="review",
            )
        return user_of_review(decode_document(answer.body).get("status") or {})


def user_of_review(status: Mapping[str, Any]) -> User | None:
    """The user of a TokenReview's status; None unless it says authenticated and names one."""
    told = status.get("user") or {}
    if status.get("authenticated") is not True or not told.get("username"):
        return None
    extra = {str(key): list(map(str, values)) for key, values in (told.get("extra") or {}).items()}
    return User(told["username"], tuple(told.get("groups") or ()), told.get("uid") or "", extra)


def user_of_certificate(certificate: Mapping[str, Any]) -> User | None:
    """The user of a checked client certificate, as kube-apiserver reads one: CN is the name, O are the groups.

    Args:
        certificate: as `ssl.SSLSocket.getpeercert()` gives it. The handshake takes certificates of agents and replicas
            too; whom they name is no user of upstream.
    """
    if issued_to_agent(certificate) or issued_to_replica(certificate):
        return None
    names: dict[str, list[str]] = {}
    for part in certificate.get("subject") or ():
        for kind, value in part:
            names.setdefault(kind, []).append(value)
    common = names.get("commonName") or []
    if not common or not common[-1]:
        return None
    return User(common[-1], (*names.get("organizationName", ()), "system:authenticated"))


class Authorizer:
    """Asks upstream what a user may do."""

    def __init__(self, client: ReviewClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._recent: _Recent[tuple[User, Access], bool] = _Recent(clock)
        self._slots = asyncio.Semaphore(CONCURRENT_REVIEWS)

    async def allows(self, user: User, access: Access) -> bool:
        """Whether the user may; anything but a clear yes is a no.

        Raises:
            SyncError: the upstream API server could not be asked.
        """
        return await self._recent.get((user, access), lambda: self._review(user, access))

    async def _review(self, user: User, access: Access) -> bool:
        async with self._slots:
            return await review(self._client, user, access)


async def review(client: ReviewClient, user: User, access: Access) -> bool:
    """One SubjectAccessReview, never from a cache; anything but a clear yes is a no.

    Raises:
        SyncError: the upstream API server could not be asked.
    """
    answer = await client.request(
        "POST",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        body=review_body(user, access),
        content_type=_JSON,
        timeout_seconds=_REVIEW_TIMEOUT,
        verb="review",
    )
    status = decode_document(answer.body).get("status") or {}
    return status.get("allowed") is True and status.get("denied") is not True


def review_body(user: User, access: Access) -> bytes:
    """The SubjectAccessReview that asks `access` for `user`."""
    spec: dict[str, Any] = {"user": user.name, "groups": list(user.groups), "uid": user.uid, "extra": dict(user.extra)}
    if access.path:
        spec["nonResourceAttributes"] = {"path": access.path, "verb": access.verb}
    else:
        spec["resourceAttributes"] = {
            "verb": access.verb,
            "group": access.resource.group,
            "resource": access.resource.resource,
            "subresource": access.subresource,
            "namespace": access.namespace,
            "name": access.name,
        }
    return orjson.dumps({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
