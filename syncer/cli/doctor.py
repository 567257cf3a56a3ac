"""`syncline doctor`: looks at an installation from the outside and says of each fault its cause and what to do.

Each check asks a little and gives findings; what it may not read is a finding too, never a guess.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from syncer.api.crds import KINDS, crd
from syncer.api.hints import hint
from syncer.api.names import API_VERSION, GROUP, MANAGED_BY_LABEL, SYSTEM_NAMESPACE, Reason
from syncer.api.shapes import ProblemList
from syncer.cli.access import Upstream, open_upstream
from syncer.cli.errors import explain
from syncer.cli.hub import open_hub, published_hub
from syncer.cli.options import Access
from syncer.cli.output import Output, age, columns, emit, emit_data
from syncer.errors import SyncError
from syncer.kube import errors
from syncer.lease import LEASE_NAME

if TYPE_CHECKING:
    from syncer.kube.client import ClusterClient

State = Literal["ok", "warning", "error"]
_MARKS: Final[Mapping[State, str]] = {"ok": "✓", "warning": "!", "error": "✗"}
_CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_LEASE: Final = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/{LEASE_NAME}"
_API: Final = f"/apis/{API_VERSION}"
_INSTALL: Final = "syncline crds | kubectl apply --server-side -f -"
_OPERATORS: Final = "app.kubernetes.io/part-of=syncline,app.kubernetes.io/component=operator"
_LATE: Final = 2.0  # lease durations after which nobody can be thought to lead
_EXPIRES_SOON_DAYS: Final = 7
_SHOWN: Final = 10  # of one sort


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        fix: what to do; "" where nothing is to be done.
    """

    check: str
    state: State
    message: str
    fix: str = ""


async def examine(output: Output | None, access: Access) -> int:
    """Print all findings; 1 if one of them is an error."""
    async with open_upstream(access) as upstream:
        found = [finding async for finding in findings(upstream, access.hub)]
    healthy = all(finding.state != "error" for finding in found)
    if not emit_data({"healthy": healthy, "findings": [asdict(finding) for finding in found]}, output):
        emit(as_text(found))
    return 0 if healthy else 1


def as_text(found: list[Finding]) -> str:
    """For people: one line each, and below what is wrong how it is mended."""
    rows = columns((), [(_MARKS[one.state], one.check, one.message) for one in found]).splitlines()
    lines = []
    for row, one in zip(rows, found, strict=True):
        lines.append(row)
        if one.fix:
            lines.append(f"      fix: {one.fix}")
    bad, doubtful = (sum(one.state == state for one in found) for state in ("error", "warning"))
    lines.append("")
    lines.append(f"{bad} to mend, {doubtful} to look at." if bad or doubtful else "Everything is in order.")
    return "\n".join(lines)


async def findings(upstream: Upstream, hub_url: str | None) -> AsyncIterator[Finding]:
    """All checks in order; where this is no upstream at all the later ones would only repeat it."""
    client = upstream.client
    version = (await client.get_json("/version")).get("gitVersion", "?")
    yield Finding("upstream", "ok", f"{upstream.chosen.access.server} answers, Kubernetes {version}")
    kinds = [finding async for finding in _guarded("CRDs", partial(_crds, client))]
    if any(finding.message.endswith("is not installed") for finding in kinds):
        async for finding in _guarded("context", partial(_context, client)):
            yield finding
    for finding in kinds:
        yield finding
    if any(finding.state == "error" for finding in kinds):
        return
    checks: list[tuple[str, Callable[[], AsyncIterator[Finding]]]] = [
        ("hub", partial(_hub, upstream, hub_url)),
        ("leader", partial(_leader, client)),
        ("webhooks", partial(_webhooks, client)),
        ("targets", partial(_targets, client)),
    ]
    for name, check in checks:
        async for finding in _guarded(name, check):
            yield finding


async def _guarded(name: str, check: Callable[[], AsyncIterator[Finding]]) -> AsyncIterator[Finding]:
    """A check whose failure is a finding: what may not be read is doubtful, anything else is wrong."""
    try:
        async for finding in check():
            yield finding
    except errors.Forbidden as error:
        yield Finding(name, "warning", f"may not be looked at: {error}", "Run it as an administrator of the upstream.")
    except SyncError as error:
        cause, fix, _ = explain(error)
        yield Finding(name, "error", cause, fix)


# The kinds


async def _crds(client: ClusterClient) -> AsyncIterator[Finding]:
    names = {f"{kind.plural}.{GROUP}": kind for kind in KINDS}
    answers = await asyncio.gather(*(_found(client, f"{_CRDS}/{name}") for name in names))
    good = True
    for (name, kind), installed in zip(names.items(), answers, strict=True):
        finding = judge_crd(name, crd(kind), installed)
        if finding is not None:
            good = False
            yield finding
    if good:
        yield Finding("CRDs", "ok", f"{len(names)} kinds of {GROUP} are served, in the version of this program")


def judge_crd(name: str, ours: Mapping[str, Any], installed: Mapping[str, Any] | None) -> Finding | None:
    """What is wrong with one installed CRD; None if nothing is."""
    if installed is None:
        return Finding("CRDs", "error", f"{name} is not installed", f"Install the CRDs: {_INSTALL}")
    if installed["metadata"].get("deletionTimestamp"):
        fix = f"Let it go, then install it again: {_INSTALL}. Synced objects stay; syncline ack releases what is left."
        return Finding("CRDs", "error", f"{name} is being deleted, so nothing is written to targets", fix)
    conditions = {one["type"]: one for one in (installed.get("status") or {}).get("conditions") or ()}
    if (established := conditions.get("Established", {})).get("status") != "True":
        message = f"{name} is not served: {established.get('message', 'not established yet')}"
        return Finding("CRDs", "error", message, f"Wait a moment; if it lasts: {_INSTALL}")
    lacking = sorted(lacking_fields(_schema(ours), _schema(installed)))
    if lacking:
        message = f"{name} is older than this program: it lacks {', '.join(lacking[:3])}"
        return Finding("CRDs", "error", message, f"Bring operator and CRDs to one version: {_INSTALL}")
    return None


def _schema(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    versions = [one for one in manifest["spec"]["versions"] if f"{GROUP}/{one['name']}" == API_VERSION]
    return versions[0]["schema"]["openAPIV3Schema"] if versions else {}


def lacking_fields(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Fields of one schema that the other does not have."""
    for name, schema in ours.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        if name not in theirs.get("properties", {}):
            yield here
        else:
            yield from lacking_fields(schema, theirs["properties"][name], here)
    if "items" in ours:
        yield from lacking_fields(ours["items"], theirs.get("items", {}), f"{path}[]")


# The wrong context


async def _context(client: ClusterClient) -> AsyncIterator[Finding]:
    """Our kinds are not here. Is this another cluster of the same installation?"""
    operators = await _listed(client, "/apis/apps/v1/deployments", _OPERATORS)
    namespaces = await _listed(client, "/api/v1/namespaces", MANAGED_BY_LABEL)
    if operators:
        namespace = operators[0]["metadata"]["namespace"]
        where = f"{namespace}/{operators[0]['metadata']['name']}"
        message = f"the operator runs in this cluster (Deployment {where}), but its upstream is another API server"
        fix = (
            f"Mode hosted: kubectl -n {namespace} port-forward service/syncline-upstream 6443, and beside it "
            f"syncline kubeconfig --upstream -n {namespace} --server https://127.0.0.1:6443 > upstream.yaml; "
            "else choose the upstream with --context"
        )
        yield Finding("context", "error", message, fix)
    elif namespaces:
        name = namespaces[0]["metadata"]["name"]
        message = f"this cluster is a target (namespace {name} was made by a hub), not an upstream"
        yield Finding("context", "error", message, "Apply objects and placements upstream: choose it with --context.")


async def _listed(client: ClusterClient, path: str, selector: str) -> list[dict[str, Any]]:
    answer = await client.get_json(path, params={"labelSelector": selector, "limit": str(_SHOWN)})
    return list(answer.get("items") or ())


# Who serves


async def _hub(upstream: Upstream, url: str | None) -> AsyncIterator[Finding]:
    published = await published_hub(upstream.client, required=False)
    if not published and url is None:
        yield await _nobody(upstream.client)
        return
    ours, theirs = _version(), published.get("version", "")
    if theirs and theirs != ours:
        message = f"the operator is {theirs}, this program {ours}"
        yield Finding("versions", "warning", message, "Use one version of both; what is newer may be missing.")
    async with open_hub(upstream, url) as hub:
        problems = await hub.get("/api/v1/problems", ProblemList)
        yield Finding("hub", "ok", f"{hub.url} answers" + (f", version {theirs}" if theirs else ""))
    acting = next((one for one in problems.items if one.reason == Reason.UPSTREAM_CONTROLLER_ACTIVE), None)
    if acting is not None:
        message = f"{acting.object or acting.placement}: {acting.message}"
        yield Finding("workloads", "error", message, hint(Reason.UPSTREAM_CONTROLLER_ACTIVE))
    if problems.items:
        message = f"{len(problems.items) + problems.omitted} things are not in sync, first {problems.items[0].reason}"
        yield Finding("objects", "warning", message, "syncline status lists them, each with what to do.")
    else:
        yield Finding("objects", "ok", "everything that you may see is in sync")


async def _nobody(client: ClusterClient) -> Finding:
    """No operator ever published itself here."""
    placed = [
        item["metadata"]["name"]
        for plural in ("placements", "clusterplacements")
        for item in (await client.get_json(f"{_API}/{plural}")).get("items") or ()
    ]
    if placed:
        message = f"{len(placed)} placements were applied here (first {placed[0]}), and no operator has it as upstream"
        fix = "Applied in the wrong context? Delete them here and apply them upstream, or start: syncline operator"
        return Finding("context", "error", message, fix)
    message = "no operator has published its hub on this upstream yet"
    return Finding("hub", "error", message, "Start one: syncline operator, or the chart; or choose with --context.")


def _version() -> str:
    from importlib.metadata import version

    return version("syncline")


async def _leader(client: ClusterClient) -> AsyncIterator[Finding]:
    lease = await _found(client, _LEASE)
    yield judge_lease(lease["spec"] if lease is not None else None, time.time())


def judge_lease(spec: Mapping[str, Any] | None, now: float) -> Finding:
    """Whether somebody leads. `spec` of the Lease, None where there is none; `now`: seconds since the epoch."""
    if spec is None:
        message = f"there is no Lease {SYSTEM_NAMESPACE}/{LEASE_NAME}"
        fix = "Fine with --no-leader-elect and one replica; else start the operator."
        return Finding("leader", "warning", message, fix)
    holder = str(spec.get("holderIdentity") or "")
    try:
        silent = now - datetime.fromisoformat(str(spec.get("renewTime"))).timestamp()
    except ValueError:
        silent = float("inf")
    fix = f"Is an operator running? kubectl -n {SYSTEM_NAMESPACE} get pods, and read its log."
    if not holder:
        return Finding("leader", "error", "nobody leads: the last leader gave its Lease back", fix)
    if silent > _LATE * float(spec.get("leaseDurationSeconds") or 15):
        since = f"for {age(silent)}" if silent != float("inf") else "ever"
        return Finding("leader", "error", f"nobody leads: {holder} has not renewed its Lease {since}", fix)
    return Finding("leader", "ok", f"{holder} leads")


async def _webhooks(client: ClusterClient) -> AsyncIterator[Finding]:
    """Where they point, and whether the API server gets an answer there: by a dry run, which changes nothing."""
    from syncer.webhooks.configurations import registered

    found = await registered(client)
    if found is None:
        message = "admission webhooks are not registered: a bad placement is told by its condition, not refused"
        yield Finding("webhooks", "warning", message, "Fine with --webhooks off; else restart the operator.")
        return
    finding = judge_authority(found.ca_bundle, datetime.now(UTC))
    if finding is not None:
        yield finding
    probe = {
        "apiVersion": API_VERSION,
        "kind": "SyncTarget",
        "metadata": {"name": "syncline-doctor"},
        "spec": {"connection": {"tunnel": {}}},
    }
    send = partial(client.request, "POST", f"{_API}/synctargets", params={"dryRun": "All"})
    try:
        await send(body=json.dumps(probe).encode(), content_type="application/json")
    except errors.ServerError as error:
        fix = "Is the operator running, and may the API server connect to it? See --webhook-url, or set --webhooks off."
        yield Finding("webhooks", "error", f"{found.url}: {error.message}", fix)
    except errors.Forbidden:
        yield Finding("webhooks", "ok", f"registered at {found.url}; you may not try them (create synctargets)")
    except errors.Conflict:
        yield Finding("webhooks", "ok", f"{found.url} answers")
    else:
        yield Finding("webhooks", "ok", f"{found.url} answers")


def judge_authority(bundle: bytes, now: datetime) -> Finding | None:
    """What is wrong with the CA by which the API server knows the webhooks."""
    from cryptography import x509

    fix = "Restart the operator: it makes and registers a new one."
    try:
        ends = max(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(bundle))
    except ValueError:
        return Finding("webhooks", "error", "the registered caBundle holds no certificate", fix)
    if ends < now:
        return Finding("webhooks", "error", f"their CA expired on {ends:%Y-%m-%d}", fix)
    if (ends - now).days < _EXPIRES_SOON_DAYS:
        return Finding("webhooks", "warning", f"their CA expires on {ends:%Y-%m-%d}", fix)
    return None


# Targets


async def _targets(client: ClusterClient) -> AsyncIterator[Finding]:
    items = (await client.get_json(f"{_API}/synctargets")).get("items") or []
    if not items:
        yield Finding("targets", "warning", "there are none", "Add one: syncline target add NAME --target-kubeconfig F")
    judged = [judge_target(item) for item in items]
    bad = [finding for finding in judged if finding.state != "ok"]
    for finding in bad[:_SHOWN]:
        yield finding
    if len(bad) > _SHOWN:
        yield Finding("targets", "warning", f"and {len(bad) - _SHOWN} more", "syncline get targets lists all.")
    if items and not bad:
        versions = sorted({str((item.get("status") or {}).get("kubernetesVersion") or "?") for item in items})
        yield Finding("targets", "ok", f"all {len(items)} are Ready, Kubernetes {', '.join(versions)}")


def judge_target(item: Mapping[str, Any]) -> Finding:
    """One SyncTarget: Ready and not Frozen, or why not."""
    name = item["metadata"]["name"]
    conditions = {one["type"]: one for one in (item.get("status") or {}).get("conditions") or ()}
    ready, frozen = conditions.get("Ready"), conditions.get("Frozen", {})
    if ready is None:
        fix = "Is an operator running on this upstream? An object whose status stays empty is in the wrong context."
        return Finding("targets", "error", f"{name}: nobody has looked at it yet", fix)
    if ready["status"] != "True":
        text = f"{name} is not Ready: {ready.get('reason', '')}: {ready.get('message', '')}"
        fix = hint(ready.get("reason", "")) or f"kubectl describe synctarget {name}"
        return Finding("targets", "error", text, fix)
    if frozen.get("status") == "True":
        return Finding("targets", "warning", f"{name} is Frozen: {frozen.get('message', '')}", hint(Reason.FROZEN))
    return Finding("targets", "ok", name)


async def _found(client: ClusterClient, path: str) -> dict[str, Any] | None:
    """An object, or None if it is not there."""
    try:
        return await client.get_json(path)
    except errors.NotFound:
        return None
