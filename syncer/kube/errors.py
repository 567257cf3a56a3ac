"""What an API server's refusal means, and who acts next.

Every class is an `ApiError` and belongs to one family of `syncer.errors`, so that callers may look at either. Messages
never carry credentials and, for Secrets, no values either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from syncer.api.names import Reason
from syncer.errors import ConflictError, SyncError, TerminalError, TransientError

MESSAGE_LIMIT: Final = 2048  # characters; a 422 on a big object repeats itself for every item

_GOT_VALUE = re.compile(r"(expected [^,\n]{1,80}, got )(?![a-z]+(?:$|[\s;]))[^\n]*")  # a type's name may stay
_INVALID_VALUE = re.compile(
    r'((?:Invalid|Unsupported|Duplicate) value: )("(?:[^"\\]|\\.)*"|\{.*?\}|\[.*?\]|[^\s:,;]+)', re.DOTALL
)
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


class Unauthorized(ApiError, TransientError):
    """401: the credentials are not, or no longer, accepted; they may be refreshed."""


class Unreachable(ApiError, TransientError):
    """No usable answer: refused, reset, timed out, or TLS failed. A write may or may not have happened."""


class MalformedAnswer(ApiError, TransientError):
    """The server, or something in between, sent what is not the Kubernetes API."""


class Forbidden(ApiError, TerminalError):
    """403: RBAC, admission or quota refuse."""


class Invalid(ApiError, TerminalError):
    """422: the object breaks a rule; `causes` name the fields."""

    @property
    def immutable_field(self) -> str | None:
        """The server's path of the first field that may not change, or None.

        A UID that differs from the precondition answers 422 on `metadata.uid`; that is another object, see `other_uid`.
        """
        for cause in self.causes:
            if cause.field != "metadata.uid" and any(word in cause.message for word in _IMMUTABLE):
                return cause.field
        return None

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
        resource: plural that was asked for; tells a missing namespace from a missing object, hides values of Secrets.
        retry_after: value of the `Retry-After` header; only the form in seconds is used by API servers.
        fallback: message where the body has none.
    """
    details = (status.details if status else None) or _Details()
    secret = resource == "secrets" or details.kind in ("secrets", "Secret")
    message = clean(status.message if status else fallback, secret=secret)
    causes = tuple(
        Cause(str(c.get("reason", "")), str(c.get("field", "")), clean(str(c.get("message", "")), secret=secret))
        for c in details.causes or ()
    )
    seconds = _seconds(retry_after) or details.retryAfterSeconds or None
    reason = status.reason if status else ""
    if code >= 500 and any(text in message for text in _MISFITS):
        return _schema_mismatch(code, message, causes)
    kind = _classify(code, reason, message, causes)
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
    return _SIMPLE.get(code) or (ServerError if code >= 500 or code == 0 else BadRequest)


def _missing(details: _Details, resource: str) -> Literal["object", "namespace", "resource"]:
    if details.kind == "namespaces" and resource != "namespaces":
        return "namespace"
    return "object" if details.name else "resource"


def _schema_mismatch(code: int, message: str, causes: tuple[Cause, ...]) -> SchemaMismatch:
    undeclared, duplicate = _NOT_DECLARED.search(message), _DUPLICATE.search(message)
    found = undeclared or duplicate or _WRONG_TYPE.search(message)
    reason = Reason.FIELD_PRUNED if undeclared else Reason.INVALID
    error = SchemaMismatch(code, reason, message, causes=causes, pointer=found.group(1) if found else None)
    error.problem = "undeclared" if undeclared else "duplicate" if duplicate else "type"
    error.duplicate_key = duplicate.group(2) if duplicate and not undeclared else None
    return error


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None


def clean(message: str, *, secret: bool = False) -> str:
    """Bound a server's message and take out values that it repeats.

    Args:
        message: as received.
        secret: the request was about a Secret: every quoted invalid value goes as well.
    """
    text = _GOT_VALUE.sub(r"\1a value", message)
    if secret:
        text = _INVALID_VALUE.sub(r"\1(hidden)", text)
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"
