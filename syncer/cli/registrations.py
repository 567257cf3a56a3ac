"""`token create`, `approve`, `deny`: the upstream side of joining, with the caller's own rights there."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from syncer.api.common import ApiObject, duration_seconds
from syncer.api.names import SYSTEM_NAMESPACE
from syncer.api.registration import CLUSTER_UID_PATTERN, ClusterRegistration
from syncer.cli import identity
from syncer.cli.access import Upstream, open_upstream
from syncer.cli.cluster import path_of, patient, poll
from syncer.cli.errors import CliError, WrongUse, program
from syncer.cli.hub import published_hub
from syncer.cli.options import Access
from syncer.cli.output import Output, emit, emit_data
from syncer.cli.targets import API, missing_crds
from syncer.errors import TerminalError
from syncer.kube import errors

if TYPE_CHECKING:
    from syncer.kube.client import ClusterClient

DECISION_SECONDS: Final = 15.0  # until the operator has worked on a decision
_MERGE_PATCH: Final = "application/merge-patch+json"
_DURATION: Final = r"([0-9]+(\.[0-9]+)?(ms|s|m|h))+"
FOLDER: Final = "/var/lib/syncline"
CHART: Final = "deploy/helm/syncline-agent"


class TokenRequest(NamedTuple):
    """What the command line of `token create` says."""

    target: str
    ttl: str = "1h"
    labels: tuple[str, ...] = ()
    cluster_uid: str = ""


async def create_token(asked: TokenRequest, output: Output | None, access: Access) -> None:
    """`syncline token create`."""
    from syncer.hub.bootstrap import new_token, token_secret

    identity.check_name(asked.target)
    labels = identity.parse_labels(asked.labels)
    lifetime = _lifetime(asked.ttl)
    _check_uid(asked.cluster_uid)
    async with open_upstream(access) as upstream:
        hub = await published_hub(upstream.client)
        url = access.hub or hub.get("url", "")
        ca_hash = hub.get("caHash", "")
        await _not_direct(upstream.client, asked.target)
        token = new_token()
        expires = datetime.now(UTC) + lifetime
        secret = token_secret(token, asked.target, expires=expires, labels=labels, cluster_uid=asked.cluster_uid)
        path = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets"
        await upstream.client.request(
            "POST", path, body=json.dumps(secret).encode(), content_type="application/json", resource="secrets"
        )
    words = [
        *("syncline", "join", "--hub", url, "--token", str(token), "--ca-hash", ca_hash),
        *("--target", asked.target, "--credentials", FOLDER),
    ]
    line = shlex.join(words)
    given = f"hub.url={url},hub.caHash={ca_hash},target={asked.target},token={token}"
    chart = f"helm install syncline-agent {CHART} -n {SYSTEM_NAMESPACE} --create-namespace --set {given}"
    data = {"target": asked.target, "token": str(token), "hub": url, "caHash": ca_hash, "command": line, "helm": chart}
    if emit_data({**data, "expires": f"{expires:%Y-%m-%dT%H:%M:%SZ}"}, output):
        return
    emit(line)
    sys.stderr.write(
        f"Run this once, with a kubeconfig of the cluster, until {expires:%H:%M} UTC; "
        f"then: {program()} approve {asked.target}\n"
        f"Or have the agent do it, as a Pod: {chart}\n"
    )


def _lifetime(text: str) -> timedelta:
    import re

    from syncer.hub.bootstrap import MAX_TTL, MIN_TTL

    seconds = duration_seconds(text) if re.fullmatch(_DURATION, text) else 0.0
    if not MIN_TTL.total_seconds() <= seconds <= MAX_TTL.total_seconds():
        raise WrongUse(f"--ttl {text[:32]!r} is not a time up to one hour", "Write it like --ttl 30m")
    return timedelta(seconds=seconds)


def _check_uid(text: str) -> None:
    import re

    if text and not re.fullmatch(CLUSTER_UID_PATTERN, text):
        raise WrongUse(
            f"--cluster-uid {text[:64]!r} is no UID",
            "kubectl get namespace kube-system -o jsonpath={.metadata.uid}, asked on the cluster, shows it.",
        )


async def _not_direct(client: ClusterClient, target: str) -> None:
    """A target that is reached directly cannot join."""
    try:
        found = await patient(partial(client.get_json, path_of("SyncTarget", target)))
    except errors.NotFound:
        return
    if not (found["spec"].get("connection") or {}).get("tunnel"):
        if "tunnel" in (found["spec"].get("connection") or {}):
            return
        raise CliError(
            f"target {target} exists and is reached directly",
            f"Remove it first: syncline target remove {target}. Or choose another name.",
        )


async def approve(target: str, registration: str | None, access: Access) -> None:
    """`syncline approve`: let a waiting cluster be the target."""
    identity.check_name(target)
    async with open_upstream(access) as upstream:
        found = await _of_target(upstream.client, target, registration)
        waiting = [one for one in found if one.status.phase == "Pending" and one.spec.decision is None]
        if not waiting:
            _nothing_waits(target, found)
            return
        if len(waiting) > 1:
            listed = "; ".join(f"{one.metadata.name} (cluster {one.spec.cluster_uid})" for one in waiting)
            raise CliError(f"several clusters ask to be {target}: {listed}", "Say which one with --registration NAME.")
        one = waiting[0]
        await _decide(upstream.client, one, "Approved")
        after = await _settled(upstream, one)
    if after is None:
        emit(
            f"{one.metadata.name} (cluster {one.spec.cluster_uid}) is marked as approved; the operator has yet to act."
        )
        return
    if after.status.phase != "Approved":
        raise CliError(
            f"{after.metadata.name} is {after.status.phase}: {after.status.message}", "Settle that, then join again."
        )
    emit(
        f"Cluster {after.spec.cluster_uid} is target {target}, "
        f"registration {after.status.registration_generation} ({key_fingerprint(after)})."
    )


async def deny(target: str, registration: str | None, access: Access) -> None:
    """`syncline deny`: refuse what waits, and end what was approved."""
    identity.check_name(target)
    async with open_upstream(access) as upstream:
        found = await _of_target(upstream.client, target, registration)
        alive = [one for one in found if one.status.phase in ("Pending", "Approved") and one.spec.decision != "Denied"]
        if not alive:
            raise CliError(f"no registration of {target} is waiting or approved", "kubectl get creg lists them all.")
        if len({one.status.phase for one in alive}) > 1:
            listed = "; ".join(f"{one.metadata.name} is {one.status.phase}" for one in alive)
            raise CliError(f"{target} has several: {listed}", "Say which one with --registration NAME.")
        for one in alive:
            await _decide(upstream.client, one, "Denied")
            emit(f"{one.metadata.name} (cluster {one.spec.cluster_uid}) is denied.")


def key_fingerprint(one: ClusterRegistration) -> str:
    """The key of a request in few digits; `syncline join` shows the same."""
    from syncer.hub.agent_certificates import RequestDenied, check_request
    from syncer.hub.certificates import key_hash

    try:
        return f"key {key_hash(check_request(one.spec.request, one.spec.target_name))[:16]}"
    except RequestDenied:
        return "key unknown"


def _nothing_waits(target: str, found: Sequence[ClusterRegistration]) -> None:
    approved = [one for one in found if one.status.phase == "Approved" and one.spec.decision != "Denied"]
    if approved:
        emit(f"Target {target} is approved already: cluster {approved[0].spec.cluster_uid}.")
        return
    last = max(found, key=lambda one: one.metadata.creation_timestamp, default=None)
    seen = f"; {last.metadata.name} is {last.status.phase}: {last.status.message}" if last is not None else ""
    raise CliError(f"no cluster asks to be {target}{seen}", f"Create a token for it: syncline token create {target}")


async def _of_target(client: ClusterClient, target: str, name: str | None) -> list[ClusterRegistration]:
    try:
        answer = await patient(partial(client.get_json, f"{API}/clusterregistrations"))
    except errors.NotFound as error:
        raise missing_crds() from error
    head: Mapping[str, Any] = {"apiVersion": answer["apiVersion"], "kind": "ClusterRegistration"}
    items = [_parsed(ClusterRegistration, {**head, **item}) for item in answer["items"]]
    return [
        one for one in items if one is not None and one.spec.target_name == target and name in (None, one.metadata.name)
    ]


def _parsed(model: type[ClusterRegistration], manifest: Mapping[str, Any]) -> ClusterRegistration | None:
    assert issubclass(model, ApiObject)
    try:
        return model.parse(manifest)
    except TerminalError:
        return None


async def _decide(client: ClusterClient, one: ClusterRegistration, decision: str) -> None:
    """Say it of exactly the registration that was read; one that changed or replaced it answers a conflict."""
    metadata = {"resourceVersion": one.metadata.resource_version, "uid": one.metadata.uid}
    await client.request(
        "PATCH",
        path_of("ClusterRegistration", one.metadata.name),
        params={"fieldManager": identity.MANAGER},
        body=json.dumps({"metadata": metadata, "spec": {"decision": decision}}).encode(),
        content_type=_MERGE_PATCH,
    )


async def _settled(upstream: Upstream, one: ClusterRegistration) -> ClusterRegistration | None:
    """The registration once the operator has worked on the decision; None if it does not in time."""

    async def look() -> ClusterRegistration | None:
        found = _parsed(
            ClusterRegistration, await upstream.client.get_json(path_of("ClusterRegistration", one.metadata.name))
        )
        return found if found is not None and found.status.phase != "Pending" else None

    return await poll(look, DECISION_SECONDS)
