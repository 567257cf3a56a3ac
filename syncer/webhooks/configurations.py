"""The two webhook configurations that we keep upstream: fail-closed, for our kinds only, for changes of intent only."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson

from syncer.api.names import GROUP, SPEC_MANAGER, VERSION
from syncer.api.synctarget import SyncTarget
from syncer.kube.errors import NotFound
from syncer.kube.objects import decode_document
from syncer.webhooks.handlers import MUTATE, VALIDATE, RawClient
from syncer.webhooks.rules import KINDS

NAME: Final = GROUP
SERVICE: Final = "service://"
_API: Final = "admissionregistration.k8s.io/v1"
_VALIDATING: Final = "validatingwebhookconfigurations"
_MUTATING: Final = "mutatingwebhookconfigurations"
TIMEOUT_SECONDS: Final = 10

# Deletes and the status subresource match no rule below; these keep finalizers, labels and goodbyes out as well, so
# that they go through while nobody answers.
_CONDITIONS: Final = [
    {"name": "not-on-its-way-out", "expression": "!has(object.metadata.deletionTimestamp)"},
    {
        "name": "asks-for-something-new",
        "expression": 'request.operation == "CREATE" || !has(object.spec) || !has(oldObject.spec)'
        " || object.spec != oldObject.spec",
    },
]


def configurations(url: str, ca_bundle: bytes) -> dict[str, dict[str, Any]]:
    """Both configurations as manifests, `{plural resource: manifest}`.

    Args:
        url: where the API server reaches the webhooks, without a trailing slash; `service://NAME.NAMESPACE.svc:PORT`
            is a Service of its cluster, whose name it does not ask DNS for.
        ca_bundle: PEM.
    """
    validating = _webhook(VALIDATE, [model.plural for model in KINDS.values()], url, ca_bundle)
    mutating = _webhook(MUTATE, [SyncTarget.plural], url, ca_bundle)
    mutating["reinvocationPolicy"] = "Never"
    return {
        _VALIDATING: _manifest("ValidatingWebhookConfiguration", validating),
        _MUTATING: _manifest("MutatingWebhookConfiguration", mutating),
    }


class Registered(NamedTuple):
    """Where the validating configuration points. `ca_bundle` is PEM, as it stands there."""

    url: str
    ca_bundle: bytes


async def registered(client: RawClient) -> Registered | None:
    """Whom the API server asks now; None where that is nobody.

    Raises:
        SyncError: as the client maps it.
    """
    found = await _read(client, _VALIDATING)
    for webhook in found.get("webhooks") or () if found else ():
        config = webhook.get("clientConfig") or {}
        url = _url(config)
        if webhook.get("name") == f"{VALIDATE}.webhooks.{GROUP}" and url:
            with suppress(ValueError):  # no base64: nobody is asked there
                return Registered(url.removesuffix(f"/{VALIDATE}"), base64.b64decode(config.get("caBundle") or ""))
    return None


async def publish(client: RawClient, url: str, ca_bundle: bytes) -> bool:
    """Create both configurations or bring them back to what they should be; writes only where something differs.

    Returns:
        Whether anything was written.
    Raises:
        Conflict: somebody changed one since it was read; ask again.
        SyncError: as the client maps it; `Forbidden` where the operator's role does not allow it.
    """
    written = False
    for plural, manifest in configurations(url, ca_bundle).items():
        found = await _read(client, plural)
        if found is not None:
            if _says(found, manifest):
                continue
            manifest["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        await client.request(
            "PATCH",
            f"/apis/{_API}/{plural}/{NAME}",
            params={"fieldManager": SPEC_MANAGER, "force": "true"},
            body=orjson.dumps(manifest),
            content_type="application/apply-patch+yaml",
        )
        written = True
    return written


async def _read(client: RawClient, plural: str) -> dict[str, Any] | None:
    try:
        return decode_document((await client.request("GET", f"/apis/{_API}/{plural}/{NAME}")).body)
    except NotFound:
        return None


def _says(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether every field of our webhook is as wanted; fields and webhooks of others do not matter."""
    (ours,) = wanted["webhooks"]
    for webhook in found.get("webhooks") or ():
        if webhook.get("name") == ours["name"]:
            return all(webhook.get(field) == value for field, value in ours.items())
    return False


async def withdraw(client: RawClient) -> None:
    """Delete both configurations: one that points to nobody refuses every new placement.

    Raises:
        SyncError: as the client maps it.
    """
    for plural in (_VALIDATING, _MUTATING):
        with suppress(NotFound):
            await client.request("DELETE", f"/apis/{_API}/{plural}/{NAME}")


def _address(url: str, handler: str) -> dict[str, Any]:
    """Where a webhook is, in the words of `clientConfig`."""
    if not url.startswith(SERVICE):
        return {"url": f"{url}/{handler}"}
    parts = urlsplit(url)
    name, namespace = (parts.hostname or "").split(".")[:2]
    return {"service": {"namespace": namespace, "name": name, "port": parts.port or 443, "path": f"/{handler}"}}


def _url(config: Mapping[str, Any]) -> str:
    """The other way round."""
    service = config.get("service")
    if not service:
        return str(config.get("url") or "")
    return f"{SERVICE}{service['name']}.{service['namespace']}.svc:{service.get('port', 443)}{service.get('path', '')}"


def _manifest(kind: str, webhook: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": _API, "kind": kind, "metadata": {"name": NAME}, "webhooks": [webhook]}


def _webhook(handler: str, resources: list[str], url: str, ca_bundle: bytes) -> dict[str, Any]:
    rule = {
        "apiGroups": [GROUP],
        "apiVersions": [VERSION],
        "resources": resources,
        "operations": ["CREATE", "UPDATE"],
        "scope": "*",
    }
    return {
        "name": f"{handler}.webhooks.{GROUP}",
        "clientConfig": {**_address(url, handler), "caBundle": base64.b64encode(ca_bundle).decode()},
        "rules": [rule],
        "matchConditions": _CONDITIONS,
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "matchPolicy": "Equivalent",
        "timeoutSeconds": TIMEOUT_SECONDS,
        "admissionReviewVersions": ["v1"],
    }
