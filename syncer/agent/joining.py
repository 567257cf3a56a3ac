"""`syncline join`: a token becomes a certificate. Running it again goes on where it was."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from syncer.agent.credentials import (
    AgentCredentials,
    Description,
    Unusable,
    certificate_request,
    check_issued,
    key_pem,
    new_key,
    open_folder,
    save,
    told,
    write_private,
)
from syncer.agent.http import HubNotReached, route_to, send
from syncer.agent.pinning import check_hash, pin
from syncer.api.shapes import JoinAnswer, JoinRequest
from syncer.errors import SyncError
from syncer.hub.certificates import key_hash
from tunneler.links.dial import client_tls

PATH: Final = "/registrations/v1"
ASK_AGAIN_SECONDS: Final = 2.0
BUSY_SECONDS: Final = 30.0  # how long a hub that does not answer is asked again


class JoinFailed(SyncError):
    """The cluster did not join.

    Attributes:
        cause, hint: for people.
    """

    def __init__(self, cause: str, hint: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint


@dataclass(frozen=True)
class Joining:
    """What the command line says.

    Attributes:
        token: never logged and never part of a message.
        cluster_uid: UID of this cluster's `kube-system` namespace.
        wait_seconds: how long to wait for the approval.
        proxy: None takes HTTPS_PROXY and NO_PROXY.
    """

    hub: str
    token: str = field(repr=False)
    ca_hash: str
    target: str
    folder: Path
    cluster_uid: str
    wait_seconds: float = 3600.0
    proxy: str | None = None

    @property
    def token_id(self) -> str:
        """The part of the token that is no secret."""
        return self.token.partition(".")[0]


async def join(
    asked: Joining,
    tell: Callable[[str], None],
    *,
    keep: Callable[[], Awaitable[None]] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AgentCredentials:
    """Register this cluster, wait for the approval, and leave the credentials in the folder.

    Args:
        tell: shown what is done.
        keep: called when the folder changed: with the key, before the hub binds the token to it, and at the end.
    Raises:
        SyncError: with `cause` and `hint`.
    """
    check_hash(asked.ca_hash)
    route = route_to(asked.hub, asked.proxy)
    open_folder(asked.folder)
    present = joined(asked, now=datetime.now(UTC))
    if present is not None:
        tell(f"{asked.folder} holds the credentials of target {asked.target} already")
        return present
    authority = await pin(route, asked.ca_hash)
    tell(f"the hub {route.hub} is the one that --ca-hash names")
    write_private(asked.folder / "hub-ca.crt", authority)
    key = _pending_key(asked.folder)
    if keep is not None:
        await keep()
    tls = client_tls(str(asked.folder / "hub-ca.crt"))
    answer = await _approved(asked, key, tls, tell, sleep)
    save(asked.folder, key, check_issued(answer.certificate, key, asked.target))
    description = Description(
        hub=route.hub, target=asked.target, cluster_uid=asked.cluster_uid, token_id=asked.token_id
    )
    write_private(asked.folder / "agent.json", msgspec.json.encode(description))
    (asked.folder / "pending.key").unlink(missing_ok=True)
    if keep is not None:
        await keep()
    return AgentCredentials(asked.folder)


def joined(asked: Joining, *, now: datetime) -> AgentCredentials | None:
    """The folder's credentials, if they are what this command would get.

    Raises:
        JoinFailed: they are another target's; they are never overwritten.
    """
    try:
        present = AgentCredentials(asked.folder)
    except Unusable:
        return None
    if present.target != asked.target:
        raise JoinFailed(
            f"{asked.folder} holds the credentials of target {present.target}", "Give every target a folder of its own."
        )
    same = present.token_id == asked.token_id and present.cluster_uid == asked.cluster_uid
    return present if same and present.certificate().not_valid_after_utc > now else None


def _pending_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    """The key of a request that was sent before, else a new one: the token knows it."""
    path = folder / "pending.key"
    if path.exists():
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except ValueError:
            key = None
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key
    fresh = new_key()
    write_private(path, key_pem(fresh))
    return fresh


async def _approved(
    asked: Joining,
    key: ec.EllipticCurvePrivateKey,
    tls: ssl.SSLContext,
    tell: Callable[[str], None],
    sleep: Callable[[float], Awaitable[None]],
) -> JoinAnswer:
    """Ask until somebody decided."""
    loop = asyncio.get_running_loop()
    end, silent_since = loop.time() + asked.wait_seconds, loop.time()
    body = msgspec.json.encode(
        JoinRequest(target=asked.target, cluster_uid=asked.cluster_uid, request=certificate_request(key, asked.target))
    )
    shown = ""
    while True:
        pause = ASK_AGAIN_SECONDS
        try:
            answer = await _ask(asked, body, tls)
        except HubNotReached:
            if loop.time() - silent_since > BUSY_SECONDS:
                raise
            answer = None
        if answer is not None:
            silent_since = loop.time()
            if answer.phase == "Approved" and answer.certificate:
                tell(f"registration {answer.generation} of target {asked.target} is approved")
                return answer
            if answer.phase in ("Denied", "Expired"):
                raise JoinFailed(
                    f"registration {answer.registration} is {answer.phase}: {answer.message or answer.reason}",
                    "When that is settled: syncline token create TARGET, and join again.",
                )
            if answer.registration != shown:
                shown = answer.registration
                seen = key_hash(key.public_key())[:16]
                tell(f"registration {shown} (key {seen}) waits for: syncline approve {asked.target}")
        if loop.time() > end:
            raise JoinFailed(
                f"nobody approved registration {shown} yet",
                "Run the same command again later: it goes on where it was.",
            )
        await sleep(pause)


async def _ask(asked: Joining, body: bytes, tls: ssl.SSLContext) -> JoinAnswer | None:
    """One question; None where the hub asks for patience.

    Raises:
        JoinFailed: refused. HubNotReached.
    """
    answer = await send(
        route_to(asked.hub, asked.proxy),
        "POST",
        PATH,
        tls=tls,
        body=body,
        headers={"Authorization": f"Bearer {asked.token}"},
    )
    if answer.status == 200:
        try:
            return msgspec.json.decode(answer.body, type=JoinAnswer)
        except msgspec.DecodeError:
            raise JoinFailed("the hub did not answer as a hub does", "Are hub and agent of one version?") from None
    if answer.status in (429, 503):
        raise HubNotReached(asked.hub, told(answer.body))
    hint = (
        "A token is for one target and one cluster, once, and for an hour."
        if answer.status == 401
        else "Settle what it says, then create a new token."
    )
    raise JoinFailed(told(answer.body), hint)
