"""Performs one action against the API servers. No decision is made here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from syncer.api.keys import ObjectKey
from syncer.api.names import CEDED_MANAGER, DELETION_ANNOTATION, SPEC_MANAGER
from syncer.engine import actions as do
from syncer.engine.guard import ApiGuard, Wish, prove_kind
from syncer.engine.state import Source
from syncer.engine.targets import Link
from syncer.kube.client import JSON_PATCH, ClusterClient
from syncer.kube.errors import NotFound
from syncer.kube.objects import KubeObject, ResourceInfo
from syncer.kube.pointers import join_pointer

_DELETION = join_pointer(("metadata", "annotations", DELETION_ANNOTATION))


class SourceStillThereError(Exception):
    """The live check found the source: its absence was our cache's mistake."""


class Executor:
    """The engine's hands: one method per kind of action, behind `perform`."""

    def __init__(self, upstream: ClusterClient, guard: ApiGuard) -> None:
        self._upstream = upstream
        self._guard = guard

    async def perform(
        self,
        action: do.Action,
        source: Source,
        info: ResourceInfo,
        link: Link,
        observed: KubeObject | None,
        wish: Wish,
    ) -> do.Replied:
        """Carry out an action.

        Args:
            info: the kind as the target serves it.
            observed: the object that the decision looked at, None if it was absent.
            wish: what `VerifyIntent` has to prove.
        Raises:
            ApiError: the server refused, or could not be asked.
            NotProven: our own API, or the kind of the source, is not in place.
            SourceStillThereError: `VerifySourceGone` found the source.
        """
        client, key = link.client, source.key
        match action:
            case do.Create(manifest):
                return await self._apply(client, info, manifest, {"resourceVersion": "1"}, force=True)
            case do.Apply(manifest, uid, force, _):
                before = observed.resource_version if observed is not None else ""
                return await self._apply(client, info, manifest, {"uid": uid}, force=force, before=before)
            case do.Cede(manifest, uid):
                metadata = {"uid": uid}
                return await self._apply(client, info, manifest, metadata, force=True, manager=CEDED_MANAGER)
            case do.Delete(uid, _, _):
                return await self._delete(client, info, key, uid)
            case do.Release(uid):
                patch = [
                    {"op": "test", "path": "/metadata/uid", "value": uid},
                    {"op": "add", "path": _DELETION, "value": "Orphan"},
                ]
                return do.Replied(await client.patch(info, key.namespace, key.name, orjson.dumps(patch), JSON_PATCH))
            case do.Read():
                return do.Replied(await self._read(client, info, key.namespace, key.name))
            case do.EnsureNamespace():
                await link.book.ensure(key.namespace)
                return do.Replied()
            case do.VerifySourceGone():
                assert observed is not None  # otherwise there is nothing to delete
                await prove_kind(self._upstream, source.info, _created(source, observed))
                if await self._read(self._upstream, source.info, key.namespace, key.name) is not None:
                    raise SourceStillThereError(str(key))
                seen = source.gone or "source absent from a complete list"
                return do.Replied(observed, proof=f"{seen}, and a live GET answers 404")
            case do.VerifyKind(evidence):
                assert observed is not None
                await prove_kind(self._upstream, source.info, _created(source, observed))
                return do.Replied(observed, proof=f"{evidence}, and its kind stays")
            case do.VerifyIntent():
                return do.Replied(observed, proof=await self._guard.prove(wish))

    @staticmethod
    async def _apply(
        client: ClusterClient,
        info: ResourceInfo,
        manifest: Mapping[str, Any],
        precondition: Mapping[str, str],
        *,
        force: bool,
        before: str = "",
        manager: str = SPEC_MANAGER,
    ) -> do.Replied:
        """One server-side apply; the manifest is sent in the version that the target prefers."""
        metadata = manifest["metadata"]
        body = {**manifest, "apiVersion": info.api_version, "metadata": {**metadata, **precondition}}
        answer, _ = await client.apply(
            info, metadata.get("namespace", ""), metadata["name"], orjson.dumps(body), force=force, manager=manager
        )
        return do.Replied(answer, unchanged=bool(before) and answer.resource_version == before)

    @staticmethod
    async def _delete(client: ClusterClient, info: ResourceInfo, key: ObjectKey, uid: str) -> do.Replied:
        """Delete that very object; fine if it is gone already."""
        try:
            await client.delete(info, key.namespace, key.name, uid=uid)
        except NotFound as error:
            if error.kind_of_missing != "object":
                raise
        return do.Replied()

    @staticmethod
    async def _read(client: ClusterClient, info: ResourceInfo, namespace: str, name: str) -> KubeObject | None:
        """The object, or None if the server says that this very object is not there."""
        try:
            return await client.get(info, namespace, name)
        except NotFound as error:
            if error.kind_of_missing == "resource":
                raise
            return None


def _created(source: Source, observed: KubeObject) -> str:
    """When the source was made, as exactly as it is known: no copy is older than what it was made of."""
    created = source.object.creation_timestamp if source.object is not None else source.created
    return created or observed.creation_timestamp
