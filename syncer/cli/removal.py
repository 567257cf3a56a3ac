"""`target remove`: the SyncTarget goes, what it holds goes or stays; on request Syncline's identity there goes too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from syncer.api.names import SYSTEM_NAMESPACE
from syncer.cli import identity
from syncer.cli.access import choose, explained, open_client, open_upstream
from syncer.cli.cluster import cluster_uid, delete, path_of, poll
from syncer.cli.errors import CliError, program
from syncer.cli.options import Access
from syncer.cli.output import Progress, emit
from syncer.cli.targets import API, get_target, patch_target
from syncer.kube import errors

if TYPE_CHECKING:
    from syncer.kube.client import ClusterClient


class RemoveRequest(NamedTuple):
    """What the command line of `target remove` says."""

    name: str
    orphan: bool = False
    kubeconfig: Path | None = None
    wait_seconds: float | None = 120.0


async def remove(request: RemoveRequest, access: Access) -> None:
    """`syncline target remove`."""
    name = request.name
    with Progress() as progress:
        async with open_upstream(access) as upstream:
            hub_id = await cluster_uid(upstream.client)
            target = await get_target(upstream.client, name)
            if request.orphan:
                await patch_target(upstream.client, name, {"spec": {"deletion": "Orphan"}})
            await delete(upstream.client, path_of("SyncTarget", name))
            if request.wait_seconds is None:
                emit(f"Target {name} is being removed.")
                return
            await _wait_gone(upstream.client, name, request.wait_seconds, progress)
            orphan = request.orphan or target["spec"].get("deletion") == "Orphan"
            uid = target.get("status", {}).get("clusterUID")
        if request.kubeconfig:
            await _remove_identity(request, hub_id, uid)
    emit(f"Target {name} is removed; what ran there {'keeps running' if orphan else 'is deleted'}.")
    if _is_tunnelled(target):
        emit("Its agent is not let in any more: end it there, and remove its credentials folder.")
    elif not request.kubeconfig:
        left = identity.identity_name(hub_id)
        emit(
            f"On the cluster remains ServiceAccount {SYSTEM_NAMESPACE}/{left} with its role; to remove it too:\n"
            f"  kubectl delete clusterrolebinding/{left} clusterrole/{left}\n"
            f"  kubectl -n {SYSTEM_NAMESPACE} delete serviceaccount/{left} secret/{left}"
        )


async def remove_all(orphan: bool, wait_seconds: float, access: Access) -> None:
    """`syncline target remove --all`: what an uninstallation that cleans up runs."""
    with Progress() as progress:
        async with open_upstream(access) as upstream:
            try:
                found = await upstream.client.get_json(f"{API}/synctargets")
            except errors.NotFound:  # our kinds are not there, so nothing of ours is
                found = {"items": []}
            names = sorted(item["metadata"]["name"] for item in found["items"])
            direct = sorted(item["metadata"]["name"] for item in found["items"] if not _is_tunnelled(item))
            hub_id = await cluster_uid(upstream.client) if direct else ""
            for name in names:
                if orphan:
                    await patch_target(upstream.client, name, {"spec": {"deletion": "Orphan"}})
                await delete(upstream.client, path_of("SyncTarget", name))
            deadline = time.monotonic() + wait_seconds  # one for all: they become clean side by side
            for name in names:
                await _wait_gone(upstream.client, name, max(0.0, deadline - time.monotonic()), progress)
    emit(f"Targets removed: {', '.join(names)}." if names else "There are no targets.")
    if direct:
        left = f"ServiceAccount {SYSTEM_NAMESPACE}/{identity.identity_name(hub_id)} with its role"
        emit(f"On {', '.join(direct)} remains {left}: target add made it.")


def _is_tunnelled(target: dict[str, Any]) -> bool:
    return "tunnel" in (target["spec"].get("connection") or {})


async def _wait_gone(client: ClusterClient, name: str, seconds: float, progress: Progress) -> None:
    last: dict[str, Any] = {}

    async def gone() -> bool | None:
        nonlocal last
        try:
            last = (await client.get_json(path_of("SyncTarget", name))).get("status", {})
        except errors.NotFound:
            return True
        progress.doing(f"waiting until {name} is clean: {last.get('objects', 0)} objects left")
        return None

    if await poll(gone, seconds) is None:
        raise CliError(
            f"target {name} is not clean after {seconds:g} s: {last.get('objects', 0)} objects left",
            "It goes on by itself while the operator runs and reaches the target; "
            f"{program()} target remove {name} --orphan leaves the objects there.",
        )


async def _remove_identity(request: RemoveRequest, hub_id: str, cluster: str | None) -> None:
    """Delete what `target add` made on the target; the namespace stays, others may use it."""
    chosen = choose(request.kubeconfig, None, option="--target-kubeconfig")
    name = identity.identity_name(hub_id)
    async with open_client(chosen.access, name=f"target {request.name}") as client:
        with explained(chosen, f"target {request.name}"):
            found = await cluster_uid(client)
            if cluster and cluster != found:
                raise CliError(
                    f"--target-kubeconfig names another cluster than target {request.name} was",
                    "The target is removed upstream; remove Syncline's identity with the right kubeconfig.",
                )
            for kind in ("ClusterRoleBinding", "ClusterRole", "Secret", "ServiceAccount"):
                await delete(client, path_of(kind, name, SYSTEM_NAMESPACE))
