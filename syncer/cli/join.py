"""`syncline join`, on the side of the cluster that joins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from syncer.cli.access import choose, explained, open_client
from syncer.cli.cluster import cluster_uid, patient
from syncer.cli.errors import WrongUse
from syncer.cli.identity import check_name
from syncer.cli.output import Progress, emit

if TYPE_CHECKING:
    from syncer.agent.credentials import AgentCredentials

MAX_TOKEN: Final = 256


class JoinCommand(NamedTuple):
    """What the command line of `join` says."""

    hub: str
    token: str  # "-": a line of standard input, where other users of the machine do not see it
    ca_hash: str
    target: str
    credentials: Path
    kubeconfig: Path | None = None
    context: str | None = None
    proxy: str | None = None
    wait_seconds: float = 3600.0


async def join_cluster(command: JoinCommand) -> None:
    """Get the credentials of this cluster's agent."""
    from syncer.agent.joining import Joining, join
    from syncer.hub.bootstrap import parse_token

    check_name(command.target)
    token = sys.stdin.readline(MAX_TOKEN).strip() if command.token == "-" else command.token  # noqa: S105
    if parse_token(token) is None:
        raise WrongUse("--token is no bootstrap token", "Copy it whole from: syncline token create TARGET")
    with Progress() as progress:
        progress.doing("asking this cluster who it is")
        uid = await this_cluster(command.kubeconfig, command.context)
        progress.done(f"this cluster is {uid}")
        progress.doing("joining")
        asked = Joining(
            hub=command.hub,
            token=token,
            ca_hash=command.ca_hash,
            target=command.target,
            folder=command.credentials,
            cluster_uid=uid,
            wait_seconds=command.wait_seconds,
            proxy=command.proxy,
        )
        credentials = await join(asked, progress.done)
    emit(_what_next(credentials))


def _what_next(credentials: AgentCredentials) -> str:
    end = credentials.certificate().not_valid_after_utc
    return (
        f"This cluster is target {credentials.target}; its credentials are in {credentials.folder}, "
        f"valid until {end:%Y-%m-%d} and renewed by the agent long before."
    )


async def this_cluster(kubeconfig: Path | None, context: str | None) -> str:
    """UID of the cluster of a kubeconfig; in a Pod without one, of its own cluster."""
    chosen = choose(kubeconfig, context)
    async with open_client(chosen.access, name="this cluster") as found:
        with explained(chosen, "this cluster"):
            return await patient(lambda: cluster_uid(found))
