"""Which cluster the user means, and a client for it with the user's own credentials."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from syncer.cli.errors import CliError
from syncer.cli.options import Access
from syncer.errors import TerminalError
from syncer.kube.credentials import ClusterCredentials, in_cluster_access, in_pod, kubeconfig_paths, read_kubeconfigs
from syncer.kube.errors import Unauthorized, Unreachable
from syncer.kube.kubeconfig import Access as ClusterAccess
from syncer.kube.kubeconfig import parse_kubeconfig

if TYPE_CHECKING:
    from syncer.kube.client import ClusterClient

TIMEOUT_SECONDS: Final = 15.0  # of one request; a person waits


@dataclass(frozen=True)
class Chosen:
    """One context of a kubeconfig."""

    access: ClusterAccess
    origin: str  # the files, for messages


@dataclass(frozen=True)
class Upstream:
    """The upstream cluster, opened."""

    client: ClusterClient
    chosen: Chosen

    @property
    def namespace(self) -> str:
        """The namespace that commands without -n mean."""
        return self.chosen.access.namespace


def choose(kubeconfig: Path | None, context: str | None, *, option: str = "--kubeconfig") -> Chosen:
    """Read the user's kubeconfig: the given file, else $KUBECONFIG (files are merged), else ~/.kube/config.

    In a Pod that names none it is the Pod's ServiceAccount.

    Raises:
        CliError: missing, unreadable, or without that context (B38); never repeats a credential.
    """
    if kubeconfig is None and context is None and in_pod(os.environ):
        return Chosen(in_cluster_access(os.environ), "of the Pod's ServiceAccount")
    paths = kubeconfig_paths(kubeconfig)
    origin = os.pathsep.join(map(str, paths))
    try:
        texts = read_kubeconfigs(paths)
    except TerminalError as error:
        cause = str(error).replace("kubeconfig:", "kubeconfig", 1)
        raise CliError(cause, f"Name the right file with {option}, or set KUBECONFIG.") from error
    try:
        access = parse_kubeconfig(texts, context=context)
    except TerminalError as error:
        cause = str(error).replace("kubeconfig:", f"kubeconfig {origin}:", 1)
        raise CliError(cause, "kubectl config get-contexts lists the contexts; --context chooses one.") from error
    return Chosen(access, origin)


@contextmanager
def explained(chosen: Chosen, cluster: str) -> Iterator[None]:
    """Say of a cluster that does not answer, or does not know the caller, which one it is and what to check."""
    where = f"{cluster} ({chosen.access.server})"
    try:
        yield
    except Unauthorized as error:
        expired = _expiry(chosen.access)
        cause = f"{where} does not accept the credential of kubeconfig {chosen.origin}{expired}"
        raise CliError(cause, "Log in again, or choose another user with --context.") from error
    except Unreachable as error:
        raise CliError(f"cannot reach {error}", f"Check that it runs, and kubeconfig {chosen.origin}.") from error


def _expiry(access: ClusterAccess) -> str:
    """`: its client certificate expired on …`, where that is so."""
    from cryptography import x509

    if access.certificate is None:
        return ""
    try:
        certificate = x509.load_pem_x509_certificate(access.certificate.read())
    except (OSError, ValueError):
        return ""
    end = certificate.not_valid_after_utc
    return f": its client certificate expired on {end:%Y-%m-%d}" if end < datetime.now(UTC) else ""


@asynccontextmanager
async def open_client(access: ClusterAccess, *, name: str) -> AsyncIterator[ClusterClient]:
    """A client that lives as long as the command."""
    from syncer.kube.client import ClusterClient

    client = ClusterClient(ClusterCredentials(access), name=name)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def open_upstream(access: Access) -> AsyncIterator[Upstream]:
    """The upstream cluster with the caller's credentials.

    Raises:
        CliError: the kubeconfig is not usable, the cluster does not answer, or does not know the caller.
    """
    chosen = choose(access.kubeconfig, access.context)
    async with open_client(chosen.access, name="upstream") as client:
        with explained(chosen, "upstream"):
            yield Upstream(client, chosen)
