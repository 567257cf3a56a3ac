"""Who is registered upstream to answer admission: a replica that answers, the leader where there is a choice.

Every replica serves reviews, under one authority. With one address for all of them (`--webhook-url`) they register the
same thing. Without it the configurations name one replica: the leader, or, once that one does not answer, whoever
notices first, which is long before its lease ends.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import aiohttp
import structlog

from syncer.api.names import GROUP, VERSION
from syncer.errors import SyncError
from syncer.kube.connector import TcpConnector
from syncer.webhooks.configurations import Registered, publish, registered
from syncer.webhooks.handlers import VALIDATE, RawClient

LOOK_SECONDS: Final = 1.0
START_SECONDS: Final = 0.1  # between two looks until reviews are answered and somebody is registered
ANSWER_SECONDS: Final = 2.0
CHECK_SECONDS: Final = 60.0  # how soon a removed or changed configuration comes back
MISSES: Final = 2  # unanswered calls in a row, after which another replica registers itself
# A replica that cannot reach another one which the API server reaches must not take turns with it.
TAKE_AGAIN_SECONDS: Final = 600.0

log = structlog.get_logger(__name__)


class Caller(Protocol):
    """Calls webhooks as the API server would."""

    async def reviews(self, address: str, hostname: str, ca_bundle: bytes) -> bool:
        """Whether a review is answered at that base URL."""
        ...

    async def answers(self, url: str, ca_bundle: bytes) -> bool:
        """Whether anything is answered there; cheaper, and shows in no log."""
        ...


class Registration:
    """Keeps the webhook configurations pointing to a replica that answers.

    Args:
        client: of the upstream cluster; without a guard, since replicas that do not lead may register themselves.
        own: what this replica would register.
        address: where this process itself reaches its listener, without a trailing slash.
        leads: whether this replica leads at this moment.
    """

    def __init__(
        self,
        client: RawClient,
        *,
        own: Registered,
        address: str,
        hostname: str,
        leads: Callable[[], bool],
        caller: Caller,
        check_seconds: float = CHECK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._own = own
        self._address = address
        self._hostname = hostname
        self._leads = leads
        self._caller = caller
        self._check_seconds = check_seconds
        self._clock = clock
        self._reviews = False
        self._led = False
        self._at: Registered | None = None  # who is registered, as last seen
        self._checked = float("-inf")
        self._misses = 0
        self._silent = "who is registered is not known yet"
        self._take_from = float("-inf")
        self._error = ""

    @property
    def problem(self) -> str:
        """Why this replica is not ready to be asked; "" once it is. May be called from any thread."""
        if not self._reviews:
            return "the webhooks do not answer yet"
        if self._leads() and self._at != self._own:
            return self._error or "the webhooks are not registered yet"
        return self._silent

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            # kopf is ready within moments after its listener, and the election decides a moment after the start.
            starting = not self._reviews or self._at is None
            await asyncio.sleep(
                min(START_SECONDS if starting and not self._error else LOOK_SECONDS, self._check_seconds)
            )

    async def look(self) -> None:
        """One look: at our own listener, at the configurations when due, at the replica that they name."""
        if not self._reviews:
            # kopf takes a moment to learn our kinds; nobody is sent here before that.
            self._reviews = await self._caller.reviews(self._address, self._hostname, self._own.ca_bundle)
            if not self._reviews:
                return
        leads = self._leads()
        if leads != self._led:
            self._led, self._checked = leads, float("-inf")
        try:
            if leads:
                await self._lead()
            else:
                await self._stand_by()
            self._error = ""
        except SyncError as error:
            if str(error) != self._error:
                log.warning("webhook configurations not written", error=str(error), url=self._own.url)
            self._error = str(error)

    async def _lead(self) -> None:
        if self._at == self._own and self._clock() < self._checked + self._check_seconds:
            return
        await self._register("this replica leads")

    async def _stand_by(self) -> None:
        if self._clock() >= self._checked + self._check_seconds:
            await self._read()
        if self._at is None or self._at.url == self._own.url or await self._answers(self._at):
            self._misses, self._silent = 0, ""
            return
        if self._clock() < self._take_from:
            self._silent = ""  # it took back what was taken from it, so the API server reaches it
            return
        seen = self._at
        self._misses, self._silent = self._misses + 1, f"the registered address {seen.url} does not answer"
        if self._misses < MISSES:
            return
        await self._read()  # somebody else may have registered itself meanwhile
        self._misses = 0
        if self._at == seen and not self._leads():
            self._take_from = self._clock() + TAKE_AGAIN_SECONDS
            await self._register(f"{seen.url} does not answer")

    async def _answers(self, other: Registered) -> bool:
        return await self._caller.answers(f"{other.url}/{VALIDATE}", other.ca_bundle)

    async def _read(self) -> None:
        self._at, self._checked = await registered(self._client), self._clock()

    async def _register(self, why: str) -> None:
        self._checked = float("-inf")  # a failure is tried again at the next look
        if await publish(self._client, *self._own):
            log.info("webhooks registered", url=self._own.url, why=why)
        self._at, self._checked, self._silent = self._own, self._clock(), ""


class HttpCaller:
    """Calls webhooks over HTTPS; connections are kept. `close` it in the loop that it ran in."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[bytes, ssl.SSLContext] = {}  # {CA bundle: what trusts it}; few, authorities hardly change

    async def reviews(self, address: str, hostname: str, ca_bundle: bytes) -> bool:
        """A review that admits nothing: an update of an object on its way out."""
        leaving = {"metadata": {"name": "self-test", "deletionTimestamp": datetime.now(UTC).isoformat()}}
        request = {
            "uid": "self-test",
            "resource": {"group": GROUP, "version": VERSION, "resource": "clusterplacements"},
            "operation": "UPDATE",
            "userInfo": {},
            "object": leaving,
            "oldObject": leaving,
        }
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
        status, answer = await self._call("POST", f"{address}/{VALIDATE}", ca_bundle, json=review, hostname=hostname)
        return status == 200 and answer.get("response", {}).get("allowed") is True

    async def answers(self, url: str, ca_bundle: bytes) -> bool:
        status, _ = await self._call("GET", url, ca_bundle)
        return status > 0

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _call(
        self, method: str, url: str, ca_bundle: bytes, *, json: Any = None, hostname: str | None = None
    ) -> tuple[int, Any]:
        """(status, JSON of a 200); status 0 where nobody answers in time."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=TcpConnector(),
                timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            context = self._contexts.get(ca_bundle)
            if context is None:
                context = self._contexts[ca_bundle] = ssl.create_default_context(cadata=ca_bundle.decode("ascii"))
            async with self._session.request(
                method, url, json=json, ssl=context, server_hostname=hostname, allow_redirects=False
            ) as answer:
                return answer.status, await answer.json() if answer.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):  # ValueError: no PEM, no URL, no JSON
            return 0, None
