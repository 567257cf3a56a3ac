"""What a request asks of an API server: its path read once, strictly, and what Kubernetes' authorizer calls attributes.

Pure. Whoever authorises a path must send on exactly what it read; so a path is parsed, judged, and written again from
the parsed form. Spellings that another server might read as a different path are refused.
Source: k8s.io/apiserver pkg/endpoints/request/requestinfo.go for the attributes.
"""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from syncer.api.keys import GroupResource
from syncer.kube.http1 import BadMessage

TARGET_LIMIT: Final = 16_384  # bytes; an exec with a long command line fits
_METHODS: Final = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
# Subresources that open a channel into a Pod: reading them is already doing. Source: KEP-4006.
CHANNELS: Final = frozenset({"exec", "attach", "portforward"})
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,=:@]|%[0-9A-Fa-f]{2})*)+")
_QUERY = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,=:@/?\[\]]|%[0-9A-Fa-f]{2})*")
_SAFE: Final = "-._~!$&'()*+,=:@"
REMEMBERED_LENGTH: Final = 256  # characters; longer targets are read anew
_WATCHES_NOT: Final = ("0", "false")


class Path(NamedTuple):
    """A parsed request target.

    Attributes:
        segments: decoded; no one is empty, `.` or `..`, and none holds a slash.
        slash: it ended with a slash.
        query: as sent; an empty one and none are the same.
    """

    segments: tuple[str, ...]
    slash: bool
    query: str

    def text(self) -> str:
        """The target again, in one spelling."""
        path = "".join("/" + quote(segment, safe=_SAFE) for segment in self.segments)
        tail = "/" if self.slash or not path else ""
        return f"{path}{tail}?{self.query}" if self.query else path + tail


class Attributes(NamedTuple):
    """What is asked for.

    Attributes:
        verb: get, list, watch, create, update, patch, delete, deletecollection.
        resource: group and plural; empty for paths that are no resource.
        name: "" for a collection.
        path: of what is no resource, else "".
    """

    verb: str
    resource: GroupResource = GroupResource("", "")
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"{self.verb} {self.path}"
        what = f"{self.resource.resource}/{self.subresource}" if self.subresource else self.resource.resource
        group = f".{self.resource.group}" if self.resource.group else ""
        return f"{self.verb} {what}{group}{f' in namespace {self.namespace}' if self.namespace else ''}"


def parse_path(target: str) -> Path:
    """Read a request target in origin form.

    Raises:
        BadMessage: another form, a dot segment, an empty one, an encoded slash, backslash or percent sign, `;`, control
            characters, or not UTF-8.
    """
    if len(target) > TARGET_LIMIT:
        raise BadMessage("the path is too long")
    raw, _, query = target.partition("?")
    if not _PATH.fullmatch(raw) or not _QUERY.fullmatch(query):
        raise BadMessage("the path must be one of plain characters that begins with a slash")
    parts = raw[1:].split("/")
    slash = parts[-1] == ""
    if slash:
        parts.pop()
    return Path(tuple(_segment(part) for part in parts), slash, query)


def _segment(text: str) -> str:
    try:
        segment = unquote_to_bytes(text).decode() if "%" in text else text
    except UnicodeDecodeError:
        raise BadMessage("the path is not UTF-8") from None
    if segment in ("", ".", ".."):
        raise BadMessage("the path holds an empty or a dot segment")
    if any(letter in "/\\%;" or letter < " " or letter == "\x7f" for letter in segment):
        raise BadMessage("the path holds an encoded slash or another character that no name has")
    return segment


def attributes(method: str, path: Path) -> Attributes:
    """What is asked for.

    Raises:
        BadMessage: a method that Kubernetes does not know.
    """
    verb = _METHODS.get(method)
    if verb is None:
        raise BadMessage(f"{method[:16]} is not answered here", 400 if method in ("CONNECT", "TRACE") else 405)
    parts = list(path.segments)
    if not parts or parts[0] not in ("api", "apis") or len(parts) < (3 if parts[0] == "api" else 4):
        return Attributes(verb, path=Path(path.segments, path.slash, "").text())
    group = "" if parts[0] == "api" else parts[1]
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts[0] in ("watch", "proxy"):
        # Written before the resource they meant something in 2015; answering them would be a second way in.
        raise BadMessage(f"the path prefix {parts[0]} is not answered here")
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in ("status", "finalize"):
            parts = parts[2:]
    resource, name, subresource = (*parts[:3], "", "")[:3]
    if resource == "namespaces":
        namespace = ""  # a namespace itself is cluster-scoped
    if not name and verb == "get":
        verb = "watch" if _flag(path.query, "watch") else "list"
    if not name and verb == "delete":
        verb = "deletecollection"
    if verb == "get" and resource == "pods" and subresource in CHANNELS:
        verb = "create"
    return Attributes(verb, GroupResource(group, resource), subresource, namespace, name)


def read_request(method: str, target: str) -> tuple[str, Attributes]:
    """(the target in its one spelling, what it asks for).

    Raises:
        BadMessage: as `parse_path` and `attributes`.
    """
    if len(target) > REMEMBERED_LENGTH:
        return _read_request(method, target)
    return _remembered(method, target)


def _read_request(method: str, target: str) -> tuple[str, Attributes]:
    path = parse_path(target)
    return path.text(), attributes(method, path)


# Clients ask for the same few paths again and again; bounded to 2,048 x 256 characters.
_remembered = functools.lru_cache(maxsize=2048)(_read_request)


def _flag(query: str, name: str) -> bool:
    """A boolean parameter as API servers read one: there, and not 0 or false."""
    if name not in query and "%" not in query:
        return False
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key == name:
            return value.lower() not in _WATCHES_NOT
    return False
