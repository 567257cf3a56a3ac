"""Which kinds a cluster serves, and the difference between "it does not" and "it could not be asked"."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import msgspec

from syncer.api.keys import GroupResource
from syncer.errors import TransientError
from syncer.kube.client import ClusterClient
from syncer.kube.errors import ApiError, MalformedAnswer, NotFound, Unreachable
from syncer.kube.objects import ResourceInfo

_AGGREGATED: Final = ",".join(
    (
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        "application/json",
    )
)
T = TypeVar("T")
_VERSION = re.compile(r"v\d+((alpha|beta)\d+)?")


class _Kind(msgspec.Struct):
    kind: str = ""


class _Sub(msgspec.Struct):
    subresource: str


class _Resource(msgspec.Struct):
    resource: str
    scope: str = "Namespaced"
    verbs: list[str] = []
    subresources: list[_Sub] = []
    kind: _Kind | None = msgspec.field(name="responseKind", default=None)


class _Version(msgspec.Struct):
    version: str
    resources: list[_Resource] = []
    freshness: str = "Current"


class _Name(msgspec.Struct):
    name: str = ""


class _Group(msgspec.Struct):
    metadata: _Name = msgspec.field(default_factory=_Name)
    versions: list[_Version] = []


class _LegacyVersion(msgspec.Struct):
    version: str


class _LegacyGroup(msgspec.Struct):
    name: str
    versions: list[_LegacyVersion]
    preferred: _LegacyVersion | None = msgspec.field(name="preferredVersion", default=None)


class _Groups(msgspec.Struct):
    """`APIGroupDiscoveryList` (items), `APIGroupList` (groups) or `APIVersions` (versions)."""

    kind: str
    items: list[_Group] = []
    groups: list[_LegacyGroup] = []
    versions: list[str] = []


class _LegacyResource(msgspec.Struct):
    name: str
    kind: str
    namespaced: bool
    verbs: list[str] = []


class _LegacyResources(msgspec.Struct):
    resources: list[_LegacyResource]


_GROUPS = msgspec.json.Decoder(_Groups)
_RESOURCES = msgspec.json.Decoder(_LegacyResources)


class Discovery:
    """What one cluster serves, as of the last `refresh`.

    Answers are three-valued: found, proven absent (None), and unknown, which raises `TransientError`. Unknown
    is everything before the first refresh, an aggregated API whose server is away, and every absence after a refresh
    failed.
    """

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._etags: dict[str, str] = {}  # {path: ETag of what `_parts` holds}
        self._parts: dict[str, _Catalogue] = {}  # {"/api" or "/apis": what it said}
        self._failed: ApiError | None = None

    async def refresh(self) -> bool:
        """Ask again; cheap where nothing changed.

        Returns:
            True if the answer differs from the one before.
        Raises:
            ApiError: nothing was learned; what was known stays, absences turn unknown.
        """
        changed = False
        try:
            for path in ("/api", "/apis"):
                changed |= await self._refresh_part(path)
        except ApiError as error:
            self._failed = error
            raise
        except asyncio.CancelledError:
            self._failed = Unreachable(0, "Unreachable", f"{self._client.name}: no answer in time")
            raise
        self._failed = None
        return changed

    def find(self, api_version: str, kind: str) -> ResourceInfo | None:
        """The resource of a kind.

        Args:
            api_version: `apps/v1` or `v1` asks for that version; a bare group (`apps`, "") for the preferred version.
        Raises:
            TransientError: unknown.
        """
        group, version = _split(api_version)
        matches = (info for info in self._infos(group) if info.kind == kind and version in ("", info.version))
        return self._proven(group, next(matches, None))

    def find_resource(self, resource: GroupResource) -> ResourceInfo | None:
        """The resource of that plural, in its preferred version. Raises TransientError for unknown."""
        matches = (info for info in self._infos(resource.group) if info.resource == resource.resource)
        return self._proven(resource.group, next(matches, None))

    def resources(self) -> list[ResourceInfo]:
        """Every resource once, in its preferred version; [] before the first refresh."""
        found: dict[GroupResource, ResourceInfo] = {}
        for part in self._parts.values():
            for infos in part.groups.values():
                for info in infos:
                    found.setdefault(info.group_resource, info)
        return list(found.values())

    def stale(self) -> list[str]:
        """Groups that may have more resources than is known, because whoever serves them does not answer."""
        return sorted({group for part in self._parts.values() for group in part.stale})

    def _infos(self, group: str) -> Iterable[ResourceInfo]:
        part = self._parts.get("/apis" if group else "/api")
        return part.groups.get(group, ()) if part else ()

    def _proven(self, group: str, found: ResourceInfo | None) -> ResourceInfo | None:
        """What was found, or None where its absence from this group is proven."""
        part = self._parts.get("/apis" if group else "/api")
        if found is not None:
            return found
        if part is None:
            raise TransientError(f"{self._client.name}: it is not known yet what this cluster serves")
        if self._failed is not None:
            raise TransientError(f"{self._client.name}: what it serves could not be asked: {self._failed}")
        if group in part.stale:
            raise TransientError(f"{self._client.name}: the server behind API group {group!r} does not answer")
        return None

    async def _refresh_part(self, path: str) -> bool:
        headers = {"Accept": _AGGREGATED}
        if path in self._etags:
            headers["If-None-Match"] = self._etags[path]
        answer = await self._client.request("GET", path, headers=headers, verb="discovery")
        if answer.status == 304:
            return False
        groups = _decode(_GROUPS, answer.body, path)
        etag = answer.headers.get("ETag", "")
        if groups.kind == "APIGroupDiscoveryList":
            found = _Catalogue.from_aggregated(groups.items)
        else:
            found, etag = await self._legacy(groups), ""
        changed = found != self._parts.get(path)
        self._parts[path] = found
        if etag:
            self._etags[path] = etag
        return changed

    async def _legacy(self, groups: _Groups) -> _Catalogue:
        """One request per group version; one that cannot be read makes its group stale, unless it is gone (404)."""
        found = _Catalogue({}, set())
        for group in groups.groups or [_LegacyGroup("", [_LegacyVersion(version) for version in groups.versions])]:
            preferred = group.preferred.version if group.preferred else ""
            infos = found.groups.setdefault(group.name, [])
            for version in sorted((v.version for v in group.versions), key=lambda text: text != preferred):
                path = f"/apis/{group.name}/{version}" if group.name else f"/api/{version}"
                try:
                    answer = await self._client.request("GET", path, verb="discovery")
                    infos += _legacy_infos(group.name, version, _decode(_RESOURCES, answer.body, path).resources)
                except NotFound:
                    continue
                except ApiError:
                    found.stale.add(group.name)
        return found


class _Catalogue(msgspec.Struct):
    """What `/api` or `/apis` said."""

    groups: dict[str, list[ResourceInfo]]  # in the server's order of preference
    stale: set[str]  # groups that may have more than is listed

    @classmethod
    def from_aggregated(cls, items: list[_Group]) -> _Catalogue:
        found = cls({}, set())
        for group in items:
            name = group.metadata.name
            infos = found.groups.setdefault(name, [])
            for version in group.versions:
                infos += _infos(name, version)
                if version.freshness != "Current":
                    found.stale.add(name)
        return found


def _infos(group: str, version: _Version) -> Iterator[ResourceInfo]:
    for item in version.resources:
        if item.kind is None or not item.kind.kind:
            continue  # served only through its subresources
        subresources = {sub.subresource for sub in item.subresources}
        yield ResourceInfo(
            group=group,
            version=version.version,
            resource=item.resource,
            kind=item.kind.kind,
            namespaced=item.scope == "Namespaced",
            verbs=frozenset(item.verbs),
            has_status="status" in subresources,
            has_scale="scale" in subresources,
        )


def _legacy_infos(group: str, version: str, resources: list[_LegacyResource]) -> Iterator[ResourceInfo]:
    names = {item.name for item in resources}
    for item in resources:
        if "/" not in item.name:
            yield ResourceInfo(
                group=group,
                version=version,
                resource=item.name,
                kind=item.kind,
                namespaced=item.namespaced,
                verbs=frozenset(item.verbs),
                has_status=f"{item.name}/status" in names,
                has_scale=f"{item.name}/scale" in names,
            )


def _split(api_version: str) -> tuple[str, str]:
    """(group, version); "" for a version that does not matter."""
    if "/" in api_version:
        group, _, version = api_version.partition("/")
        return group, version
    return ("", api_version) if _VERSION.fullmatch(api_version) else (api_version, "")


def _decode(decoder: msgspec.json.Decoder[T], body: bytes, path: str) -> T:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise MalformedAnswer(0, "MalformedAnswer", f"{path} is not a discovery document: {error}") from error
