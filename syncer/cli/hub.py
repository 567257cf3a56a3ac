"""Asking the hub: where it is, and as whom."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from syncer.api.names import HUB_CONFIGMAP, SYSTEM_NAMESPACE
from syncer.cli.access import Upstream, open_client
from syncer.cli.errors import CliError, WrongUse, program
from syncer.errors import TerminalError
from syncer.kube import errors
from syncer.kube.kubeconfig import Access, Source, check_server

if TYPE_CHECKING:
    from syncer.kube.client import ClusterClient

Shape = TypeVar("Shape")
_CONFIGMAP: Final = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/{HUB_CONFIGMAP}"


@dataclass(frozen=True)
class Hub:
    """The operator's HTTP API."""

    client: ClusterClient
    url: str

    async def get(self, path: str, shape: type[Shape], *, params: Mapping[str, str] | None = None) -> Shape:
        """Ask one question.

        Raises:
            ApiError: refused; `NotFound` where the object asked for does not exist.
            CliError: what answers is no hub of this version.
        """
        try:
            answer = await self.client.request("GET", path, params=params)
        except errors.Unreachable as error:
            raise HubUnreachable(self.url, str(error)) from error
        except errors.ServerError as error:
            raise HubUnavailable(self.url, error) from error
        except errors.Unauthorized as error:
            raise CliError(
                f"the hub {self.url} does not accept the credential that upstream accepts",
                "Is it the hub of this upstream? --hub and --context must belong together.",
            ) from error
        try:
            return msgspec.json.decode(answer.body, type=shape)
        except msgspec.DecodeError as error:
            raise CliError(
                f"{self.url} answered something else than a hub does",
                "Check --hub; are CLI and operator of one version?",
            ) from error


class HubDown(CliError):
    """The hub gave no answer now; it may give one later."""


class HubUnavailable(HubDown):
    """The hub answers that it cannot answer: it starts, another replica leads, or it failed."""

    def __init__(self, url: str, error: errors.ServerError) -> None:
        failed = error.status == 500
        hint = "Read the operator's log, it names the cause." if failed else "Try again in a moment."
        super().__init__(f"the hub {url}: {error.message}", hint)


class HubUnreachable(HubDown):
    """The hub does not answer; the operator may be down, starting, or elsewhere."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"the hub {url} cannot be reached: {why}",
            "Is the operator running, and may this machine connect to it? --hub URL names another way to it.",
        )


@asynccontextmanager
async def open_hub(upstream: Upstream, url: str | None) -> AsyncIterator[Hub]:
    """The hub, asked with the credential of the upstream.

    Args:
        url: of the hub; None takes what the operator published.
    Raises:
        CliError: no operator ever ran here, or the caller may not read where the hub is.
    """
    access = await hub_of(upstream, url)
    async with open_client(access, name="hub") as client:
        yield Hub(client, access.server)


async def hub_of(upstream: Upstream, url: str | None) -> Access:
    """How the hub is reached; see `open_hub`."""
    published = await published_hub(upstream.client, required=url is None)
    return hub_access(upstream.chosen.access, url, published)


async def published_hub(client: ClusterClient, *, required: bool = True) -> Mapping[str, str]:
    """Data of the hub's ConfigMap; empty where it is not needed and not there."""
    try:
        return (await client.get_json(_CONFIGMAP)).get("data") or {}
    except errors.NotFound as error:
        if not required:
            return {}
        raise CliError(
            "no operator has published its hub on this upstream yet",
            f"Start one with {program()} operator, or check --context: is this the upstream?",
        ) from error
    except errors.Forbidden as error:
        if not required:
            return {}
        raise CliError(
            f"you may not read ConfigMap {SYSTEM_NAMESPACE}/{HUB_CONFIGMAP}, which says where the hub is",
            "Ask an administrator to apply deploy/rbac/users.yaml, or name the hub with --hub URL.",
        ) from error


def hub_access(upstream: Access, url: str | None, published: Mapping[str, str]) -> Access:
    """How the hub is reached: its address and CA, the caller's credential.

    The published CA counts for an address given with --hub too; without one, the system's CAs do.

    Raises:
        WrongUse: the given address is not https. A credential never leaves in clear text.
        CliError: what the operator published is not usable.
    """
    try:
        server = check_server(url or published.get("url"), untrusted=False)
        if not server.startswith("https://"):
            raise TerminalError("Invalid", "must begin with https://")
        bundle = published.get("caBundle", "")
        ca = bundle.encode() if bundle.lstrip().startswith("-----BEGIN") else base64.b64decode(bundle, validate=True)
    except (TerminalError, ValueError) as error:
        if url:
            raise WrongUse(
                f"--hub {url[:200]!r} is not an address", "Write it like https://hub.example:8443"
            ) from error
        raise CliError(
            f"ConfigMap {SYSTEM_NAMESPACE}/{HUB_CONFIGMAP} does not hold the hub's url and caBundle",
            "The operator writes it at its start: restart the operator, or name the hub with --hub URL.",
        ) from error
    return replace(upstream, server=server, ca=Source(ca) if ca else None, tls_server_name=None, proxy=None)
