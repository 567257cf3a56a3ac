"""The one request that writes a merged status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from status.values import mapping, text

CONTENT_TYPE: Final = "application/json-patch+json"


def status_patch(source: Mapping[str, Any], status: Mapping[str, Any]) -> bytes:
    """Body of a PATCH of the `status` subresource that replaces the whole `.status` in one request without a read.

    A JSON patch, because a merge patch keeps keys that went away and a server-side apply is slower
    and keeps fields of other managers. It holds the source's uid and, where `source` has one, its
    resourceVersion: a status that was computed from an older object answers 409, one for another
    incarnation without a resourceVersion 422 with the cause `metadata.uid`.
    """
    metadata = mapping(source, "metadata")
    guards = [
        {"op": "add", "path": f"/metadata/{name}", "value": text(metadata, name)}
        for name in ("uid", "resourceVersion")
        if text(metadata, name)
    ]
    return orjson.dumps([*guards, {"op": "add", "path": "/status", "value": status}])
