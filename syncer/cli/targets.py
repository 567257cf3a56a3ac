"""`get`, `cordon`, `uncordon`, `ack`: straight from the upstream API server, no hub needed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from syncer.api.names import ACKNOWLEDGE_ANNOTATION, API_VERSION
from syncer.cli.access import open_upstream
from syncer.cli.cluster import path_of, patient
from syncer.cli.errors import CliError
from syncer.cli.identity import MANAGER
from syncer.cli.options import Access
from syncer.cli.output import Output, columns, emit, emit_data
from syncer.kube import errors

if TYPE_CHECKING:
    from syncer.kube.client import ClusterClient

API: Final = f"/apis/{API_VERSION}"
_TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_MERGE_PATCH: Final = "application/merge-patch+json"


async def list_targets(output: Output | None, access: Access) -> None:
    """`syncline get targets`."""
    async with open_upstream(access) as upstream:
        answers = [await _listed(upstream.client, f"{API}/synctargets", output)]
    _show(answers, output, empty="No targets. Add one: syncline target add")


async def list_placements(namespace: str | None, all_namespaces: bool, output: Output | None, access: Access) -> None:
    """`syncline get placements`: those of one namespace or all, and the cluster placements."""
    async with open_upstream(access) as upstream:
        where = namespace or upstream.namespace
        placements = f"{API}/placements" if all_namespaces else f"{API}/namespaces/{where}/placements"
        empty = "No placements." if all_namespaces else f"No placements in namespace {where}; -A looks at all."
        answers = [await _listed(upstream.client, placements, output)]
        try:
            answers.append(await _listed(upstream.client, f"{API}/clusterplacements", output))
        except errors.Forbidden:
            # Whoever has rights in one namespace only still wants to see the placements there.
            sys.stderr.write("note: cluster placements are not shown, you may not list them\n")
    _show(answers, output, empty=empty)


async def _listed(client: ClusterClient, path: str, output: Output | None) -> dict[str, Any]:
    """A list, or for people the table that the API server draws of it, which is the one that kubectl shows."""
    headers = {"Accept": "application/json" if output in (Output.JSON, Output.YAML) else _TABLE}
    try:
        return await patient(partial(client.get_json, path, headers=headers))
    except errors.NotFound as error:
        raise missing_crds() from error


def _show(answers: Sequence[Mapping[str, Any]], output: Output | None, *, empty: str) -> None:
    if output in (Output.JSON, Output.YAML):
        items = [item for listed in answers for item in listed["items"]]
        for item in items:
            item["metadata"].pop("managedFields", None)  # noise, as for kubectl
        emit_data({"apiVersion": "v1", "kind": "List", "items": items}, output)
        return
    shown = [text for listed in answers if (text := table(listed, wide=output is Output.WIDE))]
    emit("\n\n".join(shown) if shown else empty)


def missing_crds() -> CliError:
    """Our API is not served upstream."""
    return CliError(
        "the upstream does not know Syncline's kinds yet",
        "Install the CRDs: syncline crds | kubectl apply --server-side -f -   (is --context the upstream?)",
    )


def table(answer: Mapping[str, Any], *, wide: bool) -> str:
    """A server-side table as text; "" without rows. Wide shows the columns of low priority and the labels too."""
    shown = [i for i, c in enumerate(answer["columnDefinitions"]) if wide or not c.get("priority")]
    header = [answer["columnDefinitions"][i]["name"].upper() for i in shown]
    rows = [[row["cells"][i] for i in shown] for row in answer["rows"] or ()]
    metadata = [row.get("object", {}).get("metadata", {}) for row in answer["rows"] or ()]
    if any("namespace" in meta for meta in metadata):
        header = ["NAMESPACE", *header]
        rows = [[meta.get("namespace", ""), *row] for meta, row in zip(metadata, rows, strict=True)]
    if wide:
        header = [*header, "LABELS"]
        labels = [",".join(f"{k}={v}" for k, v in sorted((meta.get("labels") or {}).items())) for meta in metadata]
        rows = [[*row, text] for row, text in zip(rows, labels, strict=True)]
    return columns(header, rows) if rows else ""


async def get_target(client: ClusterClient, name: str) -> dict[str, Any]:
    """One SyncTarget.

    Raises:
        CliError: there is none of that name; the hint offers one spelled alike.
    """
    try:
        return await patient(partial(client.get_json, path_of("SyncTarget", name)))
    except errors.NotFound as error:
        raise await _no_target(client, name) from error


async def _no_target(client: ClusterClient, name: str) -> CliError:
    import difflib

    try:
        listed = await client.get_json(f"{API}/synctargets", params={"limit": "500"})
    except errors.NotFound:
        return missing_crds()
    names = [item["metadata"]["name"] for item in listed["items"]]
    close = difflib.get_close_matches(name, names, 1)
    advice = f"Did you mean {close[0]}? " if close else ""
    return CliError(f"there is no target {name!r}", f"{advice}syncline get targets lists them.")


async def patch_target(client: ClusterClient, name: str, change: Mapping[str, Any]) -> None:
    """Merge `change` into a SyncTarget."""
    try:
        await client.request(
            "PATCH",
            path_of("SyncTarget", name),
            params={"fieldManager": MANAGER},
            body=json.dumps(change).encode(),
            content_type=_MERGE_PATCH,
        )
    except errors.NotFound as error:
        raise await _no_target(client, name) from error


async def set_unschedulable(name: str, unschedulable: bool, access: Access) -> None:
    """`syncline cordon` and `uncordon`; saying it twice is fine."""
    word = "cordoned" if unschedulable else "uncordoned"
    async with open_upstream(access) as upstream:
        target = await get_target(upstream.client, name)
        if bool(target["spec"].get("unschedulable")) == unschedulable:
            emit(f"Target {name} is {word} already.")
            return
        await patch_target(upstream.client, name, {"spec": {"unschedulable": unschedulable}})
    emit(f"Target {name} is {word}.")


async def acknowledge(name: str, access: Access) -> None:
    """`syncline ack`: hand the token back that the target shows."""
    async with open_upstream(access) as upstream:
        target = await get_target(upstream.client, name)
        frozen = target.get("status", {}).get("frozen")
        if not frozen:
            emit(f"Target {name} is not frozen; there is nothing to acknowledge.")
            return
        annotations = {ACKNOWLEDGE_ANNOTATION: frozen["token"]}
        await patch_target(upstream.client, name, {"metadata": {"annotations": annotations}})
    waiting = f", {frozen['deletes']} deletions go ahead" if frozen.get("deletes") else ""
    emit(f"Target {name} goes on{waiting}.")
