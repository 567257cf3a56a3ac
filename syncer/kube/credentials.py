"""Credentials of one cluster that stay valid: files are read again, plugins run again, TLS contexts built again."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from syncer.api.names import Reason
from syncer.errors import TerminalError
from syncer.kube.errors import Unreachable
from syncer.kube.kubeconfig import Access, ExecPlugin, Source, parse_kubeconfig
from tunneler.errors import TunnelError
from tunneler.links.proxies import choose_proxy

FILE_REFRESH_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 5.0  # after a refresh that failed while an older credential is still there
PLUGIN_TIMEOUT_SECONDS: Final = 30.0
EXPIRY_MARGIN_SECONDS: Final = 30.0
SERVICE_ACCOUNT_FOLDER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def in_pod(environ: Mapping[str, str], folder: Path = SERVICE_ACCOUNT_FOLDER) -> bool:
    """Whether who names no kubeconfig means the cluster that this process runs in."""
    return "KUBERNETES_SERVICE_HOST" in environ and not environ.get("KUBECONFIG") and (folder / "token").exists()


def in_cluster_access(environ: Mapping[str, str], folder: Path = SERVICE_ACCOUNT_FOLDER) -> Access:
    """The ServiceAccount of the Pod that this process runs in. Raises TerminalError: not in a Pod."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port or not (folder / "token").exists():
        raise TerminalError(Reason.INVALID, "not in a cluster: no ServiceAccount token; give a kubeconfig")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Access(server, ca=Source(path=folder / "ca.crt"), token=Source(path=folder / "token"))


def environment_proxy(server: str, environ: Mapping[str, str]) -> str | None:
    """HTTPS_PROXY as a URL, if it is for that server; kubectl does the same.

    Raises:
        TerminalError: it is no URL of an HTTP proxy. The message does not repeat it: it may hold a password.
    """
    try:
        if choose_proxy(server, environ) is None:
            return None
    except TunnelError as error:
        raise TerminalError(Reason.INVALID, f"HTTPS_PROXY: {error}") from error
    text = environ.get("HTTPS_PROXY") or environ.get("https_proxy") or ""
    return text if "://" in text else f"http://{text}"


@dataclass(frozen=True)
class Grant:
    """What one request needs. Equality is identity: the rejected grant is the one that was used, not its like."""

    authorization: str | None = field(repr=False)  # value of the header
    context: ssl.SSLContext | None  # None for plain HTTP to this machine

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class _Material(NamedTuple):
    """Everything that was read at one moment."""

    ca: bytes | None
    certificate: bytes | None
    key: bytes | None
    token: bytes | None
    lifetime_seconds: float  # until it should be read again; infinity for what never changes

    @property
    def tls(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        return self.ca, self.certificate, self.key


class ClusterCredentials:
    """How one cluster is reached and as whom, refreshed when due and on demand; safe for many tasks of one loop.

    Files are read again after 60 s and when a grant was rejected; a plugin runs again shortly before its credential
    expires. A refresh that fails keeps the older grant and is tried again after 5 s.
    """

    def __init__(self, access: Access, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._access = access
        self._proxy = access.proxy or environment_proxy(access.server, os.environ)
        self._clock = clock
        self._lock = asyncio.Lock()
        self._grant: Grant | None = None
        self._tls: tuple[bytes | None, bytes | None, bytes | None] | None = None
        self._due = 0.0

    @classmethod
    def from_kubeconfig(cls, path: Path | str | None = None, context: str | None = None) -> ClusterCredentials:
        """Read a kubeconfig of this machine's user; files, exec plugins and proxies are allowed.

        Args:
            path: None takes `$KUBECONFIG` (several files are merged), else `~/.kube/config`.
            context: None takes `current-context`.
        Raises:
            TerminalError: missing, unreadable or wrong; names file and field.
        """
        return cls(parse_kubeconfig(read_kubeconfigs(kubeconfig_paths(path)), context=context))

    @classmethod
    def from_untrusted_kubeconfig(cls, data: bytes) -> ClusterCredentials:
        """Read a kubeconfig that came out of a Secret; nothing is executed, and no file is read.

        Raises:
            TerminalError: names the field: exec, auth-provider, a file path, http, skip-verify, no CA, proxy-url, a
                metadata address, or a certificate that is none.
        """
        credentials = cls(parse_kubeconfig(data, untrusted=True))
        credentials.check()
        return credentials

    @classmethod
    def in_cluster(
        cls, *, environ: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT_FOLDER
    ) -> ClusterCredentials:
        """The ServiceAccount of the Pod that this process runs in.

        Raises:
            TerminalError: not in a Pod.
        """
        return cls(in_cluster_access(environ, folder))

    @property
    def server(self) -> str:
        """`https://HOST:PORT[/PATH]`, without a trailing slash."""
        return self._access.server

    @property
    def tls_server_name(self) -> str | None:
        return self._access.tls_server_name

    @property
    def proxy(self) -> str | None:
        """URL of the HTTP proxy: `proxy-url`, else HTTPS_PROXY unless NO_PROXY names the server."""
        return self._proxy

    @property
    def untrusted(self) -> bool:
        """True if names must not lead to instance-metadata addresses."""
        return self._access.untrusted

    def check(self) -> None:
        """Build the TLS context once from inline data.

        Raises:
            TerminalError: a certificate or key is not one.
        """
        access = self._access
        inline = _read_sources(access)
        if access.server.startswith("https"):
            build_context(*inline.tls)

    async def grant(self, rejected: Grant | None = None) -> Grant:
        """The grant to use now.

        Args:
            rejected: a grant that the server answered with 401; a fresh one is obtained unless somebody already did.
        Raises:
            Unreachable: nothing could be read and there is no older grant.
            TerminalError: what was read is no certificate, key or token.
        """
        current = self._grant
        if current is not None and current is not rejected and self._clock() < self._due:
            return current
        async with self._lock:
            current = self._grant
            if current is None or current is rejected or self._clock() >= self._due:
                return await self._refresh(current)
            return current

    async def _refresh(self, current: Grant | None) -> Grant:
        try:
            material = await self._read()
            context = current.context if current else None
            if material.tls != self._tls and self.server.startswith("https"):
                context = await asyncio.to_thread(build_context, *material.tls)
            authorization = _bearer(material.token)
        except (Unreachable, TerminalError):
            if current is None:
                raise
            self._due = self._clock() + RETRY_SECONDS
            return current
        self._due = self._clock() + material.lifetime_seconds
        if current is None or (current.context, current.authorization) != (context, authorization):
            self._grant = Grant(authorization, context)
            self._tls = material.tls
        assert self._grant is not None
        return self._grant

    async def _read(self) -> _Material:
        access = self._access
        try:
            material = await asyncio.to_thread(_read_sources, access)
        except OSError as error:
            message = f"{self.server}: credential file {error.filename} cannot be read: {error.strerror}"
            raise Unreachable(0, "Unreachable", message) from error
        if access.plugin is not None:
            return await run_plugin(access.plugin, access.server, material.ca, now=datetime.now(UTC), base=material)
        return material


def kubeconfig_paths(path: Path | str | None) -> list[Path]:
    """The given file, else those of `$KUBECONFIG`, else `~/.kube/config`."""
    names = [str(path)] if path else os.environ.get("KUBECONFIG", "").split(os.pathsep)
    return [Path(name).expanduser() for name in names if name] or [Path.home() / ".kube" / "config"]


def read_kubeconfigs(paths: Sequence[Path]) -> list[tuple[bytes, Path]]:
    """(text, its folder) of the files that exist; like kubectl, missing ones are passed over.

    Raises:
        TerminalError: none exists, or one cannot be read.
    """
    texts: list[tuple[bytes, Path]] = []
    for path in paths:
        try:
            texts.append((path.read_bytes(), path.absolute().parent))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise TerminalError(Reason.INVALID, f"kubeconfig: {path} cannot be read: {error.strerror}") from error
    if not texts:
        named = os.pathsep.join(map(str, paths))
        raise TerminalError(Reason.INVALID, f"kubeconfig: {named} does not exist")
    return texts


def _read_sources(access: Access) -> _Material:
    sources = (access.ca, access.certificate, access.key, access.token)
    changing = any(source is not None and source.path is not None for source in sources)
    ca, certificate, key, token = (source.read() if source is not None else None for source in sources)
    return _Material(ca, certificate, key, token, FILE_REFRESH_SECONDS if changing else float("inf"))


def _bearer(token: bytes | None) -> str | None:
    """The header's value; what would break the header is refused without being repeated."""
    text = (token or b"").strip()
    if not text:
        return None
    if not text.isascii() or any(byte <= 0x20 or byte == 0x7F for byte in text):
        raise TerminalError(
            Reason.INVALID, "kubeconfig: user.token holds characters that no token has", pointer="/user/token"
        )
    return f"Bearer {text.decode('ascii')}"


def build_context(ca: bytes | None, certificate: bytes | None, key: bytes | None) -> ssl.SSLContext:
    """A client context that trusts exactly `ca` (PEM); None trusts what the system trusts.

    Raises:
        TerminalError: what was given is no certificate or key, or the two do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks host names and requires a certificate by itself
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cadata=ca.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise _bad("cluster.certificate-authority-data", "is no PEM certificate") from None
    if certificate is not None and key is not None:
        try:
            with _private_file(certificate + b"\n" + key) as path:
                context.load_cert_chain(path, password=lambda: b"")
        except (ssl.SSLError, ValueError):
            raise _bad(
                "user.client-certificate-data", "and client-key-data are no PEM pair that belongs together"
            ) from None
    return context


def _bad(place: str, why: str) -> TerminalError:
    return TerminalError(Reason.INVALID, f"kubeconfig: {place} {why}", pointer=f"/{place.replace('.', '/')}")


@contextlib.contextmanager
def _private_file(data: bytes) -> Iterator[str]:
    """A name for a library that reads only files: memory where the system has it, else a 0600 file that is removed."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name


async def run_plugin(plugin: ExecPlugin, server: str, ca: bytes | None, *, now: datetime, base: _Material) -> _Material:
    """Run an exec plugin once, without a terminal, and read the `ExecCredential` that it prints.

    Raises:
        Unreachable: it is missing, failed, timed out, or printed something else; its output is never repeated.
    """
    info: dict[str, object] = {"interactive": False}
    if plugin.provide_cluster_info:
        info["cluster"] = {"server": server, "certificate-authority-data": base64.b64encode(ca or b"").decode()}
    request = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": info}
    environ = {**os.environ, **plugin.env, "KUBERNETES_EXEC_INFO": orjson.dumps(request).decode()}
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command,
            *plugin.args,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise _plugin_failed(plugin, f"cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(PLUGIN_TIMEOUT_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise _plugin_failed(plugin, f"did not end within {PLUGIN_TIMEOUT_SECONDS:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise _plugin_failed(plugin, f"ended with status {process.returncode}")
    return _plugin_answer(plugin, output, now, base)


def _plugin_answer(plugin: ExecPlugin, output: bytes, now: datetime, base: _Material) -> _Material:
    try:
        status = orjson.loads(output)["status"]
        token, certificate, key = (status.get(k) for k in ("token", "clientCertificateData", "clientKeyData"))
        expiry = status.get("expirationTimestamp")
        seconds = (datetime.fromisoformat(expiry) - now).total_seconds() if expiry else float("inf")
        parts = [part.encode() if part else None for part in (token, certificate, key)]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
        raise _plugin_failed(plugin, "did not print an ExecCredential") from None
    if parts[0] is None and parts[1] is None:
        raise _plugin_failed(plugin, "printed neither a token nor a certificate")
    lifetime = max(1.0, seconds - EXPIRY_MARGIN_SECONDS)
    return _Material(
        base.ca, parts[1] or base.certificate, parts[2] or base.key, parts[0], min(lifetime, base.lifetime_seconds)
    )


def _plugin_failed(plugin: ExecPlugin, why: str) -> Unreachable:
    return Unreachable(0, "Unreachable", f"credential plugin {plugin.command} {why}")
