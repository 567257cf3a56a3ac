"""The admission handlers: the pure rules, then the questions about the requesting user. Nothing is ever written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import kopf

from syncer.api.names import GROUP, VERSION, Reason
from syncer.api.placement import AnyPlacement
from syncer.api.policy import builtin_kind
from syncer.api.synctarget import SyncTarget
from syncer.errors import SyncError, TerminalError
from syncer.hub.auth import Access, ReviewClient, User, review
from syncer.webhooks.access import (
    AccessReviewer,
    Question,
    placement_questions,
    sync_target_questions,
)
from syncer.webhooks.findings import Context, Finding, ServedKind
from syncer.webhooks.rules import KINDS, check

VALIDATE: Final = "validate"  # handler ids, and the last step of the webhooks' URLs
MUTATE: Final = "mutate"


@dataclass(frozen=True)
class Known:
    """What the operator knows at the moment of a review."""

    targets: Callable[[], Mapping[str, SyncTarget]]
    placements: Callable[[], Sequence[AnyPlacement]] = tuple
    resolve: Callable[[str, str], ServedKind | None] = builtin_kind
    hub_id: Callable[[], str] = str

    def context(self) -> Context:
        """A snapshot for the rules."""
        # Validating admission comes after the API server's own validation of the schema.
        return Context(self.targets(), self.placements(), self.resolve, schema_checked=True, hub_id=self.hub_id())


class RawClient(Protocol):
    """The one call that is needed of `syncer.kube.client.ClusterClient`."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str | None = None,
    ) -> Any: ...


class SubjectAccessReviews:
    """Asks the upstream API server what a user may do."""

    def __init__(self, client: ReviewClient) -> None:
        self._client = client

    async def allowed(self, user: User, access: Access) -> bool:
        """One review, never from a cache; every failure to ask is raised."""
        return await review(self._client, user, access)


class AdmissionHandlers:
    """kopf's handlers for our kinds."""

    def __init__(self, review: AccessReviewer, known: Known) -> None:
        self._review = review
        self._known = known

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Put the handlers on a registry."""
        for model in KINDS.values():
            kopf.on.validate(GROUP, VERSION, model.plural, id=VALIDATE, registry=registry)(self.validate)
        kopf.on.mutate(GROUP, VERSION, SyncTarget.plural, id=MUTATE, registry=registry)(self.mutate)

    async def validate(
        self,
        *,
        userinfo: Mapping[str, Any],
        warnings: list[str],
        operation: str = "",
        old: Mapping[str, Any] | None = None,
        new: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Refuses by AdmissionError, 403, 422, or 503 where the user's rights cannot be asked for now."""
        if new is None or (operation == "UPDATE" and not _changes_intent(old, new)):
            return
        manifest = plain(new)
        try:
            context = self._known.context()
            findings = check(manifest, context)
            warnings.extend(str(finding) for finding in findings if finding.severity == "warning")
            errors = [finding for finding in findings if finding.severity == "error"]
            if not errors:
                errors = await self._refusals(user_of(userinfo), None if old is None else plain(old), manifest, context)
        except SyncError as error:
            raise kopf.AdmissionError(f"this cannot be checked now, try again: {error}", code=503) from error
        if errors:
            code = max((finding.code for finding in errors), key=(422, 403).index)
            raise kopf.AdmissionError("; ".join(map(str, errors)), code=code)

    async def _refusals(
        self, user: User, old: Mapping[str, Any] | None, new: Mapping[str, Any], context: Context
    ) -> list[Finding]:
        model = KINDS[new["kind"]].parse(new)
        if isinstance(model, SyncTarget):
            questions = list(sync_target_questions(_parsed(old), model))
        else:
            questions = list(placement_questions(model, context))
        answers = await asyncio.gather(*(self._review.allowed(user, question.access) for question in questions))
        return list(_denied(user, (question for question, yes in zip(questions, answers, strict=True) if not yes)))

    def mutate(self, *, body: Mapping[str, Any], patch: kopf.Patch, operation: str = "", **_: Any) -> None:
        """Writes out the default that a CRD cannot: the kubeconfig Secret is named like the SyncTarget."""
        direct = ((body.get("spec") or {}).get("connection") or {}).get("direct")
        name = (body.get("metadata") or {}).get("name")
        if operation == "DELETE" or direct is None or not name:
            return
        reference = {
            "name": name,
            **{key: value for key, value in (direct.get("kubeconfigSecretRef") or {}).items() if value},
        }
        patch["spec"] = {"connection": {"direct": {"kubeconfigSecretRef": reference}}}


def _parsed(old: Mapping[str, Any] | None) -> SyncTarget | None:
    """The stored SyncTarget; None where there is none or today's model cannot read it, so that more is asked."""
    with suppress(TerminalError):
        return None if old is None else SyncTarget.parse(old)
    return None


def _changes_intent(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
    """Whether an update asks for anything new: labels, finalizers and objects on their way out do not."""
    if (new.get("metadata") or {}).get("deletionTimestamp"):
        return False
    return old is None or plain(old.get("spec")) != plain(new.get("spec"))


def plain(value: Any) -> Any:
    """Dicts and lists instead of kopf's views."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def user_of(userinfo: Mapping[str, Any]) -> User:
    """The user of an AdmissionReview."""
    name, groups = userinfo.get("username") or "", tuple(userinfo.get("groups") or ())
    return User(name, groups, userinfo.get("uid") or "", userinfo.get("extra") or {})


def _denied(user: User, questions: Iterable[Question]) -> Iterable[Finding]:
    for question in questions:
        text = f'Forbidden: user "{user.name}" may not {question}'
        if question.access.verb == "use" and not question.access.name:
            text += (
                "; a selection by label or all: true may reach every target, so it takes the right to use all of them"
            )
        if question.access.verb == "use":
            text += '; an administrator grants it by a ClusterRole with verb "use" on synctargets'
        yield Finding(question.path, text, reason=Reason.FORBIDDEN)
