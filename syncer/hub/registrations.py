"""Where clusters join: `/registrations/v1`. Each route sees to its own credential and its own limits.

| route | credential | does |
|---|---|---|
| GET `…/authority` | none | the hub's authority, PEM; whoever joins compares its hash with `--ca-hash` |
| POST `…` | bootstrap token | makes a ClusterRegistration, or tells how it stands |
| POST `…/renew` | client certificate of an agent | signs the next certificate |

A token that is not taken answers 401 with the same words after the same time, whatever is wrong with it; the log says
what it was.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
import orjson
import structlog
from aiohttp import web

from syncer.api.common import TARGET_NAME_MAX
from syncer.api.names import API_VERSION, SYSTEM_NAMESPACE
from syncer.api.registration import ClusterRegistration
from syncer.api.shapes import JoinAnswer, JoinRequest, RenewAnswer, RenewRequest
from syncer.errors import SyncError
from syncer.events import EventRecorder, Outcome
from syncer.hub.agent_certificates import RequestDenied, check_request, issue
from syncer.hub.api import failure
from syncer.hub.bootstrap import Grant, Token, parse_token, read_grant, why_refused
from syncer.hub.certificates import KeyPair, key_hash
from syncer.hub.identity import AgentIdentity, Identities, IdentityRefused
from syncer.hub.registered import REGISTRATIONS, regarding
from syncer.hub.throttle import Throttle
from syncer.kube.client import JSON, MERGE_PATCH, ClusterClient
from syncer.kube.errors import AdmissionDenied, AlreadyExists, Conflict, Invalid, NotFound
from syncer.kube.objects import KubeObject
from syncer.metrics import Metrics

PREFIX: Final = "/registrations/v1"
MAX_BODY: Final = 8192  # bytes
BODY_SECONDS: Final = 10.0
ASK_AGAIN_SECONDS: Final = 2  # what a Pending registration is told to wait
WORKING: Final = 16  # requests that are worked on at once
REFUSED_SECONDS: Final = 0.3  # from a request to the word that its token is not accepted, whatever was wrong with it
NOT_ACCEPTED: Final = "the bootstrap token is not accepted; create a new one: syncline token create TARGET"
_SECRET: Final = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets"

S = TypeVar("S")

log = structlog.get_logger()


class Refused(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, message: str, *, wait_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.wait_seconds = wait_seconds


class NotAccepted(Refused):
    """The one answer to every token that is not taken."""

    def __init__(self) -> None:
        super().__init__(401, NOT_ACCEPTED)


class RegistrationEndpoint:
    """A door of the hub; every replica serves it."""

    def __init__(
        self,
        client: ClusterClient,
        identities: Identities,
        *,
        agents: KeyPair,
        hub_authority: bytes,
        events: EventRecorder,
        metrics: Metrics,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Args:
        client: not guarded by the lease; what is written here is conditional.
        agents: the authority that signs agents' certificates.
        hub_authority: what agents must trust to reach the hub, PEM; the authority that signs is the first.
        """
        self._client = client
        self._identities = identities
        self._agents = agents
        self._hub_authority = hub_authority
        self._events = events
        self._count = metrics.registrations_total.labels
        self._now = now
        self._clock = clock
        self._sleep = sleep
        # Ten wrong tokens at once from one address, then one in six seconds; a right one costs nothing there.
        self._failures = Throttle(10, 1 / 6, clock=clock)
        self._all = Throttle(400, 100, clock=clock)
        self._renewals = Throttle(5, 1 / 60, clock=clock)
        self._slots = asyncio.Semaphore(WORKING)

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get(f"{PREFIX}/authority", self._answered(self._authority))
        app.router.add_post(PREFIX, self._answered(self._join))
        app.router.add_post(f"{PREFIX}/renew", self._answered(self._renew))

    def _answered(
        self, work: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handler(request: web.Request) -> web.StreamResponse:
            answer = await self._answer(work, request)
            answer.force_close()  # who asks here asks once, and keeps no connection
            return answer

        return handler

    async def _answer(
        self, work: Callable[[web.Request], Awaitable[web.Response]], request: web.Request
    ) -> web.Response:
        try:
            return await work(request)
        except Refused as error:
            answer = failure(error.status, str(error))
            if error.wait_seconds:
                answer.headers["Retry-After"] = str(int(error.wait_seconds) + 1)
            return answer
        except IdentityRefused as error:
            return failure(error.status, str(error))
        except SyncError as error:
            log.warning("registration not answered", path=request.path, error=str(error))
            answer = failure(503, "the upstream API server did not answer; try again")
            answer.headers["Retry-After"] = "2"
            return answer
        except Exception:  # one request's bug must not show its text to the caller
            log.exception("registration failed", path=request.path)
            return failure(500, "the hub failed; its log says why")

    def _for_anybody(self) -> None:
        """Raises Refused when strangers ask too much; renewals have limits of their own and are not held up."""
        wait = self._all.spend("")
        if wait:
            raise Refused(429, "too many requests", wait_seconds=wait)

    async def _authority(self, request: web.Request) -> web.Response:
        self._for_anybody()
        return web.Response(body=self._hub_authority, content_type="application/x-pem-file")

    # Join -------------------------------------------------------------------------------------------------------------

    async def _join(self, request: web.Request) -> web.Response:
        self._for_anybody()
        began = self._clock()
        peer = request.remote or ""
        wait = self._failures.wait_seconds(peer)
        if wait:
            raise Refused(429, "too many tokens that were not accepted", wait_seconds=wait)
        token = _bearer(request)
        asked = await _body(request, JoinRequest)
        try:
            async with self._slots:
                answer = await self._registered(token, asked, peer)
        except NotAccepted:
            await self._sleep(max(0.0, REFUSED_SECONDS - (self._clock() - began)))
            raise
        headers = {"Retry-After": str(ASK_AGAIN_SECONDS)} if answer.phase == "Pending" else {}
        return web.Response(body=msgspec.json.encode(answer), content_type=JSON, headers=headers)

    async def _registered(self, token: Token | None, asked: JoinRequest, peer: str) -> JoinAnswer:
        if token is None:
            raise self._not_accepted(None, asked, peer, "no token")
        denied = key = ""
        try:
            key = key_hash(check_request(asked.request, asked.target[:TARGET_NAME_MAX]))
        except RequestDenied as error:
            denied = str(error)
        for _ in range(3):
            secret = await self._secret(token)
            grant = read_grant(secret) if secret is not None else None
            why = why_refused(
                grant, token, target=asked.target, cluster_uid=asked.cluster_uid, key=key, now=self._now()
            )
            if why:
                raise self._not_accepted(token, asked, peer, why)
            assert grant is not None
            assert secret is not None
            if denied:
                self._failures.spend(peer)
                self._count("refused").inc()
                log.warning("certificate request denied", target=asked.target, token_id=token.id, peer=peer, why=denied)
                raise Refused(403, denied)
            one = await self._registration(token, grant, asked, key, peer)
            if grant.used_by or await self._use(token, secret, key):
                return _told(one)
        raise Refused(503, "somebody else used the token at the same time; try again", wait_seconds=1)

    def _not_accepted(self, token: Token | None, asked: JoinRequest, peer: str, why: str) -> Refused:
        """The refusal; what was wrong goes to the log alone."""
        self._failures.spend(peer)
        self._count("refused").inc()
        log.warning(
            "bootstrap token refused",
            token_id=token.id if token is not None else "",
            target=asked.target[:TARGET_NAME_MAX],
            cluster_uid=asked.cluster_uid[:64],
            peer=peer,
            why=why,
        )
        return NotAccepted()

    async def _secret(self, token: Token) -> dict[str, Any] | None:
        try:
            return await self._client.get_json(f"{_SECRET}/{token.secret_name}")
        except NotFound:
            return None

    async def _registration(
        self, token: Token, grant: Grant, asked: JoinRequest, key: str, peer: str
    ) -> ClusterRegistration:
        """The token's registration, made by its first use. Its name is the token's, so two uses cannot make two."""
        name = f"{grant.target}-{token.id}"
        path = REGISTRATIONS.path("", name)
        found: Mapping[str, Any] | None = None
        if not grant.used_by:
            manifest = {
                "apiVersion": API_VERSION,
                "kind": "ClusterRegistration",
                "metadata": {"name": name},
                "spec": {
                    "targetName": grant.target,
                    "clusterUID": asked.cluster_uid,
                    "request": asked.request,
                    "labels": dict(grant.labels),
                },
            }
            try:
                answer = await self._client.create(REGISTRATIONS, "", orjson.dumps(manifest))
                found = answer.manifest()
                self._tell_request(answer, grant.target, asked.cluster_uid, key, peer)
            except AlreadyExists:
                found = None
            except (Invalid, AdmissionDenied) as error:
                raise Refused(403, str(error)) from None
        if found is None:
            try:
                found = await self._client.get_json(path)
            except NotFound:
                raise Refused(403, "the registration was removed; create a new token and join again") from None
        one = ClusterRegistration.parse(found)
        if key_hash(check_request(one.spec.request, grant.target)) != key:
            raise self._not_accepted(token, asked, peer, "used already, by another key")
        if one.spec.cluster_uid != asked.cluster_uid:
            raise self._not_accepted(token, asked, peer, f"used already, by cluster {one.spec.cluster_uid}")
        return one

    def _tell_request(self, made: KubeObject, target: str, cluster_uid: str, key: str, peer: str) -> None:
        log.info("cluster asks to join", target=target, cluster_uid=cluster_uid, peer=peer)
        self._count("requested").inc()
        said = f"cluster {cluster_uid} with key {key[:16]} asks to be target {target}"
        self._events.outcome(regarding(made.name, made.uid), "request", Outcome("JoinRequested", said, warning=False))

    async def _use(self, token: Token, secret: Mapping[str, Any], key: str) -> bool:
        """Bind the token to the key; False if somebody changed it meanwhile."""
        body = {
            "metadata": {"resourceVersion": secret["metadata"]["resourceVersion"]},
            "data": {"usedBy": base64.b64encode(key.encode()).decode()},
        }
        try:
            await self._client.request(
                "PATCH",
                f"{_SECRET}/{token.secret_name}",
                body=orjson.dumps(body),
                content_type=MERGE_PATCH,
                resource="secrets",
            )
        except (Conflict, NotFound):
            return False
        return True

    # Renew ------------------------------------------------------------------------------------------------------------

    async def _renew(self, request: web.Request) -> web.Response:
        identity = self._identities.authenticate_request(request)
        wait = self._renewals.spend(identity.target)
        if wait:
            raise Refused(429, "renewed too often", wait_seconds=wait)
        asked = await _body(request, RenewRequest)
        self._identities.check_cluster(identity, asked.cluster_uid)
        try:
            key = check_request(asked.request, identity.target)
        except RequestDenied as error:
            log.warning("certificate request denied", target=identity.target, why=str(error))
            raise Refused(403, str(error)) from None
        certificate = issue(
            self._agents,
            key,
            target=identity.target,
            cluster_uid=identity.cluster_uid,
            registration_uid=identity.registration_uid,
            generation=identity.registration_generation,
            now=self._now(),
        )
        self._tell_renewal(identity)
        authority = self._hub_authority.decode("ascii")
        body = msgspec.json.encode(RenewAnswer(certificate=certificate.decode("ascii"), authority=authority))
        return web.Response(body=body, content_type=JSON)

    def _tell_renewal(self, identity: AgentIdentity) -> None:
        log.info("certificate renewed", target=identity.target, generation=identity.registration_generation)
        self._count("renewed").inc()
        bound = self._identities.bindings.of(identity.target)
        if bound is not None:
            said = f"the agent of target {identity.target} has its next certificate, since {self._now():%Y-%m-%d %H:%M}"
            outcome = Outcome("CertificateRenewed", f"{said} UTC", warning=False)
            self._events.outcome(regarding(bound.registration, bound.registration_uid), "certificate", outcome)


def _told(one: ClusterRegistration) -> JoinAnswer:
    status = one.status
    approved = status.phase == "Approved" and one.spec.decision != "Denied"
    return JoinAnswer(
        registration=one.metadata.name,
        phase="Denied" if one.spec.decision == "Denied" else status.phase,
        reason=status.reason,
        message=status.message,
        generation=status.registration_generation,
        certificate=status.certificate if approved else "",
    )


def _bearer(request: web.Request) -> Token | None:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    return parse_token(text.strip()) if scheme.lower() == "bearer" else None


async def _body(request: web.Request, shape: type[S]) -> S:
    """The body as a shape. Raises Refused for one that is too long, too slow or something else."""
    content = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.content.iter_any():
                content += piece
                if len(content) > MAX_BODY:
                    raise Refused(413, f"the body may have {MAX_BODY} bytes")
        return msgspec.json.decode(content, type=shape)
    except TimeoutError:
        raise Refused(408, "the body did not come in time") from None
    except msgspec.DecodeError:
        raise Refused(400, "the body is not what belongs here") from None
