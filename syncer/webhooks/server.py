"""The HTTPS server of the webhooks, in the shape that kopf asks for (`settings.admission.server`).

kopf's own server needs extra packages to make certificates, names webhooks after handlers, and cannot say
matchConditions; so both the certificates and the configurations are ours, while the reviews are kopf's.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import orjson
import structlog
from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from syncer.api.names import Reason
from syncer.binds import Bind
from syncer.errors import TerminalError
from syncer.hub.certificates import KeyPair, ServingCertificate, server_context
from syncer.serving import clean_up
from syncer.webhooks.configurations import Registered
from syncer.webhooks.handlers import MUTATE, VALIDATE, RawClient
from syncer.webhooks.registration import CHECK_SECONDS, HttpCaller, Registration

ANY_PORT: Final = Bind("127.0.0.1", 0)
MAX_REVIEW_BYTES: Final = 16 << 20  # old and new object, 3 MiB each at most, in JSON
RENEWAL_SECONDS: Final = 3600.0  # between two looks at the certificate's age
_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - {bound: how this machine reaches it}
_REASONS: Final = {403: "Forbidden", 422: "Invalid", 503: "ServiceUnavailable"}

log = structlog.get_logger(__name__)


class _Resource(BaseModel):
    group: Literal["syncline.io"]
    version: str
    resource: str


class _Request(BaseModel):
    """What a review must hold before kopf sees it; everything else passes through untouched."""

    uid: Annotated[str, Field(min_length=1)]
    resource: _Resource
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    userInfo: dict[str, Any]
    object: dict[str, Any] | None = None
    oldObject: dict[str, Any] | None = None


class _Review(BaseModel):
    apiVersion: Literal["admission.k8s.io/v1"]
    kind: Literal["AdmissionReview"]
    request: _Request


class AdmissionServer:
    """Serves reviews, and keeps the webhook configurations pointing to a replica that does.

    Args:
        client: of the upstream cluster; without a guard, see `Registration`.
        authority: the installation's; one for all replicas.
        bind: port 0 takes any free one.
        url: how the API server reaches this process, or any replica; None means https://HOST:PORT as bound.
        leads: whether this replica leads at this moment.
        now: UTC clock.
        check_seconds: how soon a removed or changed configuration comes back.
    """

    def __init__(
        self,
        client: RawClient,
        authority: KeyPair,
        *,
        bind: Bind = ANY_PORT,
        url: str | None = None,
        leads: Callable[[], bool] = lambda: True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._client = client
        self._certificate = ServingCertificate(authority, server_context(client_certificates=False))
        self._bind = bind
        self._url = (url or "").rstrip("/")
        if not url and bind.host in _EVERY_ADDRESS:
            raise TerminalError(
                Reason.INVALID, f"--webhook-bind {bind} needs --webhook-url: say where upstream reaches it"
            )
        self._hosts = {bind.host, urlsplit(self._url).hostname or bind.host} - set(_EVERY_ADDRESS)
        self._leads = leads
        self._now = now
        self._check_seconds = check_seconds
        self._registration: Registration | None = None

    @property
    def problem(self) -> str:
        """Why this replica is not ready to be asked; "" once it is. May be called from any thread."""
        return self._registration.problem if self._registration is not None else "the webhooks are starting"

    async def __call__(self, fn: Any) -> AsyncGenerator[Any, None]:
        """kopf's protocol: yields the client config once it serves, and serves until it is closed."""
        self._certificate.refresh(self._hosts, now=self._now())
        application = web.Application(client_max_size=MAX_REVIEW_BYTES)
        application.router.add_post(f"/{{handler:{VALIDATE}|{MUTATE}}}", review_handler(fn))
        runner = web.AppRunner(application, handle_signals=False, access_log=None)
        await runner.setup()
        caller = HttpCaller()
        keeping: asyncio.Task[None] | None = None
        try:
            site = web.TCPSite(runner, *self._bind, ssl_context=self._certificate.context)
            await site.start()
            port = runner.addresses[0][1]
            own = Registered(
                self._url or f"https://{Bind(self._bind.host, port)}", self._certificate.authority.certificate
            )
            self._registration = Registration(
                self._client,
                own=own,
                address=f"https://{Bind(_EVERY_ADDRESS.get(self._bind.host, self._bind.host), port)}",
                hostname=urlsplit(own.url).hostname or self._bind.host,
                leads=self._leads,
                caller=caller,
                check_seconds=self._check_seconds,
            )
            keeping = asyncio.create_task(self._registration.run(), name="webhook registration")
            yield {"url": own.url, "caBundle": base64.b64encode(own.ca_bundle).decode()}
            while True:
                await asyncio.sleep(RENEWAL_SECONDS)
                self._renew()
        finally:
            self._registration = None
            if keeping is not None:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
            await caller.close()
            await clean_up(runner)

    def _renew(self) -> None:
        try:
            self._certificate.refresh(self._hosts, now=self._now())
        except ValueError as error:
            log.error("webhook certificate not renewed", error=str(error))


def review_handler(fn: Any) -> Callable[[web.Request], Any]:
    """HTTP around kopf's review function: 400 for what is no review, else always a review's answer."""

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        try:
            checked = _Review.model_validate_json(body)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(map(str, fault["loc"]))
            return web.Response(status=400, text=f"not an AdmissionReview: {where}: {fault['msg']}\n")
        wanted = checked.request.oldObject if checked.request.operation == "DELETE" else checked.request.object
        if wanted is None:
            return web.Response(
                status=400, text=f"not an AdmissionReview: {checked.request.operation} without its object\n"
            )
        answer = await fn(orjson.loads(body), webhook=request.match_info["handler"])
        status = answer["response"].get("status")
        if status and status.get("code") in _REASONS:
            status["reason"] = _REASONS[status["code"]]
        return web.json_response(answer)

    return handle
