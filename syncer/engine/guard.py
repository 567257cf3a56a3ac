"""Is our own API still installed? Deleting its CRDs deletes all placements, which must not read as "un-place all".

The same goes for custom kinds that are synced: removing their CRD deletes all their objects, one event each.

The guard asks live, remembers the CRDs' UIDs in the hub's ConfigMap, and answers one question: was the disappearance of
a placement somebody's wish, or the removal of Syncline? Only the first is evidence for a delete.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import orjson

from syncer.api.names import GROUP, HUB_CONFIGMAP, SYSTEM_NAMESPACE
from syncer.api.policy import builtin_kind
from syncer.kube.client import ClusterClient
from syncer.kube.errors import ApiError, NotFound
from syncer.kube.objects import ResourceInfo

CRDS = ("synctargets", "placements", "clusterplacements")
RECORD_KEY = "crdUIDs"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_GONE_WITH_IT = "objects that went with it stay here: create them again, or delete them on the target"
_METADATA_ONLY = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
_CONFIGMAP = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/{HUB_CONFIGMAP}"


class Lost(NamedTuple):
    """An object of our own API that went away."""

    plural: str
    created: str  # its creationTimestamp; an object is never older than the CRD that it belongs to


class Wish(NamedTuple):
    """What is known of somebody's wish to un-place an object.

    Attributes:
        since: monotonic seconds; our API must have been seen in place later than that.
        lost: the object of our API whose going un-placed; None if nobody saw what did.
        given_up: a person acknowledged that what an earlier installation left may go.
    """

    since: float
    lost: Lost | None
    given_up: bool


class NotProven(Exception):  # an answer, not a fault
    """The live check could not show that our API is in place; the text says why."""


class ApiGuard:
    """Watches over the CRDs of Syncline on the upstream API server.

    Attributes:
        problem: why writes must stop ("" while everything is in place).
        reinstalled: the CRDs are not the ones that stood here when objects were placed.
        installation: names the present CRDs; another text after they were installed anew.
    """

    def __init__(self, client: ClusterClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._lock = asyncio.Lock()
        self._verified_at = float("-inf")  # start of the last check that went well
        self._uids: dict[str, str] = {}
        self._created: dict[str, str] = {}  # creation times of the present CRDs
        self._recorded: dict[str, str] | None = None  # UIDs as the hub's ConfigMap has them, None until it was read
        self.problem = ""
        self.reinstalled = False

    @property
    def installation(self) -> str:
        return self._uids.get("placements", "")[:8]

    @property
    def unrecorded(self) -> bool:
        """Nobody wrote down yet which CRDs place what is placed."""
        return self._recorded == {}

    async def check(self) -> bool:
        """Ask the API server now. Returns whether everything is in place; sets `problem` otherwise."""
        started = self._clock()
        try:
            found = {name: await self._crd(name) for name in CRDS}
            if self._recorded is None:
                self._recorded = await self._read()
        except NotProven as why:
            self.problem = str(why)
            return False
        except ApiError as error:
            if not self.problem:
                return False  # could not ask: unknown, and the caller waits
            self.problem = f"the API server does not answer for our CRDs: {error}"
            return False
        self._verified_at = started
        self.problem = ""
        self._uids = {name: uid for name, (uid, _) in found.items()}
        self._created = {name: created for name, (_, created) in found.items()}
        self.reinstalled = bool(self._recorded) and self._recorded != self._uids
        return True

    async def verify(self, since: float) -> str:
        """Prove that our API was in place after `since` (monotonic seconds); one check serves many callers.

        Raises:
            NotProven: it is gone or terminating, or nobody answered.
        """
        async with self._lock:
            if self._verified_at <= since and not await self.check():
                raise NotProven(self.problem or "the upstream API server does not answer")
        return f"API {GROUP} in place, placements CRD uid {self._uids['placements']}"

    async def prove(self, wish: Wish) -> str:
        """Prove that un-placing was somebody's wish, and not a removal of Syncline that was over before we looked.

        Raises:
            NotProven: as `verify`; or our API was installed again since the object was placed.
        """
        proof = await self.verify(wish.since)
        lost = wish.lost
        older = self.reinstalled if lost is None else lost.created < self._created[lost.plural]
        if older and not wish.given_up:
            raise NotProven("the CRDs of Syncline were installed again since it was placed, and nothing places it now")
        return proof

    async def load(self) -> None:
        """Compare with the CRDs that the last leader recorded, before any decision. Raises ApiError if it cannot."""
        if await self.check() and not self._recorded:
            await self.record()

    async def _read(self) -> dict[str, str]:
        """The CRDs that placed what is placed; empty if nobody wrote them down."""
        try:
            data = (await self._client.get_json(_CONFIGMAP)).get("data") or {}
        except NotFound:
            return {}
        recorded: dict[str, str] = orjson.loads(data.get(RECORD_KEY) or "{}")
        return recorded

    async def record(self) -> None:
        """Remember the present CRDs as the ones that placed what is placed: nothing is left of earlier ones."""
        if not self._uids or self._recorded == self._uids:
            self.reinstalled = False
            return
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": HUB_CONFIGMAP},
            "data": {RECORD_KEY: orjson.dumps(self._uids).decode()},
        }
        params = {"fieldManager": "syncline-guard", "force": "true"}
        await self._client.request(
            "PATCH", _CONFIGMAP, params=params, body=orjson.dumps(body), content_type="application/apply-patch+yaml"
        )
        self._recorded = dict(self._uids)
        self.reinstalled = False

    async def _crd(self, plural: str) -> tuple[str, str]:
        """(uid, creation time) of one of our CRDs."""
        name = f"{plural}.{GROUP}"
        try:
            answer = await self._client.request("GET", f"{_CRDS}/{name}", headers=_METADATA_ONLY)
        except NotFound:
            raise NotProven(f"CustomResourceDefinition {name} is not installed") from None
        metadata = orjson.loads(answer.body)["metadata"]
        if metadata.get("deletionTimestamp"):
            raise NotProven(f"CustomResourceDefinition {name} is being deleted")
        return str(metadata["uid"]), str(metadata["creationTimestamp"])


async def prove_kind(client: ClusterClient, info: ResourceInfo, created: str) -> None:
    """Prove that objects of a custom kind go one by one, and not because their CRD was removed.

    Args:
        created: when the object was made that is gone now: creationTimestamp, as exactly as it is known.
    Raises:
        NotProven: the CRD is gone, terminating, or younger than the object. ApiError: nobody answered.
    """
    if builtin_kind(info.api_version, info.kind) is not None:
        return
    crd = f"{info.resource}.{info.group}"
    try:
        answer = await client.request("GET", f"{_CRDS}/{crd}", headers=_METADATA_ONLY)
    except NotFound:
        if await _local(client, info):
            raise NotProven(f"upstream has no CustomResourceDefinition {crd} any more; {_GONE_WITH_IT}") from None
        return
    metadata = orjson.loads(answer.body)["metadata"]
    if metadata.get("deletionTimestamp"):
        raise NotProven(f"CustomResourceDefinition {crd} is being deleted upstream; {_GONE_WITH_IT}")
    if created < metadata["creationTimestamp"]:
        raise NotProven(f"CustomResourceDefinition {crd} was installed again upstream; {_GONE_WITH_IT}")


async def _local(client: ClusterClient, info: ResourceInfo) -> bool:
    """Whether the kind can only come from a CRD: neither built in nor served by an extension API server."""
    name = f"{info.version}.{info.group}"
    try:
        service = await client.get_json(f"/apis/apiregistration.k8s.io/v1/apiservices/{name}")
    except NotFound:
        return True
    built_in = (service["metadata"].get("labels") or {}).get("kube-aggregator.kubernetes.io/automanaged") == "onstart"
    return not built_in and not service["spec"].get("service")
