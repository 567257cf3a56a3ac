"""`kubeconfig --upstream`: the administrator's kubeconfig of the upstream that the chart hosts."""

from __future__ import annotations

import base64
from typing import Any, Final
from urllib.parse import quote

import yaml

from syncer.cli.access import open_upstream
from syncer.cli.errors import CliError, WrongUse
from syncer.cli.options import Access
from syncer.cli.output import emit
from syncer.errors import TerminalError
from syncer.kube import errors
from syncer.kube.kubeconfig import check_server

ADMIN_SECRET: Final = "syncline-upstream-admin"  # noqa: S105  # a name
KEY: Final = "kubeconfig"


async def write_upstream_kubeconfig(namespace: str, server: str | None, access: Access) -> None:
    """Print it.

    Args:
        namespace: of the chart's release.
        server: URL to put in the place of the Service's.
    Raises:
        WrongUse: `server` is no https URL. CliError: no upstream is hosted there, or its Secret holds something else.
    """
    path = f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets/{ADMIN_SECRET}"
    async with open_upstream(access) as cluster:
        where = cluster.chosen.access.server
        try:
            secret = await cluster.client.get_json(path)
        except errors.NotFound as error:
            raise CliError(
                f"no upstream is hosted in namespace {namespace} of {where}: Secret {ADMIN_SECRET} is not there",
                "Choose with --context the cluster where the chart runs in mode hosted, and its namespace with -n.",
            ) from error
    emit(yaml.safe_dump(redirected(secret, server), sort_keys=False))


def redirected(secret: dict[str, Any], server: str | None) -> dict[str, Any]:
    """The kubeconfig in the Secret, for another address of the same server: the certificate is checked for the
    Service's name, which it always has.

    Raises:
        WrongUse, CliError: as `write_upstream_kubeconfig`.
    """
    damaged = CliError(
        f"Secret {ADMIN_SECRET} does not hold a kubeconfig", "Delete it: the chart's certificate job makes it again."
    )
    try:
        config = yaml.safe_load(base64.b64decode((secret.get("data") or {}).get(KEY) or "", validate=True))
        cluster = config["clusters"][0]["cluster"]
        name = cluster["server"].removeprefix("https://").partition(":")[0]
    except (ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        raise damaged from None
    if server is not None:
        try:
            address = check_server(server, untrusted=False)
        except TerminalError as error:
            raise WrongUse(f"--server: {error}", "Write it like https://127.0.0.1:6443") from error
        if not address.startswith("https://"):
            raise WrongUse("--server must begin with https://", "Write it like https://127.0.0.1:6443")
        cluster["server"] = address
        cluster.setdefault("tls-server-name", name)
    assert isinstance(config, dict)  # else it had no clusters
    return config
