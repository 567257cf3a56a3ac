"""The one request that writes a merged status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from status.values import mapping, text

CONTENT_TYPE: Final = "application/json-patch+json"


def status_patch(source: Mapping[str, Any], status: Mapping[str, Any]) -> bytes:
    """Body of a PATCH of the `status` subresource that replaces the whole `.status` in one request without a read.

    A JSON patch, because a merge patch keeps keys that went away, and a server-side apply is slower
    and keeps what other managers wrote.

    It holds the resourceVersion of `source`: when the object is no longer the one that the status was
    computed from, the answer is 409 and the status has to be computed again. For a `source` without
    one only the uid is tested; another incarnation answers 422. (A uid that is patched instead of
    tested guards nothing: for custom resources the server ignores it.)
    """
    metadata = mapping(source, "metadata")
    version, uid = text(metadata, "resourceVersion"), text(metadata, "uid")
    guard = (
        {"op": "add", "path": "/metadata/resourceVersion", "value": version}
        if version
        else {"op": "test", "path": "/metadata/uid", "value": uid}
    )
    return orjson.dumps([guard, {"op": "add", "path": "/status", "value": status}])
