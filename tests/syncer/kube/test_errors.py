"""Refusals of API servers; the bodies were taken from kube-apiserver 1.36."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from syncer.api.names import Reason
from syncer.errors import ConflictError, SyncError, TerminalError, TransientError
from syncer.kube import errors as e


def answer(code: int, *, resource: str = "", retry_after: str | None = None, **status: Any) -> e.ApiError:
    return e.error_from_status(
        code,
        e.parse_status(orjson.dumps({"kind": "Status", "code": code, **status})),
        resource=resource,
        retry_after=retry_after,
    )


@pytest.mark.parametrize(
    ("code", "reason", "kind", "family"),
    [
        (400, "BadRequest", e.BadRequest, TerminalError),
        (401, "Unauthorized", e.Unauthorized, TransientError),
        (403, "Forbidden", e.Forbidden, TerminalError),
        (404, "NotFound", e.NotFound, ConflictError),
        (405, "MethodNotAllowed", e.BadRequest, TerminalError),
        (408, "Timeout", e.ServerError, TransientError),
        (409, "Conflict", e.Conflict, ConflictError),
        (409, "AlreadyExists", e.AlreadyExists, ConflictError),
        (410, "Expired", e.Gone, TransientError),
        (413, "RequestEntityTooLarge", e.TooLarge, TerminalError),
        (415, "UnsupportedMediaType", e.BadRequest, TerminalError),
        (422, "Invalid", e.Invalid, TerminalError),
        (429, "TooManyRequests", e.TooManyRequests, TransientError),
        (500, "InternalError", e.ServerError, TransientError),
        (503, "ServiceUnavailable", e.ServerError, TransientError),
    ],
)
def test_every_status_has_one_class_and_one_family(
    code: int, reason: str, kind: type[e.ApiError], family: type[SyncError]
) -> None:
    error = answer(code, reason=reason, message="why")
    assert type(error) is kind
    assert isinstance(error, family)
    assert sum(isinstance(error, f) for f in (TransientError, ConflictError, TerminalError)) == 1
    assert error.status == code
    assert "why" in str(error)


def test_terminal_classes_speak_our_reasons() -> None:
    assert answer(403, reason="Forbidden").reason == Reason.FORBIDDEN
    assert answer(422, reason="Invalid").reason == Reason.INVALID
    assert answer(413, reason="RequestEntityTooLarge").reason == Reason.OBJECT_TOO_LARGE


@pytest.mark.parametrize(
    ("resource", "details", "missing"),
    [
        ("deployments", {"name": "web", "kind": "deployments", "group": "apps"}, "object"),
        ("deployments", {"name": "shop", "kind": "namespaces"}, "namespace"),
        ("namespaces", {"name": "shop", "kind": "namespaces"}, "object"),
        ("widgets", {}, "resource"),
    ],
)
def test_not_found_says_what_is_missing(resource: str, details: dict[str, Any], missing: str) -> None:
    error = answer(404, resource=resource, reason="NotFound", details=details)
    assert isinstance(error, e.NotFound)
    assert error.kind_of_missing == missing


def test_a_text_404_is_a_missing_resource() -> None:
    error = e.error_from_status(
        404, e.parse_status(b"404 page not found\n"), resource="widgets", fallback="404 page not found"
    )
    assert isinstance(error, e.NotFound)
    assert error.kind_of_missing == "resource"
    assert "page not found" in str(error)


def test_field_conflicts_name_path_and_manager() -> None:
    error = answer(
        409,
        reason="Conflict",
        message="Apply failed with 1 conflict",
        details={
            "causes": [
                {
                    "reason": "FieldManagerConflict",
                    "message": 'conflict with "kubectl" using apps/v1',
                    "field": ".spec.replicas",
                },
                {"reason": "Other", "message": "x", "field": ".y"},
            ]
        },
    )
    assert isinstance(error, e.Conflict)
    (cause,) = error.field_conflicts
    assert (cause.field, cause.manager) == (".spec.replicas", "kubectl")
    assert error.causes[1].manager is None


def test_a_terminating_namespace_is_no_matter_of_permission() -> None:
    error = answer(
        403,
        reason="Forbidden",
        message="unable to create new content in namespace shop because it is being terminated",
        details={"causes": [{"reason": "NamespaceTerminating", "message": "", "field": "metadata.namespace"}]},
    )
    assert isinstance(error, e.NamespaceTerminating)
    assert not isinstance(error, TerminalError)


@pytest.mark.parametrize(
    ("header", "body", "expected"), [("7", 0, 7.0), (None, 3, 3.0), (None, 0, 1.0), ("soon", 0, 1.0), ("0", 0, 1.0)]
)
def test_retry_after_is_a_floor_of_at_least_one_second(header: str | None, body: int, expected: float) -> None:
    """F37."""
    error = answer(429, retry_after=header, reason="TooManyRequests", details={"retryAfterSeconds": body})
    assert error.retry_after_seconds == expected


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(("header", "body"), [("inf", 0), ("1e9", 0), ("nan", 10**9), (None, 10**9)])
def test_no_server_can_ask_never_to_be_asked_again(code: int, header: str | None, body: int) -> None:
    """A target's word puts off its own retries, for minutes at most."""
    error = answer(code, retry_after=header, details={"retryAfterSeconds": body})
    assert error.retry_after_seconds == e.LONGEST_RETRY_AFTER_SECONDS


def test_retry_after_of_other_errors_is_kept() -> None:
    assert answer(503, retry_after="4").retry_after_seconds == 4.0
    assert answer(500).retry_after_seconds is None


def test_an_undeclared_field_is_terminal_although_it_is_a_500() -> None:
    """B25."""
    error = answer(
        500,
        message="failed to create typed patch object (default/web; apps/v1, Kind=Deployment): "
        '.spec.template.spec.containers[name="web"].foo: field not declared in schema',
    )
    assert isinstance(error, e.SchemaMismatch)
    assert isinstance(error, TerminalError)
    assert (error.problem, error.pointer) == ("undeclared", '.spec.template.spec.containers[name="web"].foo')
    assert error.reason == Reason.FIELD_PRUNED


def test_duplicate_entries_name_list_and_key() -> None:
    error = answer(
        500,
        message="failed to create typed patch object (default/web; apps/v1, Kind=Deployment): "
        '.spec.template.spec.containers[name="web"].env: duplicate entries for key [name="A"]',
    )
    assert isinstance(error, e.SchemaMismatch)
    assert (error.problem, error.duplicate_key) == ("duplicate", '[name="A"]')
    assert error.pointer == '.spec.template.spec.containers[name="web"].env'
    assert error.reason == Reason.INVALID


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (
            "failed to create typed patch object (default/s; /v1, Kind=Secret): .data.x: expected string, "
            'got &value.valueUnstructured{Value:map[string]interface {}{"k":"canary-1"}}',
            ".data.x",
        ),
        (
            "failed to create typed patch object (/s; /v1, Kind=Secret): .d: expected string, got &{map[k:canary-1]}",
            ".d",
        ),
        (
            "failed to create typed patch object (/p; apps/v1, Kind=Deployment): "
            ".spec.replicas: expected numeric (int or float), got string",
            ".spec.replicas",
        ),
        (
            "failed to convert new object (/s; /v1, Kind=Secret) to proper version: illegal base64 data at byte 3",
            None,
        ),
    ],
)
def test_values_of_a_wrong_type_are_terminal_and_not_repeated(text: str, pointer: str | None) -> None:
    """P17: two kinds of 500 that no retry heals."""
    error = answer(500, message=text)
    assert isinstance(error, e.SchemaMismatch)
    assert (error.problem, error.pointer, error.reason) == ("type", pointer, Reason.INVALID)
    assert "canary" not in str(error)
    assert "got string" in str(error) or pointer != ".spec.replicas"


def test_another_uid_is_no_immutable_field() -> None:
    """B15."""
    immutable = answer(
        422,
        reason="Invalid",
        details={
            "causes": [
                {
                    "reason": "FieldValueInvalid",
                    "field": "spec.selector",
                    "message": "Invalid value: {}: field is immutable",
                }
            ]
        },
    )
    other = answer(
        422,
        reason="Invalid",
        details={
            "causes": [
                {"reason": "FieldValueInvalid", "field": "metadata.uid", "message": "Invalid value: field is immutable"}
            ]
        },
    )
    assert isinstance(immutable, e.Invalid)
    assert isinstance(other, e.Invalid)
    assert (immutable.pointer, immutable.other_uid) == ("spec.selector", False)
    assert other.other_uid


@pytest.mark.parametrize(
    "message",
    [
        "etcdserver: request is too large",
        "rpc error: trying to send message larger than max (2097200 vs. 2097152)",
        "Request entity too large: limit is 3145728",
        'ConfigMap "p" is invalid: []: Too long: may not be more than 1048576 bytes',
    ],
)
def test_too_large_is_recognised_whatever_the_status(message: str) -> None:
    """B07."""
    code = 413 if "entity" in message else 500
    assert isinstance(answer(code, message=message), e.TooLarge)


VAP = "ValidatingAdmissionPolicy 'no' with binding 'no' denied request: not here"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (403, 'configmaps "a" is forbidden: exceeded quota: small, requested: count/configmaps=1, used: 1, limited: 1'),
        (400, 'admission webhook "a.b" denied the request: weak'),
        (403, 'admission webhook "a.b" denied the request: weak'),
        (422, f'configmaps "a" is forbidden: {VAP}'),
    ],
)
def test_what_admission_denies_may_be_taken_later(code: int, message: str) -> None:
    """No missing right and nothing wrong with the object: a quota, a webhook or a policy of the server."""
    error = answer(code, reason="Invalid" if code == 422 else "Forbidden", message=message)
    assert isinstance(error, e.AdmissionDenied)
    assert error.reason == "AdmissionDenied"
    assert error.message == message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (500, 'Internal error occurred: failed calling webhook "a.b": failed to call webhook: Post "https://x": EOF'),
        (500, 'failed calling webhook "a.b": connection refused'),
        (500, 'conversion webhook for example.com/v1, Kind=Widget failed: Post "https://x": connection refused'),
        (500, 'admission webhook "a.b" denied the request: its own database is down'),
        (503, 'admission webhook "a.b" denied the request: busy'),
    ],
)
def test_a_webhook_that_fails_is_not_the_server(code: int, message: str) -> None:
    error = answer(code, reason="InternalError", message=message)
    assert type(error) is e.WebhookFailed
    assert error.message == message


@pytest.mark.parametrize(
    "message", ["etcdserver: request timed out", 'rpc error: "failed calling webhook"', "conversion webhook for it"]
)
def test_other_faults_of_a_server_are_its_own(message: str) -> None:
    assert type(answer(500, reason="InternalError", message=message)) is e.ServerError


@pytest.mark.parametrize(
    ("code", "message", "field"),
    [
        (403, 'configmaps is forbidden: User "exceeded quota: x" cannot create resource "configmaps"', ""),
        (422, f'ConfigMap "a" is invalid: data: Invalid value: "{VAP}"', "data"),
        (500, 'admission webhook "a.b" denied the request: weak', ""),
    ],
)
def test_words_of_admission_in_other_refusals_decide_nothing(code: int, message: str, field: str) -> None:
    causes = [{"reason": "FieldValueInvalid", "field": field, "message": "no"}] if field else []
    error = answer(code, reason="Invalid", message=message, details={"causes": causes})
    assert not isinstance(error, e.AdmissionDenied)


CANARY = "c4n4ry-pw"


@pytest.mark.parametrize(
    ("code", "reason", "said", "told"),
    [
        (
            403,
            "Forbidden",
            f'admission webhook "a.b" denied the request: weak {CANARY}',
            "an admission webhook refuses",
        ),
        (500, "InternalError", f'failed calling webhook "a.b": {CANARY}', "webhook does not answer"),
        (403, "Forbidden", f"exceeded quota: {CANARY}", "quota"),
        (403, "Forbidden", f'secrets is forbidden: User "{CANARY}" cannot patch resource "secrets"', "may not patch"),
        (422, "Invalid", f'Secret "x" is invalid: data[p]: Invalid value: "{CANARY}"', "a value is invalid"),
        (422, "Invalid", f"data: field is immutable, was {CANARY}", "immutable"),
        (
            500,
            "InternalError",
            f"failed to create typed patch object: .data.p: expected string, got {CANARY}",
            ".data.p",
        ),
        (500, "", f'failed to create typed patch object: .data["{CANARY}"]: field not declared in schema', "declared"),
        (400, f"Bad {CANARY}", CANARY, "refused"),
        (418, "", CANARY, "refused"),
    ],
)
def test_nothing_that_a_server_says_of_a_secret_is_repeated(code: int, reason: str, said: str, told: str) -> None:
    """P17, S50: webhooks and validation quote what they refuse; Events and statuses say it in our words."""
    error = answer(code, resource="secrets", reason=reason, message=said)
    shown = f"{error} {error.message} {error.reason} {error.causes} {error.pointer}"
    assert CANARY not in shown
    assert told in error.message
    assert answer(code, resource="configmaps", reason=reason, message=said).status == code
    assert type(error) is type(answer(code, resource="configmaps", reason=reason, message=said))
    assert CANARY not in str(e.error_from_status(code, None, resource="secrets", fallback=said))
    named = answer(code, reason=reason, message=said, details={"kind": "secrets", "name": "x"})
    assert CANARY not in f"{named} {named.causes}"


def test_of_a_secrets_causes_only_reasons_fields_and_managers_are_told() -> None:
    """P17: even where the server puts a value into the field or the reason."""
    causes = [
        {"reason": "FieldValueInvalid", "field": "data[x]", "message": f'Invalid value: "{CANARY}": no'},
        {"reason": "FieldValueForbidden", "field": "type", "message": f"field is immutable, not {CANARY}"},
        {"reason": f"Because {CANARY}", "field": f'data["{CANARY}"]', "message": CANARY},
        {"reason": "FieldManagerConflict", "field": ".data.x", "message": 'conflict with "kubectl" using v1'},
    ]
    error = answer(422, resource="secrets", reason="Invalid", message=CANARY, details={"causes": causes})
    assert isinstance(error, e.Invalid)
    assert CANARY not in f"{error} {error.causes}"
    assert error.message.startswith("data[x]: a value is invalid; type: field is immutable; ")
    assert [cause.field for cause in error.causes] == ["data[x]", "type", "", ".data.x"]
    assert error.causes[3].manager == "kubectl"
    assert answer(422, resource="configmaps", message='Invalid value: "shown"').message == 'Invalid value: "shown"'


def test_long_messages_are_bounded() -> None:
    """B27."""
    assert len(answer(422, message="x" * 100_000).message) == e.MESSAGE_LIMIT


def test_bytes_that_are_no_status_are_no_status() -> None:
    assert e.parse_status(b"<html>") is None
    assert e.parse_status(b"[]") is None
