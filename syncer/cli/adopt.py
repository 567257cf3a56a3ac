"""`target add --adopt-hub OLD_ID`: a rebuilt upstream takes over what the former one marked on a target.

Only objects that exist upstream again are re-marked. The others would look like sources that were deleted, and would be
deleted on the target; they keep the old mark, and so are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from syncer.api.keys import GroupResource
from syncer.api.names import MANAGED_BY_LABEL, SOURCE_ANNOTATION
from syncer.cli.errors import WrongUse
from syncer.cli.identity import MANAGER
from syncer.cli.resolve import Served, served_by
from syncer.kube import errors
from syncer.transform.mark import SourceRef

if TYPE_CHECKING:
    from syncer.kube.client import ClusterClient

_METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PAGE: Final = "500"  # objects; bounds memory here and work there
Key = tuple[str, str]  # (namespace or "", name)


class Marked(NamedTuple):
    """An object on the target that carries the old hub's mark."""

    key: Key
    uid: str
    source: SourceRef


def marked(items: Iterable[Mapping[str, Any]], old: str) -> list[Marked]:
    """Those of the listed objects that really are copies made by the old hub."""
    found = []
    for item in items:
        metadata = item["metadata"]
        source = SourceRef.from_json((metadata.get("annotations") or {}).get(SOURCE_ANNOTATION, ""))
        controlled = any(owner.get("controller") for owner in metadata.get("ownerReferences") or ())
        if source and source.hub == old and not controlled:
            found.append(Marked((metadata.get("namespace", ""), metadata["name"]), metadata["uid"], source))
    return found


def new_mark(found: Marked, new: str) -> dict[str, Any]:
    """Merge patch that makes the object one of the new hub's; the uid makes it fail on another object."""
    source = replace(found.source, hub=new, workspace=new)
    annotations = {SOURCE_ANNOTATION: source.to_json()}
    return {"metadata": {"uid": found.uid, "labels": {MANAGED_BY_LABEL: new}, "annotations": annotations}}


async def adopt(upstream: ClusterClient, target: ClusterClient, *, old: str, new: str) -> str:
    """Re-mark, and tell in one line what was done.

    Raises:
        WrongUse: the old hub is the one that is in use now.
    """
    if old == new:
        raise WrongUse("--adopt-hub names the upstream that is in use now", "Name the former one, or leave it out.")
    sources = {resource.id: resource for resource in await served_by(upstream)}
    taken = left = 0
    for resource in await served_by(target):
        if not {"list", "patch"} <= resource.verbs:
            continue
        items = await _list(target, resource, {"labelSelector": f"{MANAGED_BY_LABEL}={old}"})
        found = marked(items, old)
        upstream_keys = await _keys(upstream, sources, resource.id, found)
        for item in found:
            if (item.source.namespace, item.source.name) in upstream_keys:
                await _patch(target, resource, item, new)
                taken += 1
            else:
                left += 1
    rest = f"; {left} without a source upstream keep the old mark" if left else ""
    return f"took over {taken} objects of hub {old}{rest}"


async def _keys(
    upstream: ClusterClient, sources: Mapping[GroupResource, Served], resource: GroupResource, found: list[Marked]
) -> set[Key]:
    """What exists upstream of a resource; asked only where something was found on the target."""
    if not found or resource not in sources:
        return set()
    items = await _list(upstream, sources[resource], {})
    return {(item["metadata"].get("namespace", ""), item["metadata"]["name"]) for item in items}


async def _list(client: ClusterClient, resource: Served, params: Mapping[str, str]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    token = ""
    while True:
        page = {"limit": _PAGE, **params} | ({"continue": token} if token else {})
        listed = await client.get_json(resource.path(), params=page, headers={"Accept": _METADATA})
        items += listed.get("items") or ()
        token = listed["metadata"].get("continue", "")
        if not token:
            return items


async def _patch(client: ClusterClient, resource: Served, found: Marked, new: str) -> None:
    try:
        await client.request(
            "PATCH",
            resource.path(*found.key),
            params={"fieldManager": MANAGER},
            body=json.dumps(new_mark(found, new)).encode(),
            content_type="application/merge-patch+json",
        )
    except errors.NotFound:
        return  # gone meanwhile: nothing to take over
