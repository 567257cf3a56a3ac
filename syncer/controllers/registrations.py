"""Works on ClusterRegistrations while this replica leads: approves, denies, expires, signs, and creates SyncTargets.

Caches say that there may be something to do; what is done is decided again on what the API server says right then, and
every write is conditional on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import orjson
import structlog

from syncer.api.common import ApiObject, Condition
from syncer.api.names import API_VERSION, STATUS_MANAGER
from syncer.api.registration import ClusterRegistration, Phase
from syncer.api.synctarget import SyncTarget
from syncer.controllers.registration import (
    ApprovalPolicy,
    Approve,
    Bind,
    CreateTarget,
    Known,
    Settle,
    Step,
    Wait,
    decide,
)
from syncer.errors import ConflictError, SyncError, TerminalError
from syncer.events import EventRecorder, Outcome
from syncer.hub.agent_certificates import check_request, issue
from syncer.hub.bootstrap import SECRET_TYPE, forgettable, read_grant
from syncer.hub.certificates import KeyPair
from syncer.hub.registered import REGISTRATIONS, SYNC_TARGETS, Registered, parse, regarding
from syncer.kube.client import MERGE_PATCH, ClusterClient
from syncer.kube.errors import AlreadyExists, NotFound
from syncer.kube.objects import ResourceInfo, decode_list
from syncer.metrics import Metrics

RETRY_SECONDS: Final = 2.0  # after an API server that did not answer
REFUSED_SECONDS: Final = 30.0  # after a SyncTarget that could not be created
TIDY_SECONDS: Final = 600.0  # between two looks for tokens that are over
PAGE: Final = "500"
SECRETS_PATH: Final = "/api/v1/namespaces/syncline-system/secrets"

M = TypeVar("M", bound=ApiObject)

log = structlog.get_logger()


class RegistrationController:
    """Brings every ClusterRegistration to its phase. `run` may be cancelled at any moment."""

    def __init__(
        self,
        upstream: ClusterClient,
        registered: Registered,
        authority: KeyPair,
        policy: ApprovalPolicy,
        events: EventRecorder,
        metrics: Metrics,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Args: upstream: guarded by the lease. authority: the agents' own."""
        self._upstream = upstream
        self._registered = registered
        self._authority = authority
        self._policy = policy
        self._events = events
        self._metrics = metrics
        self._now = now
        self._wake = asyncio.Event()
        self._refused: dict[str, float] = {}  # {registration: loop time before which no SyncTarget is tried again}

    async def run(self) -> None:
        """Work until cancelled; no error ends it."""
        loop = asyncio.get_running_loop()
        self._registered.on_change.append(self._wake.set)
        tidy_at = loop.time()
        try:
            while True:
                pause: float = RETRY_SECONDS
                try:
                    if self._registered.synced:
                        pause = await self.work()
                    if loop.time() >= tidy_at:
                        await self._tidy()
                        tidy_at = loop.time() + TIDY_SECONDS
                except SyncError as error:
                    log.warning("registrations not worked on", error=str(error))
                except Exception:  # one registration must not end the leader
                    log.exception("registrations not worked on")
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    continue
                self._wake.clear()
        finally:
            self._registered.on_change.remove(self._wake.set)

    async def work(self) -> float:
        """Everything that is due now. Returns seconds until something may be due again."""
        pauses = [TIDY_SECONDS]
        cached = Known(self._registered.registrations, self._registered.targets)
        due = []
        for name, one in list(cached.registrations.items()):
            step = decide(one, cached, self._policy, now=self._now())
            if not isinstance(step, Wait):
                due.append(name)
            elif step.seconds is not None:
                pauses.append(step.seconds)
        if due:
            known = Known(
                await self._read(REGISTRATIONS, ClusterRegistration), await self._read(SYNC_TARGETS, SyncTarget)
            )
            for name in sorted(due):
                pauses.append(await self._one(name, known))
        return min(pauses)

    async def _one(self, name: str, known: Known) -> float:
        """Steps of one registration until it rests; `known` follows what was written."""
        while (one := known.registrations.get(name)) is not None:
            step = decide(one, known, self._policy, now=self._now())
            if isinstance(step, Wait):
                return TIDY_SECONDS if step.seconds is None else step.seconds
            if isinstance(step, CreateTarget) and (rest := self._rest(name)) > 0:
                return rest
            try:
                await self._perform(one, step, known)
            except (ConflictError, NotFound):
                return RETRY_SECONDS  # it moved meanwhile: look again
        return TIDY_SECONDS

    def _rest(self, name: str) -> float:
        return self._refused.get(name, 0.0) - asyncio.get_running_loop().time()

    async def _perform(self, one: ClusterRegistration, step: Step, known: Known) -> None:
        match step:
            case Settle(phase, reason, message):
                await self._write(one, known, phase=phase, reason=reason, message=message, approved=(phase, reason))
            case Approve(generation, reason, message):
                certificate = issue(
                    self._authority,
                    check_request(one.spec.request, one.spec.target_name),
                    target=one.spec.target_name,
                    cluster_uid=one.spec.cluster_uid,
                    registration_uid=one.metadata.uid,
                    generation=generation,
                    now=self._now(),
                )
                told = {"registrationGeneration": generation, "certificate": certificate.decode("ascii")}
                await self._write(
                    one,
                    known,
                    phase="Approved",
                    reason=reason,
                    message=message,
                    approved=("Approved", reason),
                    more=told,
                )
            case CreateTarget():
                await self._create_target(one, known)
            case Bind(target_uid):
                bound = self._condition(one, "TargetBound", "True", "Bound", f"SyncTarget {one.spec.target_name}")
                await self._write(one, known, more={"targetUID": target_uid}, conditions=(bound,))

    async def _create_target(self, one: ClusterRegistration, known: Known) -> None:
        name = one.spec.target_name
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "SyncTarget",
            "metadata": {"name": name, "labels": dict(one.spec.labels)},
            "spec": {"connection": {"tunnel": {}}},
        }
        try:
            created = await self._upstream.create(SYNC_TARGETS, "", orjson.dumps(manifest))
        except AlreadyExists:
            raise ConflictError(f"SyncTarget {name} exists already") from None
        except TerminalError as error:
            log.warning("target not created", target=name, error=str(error))
            self._refused[one.metadata.name] = asyncio.get_running_loop().time() + REFUSED_SECONDS
            failed = self._condition(one, "TargetBound", "False", str(error.reason), str(error))
            if failed not in one.status.conditions:
                await self._write(one, known, conditions=(failed,))
            return
        log.info("target registered", target=name, cluster_uid=one.spec.cluster_uid)
        model = parse(SyncTarget, created)
        if model is not None:
            _known_targets(known)[name] = model

    async def _write(
        self,
        one: ClusterRegistration,
        known: Known,
        *,
        phase: Phase | None = None,
        reason: str = "",
        message: str = "",
        approved: tuple[Phase, str] | None = None,
        more: dict[str, Any] | None = None,
        conditions: tuple[Condition, ...] = (),
    ) -> None:
        """Write what changed of the status, if the registration is still the one that was decided on."""
        if approved is not None:
            truth = {"Pending": "Unknown", "Approved": "True"}.get(approved[0], "False")
            conditions = (self._condition(one, "Approved", truth, approved[1], message), *conditions)
        kinds = {found.type for found in conditions}
        merged = (*(found for found in one.status.conditions if found.type not in kinds), *conditions)
        status: dict[str, Any] = {
            "observedGeneration": one.metadata.generation,
            "conditions": [found.to_wire() for found in merged],
            **(more or {}),
        }
        if phase is not None:
            status |= {"phase": phase, "reason": reason, "message": message}
        body = {
            "metadata": {"resourceVersion": one.metadata.resource_version, "uid": one.metadata.uid},
            "status": status,
        }
        written = await self._upstream.patch(
            REGISTRATIONS,
            "",
            one.metadata.name,
            orjson.dumps(body),
            MERGE_PATCH,
            subresource="status",
            manager=STATUS_MANAGER,
        )
        if phase is not None:
            self._tell(one, phase, reason, message)
        model = parse(ClusterRegistration, written)
        if model is not None:
            _known_registrations(known)[one.metadata.name] = model

    def _tell(self, one: ClusterRegistration, phase: Phase, reason: str, message: str) -> None:
        """It has come to this phase: written down, counted, shown."""
        log.info(
            "registration",
            name=one.metadata.name,
            target=one.spec.target_name,
            cluster_uid=one.spec.cluster_uid,
            phase=phase,
            reason=reason,
        )
        if phase != "Pending":
            self._metrics.registrations_total.labels(phase.lower()).inc()
        outcome = Outcome(reason, message, warning=phase in ("Denied", "Expired"))
        self._events.outcome(regarding(one.metadata.name, one.metadata.uid), "phase", outcome)

    def _condition(self, one: ClusterRegistration, kind: str, truth: str, reason: str, message: str) -> Condition:
        before = next((found for found in one.status.conditions if found.type == kind), None)
        since = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        if before is not None and before.status == truth:
            since = before.last_transition_time
        return Condition.model_validate(
            {
                "type": kind,
                "status": truth,
                "reason": reason,
                "message": message[:1024],
                "last_transition_time": since,
                "observed_generation": one.metadata.generation,
            }
        )

    async def _read(self, info: ResourceInfo, model: type[M]) -> dict[str, M]:
        """All of a kind, from the API server itself."""
        found: dict[str, M] = {}
        token = ""
        while True:
            params = {"limit": PAGE} | ({"continue": token} if token else {})
            answer = await self._upstream.request("GET", info.path(), params=params, resource=info.resource)
            page = decode_list(answer.body, manager=None)
            for item in page.objects:
                parsed = parse(model, item)
                if parsed is not None:
                    found[item.name] = parsed
            token = page.continue_token
            if not token:
                return found

    async def _tidy(self) -> None:
        """Tokens that nobody can use any more are deleted."""
        params = {"fieldSelector": f"type={SECRET_TYPE}", "limit": PAGE}
        for secret in (await self._upstream.get_json(SECRETS_PATH, params=params)).get("items") or ():
            grant = read_grant({"type": SECRET_TYPE, **secret})
            if grant is not None and forgettable(grant, self._now()):
                try:
                    await self._upstream.request("DELETE", f"{SECRETS_PATH}/{secret['metadata']['name']}")
                except NotFound:
                    continue


def _known_registrations(known: Known) -> dict[str, ClusterRegistration]:
    assert isinstance(known.registrations, dict)
    return known.registrations


def _known_targets(known: Known) -> dict[str, SyncTarget]:
    assert isinstance(known.targets, dict)
    return known.targets
