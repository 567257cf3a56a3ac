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
from syncer.errors import SyncError, TerminalError
from syncer.settings import Bind
from syncer.webhooks.certificates import ServingCertificates
from syncer.webhooks.configurations import publish
from syncer.webhooks.handlers import MUTATE, VALIDATE, RawClient

ANY_PORT: Final = Bind("127.0.0.1", 0)
MAX_REVIEW_BYTES: Final = 16 << 20  # old and new object, 3 MiB each at most, in JSON
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
    """Serves reviews and keeps the webhook configurations pointing here.

    Args:
        client: of the upstream cluster.
        bind: port 0 takes any free one.
        url: how the API server reaches this process; None means https://HOST:PORT as bound.
        now: UTC clock.
        check_seconds: how soon a removed or changed configuration comes back.

    Attributes:
        error: why the configurations could not be written at the last try; None when all is well.
    """

    def __init__(
        self,
        client: RawClient,
        *,
        bind: Bind = ANY_PORT,
        url: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        check_seconds: float = 60.0,
    ) -> None:
        self._client = client
        self._bind = bind
        self._url = (url or "").rstrip("/")
        if not url and bind.host in ("0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
            raise TerminalError(
                Reason.INVALID, f"--webhook-bind {bind} needs --webhook-url: say where upstream reaches it"
            )
        self._now = now
        self._check_seconds = check_seconds
        self.error: str | None = None

    async def __call__(self, fn: Any) -> AsyncGenerator[Any, None]:
        """kopf's protocol: yields the client config once it serves, and serves until it is closed."""
        host = self._bind.host
        hosts = {host, urlsplit(self._url).hostname or host}
        certificates = ServingCertificates(tuple(sorted(hosts)), now=self._now())
        application = web.Application(client_max_size=MAX_REVIEW_BYTES)
        application.router.add_post(f"/{{handler:{VALIDATE}|{MUTATE}}}", review_handler(fn))
        runner = web.AppRunner(application, handle_signals=False, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, *self._bind, ssl_context=certificates.context)
            await site.start()
            url = self._url or f"https://{Bind(host, runner.addresses[0][1])}"
            await self._keep(url, certificates)
            yield {"url": url, "caBundle": base64.b64encode(certificates.ca_bundle).decode()}
            while True:
                await asyncio.sleep(self._check_seconds)
                await self._keep(url, certificates)
        finally:
            await runner.cleanup()

    async def _keep(self, url: str, certificates: ServingCertificates) -> None:
        if certificates.is_due(now=self._now()):
            certificates.renew(now=self._now())
        try:
            await publish(self._client, url, certificates.ca_bundle)
            self.error = None
        except SyncError as error:
            if str(error) != self.error:
                log.warning("webhook configurations not written", error=str(error), url=url)
            self.error = str(error)


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
