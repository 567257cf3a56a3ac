"""`target add`: runs with the user's own credentials of both clusters, and stores only what Syncline needs."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from syncer.api.names import SYSTEM_NAMESPACE
from syncer.api.synctarget import AcceptedResources
from syncer.cli import identity
from syncer.cli.access import Chosen, Upstream, choose, explained, open_client, open_upstream
from syncer.cli.adopt import adopt
from syncer.cli.cluster import apply, cluster_uid, path_of, patient, poll
from syncer.cli.errors import CliError, WrongUse, program
from syncer.cli.options import Access
from syncer.cli.output import Progress, emit
from syncer.cli.targets import missing_crds
from syncer.errors import TerminalError
from syncer.kube import errors
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.kubeconfig import check_server, parse_kubeconfig

if TYPE_CHECKING:
    from syncer.kube.client import ClusterClient

TOKEN_SECONDS: Final = 30.0  # until the target's controller manager has filled a token Secret; 0.1 s usually


class AddRequest(NamedTuple):
    """What the command line of `target add` says."""

    name: str
    kubeconfig: Path
    context: str | None = None
    labels: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    server: str | None = None
    tls_server_name: str | None = None
    as_is: bool = False
    adopt_hub: str | None = None
    wait_seconds: float | None = 60.0  # None: do not wait


async def add(request: AddRequest, access: Access) -> None:
    """`syncline target add`."""
    given_labels = identity.parse_labels(request.labels)
    identity.check_name(request.name)
    if request.as_is and (request.context or request.server or request.tls_server_name):
        raise WrongUse(
            "--use-kubeconfig-as-is excludes --target-context, --server and --tls-server-name",
            "Change the kubeconfig itself, or let Syncline make its own identity.",
        )
    chosen = choose(request.kubeconfig, request.context, option="--target-kubeconfig")
    with Progress() as progress:
        async with (
            open_upstream(access) as upstream,
            open_client(chosen.access, name=f"target {request.name}") as target,
        ):
            progress.doing("reaching both clusters")
            hub_id = await cluster_uid(upstream.client)
            existing = await _existing(upstream.client, request.name)
            with explained(chosen, f"target {request.name}"):
                version = await _check_target(target, request.name, hub_id, existing)
                progress.done(f"target {request.name} answers: Kubernetes {version}")
                resources = _resources(request.allow, existing)
                if request.as_is:
                    config = _as_is(request.kubeconfig)
                else:
                    config = await _make_identity(target, chosen, request, hub_id, resources, progress)
            if request.adopt_hub:
                progress.done(await adopt(upstream.client, target, old=request.adopt_hub, new=hub_id))
            # Labels of earlier calls stay: a placement may select by them, and dropping one would delete workloads.
            labels = {**((existing or {}).get("metadata", {}).get("labels") or {}), **given_labels}
            await _store(upstream, request.name, labels, resources.allow, config)
            progress.done(f"stored upstream: SyncTarget {request.name}, Secret {SYSTEM_NAMESPACE}/{request.name}")
            if request.wait_seconds is None:
                emit(f"Target {request.name} is stored; the operator connects to it.")
                return
            await _wait_ready(upstream.client, request.name, request.wait_seconds, progress)
    emit(f"Target {request.name} is Ready (Kubernetes {version}).")


async def _existing(client: ClusterClient, name: str) -> dict[str, Any] | None:
    try:
        return await patient(partial(client.get_json, path_of("SyncTarget", name)))
    except errors.NotFound as error:
        if error.kind_of_missing != "object":
            raise missing_crds() from error
        return None


async def _check_target(target: ClusterClient, name: str, hub_id: str, existing: Mapping[str, Any] | None) -> str:
    """Kubernetes version of the target.

    Raises:
        CliError: it is the upstream itself, or the name stands for another cluster already.
    """
    try:
        found = await cluster_uid(target)
    except errors.Forbidden as error:
        raise CliError(
            f"the credential of --target-kubeconfig has too few rights on target {name}: {error}",
            "Use one of a cluster administrator; it is needed here only and not stored.",
        ) from error
    if found == hub_id:
        raise CliError(
            "--target-kubeconfig names the upstream cluster itself",
            "A target is another cluster: check --target-kubeconfig and --target-context, or --kubeconfig.",
        )
    known = (existing or {}).get("status", {}).get("clusterUID")
    if known and known != found:
        raise CliError(
            f"target {name} exists and is another cluster (kube-system uid {known}, this one has {found})",
            f"Choose another name, or remove the old one first: {program()} target remove {name} --orphan",
        )
    return str((await target.get_json("/version"))["gitVersion"])


def _resources(allow: tuple[str, ...], existing: Mapping[str, Any] | None) -> AcceptedResources:
    """What the target takes: as it is set upstream already, and what --allow adds."""
    given = (existing or {}).get("spec", {}).get("resources") or {}
    merged = list(dict.fromkeys([*(given.get("allow") or ()), *allow]))
    try:
        return AcceptedResources.model_validate({**given, "allow": merged})
    except ValueError as error:
        raise WrongUse(
            "--allow takes group-resources, in lower case and plural",
            "Write it like offers.shop.example or *.shop.example; kubectl api-resources shows the names.",
        ) from error


def _as_is(path: Path) -> str:
    """The given kubeconfig, checked as the operator will check it: everything inline, https, a CA (B29)."""
    data = path.expanduser().read_bytes()
    try:
        ClusterCredentials.from_untrusted_kubeconfig(data)
    except TerminalError as error:
        raise CliError(
            f"{path} cannot be stored as it is: {str(error).removeprefix('kubeconfig: ')}",
            "Leave --use-kubeconfig-as-is out: Syncline then makes its own token on the target.",
        ) from error
    return data.decode()


async def _make_identity(
    target: ClusterClient,
    chosen: Chosen,
    request: AddRequest,
    hub_id: str,
    resources: AcceptedResources,
    progress: Progress,
) -> str:
    """Make Syncline's identity on the target, prove that it works, and give its kubeconfig."""
    server = _server(chosen, request)
    progress.doing("making namespace, ServiceAccount, role and token on the target")
    try:
        for manifest in identity.identity(hub_id, resources):
            await apply(target, manifest)
    except errors.Forbidden as error:
        raise CliError(
            f"the credential of --target-kubeconfig may not make Syncline's identity on target {request.name}: {error}",
            "Use one of a cluster administrator; it is needed here only and not stored.",
        ) from error
    name = identity.identity_name(hub_id)
    token = await _token(target, name)
    config = identity.kubeconfig(request.name, server, token)
    if request.server is None:
        await _prove(config, request.name)
    progress.done(f"on the target: ServiceAccount {SYSTEM_NAMESPACE}/{name} with a role of its own and a token")
    return config


def _server(chosen: Chosen, request: AddRequest) -> identity.Server:
    """How the operator will reach the target."""
    try:
        url = check_server(request.server or chosen.access.server, untrusted=True)
    except TerminalError as error:
        option = "--server" if request.server else f"kubeconfig {chosen.origin}"
        raise CliError(
            f"{option}: {str(error).removeprefix('kubeconfig: ')}",
            "Name the address that the operator reaches with --server https://HOST:PORT.",
        ) from error
    if chosen.access.ca is None:
        raise CliError(
            f"kubeconfig {chosen.origin} names no certificate authority for the target",
            "Add certificate-authority-data to its cluster entry; the operator trusts nothing else.",
        )
    return identity.Server(url, chosen.access.ca.read(), request.tls_server_name or chosen.access.tls_server_name)


async def _token(target: ClusterClient, name: str) -> str:
    """The ServiceAccount's token, once the target has made it."""
    path = path_of("Secret", name, SYSTEM_NAMESPACE)

    async def filled() -> str | None:
        data = (await target.get_json(path)).get("data") or {}
        return base64.b64decode(data["token"]).decode() if data.get("token") else None

    token = await poll(filled, TOKEN_SECONDS)
    if token is None:
        raise CliError(
            f"the target did not fill token Secret {SYSTEM_NAMESPACE}/{name} within {TOKEN_SECONDS:.0f} s",
            "Does its controller manager run? Without one, use --use-kubeconfig-as-is with a kubeconfig for Syncline.",
        )
    return token


async def _prove(config: str, name: str) -> None:
    """Reach the target with the new identity alone; a new role takes a moment to count."""
    async with open_client(parse_kubeconfig(config.encode(), untrusted=True), name=f"target {name}") as client:

        async def answered() -> bool | None:
            try:
                return bool(await cluster_uid(client))
            except (errors.Forbidden, errors.Unauthorized):
                return None

        if await poll(answered, TOKEN_SECONDS) is None:
            raise CliError(
                f"target {name} does not accept the token that it made for Syncline",
                "Look at its API server's authentication settings; --use-kubeconfig-as-is takes another credential.",
            )


async def _store(upstream: Upstream, name: str, labels: Mapping[str, str], allow: tuple[str, ...], config: str) -> None:
    """Write Secret and SyncTarget upstream; the Secret goes when the SyncTarget is gone."""
    client = upstream.client
    await apply(client, identity.namespace())
    secret = identity.secret(name, config)
    await apply(client, secret)
    target = await apply(client, identity.sync_target(name, labels, allow))
    owner = {key: target[key] for key in ("apiVersion", "kind")} | {
        key: target["metadata"][key] for key in ("name", "uid")
    }
    secret["metadata"]["ownerReferences"] = [owner]
    await apply(client, secret)


async def _wait_ready(client: ClusterClient, name: str, seconds: float, progress: Progress) -> None:
    condition: dict[str, Any] = {}

    async def ready() -> bool | None:
        nonlocal condition
        found = await client.get_json(path_of("SyncTarget", name))
        conditions = found.get("status", {}).get("conditions") or ()
        condition = next((c for c in conditions if c["type"] == "Ready"), {})
        why = f": {condition['reason']}" if condition else ""
        progress.doing(f"waiting until the operator reports {name} Ready{why}")
        return True if condition.get("status") == "True" else None

    if await poll(ready, seconds):
        return
    if not condition:
        raise CliError(
            f"target {name} is stored, but no operator has looked at it for {seconds:g} s",
            f"Start one: {program()} operator; or read the log of the one that runs. --no-wait does not wait.",
        )
    raise CliError(
        f"target {name} is stored, but not Ready after {seconds:g} s: {condition['reason']}: {condition['message']}",
        "Can the operator's machine reach the target under this address? --server names another one.",
    )
