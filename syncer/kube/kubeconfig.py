"""Reading kubeconfig files: which cluster, which user, and what we refuse.

Pure: text in, values out. Nothing named in the text is opened, executed or resolved here.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from syncer.api.names import Reason
from syncer.errors import TerminalError

SIZE_LIMIT: Final = 1024 * 1024  # bytes; a Secret cannot be larger

_CLUSTER_FIELDS: Final = frozenset(
    {
        "server",
        "certificate-authority",
        "certificate-authority-data",
        "tls-server-name",
        "insecure-skip-tls-verify",
        "proxy-url",
        "disable-compression",
        "extensions",
    }
)
_USER_FIELDS: Final = frozenset(
    {
        "client-certificate",
        "client-certificate-data",
        "client-key",
        "client-key-data",
        "token",
        "tokenFile",
        "exec",
        "extensions",
    }
)
# What only a person at this machine may use: it reads files, runs programs, or dials somewhere else.
_LOCAL_ONLY: Final[Mapping[str, str]] = {
    "certificate-authority": "put the file's content into certificate-authority-data",
    "client-certificate": "put the file's content into client-certificate-data",
    "client-key": "put the file's content into client-key-data",
    "tokenFile": "put a token into token",
    "exec": "use a ServiceAccount token; `syncline target add` makes one",
    "proxy-url": "give an address that is reached directly",
}
_METADATA_NAMES: Final = frozenset(
    {"metadata.google.internal", "metadata", "instance-data", "instance-data.ec2.internal"}
)
_METADATA_NETWORKS: Final = (
    ipaddress.ip_network("169.254.0.0/16"),
    ipaddress.ip_network("fe80::/10"),
    ipaddress.ip_network("fd00:ec2::/32"),
    ipaddress.ip_network("100.100.100.200/32"),
    ipaddress.ip_network("0.0.0.0/8"),
)


@dataclass(frozen=True)
class Source:
    """Bytes that are given inline, or a file that may change; content never shows in a repr."""

    data: bytes | None = field(default=None, repr=False)
    path: Path | None = None

    def read(self) -> bytes:
        """The bytes as they are now (blocking). Raises OSError where the file cannot be read."""
        return self.path.read_bytes() if self.path is not None else self.data or b""


@dataclass(frozen=True)
class ExecPlugin:
    """An external program that prints an `ExecCredential`."""

    api_version: str
    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    provide_cluster_info: bool = False


@dataclass(frozen=True)
class Access:
    """How one cluster is reached and as whom; the parts that may change are sources."""

    server: str  # https://HOST[:PORT][/PATH], without a trailing slash
    ca: Source | None = None  # PEM; None trusts what the system trusts
    certificate: Source | None = None  # PEM, with its key
    key: Source | None = None
    token: Source | None = None
    tls_server_name: str | None = None
    proxy: str | None = field(default=None, repr=False)
    plugin: ExecPlugin | None = None
    untrusted: bool = False
    namespace: str = "default"  # that the context names


def parse_kubeconfig(
    data: bytes | Sequence[tuple[bytes, Path]], *, context: str | None = None, untrusted: bool = False
) -> Access:
    """Pick one context out of a kubeconfig.

    Args:
        data: the text; or several texts, each with the folder that its relative paths start from, merged as kubectl
            does: the first one that defines a name wins.
        context: None takes `current-context`.
        untrusted: the text was written by somebody who must not make this process read files, run programs, skip checks
            or dial instance metadata.
    Raises:
        TerminalError: names the field and says what to write instead; never repeats a value of a credential.
    """
    documents = [(data, Path())] if isinstance(data, bytes) else list(data)
    clusters: dict[str, tuple[Any, Path]] = {}
    users: dict[str, tuple[Any, Path]] = {}
    contexts: dict[str, Any] = {}
    current = ""
    for text, folder in documents:
        document = _document(text)
        current = current or str(document.get("current-context") or "")
        for entry in _named(document, "clusters", "cluster"):
            clusters.setdefault(entry[0], (entry[1], folder))
        for entry in _named(document, "users", "user"):
            users.setdefault(entry[0], (entry[1], folder))
        for entry in _named(document, "contexts", "context"):
            contexts.setdefault(*entry)
    name = context or current
    if not name:
        raise _refuse("current-context", "is not set; name a context")
    if name not in contexts:
        raise _refuse("contexts", f"has no context {name!r}; it has: {', '.join(sorted(contexts)) or 'none'}")
    cluster, cluster_folder = _pick(clusters, contexts[name], "cluster")
    user, user_folder = _pick(users, contexts[name], "user")
    _check(cluster, "cluster", _CLUSTER_FIELDS, untrusted=untrusted)
    _check(user, "user", _USER_FIELDS, untrusted=untrusted)
    access = _access(_Entry(cluster, "cluster", cluster_folder), _Entry(user, "user", user_folder), untrusted=untrusted)
    return replace(access, namespace=str(contexts[name].get("namespace") or "default"))


def check_server(server: object, *, untrusted: bool) -> str:
    """The address without a trailing slash.

    Raises:
        TerminalError: not https (http is let through to this machine, unless untrusted), carries credentials or a
            query, or, if untrusted, is an instance-metadata address in any spelling.
    """
    if not isinstance(server, str) or not server:
        raise _refuse("cluster.server", "is missing")
    try:
        parts = urlsplit(server)
        host, port_ok = parts.hostname or "", parts.port != 0
    except ValueError:
        raise _refuse("cluster.server", "is not a URL") from None
    if not host or not port_ok:
        raise _refuse("cluster.server", "is not a URL of the form https://HOST:PORT")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise _refuse("cluster.server", "must not carry credentials, a query or a fragment")
    local = address_of(host)
    if parts.scheme != "https" and not (
        parts.scheme == "http" and not untrusted and local is not None and local.is_loopback
    ):
        raise _refuse("cluster.server", "must begin with https://")
    if untrusted and is_metadata_host(host):
        raise _refuse("cluster.server", "is an instance-metadata or link-local address")
    return server.rstrip("/")


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host text stands for, in every spelling that resolvers take (decimal, hex, octal, mapped)."""
    text = host.strip("[]").split("%")[0].rstrip(".")
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(text)
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(text))
        except OSError:
            return ipaddress.IPv4Address("127.0.0.1") if text == "localhost" else None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def is_metadata_host(host: str) -> bool:
    """True for link-local and instance-metadata addresses and names."""
    address = address_of(host)
    if address is None:
        return host.rstrip(".").lower() in _METADATA_NAMES
    return any(address in network for network in _METADATA_NETWORKS if network.version == address.version)


@dataclass(frozen=True)
class _Entry:
    """One cluster or user entry with the folder its paths are relative to."""

    body: Mapping[str, Any]
    name: str
    folder: Path

    def text(self, key: str) -> str | None:
        value = self.body.get(key)
        if value is not None and not isinstance(value, str):
            raise _refuse(f"{self.name}.{key}", "must be text")
        return value or None

    def source(self, key: str) -> Source | None:
        """`key-data` (base64), which wins, or the file `key`."""
        encoded = self.text(f"{key}-data")
        if encoded:
            try:
                return Source(base64.b64decode(encoded, validate=True))
            except (binascii.Error, ValueError):
                raise _refuse(f"{self.name}.{key}-data", "is not base64") from None
        return self.file(key)

    def file(self, key: str) -> Source | None:
        path = self.text(key)
        return Source(path=self.folder / Path(path).expanduser()) if path else None


def _access(cluster: _Entry, user: _Entry, *, untrusted: bool) -> Access:
    ca = cluster.source("certificate-authority")
    server = check_server(cluster.body.get("server"), untrusted=untrusted)
    if ca is None and untrusted:
        raise _refuse("cluster.certificate-authority-data", "is missing; without it the server cannot be checked")
    certificate, key = user.source("client-certificate"), user.source("client-key")
    if (certificate is None) != (key is None):
        raise _refuse("user.client-certificate-data", "and client-key-data belong together; one is missing")
    token = user.text("token")
    plugin = user.body.get("exec")
    return Access(
        server=server,
        ca=ca,
        certificate=certificate,
        key=key,
        token=Source(token.strip().encode()) if token else user.file("tokenFile"),
        tls_server_name=cluster.text("tls-server-name"),
        proxy=cluster.text("proxy-url"),
        plugin=_plugin(plugin, user.folder) if plugin else None,
        untrusted=untrusted,
    )


def _plugin(body: Any, folder: Path) -> ExecPlugin:
    if not isinstance(body, dict) or not isinstance(body.get("command"), str) or not body["command"]:
        raise _refuse("user.exec", "needs a command")
    command = body["command"]
    if "/" in command and not command.startswith("/"):
        command = str(folder / command)
    env = {
        str(item["name"]): str(item["value"]) for item in body.get("env") or () if "name" in item and "value" in item
    }
    return ExecPlugin(
        api_version=str(body.get("apiVersion") or "client.authentication.k8s.io/v1"),
        command=command,
        args=tuple(str(arg) for arg in body.get("args") or ()),
        env=env,
        provide_cluster_info=bool(body.get("provideClusterInfo")),
    )


def _check(body: Mapping[str, Any], name: str, known: frozenset[str], *, untrusted: bool) -> None:
    """Refuse what would be ignored or is not allowed; values are never repeated."""
    if body.get("insecure-skip-tls-verify"):
        raise _refuse(f"{name}.insecure-skip-tls-verify", "is never accepted; give certificate-authority-data")
    for key in body:
        if key not in known:
            usable = sorted(known - _LOCAL_ONLY.keys() if untrusted else known)
            raise _refuse(f"{name}.{key}"[:80], f"is not supported; known are {', '.join(usable)}")
        if untrusted and key in _LOCAL_ONLY and body[key]:
            raise _refuse(f"{name}.{key}", f"is not accepted here; {_LOCAL_ONLY[key]}")


def _document(text: bytes) -> dict[str, Any]:
    if len(text) > SIZE_LIMIT:
        raise _refuse("the file", f"is larger than {SIZE_LIMIT} bytes")
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (both are the safe one)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        raise _refuse("the file", f"is not YAML{f' (line {mark.line + 1})' if mark else ''}") from None
    if not isinstance(document, dict):
        raise _refuse("the file", "is not a kubeconfig")
    return document


def _named(document: Mapping[str, Any], listed: str, body: str) -> list[tuple[str, Any]]:
    entries = document.get(listed) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _refuse(listed, "is not a list of named entries")
    return [(str(entry.get("name", "")), entry.get(body)) for entry in entries]


def _pick(entries: Mapping[str, tuple[Any, Path]], context: Any, kind: str) -> tuple[Mapping[str, Any], Path]:
    name = context.get(kind) if isinstance(context, dict) else None
    body, folder = entries.get(str(name), (None, Path()))
    if not isinstance(body, dict):
        raise _refuse(f"{kind}s", f"has no {kind} {str(name)[:80]!r}, which the context names")
    return body, folder


def _refuse(place: str, why: str) -> TerminalError:
    return TerminalError(Reason.INVALID, f"kubeconfig: {place} {why}", pointer=f"/{place.replace('.', '/')}")
