"""What is asked of a target's API server about itself: identity, version, rights, kinds, capacity. No state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

import orjson

from syncer.api.keys import GroupResource
from syncer.api.synctarget import SyncedResource
from syncer.controllers.capacity import Node, decode_page, sum_nodes
from syncer.controllers.rights import (
    REVIEW_NAMESPACE,
    MissingRight,
    Rules,
    accepted,
)
from syncer.errors import SyncError
from syncer.kube.client import SMALL_LIMIT, ClusterClient
from syncer.kube.errors import ApiError, NotFound
from syncer.kube.objects import ResourceInfo
from syncer.placement.policy import ResourcePolicy

METADATA_ONLY: Final = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
CRD_PATH: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/synctargets.syncline.io"
NODE_PAGE: Final = 250
MAX_NODES: Final = 10_000
MAX_SINGLE_REVIEWS: Final = 60  # SelfSubjectAccessReviews of one check
MAX_LISTED: Final = 64  # resources in a status
_JSON: Final = "application/json"
_NAMESPACES: Final = ResourceInfo("", "v1", "namespaces", "Namespace", namespaced=False)


class Kinds(NamedTuple):
    """How the accepted kinds stand on a target."""

    accepted: list[ResourceInfo]  # served there and accepted
    listed: tuple[SyncedResource, ...]  # for the status
    unserved: tuple[str, ...]  # accepted, served upstream, not served there


async def ask_cluster_uid(client: ClusterClient, timeout_seconds: float) -> str:
    """UID of the cluster's `kube-system` namespace: which cluster answers, proven by its own store.

    One GET that needs the network, the credentials, the authorizer and the store at once, so it is the probe too.
    """
    answer = await client.request(
        "GET", "/api/v1/namespaces/kube-system", headers=METADATA_ONLY, timeout_seconds=timeout_seconds
    )
    return str(orjson.loads(answer.body)["metadata"]["uid"])


async def ask_version(client: ClusterClient, timeout_seconds: float) -> str:
    """`gitVersion`, at most 64 characters."""
    answer = await client.request("GET", "/version", timeout_seconds=timeout_seconds, answer_limit=SMALL_LIMIT)
    return str(orjson.loads(answer.body).get("gitVersion", ""))[:64]


async def ask_missing_rights(client: ClusterClient, kinds: Iterable[ResourceInfo]) -> tuple[MissingRight, ...]:
    """Which rights our identity lacks for these kinds and for namespaces.

    One SelfSubjectRulesReview answers for all; where an authorizer cannot list its rules, each "no" is asked again by
    itself.
    """
    status = await _review(client, "selfsubjectrulesreviews", "SelfSubjectRulesReview", {"namespace": REVIEW_NAMESPACE})
    rules = Rules(status)
    missing = rules.missing([*kinds, _NAMESPACES])
    if not rules.incomplete or not missing:
        return tuple(missing)
    checked: list[MissingRight] = []
    reviews = 0
    for right in missing:
        refused: list[str] = []
        for verb in right.verbs:
            reviews += 1
            if reviews > MAX_SINGLE_REVIEWS or not await _allowed(client, right.resource, verb):
                refused.append(verb)
        if refused:
            checked.append(MissingRight(right.resource, tuple(refused)))
    return tuple(checked)


async def _allowed(client: ClusterClient, resource: GroupResource, verb: str) -> bool:
    attributes = {"verb": verb, "group": resource.group, "resource": resource.resource}
    status = await _review(
        client, "selfsubjectaccessreviews", "SelfSubjectAccessReview", {"resourceAttributes": attributes}
    )
    return status.get("allowed") is True


async def _review(client: ClusterClient, plural: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    body = orjson.dumps({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec})
    path = f"/apis/authorization.k8s.io/v1/{plural}"
    answer = await client.request("POST", path, body=body, content_type=_JSON, verb="review")
    status = orjson.loads(answer.body).get("status")
    return status if isinstance(status, dict) else {}


async def ask_capacity(client: ClusterClient) -> tuple[dict[str, str], dict[str, str]]:
    """(capacity, allocatable) summed over nodes, page by page; at most `MAX_NODES` nodes count."""
    nodes: list[Node] = []
    params = {"limit": str(NODE_PAGE)}
    while True:
        page = decode_page((await client.request("GET", "/api/v1/nodes", params=params)).body)
        nodes.extend(page.items)
        if not page.metadata.continue_ or len(nodes) >= MAX_NODES:
            return sum_nodes(nodes)
        params["continue"] = page.metadata.continue_


def compare_kinds(
    upstream: Iterable[ResourceInfo], downstream: Iterable[ResourceInfo], policy: ResourcePolicy
) -> Kinds:
    """How the kinds that the SyncTarget accepts stand on its cluster. Pure.

    Only kinds that the upstream serves can be missing: nobody can place anything else.
    """
    here = accepted(downstream, policy)
    served = {info.group_resource for info in here}
    unserved = [info for info in accepted(upstream, policy) if info.group_resource not in served]
    listed = [
        SyncedResource(group=info.group, resource=info.resource, versions=(info.version,), state="Accepted")
        for info in here
    ]
    listed += [
        SyncedResource(group=info.group, resource=info.resource, state="Incompatible", message="not served there")
        for info in unserved
    ]
    names = tuple(str(info.group_resource) for info in unserved)
    return Kinds(here, tuple(sorted(listed, key=_incompatible_first)[:MAX_LISTED]), names)


def _incompatible_first(resource: SyncedResource) -> tuple[bool, str, str]:
    return resource.state == "Accepted", resource.group, resource.resource


def reason_of(error: SyncError) -> str:
    """The word for conditions that a failed probe gets."""
    status = error.status if isinstance(error, ApiError) else 0
    return {401: "Unauthorized", 403: "Forbidden"}.get(status, "Unreachable")


def another_cluster(uid: str, target: str, *, known: str, upstream: str, way: str) -> tuple[str, str] | None:
    """(reason, message) if what answers is not the target's cluster; None if it may be.

    Args:
        uid: of the cluster that answers.
        known: UID that the target had so far, "" if none.
        upstream: UID of the upstream cluster.
        way: what leads there, `kubeconfig` or `agent`.
    """
    if uid == upstream:
        return "UpstreamCluster", f"the {way} leads to the upstream cluster itself; give the target's own"
    if known and uid != known:
        cure = "put back the right kubeconfig" if way == "kubeconfig" else "run the agent on the right cluster"
        return "ClusterChanged", (
            f"the {way} leads to cluster {uid}, while {target} is cluster {known}; {cure}, or remove the "
            "SyncTarget and add it again"
        )
    return None


def no_link(target: str, url: str, cluster_uid: str) -> tuple[str, str]:
    """(reason, message) for a tunnelled target without a link.

    Args:
        url: where agents dial.
        cluster_uid: of the cluster that it is; "" if no agent ever came.
    """
    if cluster_uid:
        return "LinkLost", f"its agent has no link; it dials again by itself: does it run there, and reach {url}?"
    return "NoAgent", (
        f"no agent has dialled in yet. On its cluster, with a token that `syncline token create {target}` gives: "
        f"syncline join --hub {url} --target {target} --credentials DIR --token … --ca-hash …, then "
        f"syncline agent --hub {url} --credentials DIR"
    )


async def crd_state(upstream: ClusterClient) -> Literal["present", "leaving", "unknown"]:
    """Whether the SyncTarget kind itself is being removed, asked live."""
    try:
        answer = await upstream.request("GET", CRD_PATH, headers=METADATA_ONLY)
    except NotFound:
        return "leaving"
    except SyncError:
        return "unknown"
    metadata = orjson.loads(answer.body).get("metadata") or {}
    return "leaving" if metadata.get("deletionTimestamp") else "present"
