"""What an API server's refusal means, and who acts next.

Every class is an `ApiError` and belongs to one family of `syncer.errors`, so that callers may look at either. Messages
never carry credentials. About Secrets a server's text is never repeated at all: webhooks and validation quote what they
refuse, and messages end up in Events and statuses. What it means is said in our words, with the paths of the fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from syncer.api.names import Reason
from syncer.errors import ConflictError, SyncError, TerminalError, TransientError

MESSAGE_LIMIT: Final = 2048  # characters; a 422 on a big object repeats itself for every item
LONGEST_RETRY_AFTER_SECONDS: Final = 300.0

_GOT_VALUE = re.compile(r"(expected [^,\n]{1,80}, got )(?![a-z]+(?:$|[\s;]))[^\n]*")  # a type's name may stay
_MANAGER = re.compile(r'conflict with "((?:[^"\\]|\\.)*)"')
# Both answer 500 and mean that the object does not fit the schema: the first before merging, the second after it.
_MISFITS: Final = ("failed to create typed patch object", "failed to convert new object")
_WRONG_TYPE = re.compile(r"(\.[^\s:;]*): expected ")
_NOT_DECLARED = re.compile(r"(\.[^\s:;]*): field not declared in schema")
_DUPLICATE = re.compile(r"(\.[^\s:;]*): duplicate entries for key (\[.*?\])(?=$|[\s,;])")
_IMMUTABLE: Final = ("immutable", "updates to", "may not change")
_TOO_LARGE: Final = (
    "request is too large",
    "etcdserver: request is too large",
    "trying to send message larger than max",
    "may not be more than 1048576 bytes",  # ConfigMaps and Secrets, as 422
)


_VERBS: Final = ("get", "list", "watch", "create", "update", "patch", "delete")
# What a refusal about a Secret is for, found in the server's text and told in ours; the first that fits.
_MEANINGS: Final = (
    ("denied the request", "an admission webhook refuses it"),
    ("failed calling webhook", "an admission webhook does not answer"),
    ("ValidatingAdmissionPolicy", "an admission policy refuses it"),
    ("exceeded quota", "a resource quota is exceeded"),
    ("is being terminated", "its namespace is being deleted"),
    ("not found", "not found"),
    ("already exists", "it exists already"),
    *((f"cannot {verb} resource", f"this identity may not {verb} Secrets") for verb in _VERBS),
    ("is too large", "it is too large"),
    ("larger than max", "it is too large"),
    ("may not be more than", "it is too large"),
    ("object has been modified", "it was changed meanwhile"),
    ("Precondition failed", "it is another object than expected"),
    ("conflict with ", "another field manager owns this"),
    *((word, "field is immutable") for word in _IMMUTABLE),
    ("not declared in schema", "field not declared in schema"),
    (": expected ", "a value is of the wrong type"),
    ("illegal base64", "a value is no base64"),
    ("Required value", "a value is required"),
    ("Too long", "a value is too long"),
    ("Unsupported value", "a value is not supported"),
    ("Invalid value", "a value is invalid"),
)
_WORD = re.compile(r"[A-Za-z]{1,64}")
_FIELD = re.compile(r"[\w.\-\[\]/]{1,256}")  # `data[tls.key]`, `.metadata.labels`; nothing in quotes, nothing long
_MANAGER_NAME = re.compile(r"[\w.\-/]{1,128}")


class Cause(NamedTuple):
    """One entry of `status.details.causes`."""

    reason: str  # FieldManagerConflict, FieldValueInvalid, …
    field: str  # `.spec.containers[name="web"].image` for conflicts, `spec.replicas` for validation
    message: str

    @property
    def manager(self) -> str | None:
        """The other field manager of a `FieldManagerConflict`."""
        found = _MANAGER.search(self.message)
        return found.group(1) if found else None


class ApiError(SyncError):
    """The API server refused a request, or could not be asked.

    Attributes:
        status: HTTP status; 0 where no answer came.
        reason: the server's own word (`NotFound`, `Conflict`, …); one of `Reason` in the terminal classes.
        message: for people; bounded, without credentials.
        causes: details, in the server's order.
        retry_after_seconds: floor for the next try as told by the server.
        pointer: the server's path of the field at fault, or None.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        causes: tuple[Cause, ...] = (),
        retry_after_seconds: float | None = None,
        pointer: str | None = None,
    ) -> None:
        Exception.__init__(self, f"{status} {reason}: {message}" if status else message)
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes
        self.retry_after_seconds = retry_after_seconds
        self.pointer = pointer


class NotFound(ApiError, ConflictError):
    """404. A proven absence only of what `kind_of_missing` names.

    `object`: the named object. `namespace`: the namespace that a create went into. `resource`: the API itself is not
    served, which says nothing about objects.
    """

    kind_of_missing: Literal["object", "namespace", "resource"] = "object"


class Conflict(ApiError, ConflictError):
    """409: another version, another UID, or a field of another manager (`field_conflicts`)."""

    @property
    def field_conflicts(self) -> tuple[Cause, ...]:
        """The fields that other managers own, as the server names them."""
        return tuple(cause for cause in self.causes if cause.reason == "FieldManagerConflict")


class AlreadyExists(Conflict):
    """409 on create, or on an apply that asked for absence."""


class NamespaceTerminating(ApiError, ConflictError):
    """403 because the namespace is being deleted; the object may be created once it is gone and made again."""


class Gone(ApiError, TransientError):
    """410: the version asked for is compacted away; list again."""


class TooManyRequests(ApiError, TransientError):
    """429; `retry_after_seconds` is set to at least one second."""


class ServerError(ApiError, TransientError):
    """5xx and 408 that may pass."""


class WebhookFailed(ServerError):
    """5xx because a webhook is down or fails: the server works, and objects that the webhook does not see may go on."""


class Unauthorized(ApiError, TransientError):
    """401: the credentials are not, or no longer, accepted; they may be refreshed."""


class Unreachable(ApiError, TransientError):
    """No usable answer: refused, reset, timed out, or TLS failed. A write may or may not have happened."""


class MalformedAnswer(ApiError, TransientError):
    """The server, or something in between, sent what is not the Kubernetes API."""


class Forbidden(ApiError, TerminalError):
    """403: RBAC refuses."""


class AdmissionDenied(ApiError, TerminalError):
    """A quota, policy or webhook refuses, by 400, 403 or 422; it may say yes later though nothing of ours changed."""


class Invalid(ApiError, TerminalError):
    """422: the object breaks a rule; `causes` name the fields."""

    @property
    def other_uid(self) -> bool:
        """True if the object now living under the name has another UID than the one sent."""
        return any(cause.field == "metadata.uid" for cause in self.causes)


class BadRequest(ApiError, TerminalError):
    """400 and every other 4xx that no class names: the request itself is wrong for this server."""


class TooLarge(ApiError, TerminalError):
    """413, or etcd refused the size."""


class SchemaMismatch(ApiError, TerminalError):
    """The object does not fit the server's schema: terminal although it is a 500.

    Only the first field at fault is named; there may be more.

    Attributes:
        pointer: the server's path, `.spec.template.spec.foo`; None where it does not say.
        problem: `undeclared` (the target does not know the field), `duplicate` (a keyed list names one item twice), or
            `type` (a value that the field cannot hold: text for a number, no quantity, no base64).
        duplicate_key: for `duplicate`, the key as the server writes it, `[name="A"]`.
    """

    problem: Literal["undeclared", "duplicate", "type"] = "type"
    duplicate_key: str | None = None


class _Details(msgspec.Struct):
    name: str = ""
    kind: str = ""
    uid: str = ""
    causes: list[dict[str, Any]] | None = None
    retryAfterSeconds: float = 0


class Status(msgspec.Struct):
    """The wire form of `meta/v1.Status`."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: _Details | None = None


_STATUS = msgspec.json.Decoder(Status)
# apiserver's quota and webhook admission plugins and its ValidatingAdmissionPolicy
_DENIED: Final = re.compile(
    r"is forbidden: exceeded quota: |^admission webhook \"[^\"]{1,253}\" denied the request|"
    r"ValidatingAdmissionPolicy '[^']{1,253}' with binding '[^']{1,253}' denied request: "
)
# What a webhook refuses with a 5xx of its own is a fault of the webhook, too.
_WEBHOOK_FAILED: Final = re.compile(
    r"(?:^|: )failed calling webhook \"[^\"]{1,253}\"|"
    r"(?:^|: )conversion webhook for [^,]{1,512}, Kind=\w{1,63} failed: |"
    r"^admission webhook \"[^\"]{1,253}\" denied the request"
)
_SIMPLE: Final[Mapping[int, type[ApiError]]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: ServerError,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    422: Invalid,
    429: TooManyRequests,
}
_TERMINAL_REASONS: Final[Mapping[type[ApiError], Reason]] = {
    Forbidden: Reason.FORBIDDEN,
    AdmissionDenied: Reason.ADMISSION_DENIED,
    Invalid: Reason.INVALID,
    BadRequest: Reason.INVALID,
    TooLarge: Reason.OBJECT_TOO_LARGE,
}


def parse_status(body: bytes | msgspec.Raw) -> Status | None:
    """Read a `Status`; None for anything else, such as the text `404 page not found`."""
    try:
        return _STATUS.decode(body)
    except msgspec.DecodeError:
        return None


def error_from_status(
    code: int, status: Status | None, *, resource: str = "", retry_after: str | None = None, fallback: str = ""
) -> ApiError:
    """Turn an answer of 400 or above, or an ERROR event of a watch, into the matching error.

    Args:
        code: the HTTP status; of an ERROR event its own `code`.
        status: the decoded body, None where it was not a `Status`.
        resource: plural that was asked for; tells a missing namespace from a missing object, and that it was a Secret.
        retry_after: value of the `Retry-After` header; only the form in seconds is used by API servers. It counts up to
            `LONGEST_RETRY_AFTER_SECONDS`: no server decides that it is never asked again.
        fallback: message where the body has none.
    """
    details = (status.details if status else None) or _Details()
    secret = resource == "secrets" or details.kind in ("secrets", "Secret")
    said = status.message if status else fallback
    causes = tuple(
        Cause(str(c.get("reason", "")), str(c.get("field", "")), str(c.get("message", "")))
        for c in details.causes or ()
    )
    reason = status.reason if status else ""
    seconds = min(_seconds(retry_after) or details.retryAfterSeconds, LONGEST_RETRY_AFTER_SECONDS) or None
    misfit = code >= 500 and any(text in said for text in _MISFITS)
    kind = SchemaMismatch if misfit else _classify(code, reason, said, causes)
    if secret:
        reason = reason if _WORD.fullmatch(reason) else kind.__name__
        message, causes = _meaning(said, causes), tuple(_told(cause) for cause in causes)
    else:
        message, causes = clean(said), tuple(cause._replace(message=clean(cause.message)) for cause in causes)
    if misfit:
        return _schema_mismatch(code, said, message, causes, secret=secret)
    if kind is TooManyRequests:
        seconds = max(seconds or 1.0, 1.0)
    error = kind(
        code,
        _TERMINAL_REASONS.get(kind, reason or kind.__name__),
        message,
        causes=causes,
        retry_after_seconds=seconds,
        pointer=next((cause.field for cause in causes if cause.field), None),
    )
    if isinstance(error, NotFound):
        error.kind_of_missing = _missing(details, resource)
    return error


def _classify(code: int, reason: str, message: str, causes: tuple[Cause, ...]) -> type[ApiError]:
    """The class for one refusal; 4xx without a class of its own is `BadRequest`."""
    if any(text in message for text in _TOO_LARGE):
        return TooLarge
    if code == 409 and reason == "AlreadyExists":
        return AlreadyExists
    if code == 403 and any(cause.reason == "NamespaceTerminating" for cause in causes):
        return NamespaceTerminating
    if code in (400, 403, 422) and _DENIED.search(message) and not any(cause.field for cause in causes):
        return AdmissionDenied
    if code >= 500 and _WEBHOOK_FAILED.search(message):
        return WebhookFailed
    return _SIMPLE.get(code) or (ServerError if code >= 500 or code == 0 else BadRequest)


def _missing(details: _Details, resource: str) -> Literal["object", "namespace", "resource"]:
    if details.kind == "namespaces" and resource != "namespaces":
        return "namespace"
    return "object" if details.name else "resource"


def _schema_mismatch(code: int, said: str, message: str, causes: tuple[Cause, ...], *, secret: bool) -> SchemaMismatch:
    """Args: said: the server's text, which is looked at only; message: what is told."""
    undeclared, duplicate = _NOT_DECLARED.search(said), _DUPLICATE.search(said)
    found = undeclared or duplicate or _WRONG_TYPE.search(said)
    reason = Reason.FIELD_PRUNED if undeclared else Reason.INVALID
    pointer = found.group(1) if found else None
    if secret and pointer is not None:
        pointer = pointer if _FIELD.fullmatch(pointer) else None
        message = f"{pointer}: {message}" if pointer else message
    error = SchemaMismatch(code, reason, message, causes=causes, pointer=pointer)
    error.problem = "undeclared" if undeclared else "duplicate" if duplicate else "type"
    error.duplicate_key = duplicate.group(2) if duplicate and not (undeclared or secret) else None
    return error


def _meaning(said: str, causes: tuple[Cause, ...] = ()) -> str:
    """What a refusal about a Secret says, without a word of the server's but the paths of fields."""
    if causes:
        return "; ".join(
            f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in map(_told, causes)
        )
    return next((meaning for text, meaning in _MEANINGS if text in said), "refused; the reason may quote the Secret")


def _told(cause: Cause) -> Cause:
    """A cause about a Secret that may be shown; another field manager's name is kept, since it says whom to ask."""
    reason = cause.reason if _WORD.fullmatch(cause.reason) else ""
    field = cause.field if _FIELD.fullmatch(cause.field) else ""
    meaning = _meaning(cause.message)
    if reason == "FieldManagerConflict" and cause.manager and _MANAGER_NAME.fullmatch(cause.manager):
        meaning = f'conflict with "{cause.manager}"'
    return Cause(reason, field, meaning)


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None


def clean(message: str) -> str:
    """Bound a server's message and take out the values that it repeats."""
    text = _GOT_VALUE.sub(r"\1a value", message)
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"
