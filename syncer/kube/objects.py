"""Kubernetes objects as the engine keeps them: typed metadata beside the untouched bytes of the rest.

A cached object costs about its own JSON without `managedFields`. Nothing here holds on to a read buffer: every byte is
copied.
"""

from __future__ import annotations

import contextlib
import sys
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, cast
from urllib.parse import quote

import msgspec
import orjson

from syncer.api.keys import GroupKind, GroupResource
from syncer.api.names import SPEC_MANAGER, STATUS_MANAGER, Reason
from syncer.errors import TerminalError
from syncer.kube.errors import MalformedAnswer, Status, parse_status

LAST_APPLIED_ANNOTATION: Final = "kubectl.kubernetes.io/last-applied-configuration"
INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"

Raw = msgspec.Raw


class ResourceInfo(NamedTuple):
    """One served kind, as discovery describes it."""

    group: str
    version: str
    resource: str
    kind: str
    namespaced: bool
    verbs: frozenset[str] = frozenset()
    has_status: bool = False  # a `status` subresource is served
    has_scale: bool = False

    @property
    def group_resource(self) -> GroupResource:
        return GroupResource(self.group, self.resource)

    @property
    def group_kind(self) -> GroupKind:
        return GroupKind(self.group, self.kind)

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The percent-encoded URL path, such as `/apis/apps/v1/namespaces/shop/deployments/web/status`.

        Args:
            namespace: "" asks across all namespaces; must be "" for cluster-scoped kinds.
            name: "" means the collection.
            subresource: only together with a name.
        Raises:
            TerminalError: a part that no API server accepts as a name and that would change the path (`..`, `a/b`), or
                a namespace for a cluster-scoped kind.
        """
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace:
            if not self.namespaced:
                message = f"{self.group_resource} is cluster-scoped; it has no namespace {namespace!r}"
                raise TerminalError(Reason.INVALID, message)
            parts += ["namespaces", _segment(namespace)]
        parts.append(self.resource)
        if name:
            parts.append(_segment(name))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


def _segment(text: str) -> str:
    if text in (".", "..") or "/" in text:
        raise TerminalError(Reason.INVALID, f"{text!r} is not a name that the Kubernetes API accepts")
    return quote(text, safe=":")


class OwnerReference(msgspec.Struct, gc=False, frozen=True):
    """One entry of `metadata.ownerReferences`."""

    kind: str
    name: str
    uid: str
    api_version: str = msgspec.field(name="apiVersion", default="")
    controller: bool = False


class KubeObject(msgspec.Struct, gc=False, frozen=True):
    """One object as read from an API server; shared by everybody who reads a cache, so never edited."""

    api_version: str
    kind: str
    name: str
    namespace: str  # "" for cluster-scoped objects
    uid: str
    resource_version: str  # opaque text
    generation: int  # 0 where the kind has none
    labels: dict[str, str]
    annotations: dict[str, str]  # without last-applied
    finalizers: tuple[str, ...]
    owner_references: tuple[OwnerReference, ...]
    creation_timestamp: str  # RFC 3339
    deletion_timestamp: str | None
    owned: bytes | None  # raw fieldsV1 of our manager (operation Apply, main resource); None if it owns nothing
    raw: bytes  # the object's JSON without managedFields and last-applied
    status_manager: str = ""  # who wrote the status since we did, or without us; "" for nobody else

    @property
    def terminating(self) -> bool:
        """A delete was accepted; finalizers or grace keep it alive."""
        return self.deletion_timestamp is not None

    def manifest(self) -> dict[str, Any]:
        """A fresh dict of the whole object; the caller may edit it."""
        return cast("dict[str, Any]", orjson.loads(self.raw))

    def field(self, *path: str | int) -> Any:
        """Decode one value, `field("spec", "replicas")`; None where any step is missing.

        Only the top-level branch that is asked for is built; use `manifest()` for several fields of one branch.
        """
        if not path:
            return self.manifest()
        branch = _TOP.decode(self.raw).get(str(path[0]))
        value: Any = None if branch is None else orjson.loads(memoryview(branch))
        for step in path[1:]:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
                value = value[step]
            else:
                return None
        return value


EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]


class WatchEvent(NamedTuple):
    """One line of a watch.

    `object` is set for ADDED, MODIFIED, DELETED; `status` for ERROR; `resource_version` for all but ERROR.
    `initial_end` marks the bookmark that ends a streaming list.
    """

    type: EventType
    object: KubeObject | None = None
    status: Status | None = None
    resource_version: str = ""
    initial_end: bool = False


class ObjectPage(NamedTuple):
    """One page of a list."""

    objects: tuple[KubeObject, ...]
    resource_version: str
    continue_token: str  # "" on the last page


class _ManagedFields(msgspec.Struct, gc=False):
    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: str = ""
    fieldsV1: Raw = Raw(b"{}")


class _Metadata(msgspec.Struct, gc=False):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: tuple[str, ...] | None = None
    owner_references: tuple[OwnerReference, ...] | None = msgspec.field(name="ownerReferences", default=None)
    creation_timestamp: str | None = msgspec.field(name="creationTimestamp", default=None)
    deletion_timestamp: str | None = msgspec.field(name="deletionTimestamp", default=None)
    managed_fields: list[_ManagedFields] | None = msgspec.field(name="managedFields", default=None)


class _Event(msgspec.Struct, gc=False):
    type: str
    object: dict[str, Raw]


class _ListMetadata(msgspec.Struct, gc=False):
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    continue_token: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct, gc=False):
    kind: str
    api_version: str = msgspec.field(name="apiVersion")
    metadata: _ListMetadata
    items: list[Raw] | None = None


_TOP = msgspec.json.Decoder(dict[str, Raw])
_META = msgspec.json.Decoder(_Metadata)
_STR = msgspec.json.Decoder(str)
_EVENT = msgspec.json.Decoder(_Event)
_LIST = msgspec.json.Decoder(_List)
_ENCODE = msgspec.json.Encoder().encode


def decode_object(data: bytes | Raw, *, manager: str | None = SPEC_MANAGER) -> KubeObject:
    """Read one object.

    Args:
        data: its JSON; copied, never kept.
        manager: whose applied fields go into `owned`; None for nobody's.
    Raises:
        MalformedAnswer: not a Kubernetes object.
    """
    try:
        return _build(_TOP.decode(data), manager)
    except (msgspec.DecodeError, KeyError) as error:
        raise _malformed("an object", error) from error


def decode_list(page: bytes, *, manager: str | None = SPEC_MANAGER) -> ObjectPage:
    """Read one page; items of built-in kinds get the `apiVersion` and `kind` that lists leave out.

    Raises:
        MalformedAnswer: anything but a complete list with a resource version.
    """
    try:
        page_ = _LIST.decode(page)
        if not page_.metadata.resource_version or not page_.kind.endswith("List"):
            raise _malformed("a list", "no resourceVersion" if page_.kind.endswith("List") else f"kind {page_.kind}")
        head = {"apiVersion": Raw(_ENCODE(page_.api_version)), "kind": Raw(_ENCODE(page_.kind.removesuffix("List")))}
        objects = tuple(_build({**head, **_TOP.decode(item)}, manager) for item in page_.items or ())
    except (msgspec.DecodeError, KeyError) as error:
        raise _malformed("a list", error) from error
    return ObjectPage(objects, page_.metadata.resource_version, page_.metadata.continue_token)


def decode_document(body: bytes, what: str = "the answer") -> dict[str, Any]:
    """Read any JSON object, with `managedFields` and all. Raises MalformedAnswer, which says `what` was read."""
    with contextlib.suppress(orjson.JSONDecodeError):
        document = orjson.loads(body)
        if isinstance(document, dict):
            return document
    raise MalformedAnswer(0, "MalformedAnswer", f"{what} is not a JSON object")


def decode_watch_event(line: bytes, *, manager: str | None = SPEC_MANAGER) -> WatchEvent:
    """Read one line of a watch.

    Raises:
        MalformedAnswer: bad JSON, or a type that is none of the five.
    """
    try:
        event = _EVENT.decode(line)
        match event.type:
            case "ADDED" | "MODIFIED" | "DELETED":
                item = _build(event.object, manager)
                return WatchEvent(cast("EventType", event.type), item, resource_version=item.resource_version)
            case "BOOKMARK":
                meta = _META.decode(event.object["metadata"])
                end = (meta.annotations or {}).get(INITIAL_EVENTS_END) == "true"
                return WatchEvent("BOOKMARK", resource_version=meta.resource_version, initial_end=end)
            case "ERROR":
                return WatchEvent("ERROR", status=parse_status(_ENCODE(event.object)) or Status(code=500))
    except (msgspec.DecodeError, KeyError) as error:
        raise _malformed("a watch event", error) from error
    raise _malformed("a watch event", f"type {event.type[:40]!r}")


def _build(top: dict[str, Raw], manager: str | None) -> KubeObject:
    """Assemble one object; `top` is consumed. KeyError and DecodeError are the caller's to name."""
    head = top["metadata"]
    meta = _META.decode(head)
    if not meta.name:
        raise KeyError("metadata.name")
    annotations = meta.annotations or {}
    if meta.managed_fields is not None or LAST_APPLIED_ANNOTATION in annotations:
        fields = _TOP.decode(head)
        fields.pop("managedFields", None)
        if annotations.pop(LAST_APPLIED_ANNOTATION, None) is not None:
            fields["annotations"] = Raw(_ENCODE(annotations))
        top["metadata"] = Raw(_ENCODE(fields))
    return KubeObject(
        api_version=sys.intern(_STR.decode(top["apiVersion"])),
        kind=sys.intern(_STR.decode(top["kind"])),
        name=meta.name,
        namespace=sys.intern(meta.namespace),
        uid=meta.uid,
        resource_version=meta.resource_version,
        generation=meta.generation,
        labels=_interned(meta.labels),
        annotations=_interned(annotations),
        finalizers=meta.finalizers or (),
        owner_references=meta.owner_references or (),
        creation_timestamp=sys.intern(meta.creation_timestamp or ""),
        deletion_timestamp=meta.deletion_timestamp,
        owned=_owned(meta.managed_fields, manager),
        raw=_ENCODE(top),
        status_manager=_status_manager(meta.managed_fields),
    )


def _interned(texts: dict[str, str] | None) -> dict[str, str]:
    """The same map with one copy of each value for all objects: copies on all targets carry the same marks."""
    return {key: sys.intern(value) for key, value in texts.items()} if texts else {}


def _owned(entries: list[_ManagedFields] | None, manager: str | None) -> bytes | None:
    if manager is not None:
        for entry in entries or ():
            if entry.manager == manager and entry.operation == "Apply" and not entry.subresource:
                return _shared(bytes(entry.fieldsV1))
    return None


def _status_manager(entries: list[_ManagedFields] | None) -> str:
    """The last writer of the status subresource; times are in seconds, and in ours nobody else was later."""
    written = [entry for entry in entries or () if entry.subresource == "status"]
    last = max(written, key=lambda entry: (entry.time, entry.manager == STATUS_MANAGER), default=None)
    return sys.intern(last.manager) if last is not None and last.manager != STATUS_MANAGER else ""


@lru_cache(maxsize=1024)
def _shared(owned: bytes) -> bytes:
    """One copy for all objects that are owned alike, as most of one kind are; ownership is a third of their size."""
    return owned


def _malformed(what: str, error: object) -> MalformedAnswer:
    """Names the place, never the bytes: they may be a Secret's."""
    return MalformedAnswer(0, "MalformedAnswer", f"the answer is not {what}: {str(error)[:200]}")


def key_of(item: KubeObject) -> tuple[str, str]:
    """(namespace, name): the key of caches."""
    return item.namespace, item.name
